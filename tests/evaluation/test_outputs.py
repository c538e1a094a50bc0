"""Storage of system outputs: without loss, without pickle, and with the same scores."""

import random

import numpy as np
import pytest

from separative.errors import SeparativeError
from separative.evaluation import (
    CollectedOutputs,
    EncoderSystem,
    TrialRecordings,
    build_trials,
    collect_outputs,
    score,
    trial_scores,
)

CONDITIONS = ("clean", "overlap0")


@pytest.fixture(scope="module")
def trials(speech):
    return build_trials(speech, seconds=1.2, conditions=CONDITIONS)


@pytest.fixture(scope="module")
def outputs(model, speech, trials):
    return collect_outputs(
        EncoderSystem("csc", model, queries=True), trials, TrialRecordings(speech, None, 8000, 1.2)
    )


def test_outputs_are_equal_after_saving_and_loading(outputs, trials, tmp_path):
    loaded = {}
    for name, output in outputs.items():
        loaded[name] = CollectedOutputs.load(output.save(tmp_path / f"{len(loaded)}.npz"))
    assert len(list(tmp_path.iterdir())) == len(outputs)
    one, other = outputs["csc"], loaded["csc"]
    assert list(one.single) == list(other.single)
    for key, single in one.single.items():
        np.testing.assert_array_equal(single.embeddings, other.single[key].embeddings)
        np.testing.assert_array_equal(single.active, other.single[key].active)
        np.testing.assert_allclose(single.activity, other.single[key].activity, atol=1e-3)
    assert one.stream == other.stream
    assert score(outputs, trials, resamples=10) == score(loaded, trials, resamples=10)


def test_every_trial_has_a_score(outputs, trials):
    records = list(trial_scores(outputs, trials))
    assert len(records) == len(outputs) * len(trials.trials)
    record = records[len(trials.trials) // 2]
    single = outputs[record["model"]].single
    left, right = single[record["enrolment"], "clean"], single[record["test"], record["condition"]]
    assert record["score"] == pytest.approx((left.embeddings @ right.embeddings.T).max(), abs=1e-6)
    assert record["target"] == (record["enrolment"].partition(":")[0] == record["test"].partition(":")[0])


def test_candidates_can_be_given_by_row(outputs, trials):
    kinds = {"csc": "all", "csc (query)": "active"}
    mixed = score(outputs, trials, candidates=kinds, resamples=10)
    for name, kind in kinds.items():
        alone = score(outputs, trials, candidates=kind, resamples=10)
        assert mixed.find("EER", "overlap0", model=name) == alone.find("EER", "overlap0", model=name)
    assert mixed.settings["candidates"] == kinds


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 torn", b"no archive"])
def test_loading_another_file_raises_an_error_that_names_it(content, tmp_path):
    path = tmp_path / "outputs.npz"
    path.write_bytes(content)
    with pytest.raises(SeparativeError, match=r"outputs\.npz: not a file of stored system outputs"):
        CollectedOutputs.load(path)
    np.savez(path, format=np.array(99))
    with pytest.raises(SeparativeError, match="format 99"):
        CollectedOutputs.load(path)


def test_loading_a_damaged_file_raises_an_error_that_names_it(outputs, tmp_path):
    path, rng = next(iter(outputs.values())).save(tmp_path / "outputs.npz"), random.Random(0)
    whole = path.read_bytes()
    refused = 0
    for _ in range(300):
        damaged = bytearray(whole)
        for _ in range(rng.randrange(1, 4)):
            # Half of the changes are in the directory of the archive at its end.
            low = rng.choice((0, len(damaged) - 2000))
            damaged[rng.randrange(max(0, low), len(damaged))] = rng.randrange(256)
        path.write_bytes(damaged)
        try:
            CollectedOutputs.load(path)
        except SeparativeError as error:
            refused += 1
            assert "outputs.npz: not a file of stored system outputs" in str(error)
    assert refused > 100
