"""What is heard besides single sides: shared memories, activity, strangers, quality, rooms."""

import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from separative.corpora.manifest import Corpus
from separative.errors import CorpusError, MissingExtraError, SeparativeError
from separative.evaluation import (
    CollectedOutputs,
    EncoderSystem,
    MfccSystem,
    Sounds,
    SystemOutput,
    build_trials,
    calibrate,
    evaluate,
    listen,
    score,
)
from separative.evaluation.collect import mixtures
from separative.evaluation.trials import Rooms
from separative.inference.forward import run
from separative.inference.recording import load
from separative.metrics import diarization_error, sdr, si_sdr
from separative.objectives.separation import speech_activity

ROUNDING = 1e-5
CONDITIONS = ("clean", "overlap0", "mixed")


@pytest.fixture(scope="module")
def sounds(speech, noise, tmp_path_factory):
    return Sounds(speech, noise, 8000, 1.2, cache=tmp_path_factory.mktemp("rooms"))


@pytest.fixture(scope="module")
def trials(speech, noise):
    rooms = Rooms(count=2)
    return build_trials(
        speech, noise=noise, seconds=1.2, conditions=CONDITIONS, enrol="mixed", tests=2, rooms=rooms
    )


@pytest.fixture(scope="module")
def heard(trials, sounds):
    return dict(mixtures(trials, sounds))


@pytest.fixture(scope="module")
def answers(model, speech, trials, sounds):
    # Two parts of the speaker who is too short to be in the list stand for two strangers.
    lonely = next(u for u in speech if u.id == "lonely")
    parts = {"a": (0.0, 0.6), "b": (0.3, 0.7)}
    pair = [
        replace(lonely, id=f"{name}{i}", speaker=name, start=start, seconds=seconds)
        for name, (start, seconds) in parts.items()
        for i in range(2)
    ]
    told = []
    found = listen(
        EncoderSystem("csc", model, queries=True),
        trials,
        sounds,
        batch=5,
        cohort=Corpus(tuple(pair)),
        progress=lambda done, total: told.append((done, total)),
    )
    assert told[-1][0] == told[-1][1] == len(found["csc"].voices) + len(trials.enrolments) + 2
    return found


def test_enrolments_of_a_speaker_share_one_memory(answers, model, trials, heard):
    answer = answers["csc"]
    assert set(answer.together) == {(s.id, "mixed") for s in trials.enrolments}
    assert not answers["csc (query)"].together
    own = [s.id for s in trials.enrolments if s.speaker == trials.enrolments[0].speaker]
    waves = [load((heard[name, "mixed"].mix_N, 8000), 8000) for name in own]
    for name, recording in zip(own, run(model, waves, shared=True), strict=True):
        embeddings = np.stack([t.embedding_E for t in recording.speakers])
        np.testing.assert_allclose(answer.together[name, "mixed"].embedding_CE, embeddings, atol=ROUNDING)
        alone = answer.voices[name, "mixed"].embedding_CE
        assert not np.allclose(alone, embeddings, atol=1e-3)


def test_activity_is_judged_by_the_rule_that_taught_it(answers, model, trials, heard):
    answer = answers["csc"]
    assert set(answer.reference) == set(answer.voices)
    for key in list(answer.reference)[::7]:
        source_KN, mix_N = torch.tensor(heard[key].source_KN), torch.tensor(heard[key].mix_N)
        power = model.segment_power(source_KN[None])
        expected = speech_activity(power, mix_N.square().mean()[None])[0].numpy() > 0
        np.testing.assert_array_equal(answer.reference[key], expected)
        assert answer.voices[key].activity_CS.shape == (2, expected.shape[1])


def test_diarization_errors_add_up(answers, trials):
    results = score(answers, trials, resamples=20)
    answer = answers["csc"]
    for condition in CONDITIONS:
        errors = []
        for side in trials.tests:
            voices, reference = answer.voices[side.id, condition], answer.reference[side.id, condition]
            errors.append(diarization_error(reference, voices.activity_CS > 0.5, voices.segment_seconds))
        whole = sum(errors[1:], start=errors[0])
        assert results.find("DER", condition).value == pytest.approx(100 * whole.rate)
        missed = results.find("missed", condition)
        assert missed.value == pytest.approx(100 * whole.missed / whole.total)
        assert missed.trials == len(trials.tests)


def test_separation_is_judged_against_what_is_heard_of_each_speaker(answers, model, trials, heard):
    answer, side = answers["csc"], trials.tests[0].id
    for condition in ("overlap0", "mixed"):
        one = heard[side, condition]
        (found,) = EncoderSystem("csc", model, queries=False)([one.mix_N])[0]
        matched = found.estimate_CN[list(answer.stream[side, condition])]
        for metric, measure in {"SI-SDR": si_sdr, "SDR": sdr}.items():
            expected = measure(matched, one.source_KN)
            np.testing.assert_allclose(answer.figures[metric][side, condition], expected, atol=0.01)
        gain = si_sdr(matched, one.source_KN) - si_sdr(one.mix_N, one.source_KN)
        np.testing.assert_allclose(answer.figures["SI-SDRi"][side, condition], gain, atol=0.01)
    assert (side, "clean") not in answer.figures["SDR"]


