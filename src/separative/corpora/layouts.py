"""Read a corpus from disk, in any of the supported layouts.

A layout is a way to list audio files and their speakers: a CSV file, a Kaldi data directory, a Lhotse cut
manifest (see :mod:`separative.corpora.cuts`), or one of three folder structures. Each layout has a reader
that yields utterances. ``LAYOUTS``, at the end of this file, lists the readers by name.
"""

from __future__ import annotations

import csv
import difflib
import logging
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from separative import audio
from separative.corpora.cuts import find_cuts, read_cuts
from separative.corpora.folders import (
    describe,
    detect_folders,
    left_out,
    read_folders,
    read_librispeech,
    read_voxceleb,
)
from separative.corpora.manifest import (
    UNKNOWN_SECONDS,
    Corpus,
    Utterance,
    fill_durations,
    map_in_threads,
    twin_notes,
)
from separative.errors import AudioError, CorpusError, SeparativeError, choose, printable
from separative.files import as_url, iterate_lines
from separative.names import normalise_name
from separative.types import Progress

log = logging.getLogger(__name__)

UNLABELLED = {"", "unknown"}
FOLDER_LAYOUTS = ("folders", "librispeech", "voxceleb")
# Longest time of a manifest, in seconds: 30 years.
LONGEST_SECONDS = 1e9
KALDI_CHANNELS = {"A": 0, "1": 0, "B": 1, "2": 1}


def load_corpus(
    source: str | Path,
    *,
    layout: str | None = None,
    split: str | None = None,
    keep_damaged: bool = False,
    progress: Progress | None = None,
    log_notes: bool = True,
) -> Corpus:
    """Read a corpus from disk.

    Files of every format that :func:`audio.read` decodes are used.

    Args:
        source: a CSV file, a Lhotse cut manifest (.jsonl, .jsonl.gz), a folder, or the URL of a folder of
            shards (``s3://bucket/speech``; see :func:`pack_corpus`).
        layout: a name in ``LAYOUTS``; None detects it.
        split: return only this split.
        keep_damaged: keep utterances with unreadable files, with a duration of 0 s, instead of raising an
            error. :func:`check_corpus` reports them, and training skips and counts them.
        progress: called with (done, total) while durations are read from file headers.
        log_notes: log the notes of the corpus as warnings: files that are left out, names that differ only in
            capital letters or blanks, and which layout was detected for a folder of audio files.

    Names of speakers, splits and corpora are normalised (:func:`normalise_name`).

    Raises:
        CorpusError: no such path, no speech found, a malformed or inconsistent manifest, duplicate ids, an
            unknown layout or split.
        AudioError: a header that is needed for a duration cannot be read.

    >>> corpus = load_corpus("speech", split="dev")
    >>> len(corpus), len(corpus.speakers)
    (8, 2)
    """
    source, guessed = Path(source), layout is None
    if as_url(source):
        layout = "lhotse"
    elif not source.exists():
        raise CorpusError(f"{source}: no such file or folder")
    elif guessed:
        try:
            layout = detect_layout(source)
        except OSError as error:
            raise CorpusError(f"{source} cannot be read as a corpus: {error}") from error
    layout = choose(layout or "", LAYOUTS, "layout", CorpusError)
    reader = LAYOUTS[layout]
    try:
        listed = _unique(source, reader(source))
        utterances = fill_durations(listed, progress, keep_damaged=keep_damaged)
        folders = layout in FOLDER_LAYOUTS and source.is_dir()
        left = left_out(source, (u.path for u in listed)) if folders else ""
    except SeparativeError:
        raise
    except (ValueError, OSError, EOFError, csv.Error) as error:
        # Not UTF-8 text, a folder that cannot be listed, or a path that cannot exist.
        raise CorpusError(f"{source} cannot be read as a corpus: {error}") from error
    if not utterances:
        raise CorpusError(f"{source}: no speech found; a corpus is one of: {', '.join(LAYOUTS)}")
    corpus = Corpus(tuple(utterances))
    notes = (*([f"{source}: {left}"] if left else []), *twin_notes(corpus))
    read_as = ""
    if folders and guessed:
        read_as = describe(source, layout, (u.split for u in corpus), corpus.speakers)
    if log_notes:
        for note in (read_as, *notes):
            if note:
                log.warning("%s", printable(note))
    corpus = replace(corpus, read_as=read_as, notes=notes)
    return corpus if split is None else corpus.split(split)


