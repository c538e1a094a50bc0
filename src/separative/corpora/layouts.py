"""From a path to a corpus, whatever its layout."""

from __future__ import annotations

import csv
import difflib
import os
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from separative.corpora.cuts import cuts_in, read_cuts
from separative.corpora.manifest import UNKNOWN_SECONDS, Corpus, Utterance, with_durations
from separative.errors import CorpusError, SeparativeError, choose
from separative.files import address
from separative.types import Progress

UNLABELLED = {"", "unknown"}


def read_csv(source: Path) -> Iterator[Utterance]:
    """Columns path and speaker (or category, for noise); optional id, corpus, seconds, split, start.

    Relative paths start at the CSV's folder. A speaker that is empty, ``unknown`` or
    ``corpus/unknown`` is unlabelled. Other columns are ignored.
    """
    folder = source.resolve().parent
    with source.open(newline="", encoding="utf-8-sig") as file:
        rows = csv.DictReader(file)
        columns = tuple(rows.fieldnames or ())
        _need(source, columns, "path")
        if "category" not in columns:
            _need(source, columns, "speaker")
        for row in rows:
            if not row["path"]:
                raise CorpusError(f"{source}, line {rows.line_num}: the column 'path' is empty")
            place = f"{source}, line {rows.line_num}"
            start = _seconds(row.get("start"), 0.0, "start", place)
            speaker = row.get("speaker") or ""
            stretch = f"@{start:g}" if start else ""
            yield Utterance(
                id=row.get("id") or str(Path(row["path"]).with_suffix("").as_posix()) + stretch,
                path=folder / row["path"],
                seconds=_seconds(row.get("seconds"), UNKNOWN_SECONDS, "seconds", place),
                speaker=None if speaker.rpartition("/")[2] in UNLABELLED else speaker,
                start=start,
                corpus=row.get("corpus") or source.stem,
                split=row.get("split") or "",
                category=row.get("category") or "",
            )


def _need(source: Path, columns: tuple[str, ...], wanted: str) -> None:
    if wanted not in columns:
        near = difflib.get_close_matches(wanted, columns, n=1)
        hint = f" (is it '{near[0]}'?)" if near else ""
        raise CorpusError(f"{source}: no column '{wanted}'{hint}; it has: {', '.join(columns) or 'none'}")


def _seconds(text: str | None, default: float, column: str, place: str) -> float:
    if not text:
        return default
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0.0 <= seconds < float("inf"):
        raise CorpusError(f"{place}: {column} is '{text}', not a number of seconds")
    return seconds


