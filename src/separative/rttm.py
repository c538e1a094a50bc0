"""Speaker turns, and the files of NIST's scoring tools: RTTM (one line per turn) and UEM (scored spans)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from separative.errors import SeparativeError
from separative.files import read_lines, replace_file

# Seconds. A shorter pause is part of the turn around it; a shorter turn is dropped.
MIN_PAUSE, MIN_TURN = 0.25, 0.1
# Seconds. Longer times in a file are mistakes.
LONGEST = 1e9
# First words of RTTM lines that are not about turns (RT-09 evaluation plan, appendix A).
OTHER_LINES = {
    *("SEGMENT", "NOSCORE", "NO_RT_METADATA", "LEXEME", "NON-LEX", "NON-SPEECH"),
    *("FILLER", "EDIT", "IP", "SU", "CB", "A/P", "SPKR-INFO"),
}


class Turn(NamedTuple):
    """A span of time in which one speaker speaks, from ``start`` to ``end`` in seconds.

    ``confidence`` is the probability that the turn is right, if it is known: that in at least half of it, its
    speaker speaks.

    >>> turn = Turn("ann", 0.5, 2.0)
    >>> turn.end - turn.start
    1.5
    """

    speaker: str
    start: float
    end: float
    confidence: float | None = None

    def __repr__(self) -> str:
        # Most turns have no confidence.
        known = "" if self.confidence is None else f", confidence={self.confidence:.3g}"
        return f"Turn(speaker={self.speaker!r}, start={self.start!r}, end={self.end!r}{known})"


def frames_to_turns(
    active: npt.NDArray[np.bool_],
    names: Sequence[str],
    frame_seconds: float,
    *,
    min_pause: float = MIN_PAUSE,
    min_turn: float = MIN_TURN,
    inset: float = 0.0,
) -> list[Turn]:
    """Convert the activity of speakers in frames to turns, sorted by start.

    Args:
        active: whether each speaker is active in each frame, ``[speakers, frames]``.
        names: names of the speakers.
        frame_seconds: duration of a frame.
        min_pause: seconds; shorter pauses are filled.
        min_turn: seconds; shorter turns are dropped.
        inset: seconds by which a turn starts after its first frame and ends before its last; not at the ends
            of the recording. Use it if a frame is active as soon as it contains any speech.

    >>> active = np.array([[True, True, False, False], [False, False, True, True]])
    >>> frames_to_turns(active, ["ann", "bob"], 0.5)
    [Turn(speaker='ann', start=0.0, end=1.0), Turn(speaker='bob', start=1.0, end=2.0)]
    """
    turns, frames = [], active.shape[1]
    for name, active_T in zip(names, active, strict=True):
        edge = np.flatnonzero(np.diff(active_T.astype(np.int8), prepend=0, append=0))
        starts = edge[0::2] * frame_seconds + inset * (edge[0::2] > 0)
        ends = edge[1::2] * frame_seconds - inset * (edge[1::2] < frames)
        pauses = np.flatnonzero(starts[1:] - ends[:-1] >= min_pause)
        firsts, lasts = np.r_[0, pauses + 1], np.r_[pauses, len(starts) - 1]
        for first, last in zip(firsts, lasts, strict=True) if len(starts) else ():
            if ends[last] - starts[first] >= min_turn:
                turns.append(Turn(name, float(starts[first]), float(ends[last])))
    return sorted(turns, key=lambda turn: (turn.start, turn.speaker))


def turns_to_frames(
    turns: Iterable[Turn], names: Sequence[str], frames: int, frame_seconds: float
) -> npt.NDArray[np.bool_]:
    """Convert turns to the activity of speakers in frames.

    Args:
        turns: turns of any speakers; those of speakers not in ``names`` are ignored.
        names: names of the speakers.
        frames: number of frames.
        frame_seconds: duration of a frame.

    Returns:
        whether each speaker is active in each frame, ``[speakers, frames]``.

    >>> turns_to_frames([Turn("ann", 0.0, 1.0)], ["ann", "bob"], 3, 0.5)
    array([[ True,  True, False],
           [False, False, False]])
    """
    active_KT = np.zeros((len(names), frames), bool)
    row = {name: k for k, name in enumerate(names)}
    for turn in turns:
        if turn.speaker in row:
            first, last = round(turn.start / frame_seconds), round(turn.end / frame_seconds)
            active_KT[row[turn.speaker], max(0, first) : max(0, last)] = True
    return active_KT


def join_turns(turns: Iterable[Turn]) -> list[Turn]:
    """Join overlapping and adjacent turns of the same speaker; the result is sorted by start.

    >>> join_turns([Turn("ann", 1.0, 2.0), Turn("ann", 0.0, 1.5), Turn("bob", 0.5, 1.0)])
    [Turn(speaker='ann', start=0.0, end=2.0), Turn(speaker='bob', start=0.5, end=1.0)]
    """
    joined: dict[str, list[Turn]] = {}
    for turn in sorted(turns, key=lambda turn: turn.start):
        own = joined.setdefault(turn.speaker, [])
        if own and turn.start <= own[-1].end:
            own[-1] = own[-1]._replace(end=max(own[-1].end, turn.end))
        else:
            own.append(turn)
    return sorted((t for own in joined.values() for t in own), key=lambda turn: (turn.start, turn.speaker))


def rttm_name(name: str) -> str:
    """Return the form of a name in an RTTM file: white space becomes underscores.

    >>> rttm_name("monday meeting")
    'monday_meeting'
    """
    # The fields of a line are separated by white space.
    return "_".join(name.split())


def write_rttm(
    path: str | Path, recording: str, turns: Iterable[Turn], channels: Mapping[str, int] | None = None
) -> None:
    """Write the turns of one recording as an RTTM file; spaces in names become underscores.

    Args:
        channels: number of the channel of each speaker, from 1; by default all are in channel 1.

    >>> write_rttm("meeting.rttm", "meeting", [Turn("ann", 0.5, 2.0)])
    >>> Path("meeting.rttm").read_text()
    'SPEAKER meeting 1 0.500 1.500 <NA> <NA> ann <NA> <NA>\\n'
    """
    name, channel_of = rttm_name(recording) or "recording", channels or {}
    lines = [
        f"SPEAKER {name} {channel_of.get(turn.speaker, 1)} {turn.start:.3f} {turn.end - turn.start:.3f}"
        f" <NA> <NA> {rttm_name(turn.speaker)} <NA> <NA>\n"
        for turn in turns
    ]
    # A file name need not be UTF-8; RTTM is.
    replace_file(path, "".join(lines).encode(errors="replace"))


def read_rttm(path: str | Path) -> dict[str, list[Turn]]:
    """Read an RTTM file: turns by recording.

    Comments (";") and lines that are not about turns are skipped.

    Raises:
        SeparativeError: the file cannot be read, or a line is not valid RTTM.

    >>> write_rttm("meeting.rttm", "meeting", [Turn("ann", 0.5, 2.0)])
    >>> read_rttm("meeting.rttm")
    {'meeting': [Turn(speaker='ann', start=0.5, end=2.0)]}
    """
    turns: dict[str, list[Turn]] = {}
    for number, line in enumerate(read_lines(path), 1):
        words = line.split()
        if not words or words[0].startswith(";") or words[0] in OTHER_LINES:
            continue
        try:
            if words[0] != "SPEAKER":
                raise ValueError
            start, seconds = float(words[3]), float(words[4])
            if not (abs(start) < LONGEST and 0 <= seconds < LONGEST):
                raise ValueError
            turns.setdefault(words[1], []).append(Turn(words[7], start, start + seconds))
        except (IndexError, ValueError) as error:
            raise SeparativeError(
                f"{path}, line {number}: '{line}' is not a line of an RTTM file (SPEAKER recording channel"
                " start seconds <NA> <NA> speaker <NA> <NA>)"
            ) from error
    return turns


def read_uems(path: str | Path) -> dict[str, list[tuple[float, float]]]:
    """Read a UEM file: the scored spans (start, end) in seconds by recording.

    A line has the fields name, channel, start and end. Empty lines and lines that start with ";" are skipped.

    Raises:
        SeparativeError: the file cannot be read, or a line is not UEM.

    >>> _ = Path("a.uem").write_text("a 1 0.0 30.0\\n")
    >>> read_uems("a.uem")
    {'a': [(0.0, 30.0)]}
    """
    spans: dict[str, list[tuple[float, float]]] = {}
    for number, line in enumerate(read_lines(path), 1):
        words = line.split()
        if not words or words[0].startswith(";"):
            continue
        try:
            start, end = float(words[2]), float(words[3])
            if not 0 <= start < end < math.inf:
                raise ValueError
        except (IndexError, ValueError) as error:
            raise SeparativeError(
                f"{path}, line {number}: '{line}' is not a line of a UEM file (name channel start end)"
            ) from error
        spans.setdefault(words[0], []).append((start, end))
    return spans
