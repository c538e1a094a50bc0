"""Calibration of a model on speakers: what its record holds, what cannot be calibrated."""

import sys

import pytest

from separative.errors import SeparativeError
from separative.evaluation import calibrate, score_lines

ROUNDED = 1e-4


def test_the_record_holds_the_fit_and_its_cost_on_other_speakers(model, speech):
    heard = []
    record = calibrate(
        model, speech, seconds=0.6, folds=3, progress=lambda done, total: heard.append((done, total))
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
    assert heard[-1][0] == heard[-1][1] > 0
    again = calibrate(model, speech, seconds=0.6, folds=3)
    assert {**again, "date": ""} == {**record, "date": ""}


def test_noise_and_priors_as_asked(model, speech, noise):
    record = calibrate(
        model, speech, noise=noise, conditions=("noise5",), seconds=0.6, folds=3, prior=0.1, seed=3
    )
    assert (record["conditions"], record["prior"], record["seed"]) == (["noise5"], 0.1, 3)


def test_a_model_whose_scores_mislead_is_refused(model, speech, monkeypatch):
    def backwards(answers, trials):
        return ({**line, "score": -line["score"]} for line in score_lines(answers, trials))

    # The room's function of that name hides the file's.
    monkeypatch.setattr(sys.modules["separative.evaluation.calibrate"], "score_lines", backwards)
    with pytest.raises(SeparativeError, match="no higher where the speakers are the same"):
        calibrate(model, speech, seconds=0.6, folds=3)


def test_too_few_speakers_are_told_before_anything_is_heard(model, speech):
    few = speech.filter(lambda u: u.corpus == "one")
    with pytest.raises(SeparativeError, match="5 speakers in 5 folds are too few"):
        calibrate(model, few, seconds=0.6, progress=lambda done, total: pytest.fail("heard"))
