"""Metrics of speech activity per segment: diarization error, Jaccard error and speaker swaps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from separative.errors import SeparativeError
from separative.types import Floats


@dataclass(frozen=True)
class DiarizationError:
    """Parts of the diarization error in seconds; results of several recordings can be added.

    Attributes:
        total: speech in the reference; overlapped speech counts once per speaker.
        missed, false_alarm, confusion: speech that was not found, found where there is none, and given to
            another speaker.

    Example:
        >>> error = DiarizationError(10.0, 1.0, 0.5, 0.0) + DiarizationError(20.0, 0.0, 0.5, 1.0)
        >>> error.rate
        0.1
    """

    total: float
    missed: float
    false_alarm: float
    confusion: float

    @property
    def rate(self) -> float:
        """Diarization error rate. It can exceed 1, because false alarms are not bounded."""
        return (self.missed + self.false_alarm + self.confusion) / self.total

    def __add__(self, other: DiarizationError) -> DiarizationError:
        """Add the seconds of two recordings."""
        return DiarizationError(
            self.total + other.total,
            self.missed + other.missed,
            self.false_alarm + other.false_alarm,
            self.confusion + other.confusion,
        )


def diarization_error(
    reference: NDArray[np.bool_], hypothesis: NDArray[np.bool_], segment_seconds: float | Floats
) -> DiarizationError:
    """Compute the diarization error of C streams against K speakers, with overlap and without a collar.

    If r speakers and h streams are active in a segment, max(0, r - h) are missed and max(0, h - r) are false
    alarms. The other min(r, h) are confused where the stream is not matched with the speaker. Streams are
    matched with speakers one to one, so that they agree as long as possible over the whole recording.

    Args:
        reference: activity of each speaker in each segment [K, S].
        hypothesis: activity of each stream in each segment [C, S].
        segment_seconds: length of a segment, or of each segment [S].

    Raises:
        SeparativeError: the reference has no speech, or the numbers of segments differ.

    Example:
        >>> reference = np.array([[1, 1, 1, 0], [0, 0, 0, 1]])
        >>> diarization_error(reference, np.array([[0, 0, 0, 1], [1, 1, 0, 0]]), segment_seconds=0.5)
        DiarizationError(total=2.0, missed=0.5, false_alarm=0.0, confusion=0.0)
    """
    reference_KS, hypothesis_CS = _check_activity(reference, hypothesis)
    speaker, stream = match_speakers(reference_KS, hypothesis_CS, segment_seconds)
    agreed_S = (reference_KS[speaker] & hypothesis_CS[stream]).sum(0)
    speakers_S, streams_S = reference_KS.sum(0), hypothesis_CS.sum(0)
    counts_S = (
        speakers_S,
        np.maximum(speakers_S - streams_S, 0),
        np.maximum(streams_S - speakers_S, 0),
        np.minimum(speakers_S, streams_S) - agreed_S,
    )
    # With equal segments, the sum of integers is exact.
    if np.ndim(segment_seconds) == 0:
        return DiarizationError(*(float(count_S.sum()) * float(segment_seconds) for count_S in counts_S))
    return DiarizationError(*(float(count_S @ segment_seconds) for count_S in counts_S))


def match_speakers(
    reference: NDArray[np.bool_], hypothesis: NDArray[np.bool_], segment_seconds: float | Floats = 1.0
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Match speakers with streams one to one, so that they are active together as long as possible.

    Args:
        reference: activity of each speaker in each segment [K, S].
        hypothesis: activity of each stream in each segment [C, S].
        segment_seconds: length of each segment [S]; a single number for equal segments changes nothing.

    Returns:
        two index arrays of equal length, of speakers and of streams. Pairs that are never active together are
        left out.

    Example:
        >>> reference, hypothesis = np.array([[1, 1, 0], [0, 0, 1]]), np.array([[0, 0, 1], [1, 0, 0]])
        >>> speaker, stream = match_speakers(reference, hypothesis)
        >>> speaker.tolist(), stream.tolist()
        ([0, 1], [1, 0])
    """
    from scipy.optimize import linear_sum_assignment

    weight = segment_seconds if np.ndim(segment_seconds) else 1.0
    both_KC = (reference * weight).astype(np.float64) @ hypothesis.T.astype(np.float64)
    speaker, stream = linear_sum_assignment(both_KC, maximize=True)
    agree = both_KC[speaker, stream] > 0
    return speaker[agree], stream[agree]


