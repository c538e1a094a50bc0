"""Who spoke when: the diarization error of segment-wise activity."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from separative.errors import SeparativeError


@dataclass(frozen=True)
class DiarizationError:
    """In seconds: ``total`` speech of the reference, overlap once per speaker, and what went wrong with it."""

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
    """Error of C streams against K speakers over S segments, overlap scored, no collar.

    In each segment r speakers speak and h streams do: max(0, r - h) are missed, max(0, h - r) false alarms,
    and of the min(r, h) others those are confused whose stream is not the speaker's. Streams belong to
    speakers, one to one, as agrees best over the whole recording.

    Raises:
        SeparativeError: nobody speaks in the reference, or the two differ in their number of segments.
    """
    reference, hypothesis = _same_length(reference_KS, hypothesis_CS)
    speaker, stream = match(reference, hypothesis)
    agreed = (reference[speaker] & hypothesis[stream]).sum()
    spoken_S, claimed_S = reference.sum(0), hypothesis.sum(0)
    segments = (
        spoken_S.sum(),
        np.maximum(spoken_S - claimed_S, 0).sum(),
        np.maximum(claimed_S - spoken_S, 0).sum(),
        np.minimum(spoken_S, claimed_S).sum() - agreed,
    )
    return DiarizationError(*(float(count) * segment_seconds for count in segments))


def match(
    reference_KS: NDArray[np.bool_], hypothesis_CS: NDArray[np.bool_]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Which stream is which speaker, one to one, so that they agree for as long as possible: two index arrays
    of equal length, of speakers and of streams; pairs that never agree are left out."""
    from scipy.optimize import linear_sum_assignment

    both_KC = reference_KS.astype(np.float64) @ hypothesis_CS.T.astype(np.float64)
    speaker, stream = linear_sum_assignment(both_KC, maximize=True)
    agree = both_KC[speaker, stream] > 0
    return speaker[agree], stream[agree]


def jaccard_error(reference_KS: NDArray[np.bool_], hypothesis_CS: NDArray[np.bool_]) -> float:
    """Mean over speakers of 1 − both / either, of each speaker and the stream that is theirs (JER, 0 to 1).

    Speakers count alike however little they say (DIHARD challenge 2019). A speaker without a stream counts 1.

    Raises:
        SeparativeError: as of :func:`diarization_error`.
    """
    from scipy.optimize import linear_sum_assignment

    reference, hypothesis = _same_length(reference_KS, hypothesis_CS)
    reference = reference[reference.any(1)]
    both_KC = reference.astype(np.float64) @ hypothesis.T.astype(np.float64)
    either_KC = reference.sum(1)[:, None] + hypothesis.sum(1)[None] - both_KC
    share_KC = both_KC / np.maximum(either_KC, 1)
    return float(1 - share_KC[linear_sum_assignment(share_KC, maximize=True)].sum() / len(reference))


def swaps(reference_KS: NDArray[np.bool_], hypothesis_CS: NDArray[np.bool_], segment_seconds: float) -> int:
    """How often a speaker's speech goes to another speaker's stream, for a second or more without a break.

    Only segments count in which one speaker speaks and one stream does.
    """
    reference, hypothesis = _same_length(reference_KS, hypothesis_CS)
    if not len(hypothesis):
        return 0
    speaker, stream = match(reference, hypothesis)
    owner = np.full(len(hypothesis), -1)
    owner[stream] = speaker
    alone_S = (reference.sum(0) == 1) & (hypothesis.sum(0) == 1)
    claimed_S = owner[hypothesis.argmax(0)]
    wrong_S = alone_S & (claimed_S >= 0) & (claimed_S != reference.argmax(0))
    edge = np.flatnonzero(np.diff(wrong_S.astype(np.int8), prepend=0, append=0))
    return int(((edge[1::2] - edge[0::2]) * segment_seconds >= 1.0).sum())


def _same_length(
    reference_KS: NDArray[np.bool_], hypothesis_CS: NDArray[np.bool_]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    reference, hypothesis = np.asarray(reference_KS, bool), np.asarray(hypothesis_CS, bool)
    if reference.shape[1] != hypothesis.shape[1]:
        raise SeparativeError(
            f"the reference has {reference.shape[1]} segments, the hypothesis {hypothesis.shape[1]}"
        )
    if not reference.any():
        raise SeparativeError("a diarization error needs speech in the reference")
    return reference, hypothesis
