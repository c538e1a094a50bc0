"""Corpora listed in text files: CSV and Kaldi data directories."""

from __future__ import annotations

import csv
import difflib
from collections.abc import Iterator
from pathlib import Path

from separative.corpora.headers import UNKNOWN_SECONDS
from separative.corpora.manifest import Utterance
from separative.errors import CorpusError

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
            raise CorpusError(f"{source / 'utt2spk'}: no talker for utterance '{name}'")
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
