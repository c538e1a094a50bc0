"""Who spoke when, as turns and as RTTM files (NIST Rich Transcription, one line a turn)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from separative.errors import SeparativeError
from separative.files import read_lines, replace_file

# Shorter pauses are part of a turn, shorter sounds no turn at all.
MIN_PAUSE, MIN_TURN = 0.25, 0.1


class Turn(NamedTuple):
    """One speaker from ``start`` to ``end``, in seconds."""

    speaker: str
    start: float
    end: float


def turns_of(
    active_KT: npt.NDArray[np.bool_],
    names: Sequence[str],
    frame_seconds: float,
    *,
    min_pause: float = MIN_PAUSE,
    min_turn: float = MIN_TURN,
    inset: float = 0.0,
) -> list[Turn]:
    """Turns by start from which frames each speaker speaks in; pauses and turns that are too short go.

    ``inset``: seconds by which speech begins after, and ends before, the frames that hold any of it; not at
    the ends of the recording.
    """
    turns, stop = [], active_KT.shape[1]
    for name, active_T in zip(names, active_KT, strict=True):
        edge = np.flatnonzero(np.diff(active_T.astype(np.int8), prepend=0, append=0))
        starts = edge[0::2] * frame_seconds + inset * (edge[0::2] > 0)
        ends = edge[1::2] * frame_seconds - inset * (edge[1::2] < stop)
        long = np.flatnonzero(starts[1:] - ends[:-1] >= min_pause)
        firsts, lasts = np.r_[0, long + 1], np.r_[long, len(starts) - 1]
        for first, last in zip(firsts, lasts, strict=True) if len(starts) else ():
            if ends[last] - starts[first] >= min_turn:
                turns.append(Turn(name, float(starts[first]), float(ends[last])))
    return sorted(turns, key=lambda turn: (turn.start, turn.speaker))


def active_frames(
    turns: Iterable[Turn], names: Sequence[str], frames: int, frame_seconds: float
) -> npt.NDArray[np.bool_]:
    """Which frames each speaker speaks in [K,T]; turns of other names are left out."""
    active_KT = np.zeros((len(names), frames), bool)
    row = {name: k for k, name in enumerate(names)}
    for turn in turns:
        if turn.speaker in row:
            first, last = round(turn.start / frame_seconds), round(turn.end / frame_seconds)
            active_KT[row[turn.speaker], first:last] = True
    return active_KT


def write_rttm(path: str | Path, recording: str, turns: Iterable[Turn]) -> None:
    """Write the turns of one recording; blanks in names become underscores."""
    name = "_".join(recording.split()) or "recording"
    lines = [
        f"SPEAKER {name} 1 {turn.start:.3f} {turn.end - turn.start:.3f} <NA> <NA>"
        f" {'_'.join(turn.speaker.split())} <NA> <NA>\n"
        for turn in turns
    ]
    replace_file(path, "".join(lines).encode())


def read_rttm(path: str | Path) -> dict[str, list[Turn]]:
    """Turns by recording.

    Raises:
        SeparativeError: unreadable, or a line that is none of RTTM.
    """
    found: dict[str, list[Turn]] = {}
    for number, line in enumerate(read_lines(path), 1):
        words = line.split()
        if not words or words[0] != "SPEAKER":
            continue
        try:
            start, seconds = float(words[3]), float(words[4])
            found.setdefault(words[1], []).append(Turn(words[7], start, start + seconds))
        except (IndexError, ValueError) as error:
            raise SeparativeError(f"{path}, line {number}: '{line}' is no line of RTTM") from error
    return found
