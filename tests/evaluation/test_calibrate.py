"""Calibration of a model: its record, and the errors."""

import sys

import pytest

from separative.errors import SeparativeError
from separative.evaluation import calibrate, trial_scores

ROUNDED = 2e-4


def test_the_record_has_the_fit_and_its_costs_on_other_speakers(model, speech):
    calls = []
    record = calibrate(
        model, speech, seconds=0.6, folds=3, progress=lambda done, total: calls.append((done, total))
    )
    assert record["scale"] > 0
    assert record["conditions"] == ["clean", "overlap0"] and record["corpora"] == ["one", "two"]
    assert (record["speakers"], record["split"], record["enrol"]) == (9, "dev", "clean")
    held = record["held_out"]
    assert held["folds"] == 3
    for count in ("trials", "targets"):
        assert held[count] == record[count] > 0
    parts = held["by_condition"].values()
    for costs in (held, *parts):
        assert 0 <= costs["min_cllr"] <= costs["cllr"]
        assert costs["loss"] == pytest.approx(costs["cllr"] - costs["min_cllr"], abs=ROUNDED)
    assert sum(c["trials"] for c in parts) == held["trials"]
    assert calls[-1][0] == calls[-1][1] > 0
    again = calibrate(model, speech, seconds=0.6, folds=3)
    assert {**again, "date": ""} == {**record, "date": ""}


def test_noise_conditions_and_priors_are_recorded(model, speech, noise):
    record = calibrate(
        model, speech, noise=noise, conditions=("noise5",), seconds=0.6, folds=3, prior=0.1, seed=3
    )
    assert (record["conditions"], record["prior"], record["seed"]) == (["noise5"], 0.1, 3)


def test_a_model_with_reversed_scores_raises_an_error(model, speech, monkeypatch):
    def reversed_scores(outputs, trials):
        return ({**record, "score": -record["score"]} for record in trial_scores(outputs, trials))

    # The package exports the function ``calibrate``, which hides the module of this name.
    monkeypatch.setattr(sys.modules["separative.evaluation.calibrate"], "trial_scores", reversed_scores)
    with pytest.raises(SeparativeError, match="not higher for the same speaker"):
        calibrate(model, speech, seconds=0.6, folds=3)


def test_too_few_speakers_raise_an_error_before_the_model_runs(model, speech):
    few = speech.filter(lambda u: u.corpus == "one")
    with pytest.raises(SeparativeError, match="5 speakers in 5 folds are too few"):
        calibrate(model, few, seconds=0.6, progress=lambda done, total: pytest.fail("the model was run"))