def _unique(source: Path, utterances: Iterable[Utterance]) -> list[Utterance]:
    """Normalise the names of utterances, and check that no id occurs twice."""
    listed: dict[str, Utterance] = {}
    for utterance in utterances:
        if utterance.id in listed:
            raise CorpusError(f"{source}: 2 utterances have the id '{utterance.id}'; ids must be unique")
        listed[utterance.id] = _normalised(utterance)
    return list(listed.values())


def _normalised(utterance: Utterance) -> Utterance:
    speaker = utterance.speaker
    if speaker is not None:
        speaker = "/".join(normalise_name(part) or part for part in speaker.split("/"))
    corpus, split, category = map(normalise_name, (utterance.corpus, utterance.split, utterance.category))
    names = (speaker, corpus, split, category)
    if names == (utterance.speaker, utterance.corpus, utterance.split, utterance.category):
        return utterance
    return replace(utterance, speaker=speaker, corpus=corpus, split=split, category=category)


def detect_layout(source: Path) -> str:
    """Return the layout of an existing file or folder: a key of ``LAYOUTS``.

    Raises:
        CorpusError: a file that is not a CSV file or a cut manifest, or a folder that fits no layout.

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
    return detect_folders(source)


# CSV files


def read_csv(source: Path) -> Iterator[Utterance]:
    """Read a CSV file with the columns path and speaker (or category, for noise).

    Optional columns are id, corpus, seconds, split and start; others are ignored. Relative paths are relative
    to the folder of the CSV file. A speaker that is empty, ``unknown`` or ``corpus/unknown`` is unlabelled.
    Blanks at the ends of values are removed.

    >>> _ = Path("list.csv").write_text("path,speaker,seconds\\nann.wav,ann,1.5\\n")
    >>> [(u.id, u.speaker, u.seconds) for u in read_csv(Path("list.csv"))]
    [('ann', 'ann', 1.5)]
    """
    folder = source.resolve().parent
    with source.open(newline="", encoding="utf-8-sig") as file:
        rows = csv.reader(file)
        columns = [normalise_name(name) for name in next(rows, [])]
        for wanted in ("path",) if "category" in columns else ("path", "speaker"):
            require_column(source, columns, wanted)
        for values in rows:
            if not values:
                continue
            place = f"{source}, line {rows.line_num}"
            if len(values) != len(columns):
                raise CorpusError(
                    f"{place}: {len(values)} values for {len(columns)} columns; quote values that hold commas"
                )
            row = dict(zip(columns, values, strict=True))
            path = _csv_path(folder, row["path"])
            if not path:
                raise CorpusError(f"{place}: the column 'path' is empty")
            start = _parse_seconds(row.get("start"), 0.0, "start", place)
            speaker = normalise_name(row.get("speaker", ""))
            suffix = f"@{start:g}" if start else ""
            yield Utterance(
                id=normalise_name(row.get("id", "")) or Path(path).with_suffix("").as_posix() + suffix,
                path=folder / path,
                seconds=_parse_seconds(row.get("seconds"), UNKNOWN_SECONDS, "seconds", place),
                speaker=None if speaker.rpartition("/")[2].lower() in UNLABELLED else speaker,
                start=start,
                corpus=normalise_name(row.get("corpus", "")) or source.stem,
                split=row.get("split", ""),
                category=row.get("category", ""),
            )


def _csv_path(folder: Path, text: str) -> str:
    """Return a path without blanks at its ends, unless there is a file with such a name."""
    trimmed = text.strip()
    return text if text != trimmed and (folder / text).is_file() else trimmed


def require_column(source: Path, columns: list[str], wanted: str) -> None:
    """Raise a CorpusError that names the nearest column if a CSV file has no column ``wanted``.

    >>> require_column(Path("list.csv"), ["paths", "speaker"], "path")
    Traceback (most recent call last):
    separative.errors.CorpusError: list.csv: no column 'path' (is it 'paths'?); it has: paths, speaker
    """
    if wanted not in columns:
        near = difflib.get_close_matches(wanted, columns, n=1)
        hint = f" (is it '{near[0]}'?)" if near else ""
        raise CorpusError(f"{source}: no column '{wanted}'{hint}; it has: {', '.join(columns) or 'none'}")


def _parse_seconds(text: str | None, default: float, column: str, place: str) -> float:
    if not text or not text.strip():
        return default
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0.0 <= seconds <= LONGEST_SECONDS:
        raise CorpusError(f"{place}: {column} is '{text}', not a number of seconds")
    return seconds


# Kaldi data directories


def read_kaldi(source: Path) -> Iterator[Utterance]:
    """Read a Kaldi data directory: ``wav.scp``, ``utt2spk``, and, where they are, two more files.

    ``segments`` states parts of recordings; an end of -1 is the end of the recording. Of a file with several
    channels, ``reco2file_and_channel`` states which one a recording is (A or 1, B or 2).

    Commands in ``wav.scp`` are refused, never run. Relative paths are relative to the current folder, as in
    Kaldi; if there is no such file, they are relative to the data directory.

    >>> _ = Path("wav.scp").write_text("ann-1 ann.wav\\n")
    >>> _ = Path("utt2spk").write_text("ann-1 ann\\n")
    >>> [(u.id, u.path.name, u.speaker) for u in read_kaldi(Path("."))]
    [('ann-1', 'ann.wav', 'ann')]
    """
    recordings = {
        name: _kaldi_path(source, value) for name, value in _kaldi_table(source / "wav.scp").items()
    }
    channels = _kaldi_channels(source, recordings)
    speakers = _kaldi_table(source / "utt2spk")
    segments_file = source / "segments"
    if segments_file.is_file():
        segments = [
            (name, *_kaldi_segment(value, f"{segments_file}, '{name}'"))
            for name, value in _kaldi_table(segments_file).items()
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
            name,
            recordings[recording],
            seconds,
            speakers[name],
            start,
            corpus=source.resolve().name,
            channel=channels.get(recording),
        )
    if missing := len(speakers.keys() - {segment[0] for segment in segments}):
        where = "segments" if segments_file.is_file() else "wav.scp"
        log.warning("%s: %d utterances of utt2spk are left out: %s has none", source, missing, where)


def _kaldi_table(path: Path) -> dict[str, str]:
    """Return the rest of each line by its first word."""
    if not path.is_file():
        raise CorpusError(
            f"{path}: no such file; a Kaldi directory has wav.scp, utt2spk and, optionally, segments"
        )
    table: dict[str, str] = {}
    for number, line in enumerate(iterate_lines(path, CorpusError), 1):
        if not line.strip():
            continue
        name, *rest = line.split(maxsplit=1)
        if not rest:
            raise CorpusError(f"{path}, line {number}: expected a name and a value, found '{line.strip()}'")
        name = normalise_name(name)
        if name in table:
            raise CorpusError(f"{path}, line {number}: '{name}' occurs twice")
        table[name] = rest[0].strip()
    return table


def _kaldi_channels(source: Path, recordings: dict[str, Path]) -> dict[str, int]:
    """Return the channel of each recording in a file of several; add recordings that are listed by file.

    A file with one channel is a recording that was extracted from another file before.
    """
    table = source / "reco2file_and_channel"
    if not table.is_file():
        return {}
    stated: dict[str, int] = {}
    for name, value in _kaldi_table(table).items():
        file_id, letter = ("", "") if len(words := value.split()) != 2 else words
        if letter.upper() not in KALDI_CHANNELS:
            raise CorpusError(f"{table}, '{name}': expected a file and a channel A or B, found '{value}'")
        if name not in recordings and (path := recordings.get(normalise_name(file_id))) is not None:
            recordings[name] = path
        stated[name] = KALDI_CHANNELS[letter.upper()]
    used = [name for name in stated if name in recordings]
    paths = sorted({recordings[name] for name in used})
    counts = dict(zip(paths, map_in_threads(_channel_count, paths), strict=True))
    channels = {name: stated[name] for name in used if counts[recordings[name]] > 1}
    for name, channel in channels.items():
        if channel >= counts[recordings[name]]:
            raise CorpusError(f"{table}, '{name}': {recordings[name]} has no channel {channel + 1}")
    return channels


def _channel_count(path: Path) -> int:
    try:
        return audio.info(path).channels
    except AudioError:
        return 0  # The file is reported where it is read.


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
    recording = normalise_name(recording)
    if len(times) != 2:
        raise CorpusError(f"{place}: expected recording, start and end in seconds, found '{value}'")
    start = _parse_seconds(times[0], 0.0, "start", place)
    if re.fullmatch(r"-1(\.0*)?", times[1]):
        return recording, start, UNKNOWN_SECONDS
    end = _parse_seconds(times[1], 0.0, "end", place)
    if end <= start:
        raise CorpusError(f"{place}: ends at {end} s, at or before its start at {start} s")
    return recording, start, end - start


LAYOUTS: dict[str, Callable[[Path], Iterable[Utterance]]] = {
    "csv": read_csv,
    "folders": read_folders,
    "kaldi": read_kaldi,
    "lhotse": read_cuts,
    "librispeech": read_librispeech,
    "voxceleb": read_voxceleb,
}
"""Readers by layout name."""
