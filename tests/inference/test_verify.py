"""Verification: scores, shared memory and evidence. Writing waveforms and embeddings."""

import itertools
import json

import numpy as np
import pytest
import torch

from separative import audio
from separative.errors import AudioError, SeparativeError
from separative.inference import separate, verify, write_embeddings, write_waveforms
from separative.inference.forward import forward
from separative.inference.recording import load
from separative.metrics import log_odds

FLOAT = 1e-5


def test_the_score_is_the_largest_cosine_of_all_pairs_of_streams(model, record):
    left, right = record("l.wav", seed=1), record("r.wav", seed=2, seconds=2.0)
    found = verify(model, left, right)
    pairs = {
        (a.stream, b.stream): float(a.embedding @ b.embedding)
        for a, b in itertools.product(separate(model, left).speakers, separate(model, right).speakers)
    }
    assert found.score == pytest.approx(max(pairs.values()), abs=FLOAT)
    assert pairs[found.left_stream, found.right_stream] == pytest.approx(found.score, abs=FLOAT)
    assert (found.left_recording, found.right_recording) == (0, 0)
    assert verify(model, right, left).score == pytest.approx(found.score, abs=FLOAT)
    assert verify(model, left, left).score == pytest.approx(1, abs=FLOAT)


def test_recordings_of_one_side_share_a_memory_and_the_two_sides_do_not(model, record):
    views = [record("v0.wav", seed=3), record("v1.wav", seed=4, seconds=2.2)]
    test = record("t.wav", seed=5)
    found = verify(model, views, test)
    # Slow reference: attend with the queries of each view to the concatenated segments of both views.
    parts = [forward(model, [load(path, model.rate).waveform]) for path in views]
    memory = torch.cat([p.segment_BCSE for p in parts], dim=2)
    activity = torch.cat([p.activity_BCS for p in parts], dim=2)
    valid = torch.cat([p.valid_BS for p in parts], dim=1)
    with torch.inference_mode():
        attended = [
            model.attend(p.query_BCE, memory, activity, valid, torch.zeros(1, dtype=torch.long))[0].numpy()
            for p in parts
        ]
    other = separate(model, test).speakers
    best = max(float(e @ b.embedding) for embed_CE in attended for e in embed_CE for b in other)
    assert found.score == pytest.approx(best, abs=FLOAT)
    alone = max(verify(model, view, test).score for view in views)
    assert abs(alone - found.score) > 1e-4, "the shared memory must matter for this test to mean anything"


def test_a_waveform_with_its_rate_is_one_recording(model, record):
    path = record("w.wav", seed=6)
    wave, rate = audio.read(path)
    assert verify(model, (wave, rate), [path]).score == pytest.approx(1, abs=FLOAT)
    assert verify(model, (wave, np.int64(rate)), [path]).score == pytest.approx(1, abs=FLOAT)
    assert verify(model, [path, path], [(wave, rate)]).left_recording in (0, 1)


CALIBRATION = {
    "scale": 10.0,
    "offset": -8.0,
    "conditions": ["clean", "overlap0"],
    "seconds": 4.0,
    "speakers": 35,
}


def test_evidence_follows_from_calibration_and_prior(model, record, monkeypatch):
    monkeypatch.setattr(model, "card", {"calibration": CALIBRATION})
    left, right = record("x.wav"), record("o.wav", seed=9)
    found = verify(model, left, right)
    assert found.llr == pytest.approx(10 * found.score - 8, abs=FLOAT)
    assert found.probability == pytest.approx(1 / (1 + np.exp(-found.llr)), abs=FLOAT)
    assert (found.prior, found.calibrated_on) == (0.5, "clean, overlap0; 4 s a side; 35 speakers")
    # The prior shifts the posterior odds, not the ratio. The decision changes where the two cancel.
    rare = verify(model, left, right, prior=0.01)
    assert rare.llr == found.llr
    assert log_odds(rare.probability) == pytest.approx(found.llr + log_odds(0.01), abs=FLOAT)
    break_even = 1 / (1 + np.exp(found.llr))
    for factor, same in ((0.99, False), (1.01, True)):
        decided = verify(model, left, right, prior=break_even * factor)
        assert decided.same is same is (decided.probability > 0.5)


def test_a_model_without_calibration_gives_a_score_only(model, record):
    found = verify(model, record("x.wav"), record("x.wav"))
    assert (found.llr, found.probability, found.same, found.calibrated_on) == (None, None, None, None)


@pytest.mark.parametrize("prior", [0.0, 1.0, 1.5])
def test_a_prior_outside_0_to_1_is_refused(model, record, prior):
    with pytest.raises(SeparativeError, match="between 0 and 1"):
        verify(model, record("x.wav"), record("x.wav"), prior=prior)


def test_a_side_without_recordings_is_refused(model, record):
    with pytest.raises(SeparativeError, match="at least one recording"):
        verify(model, [], record("x.wav"))


def test_a_side_with_too_little_speech_is_refused(model, record):
    with pytest.raises(AudioError, match=r"y.wav"):
        verify(model, record("x.wav"), record("y.wav", seconds=0.2))


def test_written_waveforms_are_those_of_the_speakers(model, record, tmp_path):
    recording = separate(model, record("mix.wav", seed=7))
    paths = write_waveforms(recording, tmp_path)
    assert [p.name for p in paths] == ["mix-speaker1.wav", "mix-speaker2.wav"]
    for path, speaker in zip(paths, recording.speakers, strict=True):
        wave_N, rate = audio.read(path)
        assert rate == recording.rate
        np.testing.assert_allclose(wave_N, speaker.waveform, atol=2**-15)


def test_loud_waveforms_are_scaled_down_by_one_factor(model, record, tmp_path):
    wave_N, rate = audio.read(record("loud.wav", seed=8))
    recording = separate(model, (20 * wave_N, rate))
    peaks = [np.abs(speaker.waveform).max() for speaker in recording.speakers]
    assert max(peaks) > 1
    written = [np.abs(audio.read(p)[0]).max() for p in write_waveforms(recording, tmp_path, "loud")]
    np.testing.assert_allclose(written, np.array(peaks) / max(peaks), atol=2**-14)


@pytest.mark.parametrize("suffix", [".npz", ".json"])
def test_written_embeddings_are_those_of_the_audible_speakers(model, record, tmp_path, suffix):
    recordings = [separate(model, record(f"z{n}.wav", seed=n)) for n in range(2)]
    path = write_embeddings(recordings, tmp_path / "new" / f"out{suffix}")
    expected = [speaker for recording in recordings for speaker in recording.speakers]
    if suffix == ".npz":
        stored = np.load(path)
        embedding, stream = stored["embedding"], list(stored["stream"])
        assert list(stored["recording"]) == [r.name for r in recordings for _ in r.speakers]
    else:
        speakers = [t for entry in json.loads(path.read_text()) for t in entry["speakers"]]
        embedding, stream = [t["embedding"] for t in speakers], [t["stream"] for t in speakers]
    np.testing.assert_allclose(embedding, [t.embedding for t in expected], atol=FLOAT)
    assert stream == [t.stream for t in expected]
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_an_unknown_suffix_is_refused(model, record, tmp_path):
    with pytest.raises(SeparativeError, match=r"'.npy' \(did you mean '.npz'\?\); valid: .json, .npz"):
        write_embeddings([separate(model, record("x.wav"))], tmp_path / "out.npy")
