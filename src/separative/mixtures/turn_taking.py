"""Plan of a conversation in a style: turns, backchannels, interruptions, silences, breaths and laughs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from separative.mixtures.styles import Style
from separative.mixtures.turns import PlannedSpan, PlannedTurn

# Shortest and longest turn; a turn also takes at most this share of the speech that there is of a speaker.
TURN_SECONDS, SPEECH_SHARE = (0.3, 90.0), 0.9
SHORT_SECONDS, BACKCHANNEL_SECONDS = (0.3, 1.0), (0.2, 0.8)
BREATH_SECONDS, LAUGH_SECONDS = (0.2, 0.5), (0.5, 2.5)
# Log-normal overlap of an interruption: median and standard deviation of the logarithm.
OVERLAP, OVERLAP_SPREAD = 0.6, 0.7
PAUSE_SPREAD = 0.7
# A terminal overlap is shorter than this share of the shorter one of the two turns.
MOST_OVERLAP = 0.49
# Seconds between two turns of one speaker, which is checked against this number of earlier turns.
APART, RECENT = 0.05, 50


@dataclass(frozen=True, slots=True)
class PlannedSound(PlannedSpan):
    """A sound of a speaker that is not speech.

    >>> PlannedSound(speaker=0, start=100, samples=50, kind="breath").end
    150
    """

    kind: Literal["breath", "laugh"]


@dataclass(frozen=True, slots=True)
class ConversationPlan:
    """Turns and other sounds by start, and spans of digital zero as (first sample, end).

    >>> ConversationPlan(turns=(), sounds=(), muted=((0, 16000),)).muted
    ((0, 16000),)
    """

    turns: tuple[PlannedTurn, ...]
    sounds: tuple[PlannedSound, ...] = ()
    muted: tuple[tuple[int, int], ...] = ()


def plan_style(
    rng: np.random.Generator,
    style: Style,
    *,
    speakers: int,
    seconds: float,
    rate: int,
    speech_seconds: npt.NDArray[np.float64],
) -> ConversationPlan:
    """Plan a conversation in which speakers take turns as in ``style``.

    Args:
        rng: random generator.
        style: how speakers take turns.
        speakers: number of speakers K. In a short conversation, some of them may get no turn.
        seconds: length of the conversation.
        rate: sample rate in hertz.
        speech_seconds: speech that there is of each speaker [K]; a turn takes at most 90 % of it.

    >>> from separative.mixtures.styles import STYLES
    >>> rng, speech = np.random.default_rng(0), np.array([60.0, 60.0])
    >>> plan = plan_style(
    ...     rng, STYLES["call"], speakers=2, seconds=60.0, rate=8000, speech_seconds=speech
    ... )
    >>> min(turn.start for turn in plan.turns) >= 0, max(turn.end for turn in plan.turns) <= 480000
    (True, True)
    """
    return _Floor(rng, style, speakers, seconds, speech_seconds).plan(rate)


@dataclass
class _Floor:
    """The state of a conversation while it is planned. Times are in seconds; planning starts before 0."""

    rng: np.random.Generator
    style: Style
    speakers: int
    seconds: float
    speech_seconds: npt.NDArray[np.float64]
    spans: list[list[tuple[float, float]]] = field(default_factory=list)
    sounds: list[tuple[Literal["breath", "laugh"], int, float, float]] = field(default_factory=list)
    muted: list[tuple[float, float]] = field(default_factory=list)

    def plan(self, rate: int) -> ConversationPlan:
        """Draw turn after turn until the conversation is full, then cut it at both ends."""
        rng, style = self.rng, self.style
        self.spans = [[] for _ in range(self.speakers)]
        share_K = rng.dirichlet(np.full(self.speakers, style.participation)) + 0.01
        at, speaker, before, short = -style.lead, -1, -1, False
        while at < self.seconds:
            last = speaker
            if last < 0 or (self.speakers > 1 and rng.random() >= style.hold):
                speaker, before = self._next(share_K, last, before), last
            short = rng.random() < (style.short_again if short else style.short)
            length = self._length(speaker, short)
            start = self._start(at, speaker, last, length)
            self._add(speaker, start, length, breath=rng.random() < style.breath)
            self._react(speaker, start, length)
            at = max(at, start + length) + self._silence(max(at, start + length), length)
        return self._cut(rate)

    def _next(self, share_K: npt.NDArray[np.float64], speaker: int, before: int) -> int:
        """The next speaker: the one before the last, the one silent for longest, or by the shares."""
        if before >= 0 and before != speaker and self.rng.random() < self.style.back:
            return before
        if self.style.rotate and self.rng.random() < self.style.rotate:
            last_K = [spans[-1][1] if spans else -np.inf for spans in self.spans]
            return int(min(self.rng.permutation(self.speakers).tolist(), key=last_K.__getitem__))
        left_K = np.where(np.arange(self.speakers) == speaker, 0.0, share_K)
        return int(self.rng.choice(self.speakers, p=left_K / left_K.sum()))

    def _length(self, speaker: int, short: bool) -> float:
        style, rng = self.style, self.rng
        low, high = TURN_SECONDS
        high = min(high, SPEECH_SHARE * float(self.speech_seconds[speaker]))
        if short:
            return min(_log_uniform(rng, SHORT_SECONDS), high)
        return float(np.clip(rng.lognormal(np.log(style.turn), style.turn_spread), low, max(low, high)))

    def _start(self, at: float, speaker: int, before: int, length: float) -> float:
        """Start of a turn; ``before`` had the turn until ``at``, and is -1 for the first turn."""
        style, rng = self.style, self.rng
        if before in (-1, speaker):
            return at + rng.lognormal(np.log(style.pause), PAUSE_SPREAD)
        longest = max(at - self.spans[before][-1][0], 0.0) if self.spans[before] else 0.0
        if rng.random() < style.interruption:
            return at - min(rng.lognormal(np.log(OVERLAP), OVERLAP_SPREAD), 0.9 * longest)
        mean, deviation, tail = style.gap
        gap = rng.normal(mean, deviation) + rng.exponential(tail)
        return float(at + max(gap, -MOST_OVERLAP * min(longest, length)))

    def _react(self, speaker: int, start: float, length: float) -> None:
        """Backchannels and whole turns of other speakers during a turn, and laughs after it."""
        style, rng = self.style, self.rng
        if self.speakers > 1:
            others = [k for k in range(self.speakers) if k != speaker]
            for _ in range(rng.poisson(style.backchannels * length / 60)):
                self._add(
                    int(rng.choice(others)),
                    start + rng.uniform(0.1, 1.0) * length,
                    _log_uniform(rng, BACKCHANNEL_SECONDS),
                )
            if rng.random() < style.parallel:
                other = int(rng.choice(others))
                self._add(other, start + rng.uniform(0.0, 0.9) * length, self._length(other, False))
        if rng.random() < style.laughter * length / 60:
            laughing = rng.permutation(self.speakers)[: int(rng.integers(1, self.speakers + 1))]
            for k in laughing:
                first = start + length + rng.uniform(-0.5, 0.3)
                self.sounds.append(("laugh", int(k), first, rng.uniform(*LAUGH_SECONDS)))

    def _add(self, speaker: int, start: float, length: float, *, breath: bool = False) -> None:
        """Add a turn, unless the speaker is already speaking then."""
        spans = self.spans[speaker]
        if any(start < end + APART and first < start + length + APART for first, end in spans[-RECENT:]):
            return
        spans.append((start, start + length))
        if breath:
            breathing = self.rng.uniform(*BREATH_SECONDS)
            self.sounds.append(("breath", speaker, start - breathing, breathing))

    def _silence(self, at: float, length: float) -> float:
        """Seconds of silence after a turn; mostly 0."""
        style, rng = self.style, self.rng
        if rng.random() >= style.silences * length / 60:
            return 0.0
        silence = _log_uniform(rng, style.silence)
        if rng.random() < style.muted:
            self.muted.append((at + 0.5, at + silence - 0.5))
        return silence

    def _cut(self, rate: int) -> ConversationPlan:
        """Cut everything to the conversation, and convert seconds to samples."""

        def cut(start: float, end: float) -> tuple[int, int] | None:
            first, last = round(max(start, 0.0) * rate), round(min(end, self.seconds) * rate)
            return (first, last - first) if last - first >= BACKCHANNEL_SECONDS[0] * rate else None

        turns = [
            PlannedTurn(speaker, *span)
            for speaker, spans in enumerate(self.spans)
            for start, end in spans
            if (span := cut(start, end))
        ]
        sounds = [
            PlannedSound(speaker, *span, kind)
            for kind, speaker, start, length in self.sounds
            if (span := cut(start, start + length))
        ]
        quiet = [span for start, end in self.muted if (span := cut(start, end))]
        # A span in which a speaker is active, such as in a parallel turn, is not muted.
        muted = [(a, a + n) for a, n in quiet if all(t.end <= a or t.start >= a + n for t in turns)]
        return ConversationPlan(
            tuple(sorted(turns, key=lambda turn: turn.start)),
            tuple(sorted(sounds, key=lambda sound: sound.start)),
            tuple(sorted(muted)),
        )


def _log_uniform(rng: np.random.Generator, limits: tuple[float, float]) -> float:
    return float(np.exp(rng.uniform(*np.log(limits))))
