"""Diarization errors against pyannote.metrics and against cases counted by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from separative.errors import SeparativeError
from separative.metrics import DiarizationError, count_swaps, diarization_error, jaccard_error, match_speakers

EXACT = 1e-6
SEGMENT = 0.25


def annotation(active_CS, prefix):
    from pyannote.core import Annotation, Segment

    found = Annotation()
    for c, row_S in enumerate(active_CS):
        edges = np.flatnonzero(np.diff(np.concatenate([[0], row_S.astype(int), [0]])))
        for begin, end in edges.reshape(-1, 2):
            found[Segment(begin * SEGMENT, end * SEGMENT), f"{prefix}{c}"] = f"{prefix}{c}"
    return found


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 4), st.integers(1, 4), st.integers(2, 40), st.integers(0, 10_000))
def test_errors_equal_those_of_pyannote(speakers, streams, segments, seed):
    from pyannote.core import Segment, Timeline
    from pyannote.metrics.diarization import DiarizationErrorRate

    rng = np.random.default_rng(seed)
    reference = rng.random((speakers, segments)) < rng.uniform(0.2, 0.9)
    hypothesis = rng.random((streams, segments)) < rng.uniform(0, 0.9)
    reference[0, 0] = True
    whole = Timeline([Segment(0, segments * SEGMENT)])
    theirs = DiarizationErrorRate(collar=0.0, skip_overlap=False)(
        annotation(reference, "speaker"), annotation(hypothesis, "stream"), uem=whole, detailed=True
    )
    ours = diarization_error(reference, hypothesis, SEGMENT)
    assert ours.total == pytest.approx(theirs["total"], abs=EXACT)
    assert ours.missed == pytest.approx(theirs["missed detection"], abs=EXACT)
    assert ours.false_alarm == pytest.approx(theirs["false alarm"], abs=EXACT)
    assert ours.confusion == pytest.approx(theirs["confusion"], abs=EXACT)
    assert ours.rate == pytest.approx(theirs["diarization error rate"], abs=EXACT)


def test_each_kind_of_error_by_hand():
    reference = np.array([[1, 1, 1, 0, 0, 0], [0, 0, 1, 1, 1, 0]])
    assert diarization_error(reference, reference[::-1], 0.5) == DiarizationError(3.0, 0.0, 0.0, 0.0)
    assert diarization_error(reference, 0 * reference, 0.5).rate == 1.0
    swapped = np.array([[1, 1, 0, 0, 1, 0], [0, 0, 1, 1, 0, 1]])
    assert diarization_error(reference, swapped, 0.5) == DiarizationError(3.0, 0.5, 0.5, 0.5)


def test_adding_recordings_adds_their_seconds():
    one, other = DiarizationError(10.0, 1.0, 0.0, 0.0), DiarizationError(30.0, 0.0, 3.0, 2.0)
    assert (one + other).rate == pytest.approx(6 / 40, abs=EXACT)


def test_an_empty_reference_and_other_lengths_are_refused():
    with pytest.raises(SeparativeError, match="speech in the reference"):
        diarization_error(np.zeros((2, 4)), np.ones((2, 4)), SEGMENT)
    with pytest.raises(SeparativeError, match="4 segments, the hypothesis 5"):
        diarization_error(np.ones((2, 4)), np.ones((2, 5)), SEGMENT)


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 4), st.integers(1, 4), st.integers(2, 40), st.integers(0, 10_000))
def test_the_jaccard_error_uses_the_best_matching(speakers, streams, segments, seed):
    from itertools import permutations

    rng = np.random.default_rng(seed)
    reference = rng.random((speakers, segments)) < 0.6
    hypothesis = rng.random((streams, segments)) < 0.6
    reference[:, 0] = True
    padded = np.concatenate([hypothesis, np.zeros((speakers, segments), bool)])
    least = min(
        np.mean(
            [1 - (r & padded[c]).sum() / (r | padded[c]).sum() for r, c in zip(reference, order, strict=True)]
        )
        for order in permutations(range(len(padded)), speakers)
    )
    assert jaccard_error(reference, hypothesis) == pytest.approx(least, abs=EXACT)


def test_jaccard_errors_by_hand():
    reference = np.array([[1, 1, 1, 1, 0, 0], [0, 0, 0, 0, 1, 1]])
    assert jaccard_error(reference, reference[::-1]) == 0.0
    assert jaccard_error(reference, reference[:1]) == 0.5
    assert jaccard_error(reference, np.array([[1, 1, 0, 0, 0, 0], [0, 0, 0, 0, 1, 1]])) == 0.25
    with pytest.raises(SeparativeError, match="6 segments, the hypothesis 5"):
        jaccard_error(reference, reference[:, :5])


def test_streams_are_matched_with_speakers_and_silent_ones_left_out():
    reference = np.array([[1, 1, 0, 0], [0, 0, 1, 1]], bool)
    hypothesis = np.array([[0, 0, 0, 0], [0, 0, 1, 1], [1, 0, 0, 0]], bool)
    speaker, stream = match_speakers(reference, hypothesis)
    assert dict(zip(speaker.tolist(), stream.tolist(), strict=True)) == {0: 2, 1: 1}


def test_without_streams_all_speech_is_missed_and_nothing_swapped():
    reference, empty = np.ones((2, 300), bool), np.zeros((0, 300), bool)
    assert count_swaps(reference, empty, 0.01) == 0
    assert diarization_error(reference, empty, 0.01).rate == 1 and jaccard_error(reference, empty) == 1


def test_a_swap_is_one_second_of_speech_in_the_stream_of_another_speaker():
    reference = np.zeros((2, 40), bool)
    reference[0, :20], reference[1, 20:] = True, True
    assert count_swaps(reference, reference, SEGMENT) == 0
    wrong = reference.copy()
    wrong[:, 5:9] = wrong[::-1, 5:9]
    assert count_swaps(reference, wrong, SEGMENT) == 1
    # Less than a second, or overlapped speech, is not a swap.
    assert count_swaps(reference, wrong, 0.9 * SEGMENT) == 0
    reference[1, 5:9] = True
    assert count_swaps(reference, wrong, SEGMENT) == 0
