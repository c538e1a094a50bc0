"""Stored answers are the answers: nothing lost, nothing pickled, scored alike."""

import numpy as np
import pytest

from separative.errors import SeparativeError
from separative.evaluation import (
    CollectedOutputs,
    EncoderSystem,
    Sounds,
    build_trials,
    listen,
    score,
    score_lines,
)

CONDITIONS = ("clean", "overlap0")


@pytest.fixture(scope="module")
def trials(speech):
    return build_trials(speech, seconds=1.2, conditions=CONDITIONS)


@pytest.fixture(scope="module")
def answers(model, speech, trials):
    return listen(EncoderSystem("csc", model, queries=True), trials, Sounds(speech, None, 8000, 1.2))


def test_answers_survive_the_disk(answers, trials, tmp_path):
    again = {}
    for name, answer in answers.items():
        again[name] = CollectedOutputs.load(answer.save(tmp_path / f"{len(again)}.npz"))
    assert len(list(tmp_path.iterdir())) == len(answers)
    one, other = answers["csc"], again["csc"]
    assert list(one.voices) == list(other.voices)
    for key, voices in one.voices.items():
        np.testing.assert_array_equal(voices.embedding_CE, other.voices[key].embedding_CE)
        np.testing.assert_array_equal(voices.active_C, other.voices[key].active_C)
        np.testing.assert_allclose(voices.activity_CS, other.voices[key].activity_CS, atol=1e-3)
    assert one.stream == other.stream
    assert score(answers, trials, resamples=10) == score(again, trials, resamples=10)


def test_every_trial_has_a_line(answers, trials):
    lines = list(score_lines(answers, trials))
    assert len(lines) == len(answers) * len(trials.trials)
    line = lines[len(trials.trials) // 2]
    voices = answers[line["model"]].voices
    left, right = voices[line["enrolment"], "clean"], voices[line["test"], line["condition"]]
    assert line["score"] == pytest.approx((left.embedding_CE @ right.embedding_CE.T).max(), abs=1e-6)
    assert line["target"] == (line["enrolment"].partition(":")[0] == line["test"].partition(":")[0])


def test_candidates_by_row(answers, trials):
    kinds = {"csc": "all", "csc (query)": "active"}
    mixed = score(answers, trials, candidates=kinds, resamples=10)
    for name, kind in kinds.items():
        alone = score(answers, trials, candidates=kind, resamples=10)
        assert mixed.find("EER", "overlap0", model=name) == alone.find("EER", "overlap0", model=name)
    assert mixed.settings["candidates"] == kinds


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 torn", b"no archive"])
def test_other_files_are_refused_by_name(content, tmp_path):
    path = tmp_path / "answers.npz"
    path.write_bytes(content)
    with pytest.raises(SeparativeError, match=r"answers\.npz: not the stored answers"):
        CollectedOutputs.load(path)
    np.savez(path, format=np.array(99))
    with pytest.raises(SeparativeError, match="format 99"):
        CollectedOutputs.load(path)
