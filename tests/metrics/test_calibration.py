"""Costs of log-likelihood ratios against slow references; calibration of scores with known ratios."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from metric_helpers import trials
from scipy.optimize import minimize

from separative.errors import SeparativeError
from separative.metrics import Calibration, cllr, fit_calibration, log_odds, min_cllr

EXACT = 1e-9
FIT = 1e-4


def slow_cllr(llr, target):
    same = [np.log2(1 + np.exp(-x)) for x, t in zip(llr, target, strict=True) if t]
    different = [np.log2(1 + np.exp(x)) for x, t in zip(llr, target, strict=True) if not t]
    return (np.mean(same) + np.mean(different)) / 2


def slow_min_cllr(score, target):
    """Pooling of adjacent violators: one block per score, merged until the shares of targets increase."""
    blocks = []
    for value in np.unique(score):
        here = score == value
        blocks.append([np.sum(here & target) / target.sum(), np.sum(here & ~target) / (~target).sum()])
        while len(blocks) > 1 and blocks[-2][0] * blocks[-1][1] >= blocks[-1][0] * blocks[-2][1]:
            right = blocks.pop()
            blocks[-1] = [blocks[-1][0] + right[0], blocks[-1][1] + right[1]]
    bits = [w * np.log2(1 / (w / (t + n))) for t, n in blocks for w in (t, n) if w]
    return sum(bits) / 2


def gaussian(count, distance, seed=0):
    """Scores that equal their true log-likelihood ratio: N(±d²/2, d²) in each class."""
    target = np.arange(count) % 3 == 0
    noise = np.random.default_rng(seed).standard_normal(count)
    return np.where(target, 0.5, -0.5) * distance**2 + distance * noise, target


@settings(deadline=None)
@given(trials())
def test_costs_equal_slow_references(some):
    score, target = some
    assert cllr(score, target) == pytest.approx(slow_cllr(score, target), abs=EXACT)
    assert min_cllr(score, target) == pytest.approx(slow_min_cllr(score, target), abs=EXACT)
    assert min_cllr(score, target) <= min(1.0, cllr(score, target)) + EXACT
    assert min_cllr(np.exp(score), target) == pytest.approx(min_cllr(score, target), abs=EXACT)


@settings(deadline=None)
@given(trials(), st.data())
def test_a_weight_counts_as_a_number_of_copies(some, data):
    score, target = some
    times = data.draw(st.lists(st.integers(0, 3), min_size=len(score), max_size=len(score)))
    times[0], times[1] = max(1, times[0]), max(1, times[1])
    for cost in (cllr, min_cllr):
        repeated = cost(np.repeat(score, times), np.repeat(target, times))
        assert cost(score, target, np.array(times, float)) == pytest.approx(repeated, abs=EXACT)
    if len(set(score)) > 1:
        fitted = fit_calibration(score, target, np.array(times, float))
        again = fit_calibration(np.repeat(score, times), np.repeat(target, times))
        np.testing.assert_allclose(fitted.llr(score), again.llr(score), atol=FIT)


def test_zero_ratios_cost_one_bit_and_correct_certainty_nothing():
    target = np.arange(10) % 2 == 0
    assert cllr(np.zeros(10), target) == pytest.approx(1.0, abs=EXACT)
    assert min_cllr(np.zeros(10), target) == pytest.approx(1.0, abs=EXACT)
    assert min_cllr(target.astype(float), target) == pytest.approx(0.0, abs=EXACT)
    assert cllr(np.where(target, 1e4, -1e4), target) == pytest.approx(0.0, abs=EXACT)
    assert cllr(np.where(target, -1e4, 1e4), target) == pytest.approx(1e4 / np.log(2), rel=EXACT)
    one_class = target.astype(float)  # as weights: non-targets have none
    assert np.isnan(cllr(np.zeros(10), target, one_class))
    assert np.isnan(min_cllr(np.zeros(10), target, one_class))


def test_the_fit_equals_that_of_a_general_optimiser():
    score, target = gaussian(300, 1.5)
    for prior in (0.05, 0.5, 0.9):

        def cost(parameters, prior=prior):
            x = parameters[0] * score + parameters[1] + log_odds(prior)
            return (
                prior * np.logaddexp(0, -x[target]).mean() + (1 - prior) * np.logaddexp(0, x[~target]).mean()
            )

        slow = minimize(cost, np.zeros(2), method="Nelder-Mead", options={"xatol": 1e-8, "fatol": 1e-12})
        fitted = fit_calibration(score, target, prior=prior)
        np.testing.assert_allclose([fitted.scale, fitted.offset], slow.x, atol=FIT)


@pytest.mark.parametrize(("gain", "shift"), [(1.0, 0.0), (0.01, 5.0), (-3.0, 1e3)])
def test_true_ratios_are_recovered_from_scaled_and_shifted_scores(gain, shift):
    llr, target = gaussian(200_000, 2.0)
    fitted = fit_calibration(gain * llr + shift, target)
    assert fitted.scale * gain == pytest.approx(1.0, abs=0.02)
    found = fitted.llr(gain * llr + shift)
    assert cllr(found, target) - min_cllr(llr, target) < 0.001
    # Calibrated: of trials with probability p, a share p are target trials.
    p = fitted.probability(gain * llr + shift, prior=1 / 3)
    for low in (0.1, 0.4, 0.7):
        some = (p > low) & (p < low + 0.1)
        assert target[some].mean() == pytest.approx(p[some].mean(), abs=0.03)


def test_separable_constant_and_extreme_scores_give_finite_maps():
    target = np.arange(20) % 2 == 0
    separable = fit_calibration(np.where(target, 1.0, 0.0), target)
    assert 0 < separable.scale < 1e3 and cllr(separable.llr(target.astype(float)), target) < 1e-3
    constant = fit_calibration(np.full(20, 0.7), target)
    np.testing.assert_allclose(constant.llr([0.7]), 0.0, atol=FIT)
    outlier = np.append(np.where(target, 0.6, 0.4), 1e6)
    far = fit_calibration(outlier, np.append(target, False))
    assert np.isfinite([far.scale, far.offset]).all()


def test_probability_follows_bayes_rule():
    some = Calibration(2.0, -1.0)
    assert some.llr(0.5) == 0.0
    assert some.probability(0.5, prior=0.2) == pytest.approx(0.2, abs=EXACT)
    odds = np.exp(3.0) * 0.1 / 0.9
    assert some.probability([2.0], prior=0.1)[0] == pytest.approx(odds / (1 + odds), abs=EXACT)


@pytest.mark.parametrize("prior", [0.0, 1.0, -0.1, float("nan")])
def test_a_prior_outside_0_to_1_is_refused(prior):
    with pytest.raises(SeparativeError, match="between 0 and 1"):
        Calibration(1.0, 0.0).probability(0.0, prior)


@pytest.mark.parametrize("function", [cllr, min_cllr, fit_calibration])
def test_bad_trials_are_refused(function):
    with pytest.raises(SeparativeError, match="number 2 is nan"):
        function(np.array([0.0, 1.0, np.nan]), np.array([True, False, True]))
    with pytest.raises(SeparativeError, match="one target and one non-target"):
        function(np.array([0.0, 1.0]), np.array([True, True]))


def test_calibration_needs_weight_in_both_classes():
    with pytest.raises(SeparativeError, match="weight on at least one target"):
        fit_calibration(np.array([0.0, 1.0]), np.array([False, True]), np.array([1.0, 0.0]))
