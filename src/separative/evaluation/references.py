"""Real recordings with their references: who speaks when (RTTM), and which spans are scored (UEM)."""

from __future__ import annotations

import csv
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from separative import audio
from separative.audio.foreign import MEDIA_SUFFIXES
from separative.corpora.folders import SUFFIXES
from separative.corpora.layouts import require_column
from separative.errors import CorpusError, SeparativeError
from separative.files import read_lines
from separative.rttm import Turn, join_turns, read_rttm, read_uems, rttm_name, turns_to_frames

log = logging.getLogger(__name__)

FRAME = 0.01
"""Length in seconds of the frames in which recordings are scored."""

REQUIRED = ("recording", "path", "rttm")
# Seconds by which a turn may end after its recording without a warning: times are rounded.
TOLERANCE = 0.1

Activity = NDArray[np.bool_]


@dataclass(frozen=True)
class ReferenceRecording:
    """A recording with its reference.

    Attributes:
        name: name of the recording, unique in its manifest.
        path: audio file.
        seconds: length of the recording.
        turns: turns of the reference, inside the recording; overlapping turns of one speaker are joined.
        scored: the spans (start, end) in seconds that are scored.
        kind: kind of recording, such as "meeting"; empty if not known.

    >>> recording = ReferenceRecording("a", Path("a.wav"), 2.0, (Turn("ann", 0.5, 1.5),), ((0.0, 1.0),))
    >>> recording.speakers, recording.reference.shape, recording.scored_frames.sum()
    (('ann',), (1, 200), np.int64(100))
    """

    name: str
    path: Path
    seconds: float
    turns: tuple[Turn, ...]
    scored: tuple[tuple[float, float], ...]
    kind: str = ""

    @cached_property
    def speakers(self) -> tuple[str, ...]:
        """Names of the speakers of the reference, sorted."""
        return tuple(sorted({turn.speaker for turn in self.turns}))

    @cached_property
    def reference(self) -> Activity:
        """Activity of the K speakers of the reference in frames of FRAME seconds [K, T]."""
        return turns_to_frames(self.turns, self.speakers, self.frames, FRAME)

    @property
    def frames(self) -> int:
        """Number of frames of FRAME seconds."""
        return round(self.seconds / FRAME)

    @cached_property
    def scored_frames(self) -> Activity:
        """Which frames are scored [T]."""
        turns = [Turn("", start, end) for start, end in self.scored]
        scored_T: Activity = turns_to_frames(turns, [""], self.frames, FRAME)[0]
        return scored_T

    def frames_outside_collar(self, collar: float) -> Activity:
        """Which scored frames are not within ``collar`` seconds of the start or end of a turn [T]."""
        borders = {time for turn in self.turns for time in (turn.start, turn.end)}
        near = [Turn("", time - collar, time + collar) for time in borders]
        outside_T: Activity = self.scored_frames & ~turns_to_frames(near, [""], self.frames, FRAME)[0]
        return outside_T


def read_references(
    manifest: str | Path,
) -> tuple[list[ReferenceRecording], list[str]]:
    """Read the recordings of a manifest, or of a folder.

    A manifest is a CSV file with the columns recording, path and rttm, and optionally uem and kind; other
    columns are ignored. Relative paths are relative to the folder of the manifest. In a folder, every RTTM
    file belongs to the audio file of the same name, and so does a UEM file.

    Returns:
        the recordings, and a sentence about each one that cannot be used.

    Raises:
        CorpusError: the manifest cannot be read, lacks a column, lists no recording, or lists a name twice.

    >>> _ = Path("list.csv").write_text("recording,path,rttm\\nann,ann.wav,ann.rttm\\n")
    >>> _ = Path("ann.rttm").write_text("SPEAKER ann 1 0.5 2.0 <NA> <NA> ann <NA> <NA>\\n")
    >>> [recording], failures = read_references("list.csv")
    >>> recording.turns, failures
    ((Turn(speaker='ann', start=0.5, end=2.5),), [])
    """
    manifest = Path(manifest)
    rows = _folder_rows(manifest) if manifest.is_dir() else _csv_rows(manifest)
    folder = manifest if manifest.is_dir() else manifest.resolve().parent
    recordings, failures = [], []
    for row in rows:
        try:
            recordings.append(_read_recording(folder, row))
        except SeparativeError as error:
            failures.append(f"{row['recording']}: {error}")
    return recordings, failures


