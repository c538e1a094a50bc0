"""Error rates and detection costs against slow references over all thresholds."""

from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from metric_helpers import trials

from separative.errors import SeparativeError
from separative.metrics import Roc, eer, min_dcf

EXACT = 1e-9


def operating_points(score, target):
    """(pmiss, pfa) of every decision "accept above t", one threshold at a time."""
    points = []
    for threshold in [-np.inf, *np.unique(score)]:
        accept = score > threshold
        points.append((np.mean(~accept[target]), np.mean(accept[~target])))
    return points


def slow_eer(score, target):
    """Lowest crossing of pmiss = pfa by a line between two points, which is that of the convex hull."""
    lowest = 1.0
    points = operating_points(score, target)
    for miss_a, fa_a in points:
        for miss_b, fa_b in points:
            gap_a, gap_b = miss_a - fa_a, miss_b - fa_b
            if gap_a == gap_b == 0:
                lowest = min(lowest, miss_a)
            elif gap_a <= 0 <= gap_b:
                share = -gap_a / (gap_b - gap_a)
                lowest = min(lowest, miss_a + share * (miss_b - miss_a))
    return lowest


@settings(deadline=None)
@given(trials(), st.randoms(use_true_random=False))
def test_the_eer_is_that_of_the_convex_hull_in_any_order_of_trials(some, random):
    score, target = some
    fast = eer(score, target)
    assert fast == pytest.approx(slow_eer(score, target), abs=EXACT)
    order = list(range(len(score)))
    random.shuffle(order)
    assert eer(score[order], target[order]) == fast
    assert eer(np.exp(score), target) == pytest.approx(fast, abs=EXACT), "a monotone map changed the EER"


@settings(deadline=None)
@given(trials(), st.data())
def test_a_weight_counts_as_a_number_of_copies(some, data):
    score, target = some
    times = data.draw(st.lists(st.integers(0, 3), min_size=len(score), max_size=len(score)))
    times[0], times[1] = max(1, times[0]), max(1, times[1])
    repeated = eer(np.repeat(score, times), np.repeat(target, times))
    assert eer(score, target, np.array(times, float)) == pytest.approx(repeated, abs=EXACT)


@settings(deadline=None)
@given(trials(), st.sampled_from([0.01, 0.05, 0.5, 0.9]))
def test_the_minimum_cost_is_the_least_over_all_thresholds(some, p):
    score, target = some
    best = min(p * miss + (1 - p) * fa for miss, fa in operating_points(score, target))
    assert min_dcf(score, target, p) == pytest.approx(best / min(p, 1 - p), abs=EXACT)


def test_eer_of_known_distributions():
    half = np.arange(6) % 2 == 0
    assert eer(np.zeros(6), half) == 0.5
    assert eer(np.where(half, 1.0, 0.0), half) == 0.0
    assert eer(np.where(half, 0.0, 1.0), half) == 0.5, "worse than chance counts as chance"


def test_the_eer_of_two_normal_distributions():
    rng = np.random.default_rng(0)
    target = np.arange(1_000_000) % 2 == 0
    score = rng.standard_normal(len(target)) + 2.0 * target
    assert eer(score, target) == pytest.approx(NormalDist().cdf(-1.0), abs=2e-3)


def test_a_class_without_weight_gives_nan():
    roc = Roc(np.array([0.0, 1.0]), np.array([False, True]))
    assert np.isnan(roc.eer(np.array([0.0, 1.0])))


@pytest.mark.parametrize("target", [[True, True], [False, False]])
def test_trials_of_one_class_are_refused(target):
    with pytest.raises(SeparativeError, match="target and one non-target"):
        eer(np.array([0.0, 1.0]), np.array(target))


def test_a_score_that_is_not_finite_is_refused():
    with pytest.raises(SeparativeError, match=r"finite scores: number 1 is nan \(2 such in all\)"):
        eer(np.array([0.0, np.nan, np.inf]), np.array([True, False, True]))
