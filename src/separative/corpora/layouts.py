"""Read a corpus from disk, in any of the supported layouts.

A layout is a way to list audio files and their speakers: a CSV file, a Kaldi data directory, a Lhotse cut
manifest (see :mod:`separative.corpora.cuts`), or one of three folder structures. Each layout has a reader
that yields utterances. ``LAYOUTS``, at the end of this file, lists the readers by name.
"""

from __future__ import annotations

import csv
import difflib
import os
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from separative.corpora.cuts import find_cuts, read_cuts
from separative.corpora.manifest import UNKNOWN_SECONDS, Corpus, Utterance, fill_durations
from separative.errors import CorpusError, SeparativeError, choose
from separative.files import as_url
from separative.types import Progress

UNLABELLED = {"", "unknown"}
SUFFIXES = {".wav", ".flac", ".ogg", ".opus", ".mp3"}
SPLITS = ("train", "dev", "test")
LIBRISPEECH_NAME = re.compile(r"(\d+)-\d+-\d+")
VOXCELEB_SPEAKER = re.compile(r"id\d{5}")


def load_corpus(
    source: str | Path,
    *,
    layout: str | None = None,
    split: str | None = None,
    keep_damaged: bool = False,
    progress: Progress | None = None,
) -> Corpus:
    """Read a corpus from disk.

    Args:
        source: a CSV file, a Lhotse cut manifest (.jsonl, .jsonl.gz), a folder, or the URL of a folder of
            shards (``s3://bucket/speech``; see :func:`pack_corpus`).
        layout: a name in ``LAYOUTS``; None detects it.
        split: return only this split.
        keep_damaged: keep utterances with unreadable files, with a duration of 0 s, instead of raising an
            error. :func:`check_corpus` reports them, and training skips and counts them.
        progress: called with (done, total) while durations are read from file headers.

    Raises:
        CorpusError: no such path, no speech found, a malformed or inconsistent manifest, duplicate ids, an
            unknown layout or split.
        AudioError: a header that is needed for a duration cannot be read.

    >>> corpus = load_corpus("speech", split="dev")
    >>> len(corpus), len(corpus.speakers)
    (8, 2)
    """
    source = Path(source)
    if as_url(source):
        layout = "lhotse"
    elif not source.exists():
        raise CorpusError(f"{source}: no such file or folder")
    elif layout is None:
        layout = detect_layout(source)
    reader = LAYOUTS[choose(layout, LAYOUTS, "layout", CorpusError)]
    try:
        listed = list(reader(source))
    except SeparativeError:
        raise
    except (ValueError, OSError, EOFError, csv.Error, zlib.error) as error:
        # Not UTF-8 text, not compressed although its name ends in .gz, or a path that cannot exist.
        raise CorpusError(f"{source} cannot be read as a corpus: {error}") from error
    utterances = fill_durations(listed, progress, keep_damaged=keep_damaged)
    if not utterances:
        raise CorpusError(f"{source}: no speech found; a corpus is one of: {', '.join(LAYOUTS)}")
    [(commonest, count)] = Counter(u.id for u in utterances).most_common(1)
    if count > 1:
        raise CorpusError(f"{source}: {count} utterances have the id '{commonest}'; ids must be unique")
    corpus = Corpus(tuple(utterances))
    return corpus if split is None else corpus.split(split)


def detect_layout(source: Path) -> str:
    """Return the layout of an existing file or folder: a key of ``LAYOUTS``.

    Raises:
        CorpusError: a file that is not a CSV file or a cut manifest.

    >>> detect_layout(Path("speech"))
    'lhotse'
    """
    source = source.resolve()
    if source.is_file():
        if source.suffix.lower() == ".csv":
            return "csv"
        if source.name.endswith((".jsonl", ".jsonl.gz")):
            return "lhotse"
        raise CorpusError(
            f"{source}: not a corpus; give a folder, a .csv, or a Lhotse cuts .jsonl or .jsonl.gz"
        )
    if (source / "wav.scp").is_file():
        return "kaldi"
    if find_cuts(source) is not None:
        return "lhotse"
    first = next(_audio_files(source), None)
    if first is not None and LIBRISPEECH_NAME.fullmatch(first.stem):
        return "librispeech"
    if first is not None and VOXCELEB_SPEAKER.fullmatch(first.parents[1].name):
        return "voxceleb"
    return "folders"


# CSV files


