"""Diarization error and Jaccard error of turns, in exact time: no frames."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from separative.errors import SeparativeError
from separative.metrics.diarization import DiarizationError, diarization_error, match_speakers
from separative.rttm import Turn, join_turns
from separative.types import Floats

Span = tuple[float, float]


@dataclass(frozen=True)
class TurnScore:
    """Errors of the turns of one recording; those of several recordings can be added.

    Attributes:
        error: parts of the diarization error in seconds.
        jaccard_sum: sum of the Jaccard errors of the speakers of the reference.
        speakers: number of speakers of the reference that speak in the scored time.

    Example:
        >>> score = TurnScore(DiarizationError(10.0, 1.0, 0.0, 0.0), 0.5, 2)
        >>> (score + score).rate, (score + score).jaccard
        (0.1, 0.25)
    """

    error: DiarizationError
    jaccard_sum: float
    speakers: int

    @property
    def rate(self) -> float | None:
        """Diarization error rate; None if the reference has no speech."""
        return self.error.rate if self.error.total else None

    @property
    def jaccard(self) -> float | None:
        """Jaccard error rate, 0 to 1: the mean over all speakers; None if the reference has no speech."""
        return self.jaccard_sum / self.speakers if self.speakers else None

    def __add__(self, other: TurnScore) -> TurnScore:
        """Add the errors of two recordings."""
        return TurnScore(
            self.error + other.error, self.jaccard_sum + other.jaccard_sum, self.speakers + other.speakers
        )


def score_turns(
    reference: Iterable[Turn],
    hypothesis: Iterable[Turn],
    *,
    scored: Sequence[Span] | None = None,
    collar: float = 0.0,
) -> TurnScore:
    """Compute the errors of the turns of one recording. Overlapped speech is scored.

    Overlapping and adjacent turns of one speaker are joined first. Speakers are matched one to one, so that
    they agree as long as possible; both errors use this match, as in pyannote.metrics.

    Args:
        reference, hypothesis: turns; the names of the speakers need not agree.
        scored: the spans (start, end) in seconds that are scored; by default all time.
        collar: seconds that are not scored before and after every start and end of a turn of the reference,
            as in md-eval and dscore. The collar of pyannote.metrics is twice as long: 0.25 here is 0.5 there.

    Raises:
        SeparativeError: the collar is negative.

    Example:
        >>> reference = [Turn("ann", 0.0, 4.0), Turn("bob", 4.0, 5.0)]
        >>> score = score_turns(reference, [Turn("speaker1", 0.0, 4.5)])
        >>> score.error
        DiarizationError(total=5.0, missed=0.5, false_alarm=0.0, confusion=0.5)
        >>> score_turns(reference, [Turn("speaker1", 0.0, 4.5)], scored=[(0.0, 4.0)]).rate
        0.0
    """
    if not collar >= 0:
        raise SeparativeError(f"collar is {collar}; pass 0 or more seconds")
    sides = [
        [turn for turn in join_turns(turns) if turn.end > turn.start] for turns in (reference, hypothesis)
    ]
    borders = {time for turn in sides[0] for time in (turn.start, turn.end)}
    unscored = [(time - collar, time + collar) for time in borders] if collar else []
    spans = [turn[1:3] for side in sides for turn in side]
    cut_I = np.unique([time for span in (*spans, *unscored, *(scored or ())) for time in span])
    # Between two neighbouring cuts nothing changes, so each of these intervals is one segment.
    keep_I = ~_covered(cut_I, unscored)
    if scored is not None:
        keep_I &= _covered(cut_I, scored)
    seconds_I = np.diff(cut_I)[keep_I]
    reference_KI, hypothesis_CI = (_activity(side, cut_I)[:, keep_I] for side in sides)
    if not reference_KI.any():
        false_alarm = float(hypothesis_CI.sum(0) @ seconds_I) if hypothesis_CI.size else 0.0
        return TurnScore(DiarizationError(0.0, 0.0, false_alarm, 0.0), 0.0, 0)
    error = diarization_error(reference_KI, hypothesis_CI, seconds_I)
    reference_KI = reference_KI[reference_KI.any(1)]
    speaker, stream = match_speakers(reference_KI, hypothesis_CI, seconds_I)
    both = (reference_KI[speaker] & hypothesis_CI[stream]) @ seconds_I
    either = (reference_KI[speaker] | hypothesis_CI[stream]) @ seconds_I
    return TurnScore(error, float(len(reference_KI) - (both / either).sum()), len(reference_KI))


def _covered(cut_I: Floats, spans: Iterable[Span]) -> NDArray[np.bool_]:
    """Which of the intervals between the cuts are inside the spans."""
    change = np.zeros(len(cut_I) + 1, np.int64)
    for start, end in spans:
        change[np.searchsorted(cut_I, [start, end])] += (1, -1) if end > start else (0, 0)
    return change.cumsum()[: max(0, len(cut_I) - 1)] > 0


def _activity(turns: Sequence[Turn], cut_I: Floats) -> NDArray[np.bool_]:
    """Who speaks in the intervals between the cuts [K, I]."""
    names = sorted({turn.speaker for turn in turns})
    rows = [_covered(cut_I, [turn[1:3] for turn in turns if turn.speaker == name]) for name in names]
    return np.array(rows, bool).reshape(len(names), max(0, len(cut_I) - 1))