def read_turns(path: Path, recording: str) -> list[Turn]:
    """Read the turns of one recording from an RTTM file, sorted by start; a file without turns gives none.

    Overlapping and adjacent turns of one speaker are joined.

    Raises:
        SeparativeError: the file cannot be read, is not RTTM, or has turns of other recordings only.

    >>> lines = [f"SPEAKER a 1 {start} 2.0 <NA> <NA> ann <NA> <NA>\\n" for start in (0.0, 1.0)]
    >>> _ = Path("a.rttm").write_text("".join(lines))
    >>> read_turns(Path("a.rttm"), "a")
    [Turn(speaker='ann', start=0.0, end=3.0)]
    """
    turns = read_rttm(path)
    name = rttm_name(recording)
    if turns and name not in turns:
        others = ", ".join(sorted(turns)[:3])
        raise SeparativeError(
            f"{path} has turns of {others}, but none of '{name}'; the second field of each line must be the"
            " name of the recording"
        )
    return join_turns(turns.get(name, []))


def read_uem(path: Path, recording: str) -> list[tuple[float, float]]:
    """Read the scored spans (start, end) in seconds of one recording from a UEM file.

    A line has the fields name, channel, start and end.

    Raises:
        SeparativeError: the file cannot be read, a line is not UEM, or no line is about the recording.

    >>> _ = Path("a.uem").write_text("a 1 0.0 30.0\\n")
    >>> read_uem(Path("a.uem"), "a")
    [(0.0, 30.0)]
    """
    name = rttm_name(recording)
    spans = read_uems(path).get(name)
    if not spans:
        raise SeparativeError(f"{path} has no line about '{name}'")
    return spans


def _folder_rows(folder: Path) -> list[dict[str, str]]:
    """A row for every RTTM file of a folder."""
    rows = []
    # Folders of results have other files of the same name, such as JSON and pictures.
    files = {
        path.stem: path.name
        for suffixes in (MEDIA_SUFFIXES, SUFFIXES)
        for path in sorted(folder.iterdir(), reverse=True)
        if path.suffix.lower() in suffixes
    }
    for rttm in sorted(folder.glob("*.rttm")):
        # Without an audio file, the message about the missing file names what was expected.
        path = files.get(rttm.stem, f"{rttm.stem}.wav")
        uem = rttm.with_suffix(".uem")
        rows.append(
            {
                "recording": rttm.stem,
                "path": path,
                "rttm": rttm.name,
                "uem": uem.name if uem.is_file() else "",
            }
        )
    if not rows:
        raise CorpusError(f"{folder}: no RTTM files; add <name>.rttm for each audio file")
    return rows


def _csv_rows(manifest: Path) -> list[dict[str, str]]:
    """The rows of a manifest, checked for columns and names."""
    reader = csv.DictReader(read_lines(manifest, CorpusError))
    columns = [name.strip() for name in reader.fieldnames or ()]
    for wanted in REQUIRED:
        require_column(manifest, columns, wanted)
    reader.fieldnames = columns
    rows: list[dict[str, str]] = []
    # The key None holds the values of a line that has more values than there are columns.
    for values in reader:
        row = {key: (value or "").strip() for key, value in values.items() if key is not None}
        for wanted in REQUIRED:
            if not row[wanted]:
                raise CorpusError(f"{manifest}, line {reader.line_num}: the column '{wanted}' is empty")
        rows.append(row)
    if not rows:
        raise CorpusError(f"{manifest}: lists no recordings; add a line for each (recording, path, rttm)")
    names = [row["recording"] for row in rows]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise CorpusError(f"{manifest}: two recordings are named '{twice}'; give each its own name")
    return rows


def _read_recording(folder: Path, row: dict[str, str]) -> ReferenceRecording:
    """The recording of one row of a manifest."""
    name, path, rttm = row["recording"], folder / row["path"], folder / row["rttm"]
    seconds = audio.info(path).seconds
    turns = cut_turns(read_turns(rttm, name), seconds, rttm)
    spans = read_uem(folder / row["uem"], name) if row.get("uem") else [(0.0, seconds)]
    scored = tuple((start, min(end, seconds)) for start, end in spans if start < seconds)
    if not scored:
        raise SeparativeError(
            f"{folder / row['uem']}: every span starts after the end of {path} ({seconds:.2f} s)"
        )
    return ReferenceRecording(name, path, seconds, tuple(turns), scored, row.get("kind", ""))


def cut_turns(turns: Sequence[Turn], seconds: float, source: Path) -> list[Turn]:
    """Cut turns at the end of a recording of ``seconds`` seconds, and warn if that is more than rounding.

    ``source``: the RTTM file, for the warning.

    >>> cut_turns([Turn("ann", 0.0, 2.01), Turn("bob", 2.0, 2.05)], 2.0, Path("a.rttm"))
    [Turn(speaker='ann', start=0.0, end=2.0)]
    """
    late = [turn for turn in turns if turn.end > seconds + TOLERANCE]
    if late:
        log.warning(
            "%s: %d of %d turns end after the recording (%.2f s) and are cut there; is it the reference of"
            " this recording?",
            source,
            len(late),
            len(turns),
            seconds,
        )
    return [turn._replace(end=min(turn.end, seconds)) for turn in turns if turn.start < seconds]
