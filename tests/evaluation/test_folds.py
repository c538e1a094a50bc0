"""Speaker folds: they are even, and each trial is calibrated on trials of other speakers."""

import numpy as np
import pytest

from separative.evaluation.bootstrap import assign_folds, can_hold_out, held_out_llr
from separative.metrics import cllr, fit_calibration, min_cllr

EXACT = 1e-9


def test_folds_are_even_in_every_corpus_and_have_at_least_two_speakers():
    corpus_of = {f"a{i}": "a" for i in range(11)} | {f"b{i}": "b" for i in range(7)}
    fold = assign_folds(corpus_of, 5, seed=1)
    corpus = np.array(list(corpus_of.values()))
    for name in "ab":
        sizes = np.bincount(fold[corpus == name], minlength=5)
        assert sizes.max() - sizes.min() <= 1
    assert np.array_equal(fold, assign_folds(corpus_of, 5, seed=1))
    assert not np.array_equal(fold, assign_folds(corpus_of, 5, seed=2))
    assert sorted(assign_folds(dict.fromkeys("abcde", "a"), 5)) == [0, 0, 0, 1, 1]
    assert sorted(np.bincount(assign_folds({f"t{i}": "ab"[i % 2] for i in range(12)}))) == [2, 2, 2, 3, 3]


def speakers_trials(seed=0, speakers=12, each=6):
    """Scores between speakers, where each speaker has a bias."""
    rng = np.random.default_rng(seed)
    left, right = np.meshgrid(np.arange(speakers), np.arange(speakers), indexing="ij")
    left, right = np.repeat(left.ravel(), each), np.repeat(right.ravel(), each)
    bias = rng.normal(size=speakers)
    target = left == right
    return 2.0 * target + bias[left] + bias[right] + rng.normal(size=len(left)), target, left, right


@pytest.mark.parametrize("prior", [0.5, 0.1])
def test_every_trial_is_calibrated_on_trials_of_other_speakers(prior):
    score, target, left, right = speakers_trials()
    fold = np.arange(12) % 4
    left, right = fold[left], fold[right]
    llr = held_out_llr(score, target, left, right, prior=prior)
    for i in range(0, len(score), 17):
        own = (left[i], right[i])
        others = ~np.isin(left, own) & ~np.isin(right, own)
        expected = fit_calibration(score[others], target[others], prior=prior).llr(score[i])
        assert llr[i] == pytest.approx(expected, abs=EXACT)
    # The scores of a fold do not change the calibration that is applied to them.
    own_fold = (left == 1) & (right == 1)
    moved = held_out_llr(np.where(own_fold, -score, score), target, left, right, prior=prior)
    others = (left != 1) & (right != 1)
    expected = fit_calibration(score[others], target[others], prior=prior).llr(-score[own_fold])
    np.testing.assert_allclose(moved[own_fold], expected, atol=EXACT)


def test_without_speaker_effects_held_out_calibration_costs_little():
    _, target, left, right = speakers_trials()
    score = 2.0 * target + np.random.default_rng(1).standard_normal(len(target))
    fold = assign_folds({f"t{i}": "ab"[i % 2] for i in range(12)}, seed=3)
    llr = held_out_llr(score, target, fold[left], fold[right])
    assert 0 < cllr(llr, target) - min_cllr(score, target) < 0.1


def test_two_folds_are_too_few_to_calibrate_trials_between_them():
    few = np.array([0, 0, 1, 1])
    target = few == few[::-1]
    assert not can_hold_out(target, few, few[::-1])
    assert held_out_llr(np.arange(4.0), target, few, few[::-1]) is None
    three = np.arange(6) % 3
    left, right = (side.ravel() for side in np.meshgrid(np.arange(6), np.arange(6)))
    assert can_hold_out(left == right, three[left], three[right])
