"""Speakers are dealt evenly, and whatever is calibrated has never been seen, nor have its speakers."""

import numpy as np
import pytest

from separative.evaluation.bootstrap import deal_folds, enough, held_out_llr
from separative.metrics import cllr, fit_calibration, min_cllr

EXACT = 1e-9


def test_folds_spread_every_corpus_and_hold_two_speakers_each():
    corpus_of = {f"a{i}": "a" for i in range(11)} | {f"b{i}": "b" for i in range(7)}
    fold = deal_folds(corpus_of, 5, seed=1)
    corpus = np.array(list(corpus_of.values()))
    for name in "ab":
        sizes = np.bincount(fold[corpus == name], minlength=5)
        assert sizes.max() - sizes.min() <= 1
    assert np.array_equal(fold, deal_folds(corpus_of, 5, seed=1))
    assert not np.array_equal(fold, deal_folds(corpus_of, 5, seed=2))
    assert sorted(deal_folds(dict.fromkeys("abcde", "a"), 5)) == [0, 0, 0, 1, 1]
    assert sorted(np.bincount(deal_folds({f"t{i}": "ab"[i % 2] for i in range(12)}))) == [2, 2, 2, 3, 3]


def speakers_trials(seed=0, speakers=12, each=6):
    """Scores between speakers, where every speaker has a bias of their own."""
    rng = np.random.default_rng(seed)
    left, right = np.meshgrid(np.arange(speakers), np.arange(speakers), indexing="ij")
    left, right = np.repeat(left.ravel(), each), np.repeat(right.ravel(), each)
    bias = rng.normal(size=speakers)
    target = left == right
    return 2.0 * target + bias[left] + bias[right] + rng.normal(size=len(left)), target, left, right


@pytest.mark.parametrize("prior", [0.5, 0.1])
def test_every_trial_is_calibrated_once_and_never_on_its_own_speakers(prior):
    score, target, left, right = speakers_trials()
    fold = np.arange(12) % 4
    left, right = fold[left], fold[right]
    llr = held_out_llr(score, target, left, right, prior=prior)
    for i in range(0, len(score), 17):
        own = (left[i], right[i])
        others = ~np.isin(left, own) & ~np.isin(right, own)
        expected = fit_calibration(score[others], target[others], prior=prior).llr(score[i])
        assert llr[i] == pytest.approx(expected, abs=EXACT)
    # Whatever happens to the trials of a fold, what they are calibrated by stays.
    mine = (left == 1) & (right == 1)
    moved = held_out_llr(np.where(mine, -score, score), target, left, right, prior=prior)
    others = (left != 1) & (right != 1)
    expected = fit_calibration(score[others], target[others], prior=prior).llr(-score[mine])
    np.testing.assert_allclose(moved[mine], expected, atol=EXACT)


def test_where_speakers_are_alike_little_is_lost_by_not_seeing_them():
    _, target, left, right = speakers_trials()
    score = 2.0 * target + np.random.default_rng(1).standard_normal(len(target))
    fold = deal_folds({f"t{i}": "ab"[i % 2] for i in range(12)}, seed=3)
    llr = held_out_llr(score, target, fold[left], fold[right])
    assert 0 < cllr(llr, target) - min_cllr(score, target) < 0.1


def test_two_folds_leave_no_rest_for_the_trials_between_them():
    few = np.array([0, 0, 1, 1])
    target = few == few[::-1]
    assert not enough(target, few, few[::-1])
    assert held_out_llr(np.arange(4.0), target, few, few[::-1]) is None
    three = np.arange(6) % 3
    left, right = (side.ravel() for side in np.meshgrid(np.arange(6), np.arange(6)))
    assert enough(left == right, three[left], three[right])
