"""Is a recording good enough to enrol a talker with? If not, why not."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from separative import audio
from separative.errors import AudioError
from separative.rttm import Turn

if TYPE_CHECKING:
    from separative.inference import Meeting

LEAST_SECONDS = 2.0
MOST_OTHERS = 0.2
MOST_CLIPPED = 0.001
FULL_SCALE = 0.999


@dataclass(frozen=True)
class Gate:
    """What was measured of an enrolment: ``seconds`` of the talker's speech, share of it in which ``others``
    speak too, share of samples at full scale; and the ``reasons`` why it is not good enough, if any."""

    seconds: float
    others: float
    clipped: float

    @property
    def reasons(self) -> tuple[str, ...]:
        found = []
        if self.seconds < LEAST_SECONDS:
            found.append(f"{self.seconds:.1f} s of speech, {LEAST_SECONDS:g} are needed")
        if self.others > MOST_OTHERS:
            found.append(f"others speak as long as {self.others:.0%} of it, {MOST_OTHERS:.0%} are allowed")
        if self.clipped > MOST_CLIPPED:
            found.append(f"{self.clipped:.1%} of the samples are clipped, {MOST_CLIPPED:.1%} are allowed")
        return tuple(found)


def judge(meeting: Meeting, speaker: int, *, alone: bool) -> Gate:
    """Measure one talker of a recording.

    ``alone``: the recording should be of this talker only, so that any speech of others counts; otherwise
    only what overlaps.
    """
    own = meeting.speakers[speaker].turns
    seconds = sum(turn.end - turn.start for turn in own)
    others = [t for number, s in enumerate(meeting.speakers) if number != speaker for t in s.turns]
    spoken = sum(t.end - t.start for t in others) if alone else shared_seconds(own, others)
    share = spoken / max(seconds, 1e-9)
    return Gate(seconds, share if alone else min(1.0, share), _clipped(meeting))


def shared_seconds(own: tuple[Turn, ...], others: list[Turn]) -> float:
    """Seconds of ``own`` turns in which any of the others' is running."""
    covered = 0.0
    for turn in own:
        pieces = sorted(
            (max(turn.start, o.start), min(turn.end, o.end))
            for o in others
            if o.start < turn.end and o.end > turn.start
        )
        reached = turn.start
        for start, end in pieces:
            covered += max(0.0, end - max(start, reached))
            reached = max(reached, end)
    return covered


def _clipped(meeting: Meeting) -> float:
    """Share of samples at full scale in any channel that was heard, where it is held for two or more."""
    blocks: Iterable[NDArray[np.float32]]
    if isinstance(meeting.source, tuple):
        blocks = [meeting.source[0]]
    else:
        blocks = audio.stream(meeting.source, channels="each")
    clipped = total = 0
    # Of a damaged file, what can be read: it was heard no further.
    with suppress(AudioError):
        for block in blocks:
            full_CN = np.abs(np.atleast_2d(block)) >= FULL_SCALE
            heard_CN = full_CN[:1] if meeting.channel_policy == "first" else full_CN
            clipped += int((heard_CN[:, 1:] & heard_CN[:, :-1]).any(0).sum())
            total += heard_CN.shape[1]
    return clipped / max(total, 1)
