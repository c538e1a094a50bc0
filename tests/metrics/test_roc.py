"""Error rates against a slow reference over every pair of thresholds; separation against hand-made cases."""

from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from separative.errors import SeparativeError
from separative.evaluation import eer, min_dcf, si_sdr, si_sdr_improvement
from separative.metrics import Roc

EXACT = 1e-9
DB = 1e-6


def operating_points(score, target):
    """(pmiss, pfa) of every decision "accept above t", one threshold at a time."""
    points = []
    for threshold in [-np.inf, *np.unique(score)]:
        accept = score > threshold
        points.append((np.mean(~accept[target]), np.mean(accept[~target])))
    return points


def slow_eer(score, target):
    """Lowest crossing of pmiss = pfa by any segment between two points: that is the convex hull's."""
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


@st.composite
def trials(draw):
    """Few distinct scores, so that ties within and across classes are the rule."""
    size = draw(st.integers(2, 40))
    score = draw(st.lists(st.integers(-4, 4), min_size=size, max_size=size))
    target = draw(st.lists(st.booleans(), min_size=size, max_size=size))
    target[0], target[1] = True, False
    return np.array(score, float), np.array(target)


@settings(deadline=None)
@given(trials(), st.randoms(use_true_random=False))
def test_eer_is_that_of_the_convex_hull_in_any_order(some, random):
    score, target = some
    fast = eer(score, target)
    assert fast == pytest.approx(slow_eer(score, target), abs=EXACT)
    order = list(range(len(score)))
    random.shuffle(order)
    assert eer(score[order], target[order]) == fast
    assert eer(np.exp(score), target) == pytest.approx(fast, abs=EXACT), "only the order of scores counts"


@settings(deadline=None)
@given(trials(), st.data())
def test_weights_are_repetitions(some, data):
    score, target = some
    times = data.draw(st.lists(st.integers(0, 3), min_size=len(score), max_size=len(score)))
    times[0], times[1] = max(1, times[0]), max(1, times[1])
    repeated = eer(np.repeat(score, times), np.repeat(target, times))
    assert eer(score, target, np.array(times, float)) == pytest.approx(repeated, abs=EXACT)


@settings(deadline=None)
@given(trials(), st.sampled_from([0.01, 0.05, 0.5, 0.9]))
def test_min_dcf_is_the_best_of_all_decisions(some, p):
    score, target = some
    best = min(p * miss + (1 - p) * fa for miss, fa in operating_points(score, target))
    assert min_dcf(score, target, p) == pytest.approx(best / min(p, 1 - p), abs=EXACT)


def test_eer_of_known_distributions():
    half = np.arange(6) % 2 == 0
    assert eer(np.zeros(6), half) == 0.5
    assert eer(np.where(half, 1.0, 0.0), half) == 0.0
    assert eer(np.where(half, 0.0, 1.0), half) == 0.5, "no better than refusing to look"


def test_a_million_scores_of_two_normal_distributions():
    rng = np.random.default_rng(0)
    target = np.arange(1_000_000) % 2 == 0
    score = rng.standard_normal(len(target)) + 2.0 * target
    assert eer(score, target) == pytest.approx(NormalDist().cdf(-1.0), abs=2e-3)


def test_weightless_classes_have_no_error_rate():
    roc = Roc(np.array([0.0, 1.0]), np.array([False, True]))
    assert np.isnan(roc.eer(np.array([0.0, 1.0])))


@pytest.mark.parametrize("target", [[True, True], [False, False]])
def test_one_class_alone_is_refused(target):
    with pytest.raises(SeparativeError, match="target and one non-target"):
        eer(np.array([0.0, 1.0]), np.array(target))


def test_a_score_that_is_not_finite_is_refused():
    with pytest.raises(SeparativeError, match="finite"):
        eer(np.array([np.nan, 1.0]), np.array([True, False]))


def orthogonal(count, size=4096):
    """Zero-mean waveforms of unit power, orthogonal to each other."""
    time = np.arange(size) / size
    return np.stack([np.sqrt(2) * np.sin(2 * np.pi * (k + 3) * time) for k in range(count)])


def test_si_sdr_is_the_ratio_of_powers_at_any_scale_and_offset():
    source, noise = orthogonal(2)
    for db in (-20.0, 0.0, 7.0, 60.0):
        estimate = source + 10 ** (-db / 20) * noise
        assert si_sdr(estimate, source) == pytest.approx(db, abs=DB)
        assert si_sdr(-3.0 * estimate + 5.0, 0.1 * source - 1.0) == pytest.approx(db, abs=DB)


def test_si_sdr_stays_finite_for_silence_and_perfection():
    (source,) = orthogonal(1)
    assert si_sdr(source, source) > 100
    assert si_sdr(np.zeros_like(source), source) <= 0.0
    assert np.isfinite(si_sdr(source, np.zeros_like(source)))


def test_improvement_finds_the_permutation_and_subtracts_the_mixture():
    sources = orthogonal(2)
    estimates = np.stack([sources[1] + 0.1 * sources[0], 0 * sources[0], sources[0] + 0.1 * sources[1]])
    improvement, streams = si_sdr_improvement(estimates, sources, sources.sum(0))
    assert streams == (2, 0)
    np.testing.assert_allclose(improvement, [20.0, 20.0], atol=DB)
    unprocessed, _ = si_sdr_improvement(np.stack([sources.sum(0)] * 2), sources, sources.sum(0))
    np.testing.assert_allclose(unprocessed, 0.0, atol=DB)