def read_csv(source: Path) -> Iterator[Utterance]:
    """Read a CSV file with the columns path and speaker (or category, for noise).

    Optional columns are id, corpus, seconds, split and start; others are ignored. Relative paths are relative
    to the folder of the CSV file. A speaker that is empty, ``unknown`` or ``corpus/unknown`` is unlabelled.

    >>> _ = Path("list.csv").write_text("path,speaker,seconds\\nann.wav,ann,1.5\\n")
    >>> [(u.id, u.speaker, u.seconds) for u in read_csv(Path("list.csv"))]
    [('ann', 'ann', 1.5)]
    """
    folder = source.resolve().parent
    with source.open(newline="", encoding="utf-8-sig") as file:
        rows = csv.DictReader(file)
        columns = tuple(rows.fieldnames or ())
        _require_column(source, columns, "path")
        if "category" not in columns:
            _require_column(source, columns, "speaker")
        for row in rows:
            place = f"{source}, line {rows.line_num}"
            if not row["path"]:
                raise CorpusError(f"{place}: the column 'path' is empty")
            start = _parse_seconds(row.get("start"), 0.0, "start", place)
            speaker = row.get("speaker") or ""
            suffix = f"@{start:g}" if start else ""
            yield Utterance(
                id=row.get("id") or Path(row["path"]).with_suffix("").as_posix() + suffix,
                path=folder / row["path"],
                seconds=_parse_seconds(row.get("seconds"), UNKNOWN_SECONDS, "seconds", place),
                speaker=None if speaker.rpartition("/")[2] in UNLABELLED else speaker,
                start=start,
                corpus=row.get("corpus") or source.stem,
                split=row.get("split") or "",
                category=row.get("category") or "",
            )


def _require_column(source: Path, columns: tuple[str, ...], wanted: str) -> None:
    if wanted not in columns:
        near = difflib.get_close_matches(wanted, columns, n=1)
        hint = f" (is it '{near[0]}'?)" if near else ""
        raise CorpusError(f"{source}: no column '{wanted}'{hint}; it has: {', '.join(columns) or 'none'}")


def _parse_seconds(text: str | None, default: float, column: str, place: str) -> float:
    if not text:
        return default
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0.0 <= seconds < float("inf"):
        raise CorpusError(f"{place}: {column} is '{text}', not a number of seconds")
    return seconds


# Kaldi data directories


def read_kaldi(source: Path) -> Iterator[Utterance]:
    """Read a Kaldi data directory: ``wav.scp``, ``utt2spk`` and optionally ``segments``.

    Commands in ``wav.scp`` are refused, never run. Relative paths are relative to the current folder, as in
    Kaldi; if there is no such file, they are relative to the data directory.

    >>> _ = Path("wav.scp").write_text("ann-1 ann.wav\\n")
    >>> _ = Path("utt2spk").write_text("ann-1 ann\\n")
    >>> [(u.id, u.path.name, u.speaker) for u in read_kaldi(Path("."))]
    [('ann-1', 'ann.wav', 'ann')]
    """
    recordings = {name: _kaldi_path(source, value) for name, value in _kaldi_table(source / "wav.scp")}
    speakers = dict(_kaldi_table(source / "utt2spk"))
    segments_file = source / "segments"
    if segments_file.is_file():
        segments = [
            (name, *_kaldi_segment(value, f"{segments_file}, '{name}'"))
            for name, value in _kaldi_table(segments_file)
        ]
    else:
        segments = [(name, name, 0.0, UNKNOWN_SECONDS) for name in recordings]
    for name, recording, start, seconds in segments:
        if recording not in recordings:
            raise CorpusError(
                f"{segments_file}: '{name}' is cut from '{recording}', which wav.scp does not list"
            )
        if name not in speakers:
            raise CorpusError(f"{source / 'utt2spk'}: no speaker for utterance '{name}'")
        yield Utterance(
            name, recordings[recording], seconds, speakers[name], start, corpus=source.resolve().name
        )


def _kaldi_table(path: Path) -> Iterator[tuple[str, str]]:
    """Yield the first word and the rest of each line."""
    if not path.is_file():
        raise CorpusError(
            f"{path}: no such file; a Kaldi directory has wav.scp, utt2spk and, optionally, segments"
        )
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        name, *rest = line.split(maxsplit=1)
        if not rest:
            raise CorpusError(f"{path}, line {number}: expected a name and a value, found '{line.strip()}'")
        yield name, rest[0].strip()


def _kaldi_path(source: Path, value: str) -> Path:
    if value.endswith("|") or value.startswith("|"):
        raise CorpusError(
            f"{source / 'wav.scp'}: '{value}' is a command, which is never run; list audio files instead"
        )
    path = Path(value)
    return path.resolve() if path.exists() else (source / path).resolve()