def jaccard_error(reference: NDArray[np.bool_], hypothesis: NDArray[np.bool_]) -> float:
    """Compute the Jaccard error rate, 0 to 1 (DIHARD challenge, 2019).

    It is the mean of 1 - intersection / union over the speakers, each with the stream matched with it. All
    speakers have the same weight. A speaker without a stream counts 1.

    Args:
        reference: activity of each speaker in each segment [K, S].
        hypothesis: activity of each stream in each segment [C, S].

    Raises:
        SeparativeError: the reference has no speech, or the numbers of segments differ.

    Example:
        >>> jaccard_error(np.array([[1, 1, 1, 1], [0, 0, 0, 1]]), np.array([[1, 1, 0, 0], [0, 0, 0, 1]]))
        0.25
    """
    from scipy.optimize import linear_sum_assignment

    reference_KS, hypothesis_CS = _check_activity(reference, hypothesis)
    reference_KS = reference_KS[reference_KS.any(1)]
    both_KC = reference_KS.astype(np.float64) @ hypothesis_CS.T.astype(np.float64)
    either_KC = reference_KS.sum(1)[:, None] + hypothesis_CS.sum(1)[None] - both_KC
    share_KC = both_KC / np.maximum(either_KC, 1)
    return float(1 - share_KC[linear_sum_assignment(share_KC, maximize=True)].sum() / len(reference_KS))


def count_swaps(reference: NDArray[np.bool_], hypothesis: NDArray[np.bool_], segment_seconds: float) -> int:
    """Count how often a speaker is in another speaker's stream for at least one second without a break.

    Only segments with one active speaker and one active stream are considered. Arguments and errors as for
    :func:`diarization_error`.

    Example:
        >>> reference = np.array([[1, 1, 1, 1, 0, 0, 0, 0], [0, 0, 0, 0, 1, 1, 1, 1]])
        >>> hypothesis = np.array([[1, 1, 1, 1, 0, 1, 1, 0], [0, 0, 0, 0, 1, 0, 0, 1]])
        >>> count_swaps(reference, hypothesis, segment_seconds=0.5)
        1
    """
    reference_KS, hypothesis_CS = _check_activity(reference, hypothesis)
    if not len(hypothesis_CS):
        return 0
    speaker, stream = match_speakers(reference_KS, hypothesis_CS)
    speaker_of_C = np.full(len(hypothesis_CS), -1)
    speaker_of_C[stream] = speaker
    alone_S = (reference_KS.sum(0) == 1) & (hypothesis_CS.sum(0) == 1)
    found_S = speaker_of_C[hypothesis_CS.argmax(0)]
    wrong_S = alone_S & (found_S >= 0) & (found_S != reference_KS.argmax(0))
    edge = np.flatnonzero(np.diff(wrong_S.astype(np.int8), prepend=0, append=0))
    return int(((edge[1::2] - edge[0::2]) * segment_seconds >= 1.0).sum())


def _check_activity(
    reference: NDArray[np.bool_], hypothesis: NDArray[np.bool_]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Both as boolean arrays; raises an error if they cannot be compared."""
    reference_KS, hypothesis_CS = np.asarray(reference, bool), np.asarray(hypothesis, bool)
    if reference_KS.shape[1] != hypothesis_CS.shape[1]:
        raise SeparativeError(
            f"the reference has {reference_KS.shape[1]} segments, the hypothesis {hypothesis_CS.shape[1]}"
        )
    if not reference_KS.any():
        raise SeparativeError("a diarization error needs speech in the reference")
    return reference_KS, hypothesis_CS
