"""Collected outputs: shared memories, activity, separation, cohort, quality and simulated rooms."""

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
    SystemOutput,
    TrialRecordings,
    build_trials,
    calibrate,
    collect_outputs,
    evaluate,
    score,
)
from separative.evaluation.collect import mix_sides
from separative.evaluation.trials import RoomSettings
from separative.inference.forward import process_batch
from separative.inference.recording import load
from separative.metrics import diarization_error, sdr, si_sdr
from separative.objectives.separation import speech_activity

ROUNDING = 1e-5
CONDITIONS = ("clean", "overlap0", "mixed")


@pytest.fixture(scope="module")
def recordings(speech, noise, tmp_path_factory):
    return TrialRecordings(speech, noise, 8000, 1.2, cache=tmp_path_factory.mktemp("rooms"))


@pytest.fixture(scope="module")
def trials(speech, noise):
    rooms = RoomSettings(count=2)
    return build_trials(
        speech, noise=noise, seconds=1.2, conditions=CONDITIONS, enrol="mixed", tests=2, rooms=rooms
    )


@pytest.fixture(scope="module")
def mixed(trials, recordings):
    return dict(mix_sides(trials, recordings))


@pytest.fixture(scope="module")
def outputs(model, speech, trials, recordings):
    # The speaker with too little speech for the list is cut in two parts, which serve as two cohort speakers.
    lonely = next(u for u in speech if u.id == "lonely")
    parts = {"a": (0.0, 0.6), "b": (0.3, 0.7)}
    pair = [
        replace(lonely, id=f"{name}{i}", speaker=name, start=start, seconds=seconds)
        for name, (start, seconds) in parts.items()
        for i in range(2)
    ]
    calls = []
    found = collect_outputs(
        EncoderSystem("csc", model, queries=True),
        trials,
        recordings,
        batch=5,
        cohort=Corpus(tuple(pair)),
        progress=lambda done, total: calls.append((done, total)),
    )
    assert calls[-1][0] == calls[-1][1] == len(found["csc"].single) + len(trials.enrolments) + 2
    return found


def test_enrolments_of_a_speaker_share_one_memory(outputs, model, trials, mixed):
    output = outputs["csc"]
    assert set(output.joint) == {(s.id, "mixed") for s in trials.enrolments}
    assert not outputs["csc (query)"].joint
    own = [s.id for s in trials.enrolments if s.speaker == trials.enrolments[0].speaker]
    waves = [load((mixed[name, "mixed"].waveform, 8000), 8000) for name in own]
    for name, recording in zip(own, process_batch(model, waves, shared=True), strict=True):
        embeddings = np.stack([t.embedding for t in recording.speakers])
        np.testing.assert_allclose(output.joint[name, "mixed"].embeddings, embeddings, atol=ROUNDING)
        alone = output.single[name, "mixed"].embeddings
        assert not np.allclose(alone, embeddings, atol=1e-3)


def test_reference_activity_follows_the_rule_of_the_training_labels(outputs, model, trials, mixed):
    output = outputs["csc"]
    assert set(output.reference) == set(output.single)
    for key in list(output.reference)[::7]:
        source_KN, mix_N = torch.tensor(mixed[key].sources), torch.tensor(mixed[key].waveform)
        power = model.segment_power(source_KN[None])
        expected = speech_activity(power, mix_N.square().mean()[None])[0].numpy() > 0
        np.testing.assert_array_equal(output.reference[key], expected)
        assert output.single[key].activity.shape == (2, expected.shape[1])


def test_diarization_errors_add_up(outputs, trials):
    results = score(outputs, trials, resamples=20)
    output = outputs["csc"]
    for condition in CONDITIONS:
        errors = []
        for side in trials.tests:
            single, reference = output.single[side.id, condition], output.reference[side.id, condition]
            errors.append(diarization_error(reference, single.activity > 0.5, single.segment_seconds))
        whole = sum(errors[1:], start=errors[0])
        assert results.find("DER", condition).value == pytest.approx(100 * whole.rate)
        missed = results.find("missed", condition)
        assert missed.value == pytest.approx(100 * whole.missed / whole.total)
        assert missed.trials == len(trials.tests)


def test_separation_is_compared_with_the_sources_in_the_mixture(outputs, model, trials, mixed):
    output, side = outputs["csc"], trials.tests[0].id
    for condition in ("overlap0", "mixed"):
        one = mixed[side, condition]
        (found,) = EncoderSystem("csc", model, queries=False)([one.waveform])[0]
        matched = found.estimates[list(output.stream[side, condition])]
        for metric, measure in {"SI-SDR": si_sdr, "SDR": sdr}.items():
            expected = measure(matched, one.sources)
            np.testing.assert_allclose(output.figures[metric][side, condition], expected, atol=0.01)
        gain = si_sdr(matched, one.sources) - si_sdr(one.waveform, one.sources)
        np.testing.assert_allclose(output.figures["SI-SDRi"][side, condition], gain, atol=0.01)
    assert (side, "clean") not in output.figures["SDR"]