def _kaldi_segment(value: str, place: str) -> tuple[str, float, float]:
    """Return recording, start and duration in seconds; a line of ``segments`` states start and end."""
    recording, *times = value.split()
    if len(times) != 2:
        raise CorpusError(f"{place}: expected recording, start and end in seconds, found '{value}'")
    start = _parse_seconds(times[0], 0.0, "start", place)
    end = _parse_seconds(times[1], 0.0, "end", place)
    if end <= start:
        raise CorpusError(f"{place}: ends at {end} s, at or before its start at {start} s")
    return recording, start, end - start


# Folder structures


def read_folders(root: Path) -> Iterator[Utterance]:
    """Read a folder with one folder per speaker; the audio files are at any depth below it.

    >>> _ = Path("mine/ann").mkdir(parents=True), Path("ann.wav").rename("mine/ann/1.wav")
    >>> [(u.id, u.speaker) for u in read_folders(Path("mine"))]
    [('ann/1', 'mine/ann')]
    """
    root = root.resolve()
    found = False
    for path in _audio_files(root):
        speaker, *inner = path.relative_to(root).parts
        if not inner:
            continue
        found = True
        name = path.relative_to(root).with_suffix("").as_posix()
        yield Utterance(name, path, UNKNOWN_SECONDS, f"{root.name}/{speaker}", corpus=root.name)
    if not found:
        raise CorpusError(
            f"{root}: no speech found; expected a folder per speaker with {', '.join(sorted(SUFFIXES))} files"
        )


def read_librispeech(root: Path) -> Iterator[Utterance]:
    """Read ``[subset/]speaker/chapter/speaker-chapter-number.flac``.

    The split is the first word of the subset's name: ``train`` for ``train-clean-100``.

    >>> folder = Path("train-clean-100/19/198")
    >>> folder.mkdir(parents=True)
    >>> _ = Path("ann.wav").rename(folder / "19-198-0001.wav")
    >>> [(u.id, u.speaker, u.split) for u in read_librispeech(Path("train-clean-100"))]
    [('19-198-0001', 'librispeech/19', 'train')]
    """
    root = root.resolve()
    for path in _audio_files(root):
        match = LIBRISPEECH_NAME.fullmatch(path.stem)
        if match is None:
            raise CorpusError(f"{path}: not a LibriSpeech name (speaker-chapter-number); try another layout")
        split = path.parents[2].name.partition("-")[0]
        split = split if split in SPLITS else ""
        speaker = f"librispeech/{match[1]}"
        yield Utterance(path.stem, path, UNKNOWN_SECONDS, speaker, corpus="librispeech", split=split)


def read_voxceleb(root: Path) -> Iterator[Utterance]:
    """Read ``[dev|test/…/]idXXXXX/video/number.wav``; a folder name ``dev`` or ``test`` gives the split.

    >>> folder = Path("dev/wav/id10001/1zcIwhmdeo4")
    >>> folder.mkdir(parents=True)
    >>> _ = Path("ann.wav").rename(folder / "00001.wav")
    >>> [(u.id, u.speaker, u.split) for u in read_voxceleb(Path("dev"))]
    [('id10001/1zcIwhmdeo4/00001', 'voxceleb/id10001', 'dev')]
    """
    root = root.resolve()
    for path in _audio_files(root):
        speaker = path.parents[1].name
        if not VOXCELEB_SPEAKER.fullmatch(speaker):
            raise CorpusError(f"{path}: not a VoxCeleb path (idXXXXX/video/number.wav); try another layout")
        split = next((part for part in path.parts[len(root.parent.parts) : -3] if part in SPLITS), "")
        name = f"{speaker}/{path.parent.name}/{path.stem}"
        yield Utterance(name, path, UNKNOWN_SECONDS, f"voxceleb/{speaker}", corpus="voxceleb", split=split)


def _audio_files(folder: Path) -> Iterator[Path]:
    """Yield all audio files below a folder, sorted, without hidden files and folders."""
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        for name in sorted(names):
            path = Path(parent, name)
            if path.suffix.lower() in SUFFIXES and not name.startswith("."):
                yield path


LAYOUTS: dict[str, Callable[[Path], Iterable[Utterance]]] = {
    "csv": read_csv,
    "folders": read_folders,
    "kaldi": read_kaldi,
    "lhotse": read_cuts,
    "librispeech": read_librispeech,
    "voxceleb": read_voxceleb,
}
"""Readers by layout name."""
