"""Exclusive turns: one speaker at a time, as subtitles and transcripts need them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from separative.rttm import MIN_TURN, Turn, join_turns

if TYPE_CHECKING:
    from separative.inference.diarize import Diarization


def exclusive_turns(*diarizations: Diarization) -> list[Turn]:
    """Return turns in which one speaker talks at a time, sorted by start.

    They cover the same time as the turns of the speakers. Where several speakers are active, the one with the
    highest mean activity gets the whole overlap.

    Args:
        diarizations: the result of :func:`separative.diarize`, or those of
            :func:`separative.diarize_channels`, one per channel.

    Example:
        >>> import separative
        >>> diarization = separative.diarize(separative.load_model(), "meeting.wav", speakers=2)
        >>> turns = exclusive_turns(diarization)
        >>> all(first.end <= second.start for first, second in zip(turns, turns[1:]))
        True
    """
    summed, step, shift = {}, {}, {}
    for diarization in diarizations:
        for speaker in diarization.speakers:
            summed[speaker.name] = np.concatenate([[0.0], np.cumsum(speaker.activity, dtype=np.float64)])
            step[speaker.name] = diarization.segment_seconds
            # The first window begins before the recording.
            shift[speaker.name] = diarization.windows.grid.lead / diarization.rate

    def mean_activity(name: str, start: float, end: float) -> float:
        place = (np.array([start, end]) + shift[name]) / step[name]
        first, last = np.interp(place, np.arange(len(summed[name])), summed[name])
        return float((last - first) / (place[1] - place[0]))

    return resolve_overlaps([turn for d in diarizations for turn in d.turns], mean_activity)


def resolve_overlaps(
    turns: Iterable[Turn], strength: Callable[[str, float, float], float], *, shortest: float = MIN_TURN
) -> list[Turn]:
    """Give each overlap to one of its speakers; the result is sorted by start.

    Args:
        turns: turns that may overlap.
        strength: called with a speaker, start and end of an overlap; the speaker with the highest value gets
            the overlap.
        shortest: seconds; the speaker before a shorter overlap also gets the overlap.

    Example:
        >>> turns = [Turn("ann", 0.0, 5.0), Turn("bob", 3.0, 4.0)]
        >>> resolve_overlaps(turns, lambda speaker, start, end: speaker == "bob")
        [Turn(speaker='ann', start=0.0, end=3.0), Turn(speaker='bob', start=3.0, end=4.0), \
Turn(speaker='ann', start=4.0, end=5.0)]
    """
    turns = [turn for turn in join_turns(turns) if turn.end > turn.start]
    changes = sorted(
        (time, sign, turn.speaker, number)
        for number, turn in enumerate(turns)
        for time, sign in ((turn.start, 1), (turn.end, -1))
    )
    pieces: list[Turn] = []
    active: dict[str, Turn] = {}
    for (start, sign, name, number), following in pairwise(changes):
        if sign > 0:
            active[name] = turns[number]
        else:
            del active[name]
        end = following[0]
        if not active or end <= start:
            continue
        best = min(active)
        if len(active) > 1:
            before = pieces[-1] if pieces else None
            if before and end - start < shortest and before.end == start and before.speaker in active:
                best = before.speaker
            else:
                best = max(sorted(active), key=lambda one: strength(one, start, end))
        pieces.append(active[best]._replace(start=start, end=end))
    return join_turns(pieces)
