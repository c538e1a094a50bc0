"""Calibration of a model on talkers: who is held out of what, and that the costs are those of the trials."""

import sys

import numpy as np
import pytest

from separative.errors import SeparativeError
from separative.evaluation import calibrate, score_lines
from separative.evaluation.calibrate import deal_folds, held_out_llr
from separative.metrics import fit_calibration

EXACT = 1e-9
ROUNDED = 1e-4


def test_folds_spread_every_corpus_and_hold_two_talkers_each():
    corpus_of = {f"a{i}": "a" for i in range(11)} | {f"b{i}": "b" for i in range(7)}
    fold_of = deal_folds(corpus_of, 5, seed=1)
    for corpus in "ab":
        sizes = np.bincount([fold_of[name] for name in fold_of if corpus_of[name] == corpus], minlength=5)
        assert sizes.max() - sizes.min() <= 1
    assert fold_of == deal_folds(dict(reversed(corpus_of.items())), 5, seed=1)
    assert fold_of != deal_folds(corpus_of, 5, seed=2)
    assert sorted(deal_folds(dict.fromkeys("abcde", "a"), 5).values()) == [0, 0, 0, 1, 1]
    with pytest.raises(SeparativeError, match="not 5 of 3 talkers"):
        deal_folds(dict.fromkeys("abc", "a"), 5)


def talkers_trials(seed=0, talkers=12, each=6):
    """Scores between talkers, where every talker has a bias of their own."""
    rng = np.random.default_rng(seed)
    left, right = np.meshgrid(np.arange(talkers), np.arange(talkers), indexing="ij")
    left, right = np.repeat(left.ravel(), each), np.repeat(right.ravel(), each)
    bias = rng.normal(size=talkers)
    target = left == right
    return 2.0 * target + bias[left] + bias[right] + rng.normal(size=len(left)), target, left, right


def test_no_trial_is_calibrated_on_its_own_talkers():
    score, target, left, right = talkers_trials()
    fold_P = np.arange(12) % 3
    llr = held_out_llr(score, target, fold_P[left], fold_P[right])
    assert np.array_equal(np.isnan(llr), fold_P[left] != fold_P[right])
    fold = (fold_P[left] == 1) & (fold_P[right] == 1)
    without = (fold_P[left] != 1) & (fold_P[right] != 1)
    np.testing.assert_allclose(
        llr[fold], fit_calibration(score[without], target[without]).llr(score[fold]), atol=EXACT
    )
    # Whatever happens to a fold's own trials, its map stays.
    moved = held_out_llr(np.where(fold, -score, score), target, fold_P[left], fold_P[right])
    np.testing.assert_allclose(
        moved[fold], fit_calibration(score[without], target[without]).llr(-score[fold])
    )


def test_the_record_holds_the_fit_and_its_cost_on_other_talkers(model, speech):
    heard = []
    record = calibrate(
        model, speech, seconds=0.6, folds=2, progress=lambda done, total: heard.append((done, total))
    )
    assert record["scale"] > 0
    assert record["conditions"] == ["clean", "overlap0"] and record["corpora"] == ["one", "two"]
    assert (record["talkers"], record["split"], record["enrol"]) == (9, "dev", "clean")
    held = record["held_out"]
    assert held["folds"] == 2 and 0 < held["trials"] < record["trials"]
    parts = held["by_condition"].values()
    for costs in (held, *parts):
        assert 0 <= costs["min_cllr"] <= costs["cllr"]
        assert costs["loss"] == pytest.approx(costs["cllr"] - costs["min_cllr"], abs=ROUNDED)
    assert sum(c["trials"] for c in parts) == held["trials"]
    assert heard[-1][0] == heard[-1][1] > 0
    again = calibrate(model, speech, seconds=0.6, folds=2)
    assert {**again, "date": ""} == {**record, "date": ""}


def test_noise_and_priors_as_asked(model, speech, noise):
    record = calibrate(
        model, speech, noise=noise, conditions=("noise5",), seconds=0.6, folds=2, prior=0.1, seed=3
    )
    assert (record["conditions"], record["prior"], record["seed"]) == (["noise5"], 0.1, 3)


def test_a_model_whose_scores_mislead_is_refused(model, speech, monkeypatch):
    def backwards(answers, trials):
        return ({**line, "score": -line["score"]} for line in score_lines(answers, trials))

    # The room's function of that name hides the file's.
    monkeypatch.setattr(sys.modules["separative.evaluation.calibrate"], "score_lines", backwards)
    with pytest.raises(SeparativeError, match="no higher where the talkers are the same"):
        calibrate(model, speech, seconds=0.6, folds=2)
