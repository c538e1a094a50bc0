"""Manifests on disk: Lhotse cut manifests, JSON Lines with one utterance per line.

Lhotse can read the manifests that are written here, and the reverse. The lines are parsed without Lhotse:
importing Lhotse 1.33 takes 1.2 s and 220 MB (parsing the lines alone takes 0.03 s and 3 MB), and 100,000 cuts
take 3.6 s and 190 MB as Lhotse objects but 1.2 s and 56 MB as utterances.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import reprlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any, TypeVar

from separative import audio
from separative.corpora.manifest import Corpus, Utterance, map_in_threads
from separative.errors import CorpusError
from separative.files import as_url, atomic_path, iterate_lines, parse_json
from separative.names import normalise_name
from separative.types import Progress

CUT_FILES = ("cuts.jsonl.gz", "cuts.jsonl")
# Longest name or path, in characters, and longest time, in seconds (30 years).
MAX_NAME = 4096
LONGEST_SECONDS = 1e9

Field = TypeVar("Field", dict[str, Any], list[Any], str, int)


def find_cuts(folder: Path) -> Path | None:
    """Return the cut manifest of a folder, or None.

    >>> find_cuts(Path("speech"))
    PosixPath('speech/cuts.jsonl')
    """
    return next((folder / name for name in CUT_FILES if (folder / name).is_file()), None)


def save_corpus(
    corpus: Corpus, path: str | Path, *, relative: bool = False, progress: Progress | None = None
) -> None:
    """Write a corpus as a Lhotse cut manifest.

    Args:
        path: ends in .jsonl or .jsonl.gz.
        relative: write paths relative to the folder of the manifest, so that it can be moved together with
            the audio files. :func:`load_corpus` resolves them in that folder, Lhotse in the current folder.
            By default, paths are absolute.
        progress: called with (done, total) while file headers are read; a cut states the rate and length of
            its recording.

    Raises:
        CorpusError: another suffix.
        AudioError: an audio file of the corpus cannot be read.

    >>> corpus = Corpus((Utterance("ann-1", Path("ann.wav"), 1.5, speaker="ann"),))
    >>> save_corpus(corpus, "cuts.jsonl", relative=True)
    >>> [(u.id, u.speaker, u.seconds) for u in read_cuts(Path("cuts.jsonl"))]
    [('ann-1', 'ann', 1.5)]
    """
    path = Path(path)
    if not path.name.endswith((".jsonl", ".jsonl.gz")):
        raise CorpusError(f"{path}: the name of a manifest ends in .jsonl or .jsonl.gz")
    files = sorted({u.path for u in corpus})
    headers = dict(zip(files, map_in_threads(audio.info, files, progress), strict=True))
    base = path.parent.resolve() if relative else None
    with atomic_path(path) as temporary, _open_new(temporary) as file:
        for utterance in corpus:
            cut = _to_cut(utterance, headers[utterance.path], base)
            try:
                line = json.dumps(cut, ensure_ascii=False)
                line.encode()
            except UnicodeEncodeError:
                # The bytes of a file name that are not UTF-8 cannot be written as they are.
                line = json.dumps(cut)
            file.write(line + "\n")


def _to_cut(utterance: Utterance, header: audio.AudioInfo, base: Path | None) -> dict[str, Any]:
    channels = list(range(header.channels))
    source = utterance.path.resolve()
    written = os.path.relpath(source, base) if base else str(source)
    # A rounded duration may reach past the end of the file, which Lhotse refuses.
    seconds = min(utterance.seconds, header.seconds - utterance.start)
    several = header.channels > 1 and utterance.channel is None
    channel = channels if several else utterance.channel or 0
    supervision = {
        "id": utterance.id,
        "recording_id": written,
        "start": 0.0,
        "duration": seconds,
        "channel": channel,
        "speaker": utterance.speaker,
    }
    labels = {"corpus": utterance.corpus, "split": utterance.split, "category": utterance.category}
    return {
        "id": utterance.id,
        "start": utterance.start,
        "duration": seconds,
        "channel": channel,
        "supervisions": [supervision] if utterance.speaker is not None else [],
        "recording": {
            "id": written,
            "sources": [{"type": "file", "channels": channels, "source": written}],
            "sampling_rate": header.rate,
            "num_samples": header.frames,
            "duration": header.seconds,
            "channel_ids": channels,
        },
        "custom": {key: value for key, value in labels.items() if value},
        "type": "MultiCut" if several else "MonoCut",
    }


def read_cuts(source: Path) -> Iterator[Utterance]:
    """Read a cut manifest, or ``cuts.jsonl[.gz]`` in a folder.

    Each cut must be a part of one audio file, with one or all of its channels, and have at most one speaker.

    Raises:
        CorpusError: no manifest, or a line that is not such a cut.

    >>> {u.corpus for u in read_cuts(Path("speech"))}
    {'voices'}
    """
    path = find_cuts(source) if source.is_dir() else source
    if as_url(source) and not source.name.endswith((".jsonl", ".jsonl.gz")):
        path = source / CUT_FILES[0]
    if path is None:
        raise CorpusError(f"{source}: no cut manifest; expected {' or '.join(CUT_FILES)} in this folder")
    folder = path.parent if as_url(path) else path.resolve().parent
    for number, line in enumerate(iterate_lines(path, CorpusError), 1):
        if line.strip():
            where = f"{path}, line {number}"
            yield _from_cut(parse_json(line, f"{where}: not a Lhotse cut", CorpusError), folder, where)


def _from_cut(cut: Any, folder: Path, where: str) -> Utterance:
    _require(cut, dict, "the line", where)
    name = _field(cut, "id", str, where)
    kind = _field(cut, "type", str, where)
    where = f"{where}: cut '{name}'"
    if kind not in ("MonoCut", "MultiCut"):
        raise CorpusError(f"{where} is a {kind}; only plain MonoCut and MultiCut can be used")
    recording = _field(cut, "recording", dict, where)
    sources = _field(recording, "sources", list, where)
    for source in sources:
        _require(source, dict, "'sources'", where)
    if len(sources) != 1 or sources[0].get("type") != "file" or recording.get("transforms"):
        raise CorpusError(f"{where} is not a part of one plain audio file; save the audio as files first")
    used = cut.get("channel")
    start, seconds = (_seconds(cut, key, where) for key in ("start", "duration"))
    if seconds == 0:
        raise CorpusError(f"{where}: not a Lhotse cut, its duration is 0")
    custom = cut.get("custom") or {}
    _require(custom, dict, "'custom'", where)
    labels = {
        key: _field(custom, key, str, where) for key in ("corpus", "split", "category") if custom.get(key)
    }
    return Utterance(
        id=name,
        path=folder / _field(sources[0], "source", str, where),
        seconds=seconds,
        speaker=_speaker(_field(cut, "supervisions", list, where), where),
        start=start,
        channel=_channel(used if isinstance(used, list) else [used], sources[0], where),
        **labels,
    )


def _speaker(supervisions: list[Any], where: str) -> str | None:
    for supervision in supervisions:
        _require(supervision, dict, "'supervisions'", where)
    found = {_field(s, "speaker", str, where) for s in supervisions if s.get("speaker")}
    speakers = sorted({name for raw in found if (name := normalise_name(raw))})
    if len(speakers) > 1:
        raise CorpusError(f"{where} has several speakers ({', '.join(speakers)}); split it by supervision")
    return speakers[0] if speakers else None


def _channel(used: list[Any], source: dict[str, Any], where: str) -> int | None:
    """Return the channel of the file that a cut uses; None for all of them."""
    channels = _field(source, "channels", list, where)
    for number in (*used, *channels):
        _require(number, int, "a channel", where)
    if sorted(used) == sorted(channels):
        return None
    if len(used) == 1 and used[0] in channels:
        return sorted(channels).index(used[0])
    raise CorpusError(
        f"{where} uses channels {reprlib.repr(used)} of {reprlib.repr(channels)}; split the file first"
    )


def _seconds(cut: dict[str, Any], key: str, where: str) -> float:
    value = cut.get(key)
    # A boolean is an int in Python. The comparison refuses NaN, infinity and integers beyond any recording.
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= LONGEST_SECONDS:
        raise CorpusError(
            f"{where}: not a Lhotse cut, '{key}' is {reprlib.repr(value)}, not a time in seconds"
        )
    return float(value)


def _field(record: dict[str, Any], key: str, kind: type[Field], where: str) -> Field:
    if key not in record:
        raise CorpusError(f"{where}: not a Lhotse cut, no '{key}'")
    return _require(record[key], kind, f"'{key}'", where)


def _require(value: Any, kind: type[Field], what: str, where: str) -> Field:
    """Return a value of JSON if it has the expected type; text is a name or a path, so it is not long."""
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is int):
        name = {dict: "an object", list: "a list", str: "text", int: "a whole number"}[kind]
        raise CorpusError(f"{where}: not a Lhotse cut, {what} is {reprlib.repr(value)}, not {name}")
    if isinstance(value, str) and len(value) > MAX_NAME:
        raise CorpusError(f"{where}: not a Lhotse cut, {what} is longer than {MAX_NAME} characters")
    return value


@contextmanager
def _open_new(path: Path) -> Iterator[IO[str]]:
    with ExitStack() as opened:
        file: Any = opened.enter_context(path.open("wb"))
        if path.name.endswith(".gz"):
            file = opened.enter_context(gzip.GzipFile(fileobj=file, mode="wb"))
        yield opened.enter_context(io.TextIOWrapper(file, encoding="utf-8"))