def test_told_the_stream_the_score_is_its_cosine(answers, trials):
    results = score(answers, trials, resamples=10, oracle=True)
    told = {row.condition for row in results.rows if row.model == "csc (oracle)"}
    assert told == {"overlap0", "mixed"}
    answer = answers["csc"]
    only = CollectedOutputs()
    for key, voices in answer.voices.items():
        stream = answer.stream.get(key)
        test = key[0] in {s.id for s in trials.tests} and stream is not None
        active = np.arange(2) == stream[0] if test else voices.active_C
        only.voices[key] = SystemOutput(voices.embedding_CE, active)
    alone = score({"only": only}, trials, resamples=10)
    for condition in told:
        row = results.find("EER", condition, model="csc (oracle)")
        assert row.value == pytest.approx(alone.find("EER", condition, model="only").value)


def test_everything_survives_the_disk(answers, trials, tmp_path):
    again = {name: CollectedOutputs.load(a.save(tmp_path / "answers.npz")) for name, a in answers.items()}
    assert again["csc"].cohort_KE.shape == (2, 16)
    one, other = (score(some, trials, resamples=10, oracle=True) for some in (answers, again))
    assert [(r.model, r.metric, r.condition) for r in one.rows] == [
        (r.model, r.metric, r.condition) for r in other.rows
    ]
    np.testing.assert_allclose([r.value for r in one.rows], [r.value for r in other.rows], atol=1e-9)


def test_who_cannot_be_a_stranger(model, speech, trials, sounds):
    with pytest.raises(SeparativeError, match=r"speaker 'one/speaker 0' is heard in the cohort and in eval"):
        listen(MfccSystem(8000), trials, sounds, cohort=speech)
    few = speech.filter(lambda u: u.id == "lonely")
    with pytest.raises(CorpusError, match="a cohort of two speakers or more"):
        listen(MfccSystem(8000), trials, sounds, cohort=few)


def test_speakers_trained_on_are_refused(model, speech, monkeypatch):
    with pytest.raises(SeparativeError, match="speaker 'two/speaker 6' is heard in training"):
        evaluate(model, speech, conditions=["clean"], seconds=1.2, trained_on={"two/speaker 6"})
    for judge in (evaluate, calibrate):
        monkeypatch.setattr(
            model, "card", {"data": {"speaker_count": 2, "speakers": ["else", "one/speaker 2"]}}
        )
        with pytest.raises(SeparativeError, match="speaker 'one/speaker 2' is heard in training"):
            judge(model, speech, conditions=["clean"], seconds=1.2)
        monkeypatch.setattr(model, "card", {"data": {"speaker_count": 2}})
        with pytest.raises(SeparativeError, match=r"'one/speaker 0' .* \(9 such in all\)"):
            judge(model, speech, conditions=["clean"], seconds=1.2, trained_on=speech.speakers)


def test_who_was_not_taught_activity_has_no_error_of_it(model, speech, monkeypatch):
    monkeypatch.setattr(model, "card", {"recipe": {"loss": {"objective": "csc", "activity": 0}}})
    some = _small(speech.filter(lambda u: u.corpus == "one"))
    system = EncoderSystem("csc", model, queries=False)
    answers = listen(system, some, Sounds(speech, None, 8000, 1.2))
    assert not answers["csc"].reference
    by_kind = [score(answers, some, candidates=kind, resamples=5).rows for kind in ("active", "all")]
    assert by_kind[0] == by_kind[1]
    assert {"EER", "MI"} <= {row.metric for row in by_kind[0]}
    assert "DER" not in {row.metric for row in by_kind[0]}


def test_quality_of_what_is_separated(model, speech, tmp_path):
    pytest.importorskip("pesq", reason="the extra 'quality' is not installed")
    pytest.importorskip("pystoi", reason="the extra 'quality' is not installed")
    one = speech.filter(lambda u: u.corpus == "one" and u.speaker < "one/speaker 3")
    done = evaluate(
        model,
        one,
        conditions=["clean", "overlap0"],
        seconds=1.2,
        tests=1,
        enrolments=1,
        baselines=False,
        quality=True,
        resamples=10,
    )
    for metric, (least, most) in {"PESQ": (0.9, 4.7), "STOI": (-0.1, 1.0)}.items():
        row = done.find(metric, "overlap0")
        assert least < row.value < most
        assert row.model == "trained"
    with pytest.raises(SeparativeError, match="8000 and 16000 Hz, not the system's 11025"):
        listen(MfccSystem(11025), _small(one), Sounds(one, None, 11025, 1.2), quality=True)


def _small(speech):
    return build_trials(speech, seconds=1.2, conditions=["clean"], tests=1, enrolments=1)


def test_rooms_without_their_extra_and_of_another_version(speech, monkeypatch):
    trials = build_trials(speech, seconds=1.2, conditions=["room"], rooms=Rooms(count=1))
    monkeypatch.setitem(sys.modules, "pyroomacoustics", None)
    with pytest.raises(MissingExtraError, match=r"separative\[rooms\]"):
        listen(MfccSystem(8000), trials, Sounds(speech, None, 8000, 1.2))
    other = replace(trials, rooms=replace(trials.rooms, format=99))
    with pytest.raises(SeparativeError, match="rooms are of format 99"):
        listen(MfccSystem(8000), other, Sounds(speech, None, 8000, 1.2))