def test_the_oracle_scores_the_stream_that_separation_assigns_to_the_target(outputs, trials):
    results = score(outputs, trials, resamples=10, oracle=True)
    conditions = {row.condition for row in results.rows if row.model == "csc (oracle)"}
    assert conditions == {"overlap0", "mixed"}
    output = outputs["csc"]
    only = CollectedOutputs()
    for key, single in output.single.items():
        stream = output.stream.get(key)
        test = key[0] in {s.id for s in trials.tests} and stream is not None
        active = np.arange(2) == stream[0] if test else single.active
        only.single[key] = SystemOutput(single.embeddings, active)
    alone = score({"only": only}, trials, resamples=10)
    for condition in conditions:
        row = results.find("EER", condition, model="csc (oracle)")
        assert row.value == pytest.approx(alone.find("EER", condition, model="only").value)


def test_results_are_equal_after_saving_and_loading_outputs(outputs, trials, tmp_path):
    loaded = {name: CollectedOutputs.load(o.save(tmp_path / "outputs.npz")) for name, o in outputs.items()}
    assert loaded["csc"].cohort.shape == (2, 16)
    one, other = (score(some, trials, resamples=10, oracle=True) for some in (outputs, loaded))
    assert [(r.model, r.metric, r.condition) for r in one.rows] == [
        (r.model, r.metric, r.condition) for r in other.rows
    ]
    np.testing.assert_allclose([r.value for r in one.rows], [r.value for r in other.rows], atol=1e-9)


def test_unsuitable_cohorts_raise_an_error(speech, trials, recordings):
    with pytest.raises(SeparativeError, match=r"speaker 'one/speaker 0' is in the cohort and in eval"):
        collect_outputs(MfccSystem(8000), trials, recordings, cohort=speech)
    few = speech.filter(lambda u: u.id == "lonely")
    with pytest.raises(CorpusError, match="a cohort of at least two speakers"):
        collect_outputs(MfccSystem(8000), trials, recordings, cohort=few)


def test_training_speakers_in_the_trials_raise_an_error(model, speech, monkeypatch):
    with pytest.raises(SeparativeError, match="speaker 'two/speaker 6' is in training"):
        evaluate(model, speech, conditions=["clean"], seconds=1.2, trained_on={"two/speaker 6"})
    for judge in (evaluate, calibrate):
        monkeypatch.setattr(
            model, "card", {"data": {"speaker_count": 2, "speakers": ["else", "one/speaker 2"]}}
        )
        with pytest.raises(SeparativeError, match="speaker 'one/speaker 2' is in training"):
            judge(model, speech, conditions=["clean"], seconds=1.2)
        monkeypatch.setattr(model, "card", {"data": {"speaker_count": 2}})
        with pytest.raises(SeparativeError, match=r"'one/speaker 0' .* \(9 shared speakers"):
            judge(model, speech, conditions=["clean"], seconds=1.2, trained_on=speech.speakers)


def test_a_model_trained_without_activity_has_no_diarization_error(model, speech, monkeypatch):
    monkeypatch.setattr(model, "card", {"recipe": {"loss": {"objective": "csc", "activity": 0}}})
    trials = _small(speech.filter(lambda u: u.corpus == "one"))
    system = EncoderSystem("csc", model, queries=False)
    outputs = collect_outputs(system, trials, TrialRecordings(speech, None, 8000, 1.2))
    assert not outputs["csc"].reference
    by_kind = [score(outputs, trials, candidates=kind, resamples=5).rows for kind in ("active", "all")]
    assert by_kind[0] == by_kind[1]
    assert {"EER", "MI"} <= {row.metric for row in by_kind[0]}
    assert "DER" not in {row.metric for row in by_kind[0]}


def test_pesq_and_stoi_of_separated_waveforms(model, speech, tmp_path):
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
    with pytest.raises(SeparativeError, match="8000 or 16000 Hz, not 11025 Hz"):
        collect_outputs(MfccSystem(11025), _small(one), TrialRecordings(one, None, 11025, 1.2), quality=True)


def _small(speech):
    return build_trials(speech, seconds=1.2, conditions=["clean"], tests=1, enrolments=1)


def test_rooms_without_their_extra_or_of_another_version_raise_an_error(speech, monkeypatch):
    trials = build_trials(speech, seconds=1.2, conditions=["room"], rooms=RoomSettings(count=1))
    monkeypatch.setitem(sys.modules, "pyroomacoustics", None)
    with pytest.raises(MissingExtraError, match=r"separative\[rooms\]"):
        collect_outputs(MfccSystem(8000), trials, TrialRecordings(speech, None, 8000, 1.2))
    other = replace(trials, rooms=replace(trials.rooms, format=99))
    with pytest.raises(SeparativeError, match="rooms of the trial list have format 99"):
        collect_outputs(MfccSystem(8000), other, TrialRecordings(speech, None, 8000, 1.2))
