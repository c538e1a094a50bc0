"""Who spoke when: the diarization error of segment-wise activity."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from separative.errors import SeparativeError


@dataclass(frozen=True)
class DiarizationError:
    """In seconds: ``total`` speech of the reference, overlap once per talker, and what went wrong with it."""

    total: float
    missed: float
    false_alarm: float
    confusion: float

    @property
    def rate(self) -> float:
        """Diarization error rate; can exceed 1, for false alarms have no limit."""
        return (self.missed + self.false_alarm + self.confusion) / self.total

    def __add__(self, other: DiarizationError) -> DiarizationError:
        """Both recordings together, each second counting alike."""
        return DiarizationError(
            self.total + other.total,
            self.missed + other.missed,
            self.false_alarm + other.false_alarm,
            self.confusion + other.confusion,
        )


def diarization_error(
    reference_KS: NDArray[np.bool_], hypothesis_CS: NDArray[np.bool_], segment_seconds: float
) -> DiarizationError:
    """Error of C streams against K talkers over S segments, overlap scored, no collar.

    In each segment r talkers speak and h streams do: max(0, r - h) are missed, max(0, h - r) false alarms,
    and of the min(r, h) others those are confused whose stream is not the talker's. Streams belong to
    talkers, one to one, as agrees best over the whole recording.

    Raises:
        SeparativeError: nobody speaks in the reference, or the two differ in their number of segments.
    """
    from scipy.optimize import linear_sum_assignment

    reference, hypothesis = np.asarray(reference_KS, bool), np.asarray(hypothesis_CS, bool)
    if reference.shape[1] != hypothesis.shape[1]:
        raise SeparativeError(
            f"the reference has {reference.shape[1]} segments, the hypothesis {hypothesis.shape[1]}"
        )
    if not reference.any():
        raise SeparativeError("a diarization error needs speech in the reference")
    both_KC = reference.astype(np.float64) @ hypothesis.T.astype(np.float64)
    agreed = both_KC[linear_sum_assignment(both_KC, maximize=True)].sum()
    spoken_S, claimed_S = reference.sum(0), hypothesis.sum(0)
    segments = (
        spoken_S.sum(),
        np.maximum(spoken_S - claimed_S, 0).sum(),
        np.maximum(claimed_S - spoken_S, 0).sum(),
        np.minimum(spoken_S, claimed_S).sum() - agreed,
    )
    return DiarizationError(*(float(count) * segment_seconds for count in segments))
