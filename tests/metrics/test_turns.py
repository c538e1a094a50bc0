"""Errors of turns against pyannote.metrics, against a slow count of milliseconds, and by hand."""

import warnings
from itertools import permutations

import numpy as np
import pytest

from separative.errors import SeparativeError
from separative.metrics import DiarizationError, TurnScore, score_turns
from separative.rttm import Turn

EXACT = 1e-6
CASES = 1000
LENGTH = 6.0


def draw_turns(rng, names, most):
    """Turns of several speakers, some of which overlap with other turns of the same speaker."""
    turns = []
    for name in names:
        for _ in range(rng.integers(0, most)):
            start, end = np.sort(rng.integers(0, round(1000 * LENGTH), 2)) / 1000
            if end > start:
                turns.append(Turn(name, float(start), float(end)))
    return turns


def draw_case(number):
    rng = np.random.default_rng([number, 25])
    reference = draw_turns(rng, "abcd"[: rng.integers(1, 5)], 5)
    hypothesis = draw_turns(rng, "vwxyz"[: rng.integers(0, 6)], 5)
    scored = None
    if rng.random() < 0.5:
        edges = np.unique(rng.integers(0, round(1000 * LENGTH), 4)) / 1000
        edges = edges[: len(edges) // 2 * 2].reshape(-1, 2).tolist()
        scored = [(start, end) for start, end in edges] or None
    return reference, hypothesis, scored, float(rng.choice([0.0, 0.1, 0.25]))


def as_annotation(turns):
    from pyannote.core import Annotation, Segment

    found = Annotation()
    for number, turn in enumerate(turns):
        found[Segment(turn.start, turn.end), number] = turn.speaker
    return found.support()


def test_errors_of_1000_cases_equal_those_of_pyannote():
    pytest.importorskip("pyannote.metrics", reason="pyannote.metrics is not installed")
    from pyannote.core import Segment, Timeline
    from pyannote.metrics.diarization import DiarizationErrorRate, JaccardErrorRate

    spoken = 0
    for number in range(CASES):
        reference, hypothesis, scored, collar = draw_case(number)
        sides = as_annotation(reference), as_annotation(hypothesis)
        uem = Timeline([Segment(*span) for span in scored or [(-1.0, LENGTH + 1)]])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # Their collar is centred on the border: half before, half after.
            theirs = DiarizationErrorRate(collar=2 * collar)(*sides, uem=uem, detailed=True)
            jaccard = JaccardErrorRate(collar=2 * collar)(*sides, uem=uem, detailed=True)
        ours = score_turns(reference, hypothesis, scored=scored, collar=collar)
        found = (ours.error.total, ours.error.missed, ours.error.false_alarm, ours.error.confusion)
        names = ("total", "missed detection", "false alarm", "confusion")
        assert found == pytest.approx([theirs[name] for name in names], abs=EXACT), number
        assert ours.speakers == jaccard["speaker count"], number
        assert ours.jaccard_sum == pytest.approx(jaccard["speaker error"], abs=EXACT), number
        if ours.rate is not None:
            spoken += 1
            assert ours.rate == pytest.approx(theirs["diarization error rate"], abs=EXACT)
            assert ours.jaccard == pytest.approx(jaccard["jaccard error rate"], abs=EXACT)
    assert spoken > CASES / 2


def slow_errors(reference, hypothesis, scored, collar):
    """Errors counted in milliseconds, for the best of all ways to match speakers."""
    borders = [border for turn in joined(reference) for border in turn[1:3]]
    middle = (np.arange(-1000, round(1000 * LENGTH) + 1000) + 0.5) / 1000
    counted = np.array(
        [
            (scored is None or any(start < t < end for start, end in scored))
            and not any(abs(t - border) < collar for border in borders)
            for t in middle
        ]
    )

    def activity(turns):
        names = sorted({turn.speaker for turn in turns})
        return {
            name: counted
            & np.any([(s < middle) & (middle < e) for who, s, e, *_ in turns if who == name], axis=0)
            for name in names
        }

    true, found = activity(reference), activity(hypothesis)
    count_true, count_found = (sum(side.values(), np.zeros(len(middle), int)) for side in (true, found))
    slots = [*found, *[None] * len(true)]
    agreed = max(
        sum((true[a] & found[b]).sum() for a, b in zip(true, order, strict=True) if b is not None)
        for order in permutations(slots, len(true))
    )
    missed, alarm = np.maximum(count_true - count_found, 0), np.maximum(count_found - count_true, 0)
    both = np.minimum(count_true, count_found).sum()
    return np.array([count_true.sum(), missed.sum(), alarm.sum(), both - agreed]) / 1000


def joined(turns):
    """Turns in which one speaker never has two that touch: counted in milliseconds."""
    result = []
    for name in {turn.speaker for turn in turns}:
        inside = np.zeros(round(1000 * LENGTH) + 2, int)
        for who, start, end, *_ in turns:
            inside[round(1000 * start) : round(1000 * end)] |= who == name
        edges = np.flatnonzero(np.diff(inside, prepend=0, append=0)) / 1000
        result += [Turn(name, *pair) for pair in edges.reshape(-1, 2)]
    return result


@pytest.mark.parametrize("number", range(15))
def test_errors_equal_a_slow_count_of_milliseconds(number):
    reference, hypothesis, scored, collar = draw_case(10_000 + number)
    error = score_turns(reference, hypothesis, scored=scored, collar=collar).error
    found = (error.total, error.missed, error.false_alarm, error.confusion)
    assert found == pytest.approx(slow_errors(reference, hypothesis, scored, collar), abs=EXACT)


def test_errors_by_hand():
    reference = [Turn("a", 0.0, 2.0), Turn("b", 2.0, 4.0)]
    assert score_turns(reference, reference) == TurnScore(DiarizationError(4.0, 0.0, 0.0, 0.0), 0.0, 2)
    one = score_turns(reference, [Turn("x", 0.0, 4.0)])
    # Half of the time of x is the right speaker; the other speaker is never found.
    assert one.rate == 0.5 and one.jaccard == (0.5 + 1.0) / 2
    late = [Turn("x", 0.2, 2.2), Turn("y", 2.2, 4.2)]
    assert score_turns(reference, late, collar=0.2).rate == 0.0
    assert score_turns(reference, late, collar=0.1).rate > 0.0


def test_a_reference_without_speech_has_false_alarms_and_no_rate():
    score = score_turns([], [Turn("x", 1.0, 3.0)], scored=[(0.0, 2.0)])
    assert score.error == DiarizationError(0.0, 0.0, 1.0, 0.0)
    assert score.rate is None and score.jaccard is None
    assert score_turns([], []).error.false_alarm == 0.0


def test_without_a_hypothesis_all_is_missed():
    score = score_turns([Turn("a", 1.0, 3.0)], [])
    assert score.rate == 1.0 and score.jaccard == 1.0


def test_added_scores_weigh_seconds_and_speakers():
    one = score_turns([Turn("a", 0.0, 9.0)], [Turn("x", 0.0, 9.0)])
    other = score_turns([Turn("a", 0.0, 1.0)], [])
    assert (one + other).rate == pytest.approx(0.1) and (one + other).jaccard == 0.5


def test_a_negative_collar_is_refused():
    with pytest.raises(SeparativeError, match="pass 0 or more"):
        score_turns([], [], collar=-0.1)