def read_kaldi(source: Path) -> Iterator[Utterance]:
    """A data directory: ``wav.scp``, ``utt2spk`` and, if there, ``segments``; pipes are never run.

    Relative paths start at the current folder, as in Kaldi, or else at the data directory.
    """
    recordings = {name: _kaldi_path(source, rest) for name, rest in _pairs(source / "wav.scp")}
    speakers = dict(_pairs(source / "utt2spk"))
    segments_file = source / "segments"
    if segments_file.is_file():
        segments = [
            (name, *_segment(rest, f"{segments_file}, '{name}'")) for name, rest in _pairs(segments_file)
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


def _pairs(path: Path) -> Iterator[tuple[str, str]]:
    """The first word and the rest of each line."""
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


def _kaldi_path(source: Path, rest: str) -> Path:
    if rest.endswith("|") or rest.startswith("|"):
        raise CorpusError(
            f"{source / 'wav.scp'}: '{rest}' is a command, which is never run; list sound files instead"
        )
    path = Path(rest)
    return path.resolve() if path.exists() else (source / path).resolve()


def _segment(rest: str, place: str) -> tuple[str, float, float]:
    """Recording, start and length in seconds of a line of ``segments`` (start and end on disk)."""
    recording, *times = rest.split()
    if len(times) != 2:
        raise CorpusError(f"{place}: expected recording, start and end in seconds, found '{rest}'")
    start = _seconds(times[0], 0.0, "start", place)
    end = _seconds(times[1], 0.0, "end", place)
    if end <= start:
        raise CorpusError(f"{place}: ends at {end} s, at or before its start at {start} s")
    return recording, start, end - start


SUFFIXES = {".wav", ".flac", ".ogg", ".opus", ".mp3"}
SPLITS = ("train", "dev", "test")
LIBRISPEECH_NAME = re.compile(r"(\d+)-\d+-\d+")
VOXCELEB_SPEAKER = re.compile(r"id\d{5}")


def _sound_files(folder: Path) -> Iterator[Path]:
    """All sound files below a folder, sorted; hidden files and folders are left out."""
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        for name in sorted(names):
            path = Path(parent, name)
            if path.suffix.lower() in SUFFIXES and not name.startswith("."):
                yield path


def _stem(path: Path, root: Path) -> str:
    """The path below the root, without suffix: the id of an utterance."""
    return path.relative_to(root).with_suffix("").as_posix()


def read_folders(root: Path) -> Iterator[Utterance]:
    """A folder per speaker, sound files at any depth below it; the folder's name is the speaker's."""
    root = root.resolve()
    loose = True
    for path in _sound_files(root):
        speaker, *inner = path.relative_to(root).parts
        if not inner:
            continue
        loose = False
        yield Utterance(_stem(path, root), path, UNKNOWN_SECONDS, f"{root.name}/{speaker}", corpus=root.name)
    if loose:
        raise CorpusError(
            f"{root}: no speech found; expected a folder per speaker with {_suffixes()} files in it"
        )


def looks_like_librispeech(root: Path) -> bool:
    first = next(_sound_files(root), None)
    return first is not None and bool(LIBRISPEECH_NAME.fullmatch(first.stem))


def read_librispeech(root: Path) -> Iterator[Utterance]:
    """``[subset/]speaker/chapter/speaker-chapter-number.flac``; the split is the subset's first word."""
    root = root.resolve()
    for path in _sound_files(root):
        match = LIBRISPEECH_NAME.fullmatch(path.stem)
        if match is None:
            raise CorpusError(f"{path}: not a LibriSpeech name (speaker-chapter-number); try another layout")
        split = path.parents[2].name.partition("-")[0]
        speaker = f"librispeech/{match[1]}"
        split = split if split in SPLITS else ""
        yield Utterance(path.stem, path, UNKNOWN_SECONDS, speaker, corpus="librispeech", split=split)


def looks_like_voxceleb(root: Path) -> bool:
    first = next(_sound_files(root), None)
    return first is not None and bool(VOXCELEB_SPEAKER.fullmatch(first.parents[1].name))


def read_voxceleb(root: Path) -> Iterator[Utterance]:
    """``[dev|test/…/]idXXXXX/video/number.wav``; the split is ``dev`` or ``test`` where a folder says so."""
    root = root.resolve()
    for path in _sound_files(root):
        speaker = path.parents[1].name
        if not VOXCELEB_SPEAKER.fullmatch(speaker):
            raise CorpusError(f"{path}: not a VoxCeleb path (idXXXXX/video/number.wav); try another layout")
        split = next((part for part in path.parts[len(root.parent.parts) : -3] if part in SPLITS), "")
        utterance = f"{speaker}/{path.parent.name}/{path.stem}"
        yield Utterance(
            utterance, path, UNKNOWN_SECONDS, f"voxceleb/{speaker}", corpus="voxceleb", split=split
        )


def _suffixes() -> str:
    return ", ".join(sorted(SUFFIXES))


LAYOUTS: dict[str, Callable[[Path], Iterable[Utterance]]] = {
    "csv": read_csv,
    "folders": read_folders,
    "kaldi": read_kaldi,
    "lhotse": read_cuts,
    "librispeech": read_librispeech,
    "voxceleb": read_voxceleb,
}


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
        source: a CSV file, a Lhotse cut manifest (.jsonl, .jsonl.gz), a folder, or the address of a folder of
            shards (``s3://bucket/speech``; see :func:`pack_corpus`).
        layout: a name of ``LAYOUTS``; None finds it out from the path.
        split: keep this split only.
        keep_damaged: do not refuse files that cannot be read: they stay, 0 seconds long, for
            :func:`check_corpus` to report or for training to skip and count.
        progress: called with (done, total) while durations are read from file headers.

    Raises:
        CorpusError: nothing there, no speech found, a malformed or inconsistent manifest, duplicate ids,
            unknown layout or split.
        AudioError: a header that is needed for a duration cannot be read.
    """
    source = Path(source)
    if address(source):
        layout = "lhotse"
    elif not source.exists():
        raise CorpusError(f"{source}: no such file or folder")
    reader = LAYOUTS[
        detect_layout(source) if layout is None else choose(layout, LAYOUTS, "layout", CorpusError)
    ]
    try:
        listed = list(reader(source))
    except SeparativeError:
        raise
    except (ValueError, OSError, EOFError, csv.Error, zlib.error) as error:
        # Not text in UTF-8, not compressed as its name says, a path that no system can have.
        raise CorpusError(f"{source} cannot be read as a corpus: {error}") from error
    utterances = with_durations(listed, progress, keep_damaged=keep_damaged)
    if not utterances:
        raise CorpusError(f"{source}: no speech found; a corpus is one of: {', '.join(LAYOUTS)}")
    [(commonest, count)] = Counter(u.id for u in utterances).most_common(1)
    if count > 1:
        raise CorpusError(f"{source}: {count} utterances have the id '{commonest}'; ids must be unique")
    corpus = Corpus(tuple(utterances))
    return corpus if split is None else corpus.split(split)


def detect_layout(source: Path) -> str:
    """Name the layout of an existing file or folder.

    Raises:
        CorpusError: a file that is neither a CSV nor a cut manifest.
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
    if cuts_in(source) is not None:
        return "lhotse"
    if looks_like_librispeech(source):
        return "librispeech"
    return "voxceleb" if looks_like_voxceleb(source) else "folders"
