"""Plan of a simulated conversation: who has the turn when, for how long, and where turns overlap."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from separative.mixtures.config import ConversationConfig

# A turn overlaps the next one by less than half of the shorter one, so that at most two turns overlap.
MOST_OVERLAP = 0.49
BACKCHANNEL_SECONDS = (0.4, 0.9)

_Seconds = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class PlannedSpan:
    """A span of one speaker in a conversation: number of the speaker, first sample and number of samples.

    >>> PlannedSpan(speaker=0, start=100, samples=50).end
    150
    """

    speaker: int
    start: int
    samples: int

    @property
    def end(self) -> int:
        """The sample after the last one."""
        return self.start + self.samples


class PlannedTurn(PlannedSpan):
    """One turn of a conversation.

    >>> PlannedTurn(speaker=0, start=100, samples=50).end
    150
    """

    __slots__ = ()


def plan_turns(
    rng: np.random.Generator, config: ConversationConfig, speech_seconds: npt.NDArray[np.float64]
) -> list[PlannedTurn]:
    """Plan the turns of a conversation, ordered by start.

    Speakers and lengths are drawn first, then backchannels inside long turns, then overlaps that add up to
    ``config.overlap``, and pauses between the other turns.

    Args:
        rng: random generator.
        config: what to draw.
        speech_seconds: speech that there is of each speaker [K]; a turn takes at most 90 % of it.

    >>> config = ConversationConfig(seconds=30.0, speakers=2, overlap=0.0)
    >>> turns = plan_turns(np.random.default_rng(0), config, np.array([60.0, 60.0]))
    >>> {turn.speaker for turn in turns}, max(turn.end for turn in turns) <= 30 * config.rate
    ({0, 1}, True)
    """
    speakers, length_I = _draw_turns(rng, config, speech_seconds)
    backchannel_I = _draw_backchannels(rng, config, length_I)
    gap_I = _draw_gaps(rng, config, length_I, float(backchannel_I.sum()))
    turns: list[PlannedTurn] = []
    at = float(rng.exponential(config.pause_seconds))
    for index, (speaker, length) in enumerate(zip(speakers, length_I.tolist(), strict=True)):
        if at + length > config.seconds:
            break
        turns.append(_turn(config, speaker, at, length))
        if backchannel_I[index]:
            other = int(rng.choice([k for k in range(config.speakers) if k != speaker]))
            start = at + float(rng.uniform(0.3, 0.6)) * length
            turns.append(_turn(config, other, start, float(backchannel_I[index])))
        at += length + float(gap_I[index])
    return sorted(turns, key=lambda turn: turn.start)


def _turn(config: ConversationConfig, speaker: int, start: float, seconds: float) -> PlannedTurn:
    return PlannedTurn(speaker, round(start * config.rate), round(seconds * config.rate))


def _draw_turns(
    rng: np.random.Generator, config: ConversationConfig, speech_seconds: _Seconds
) -> tuple[list[int], _Seconds]:
    """Speaker and length in seconds of every turn. Some speakers talk more often than others."""
    low, high = np.log(config.turn_seconds)
    talkative_K = rng.dirichlet(np.full(config.speakers, 3.0))
    speakers: list[int] = []
    lengths: list[float] = []
    # Draw enough turns to fill the conversation even if all overlap as much as they may.
    while sum(lengths) * (1 - MOST_OVERLAP) < config.seconds:
        share_K = talkative_K.copy()
        if speakers and config.speakers > 1:
            share_K[speakers[-1]] = 0.0
        speaker = int(rng.choice(config.speakers, p=share_K / share_K.sum()))
        speakers.append(speaker)
        lengths.append(min(float(np.exp(rng.uniform(low, high))), 0.9 * float(speech_seconds[speaker])))
    return speakers, np.array(lengths)


def _draw_backchannels(rng: np.random.Generator, config: ConversationConfig, length_I: _Seconds) -> _Seconds:
    """Seconds of another speaker's backchannel in the middle of each turn; 0 for none."""
    short_I = rng.uniform(*BACKCHANNEL_SECONDS, len(length_I))
    short_I[(rng.random(len(length_I)) >= config.backchannels) | (length_I < 3 * short_I)] = 0.0
    if config.speakers == 1:
        short_I[:] = 0.0
    return short_I


def _draw_gaps(
    rng: np.random.Generator, config: ConversationConfig, length_I: _Seconds, backchannel_seconds: float
) -> _Seconds:
    """Seconds from the end of each turn to the start of the next one; negative where they overlap.

    ``config.overlap`` is r = O / (D − O), where turns last D seconds in total and O seconds of that overlap.
    So the overlap must be O = D r / (1 + r), of which backchannels provide a part.
    """
    pause_I = rng.exponential(config.pause_seconds, len(length_I))
    if config.speakers == 1:
        return pause_I + 0.1
    most_I = np.array([MOST_OVERLAP * min(a, b) for a, b in pairwise(length_I)] + [0.0])
    total = length_I.sum() + backchannel_seconds
    wanted = total * config.overlap / (1 + config.overlap) - backchannel_seconds
    overlaps_I = rng.random(len(length_I)) < min(1.0, 0.3 + 2 * config.overlap)
    weight_I = most_I * overlaps_I * rng.uniform(0.3, 1.0, len(length_I))
    # Find by bisection the scale at which the overlaps, each limited to its maximum, add up to ``wanted``.
    low, high = 0.0, 10.0
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (low, middle) if np.minimum(middle * weight_I, most_I).sum() > wanted else (middle, high)
    overlap_I = np.minimum(low * weight_I, most_I)
    return np.where(overlap_I > 0.02, -overlap_I, pause_I)
