"""Systems under test: baselines compared with references, scores with explicit loops."""

import numpy as np
import pytest
import torch
from scipy.fft import dct

from separative.evaluation.systems import (
    EncoderSystem,
    MfccSystem,
    SystemOutput,
    activity_is_trained,
    mfcc,
    score_matrix,
    speech_frames,
    untrained_copy,
)

RATE = 8000
ROUNDING = 1e-5


@pytest.fixture(scope="module")
def waves():
    rng = np.random.default_rng(0)
    return [rng.standard_normal(n).astype(np.float32) * 0.1 for n in (8000, 12000)]


def test_mfccs_are_an_orthonormal_cosine_transform_independent_of_loudness(waves):
    full = mfcc(waves[0], RATE, count=39, mels=40)
    # Loudness shifts all log energies by the same amount. That changes only coefficient 0, which is left out.
    np.testing.assert_allclose(mfcc(3 * waves[0], RATE, count=39, mels=40), full, atol=1e-4)
    basis = dct(np.eye(40), type=2, norm="ortho", axis=0)[1:]
    log_mel = full @ basis
    np.testing.assert_allclose(log_mel @ basis.T, full, atol=1e-9)
    assert full.shape == (1 + (8000 - 200) // 80, 39)


def test_a_tone_is_in_its_mel_band():
    time = np.arange(RATE) / RATE
    basis = dct(np.eye(40), type=2, norm="ortho", axis=0)[1:]

    def band(hertz):
        wave = np.sin(2 * np.pi * hertz * time).astype(np.float32)
        return int((mfcc(wave, RATE, count=39) @ basis).mean(0).argmax())

    top = 2595 * np.log10(1 + 0.475 * RATE / 700)
    low = 2595 * np.log10(1 + 60 / 700)
    for hertz in (500, 1000, 2000, 3000):
        mel = 2595 * np.log10(1 + hertz / 700)
        assert band(hertz) == pytest.approx((mel - low) / (top - low) * 41 - 1, abs=0.75)


def test_speech_frames_exclude_silence():
    wave = np.concatenate([0.001 * np.ones(4000), np.sin(np.arange(4000.0))]).astype(np.float32)
    speech = speech_frames(wave, RATE)
    assert not speech[:45].any()
    assert speech[52:].all()


def test_scores_are_the_largest_cosine_of_active_candidates():
    rng = np.random.default_rng(1)

    def side(count, streams):
        outputs = []
        for _ in range(count):
            embedding = rng.standard_normal((streams, 6)).astype(np.float32)
            embedding /= np.linalg.norm(embedding, axis=1, keepdims=True)
            outputs.append(SystemOutput(embedding, rng.random(streams) < 0.6))
        return outputs

    left, right = side(7, 2), side(5, 3)
    left[0] = SystemOutput(left[0].embeddings, np.zeros(2, bool))  # none active: all are candidates
    for active_only in (True, False):
        found = score_matrix(left, right, active_only=active_only)
        for i, one in enumerate(left):
            for j, other in enumerate(right):
                best = -np.inf
                for c, a in enumerate(one.embeddings):
                    for k, b in enumerate(other.embeddings):
                        c_counts = one.active[c] or not one.active.any() or not active_only
                        k_counts = other.active[k] or not other.active.any() or not active_only
                        if c_counts and k_counts:
                            best = max(best, float(a @ b))
                assert found[i, j] == pytest.approx(best, abs=ROUNDING)


def test_an_encoder_has_attended_embeddings_and_queries(model, waves):
    attended, query = EncoderSystem("csc", model, queries=True)(waves)[1]
    assert attended.embeddings.shape == query.embeddings.shape == (2, 16)
    assert attended.estimates.shape == (2, 12000)
    assert not np.allclose(attended.embeddings, query.embeddings)
    np.testing.assert_allclose(np.linalg.norm(attended.embeddings, axis=1), 1, atol=ROUNDING)
    assert EncoderSystem("csc", model, queries=False).rows == ("csc",)


@pytest.mark.parametrize(
    ("loss", "trained"),
    [
        ({"objective": "csc", "activity": 0.5}, True),
        ({"activity": 0.1}, True),
        ({"objective": "csc", "activity": 0.0}, False),
        ({"objective": "softmax"}, False),
        (None, True),
    ],
)
def test_activity_is_reported_only_if_it_was_trained(model, waves, monkeypatch, loss, trained):
    monkeypatch.setattr(model, "card", {} if loss is None else {"recipe": {"loss": loss}})
    with torch.no_grad():
        # With this bias, the model estimates that all streams are silent.
        monkeypatch.setattr(
            model.speaker.activity.bias, "data", torch.full_like(model.speaker.activity.bias, -99.0)
        )
    assert activity_is_trained(model) == trained
    for output in EncoderSystem("csc", model, queries=True)(waves)[0]:
        assert output.active.tolist() == [not trained] * 2
    output = EncoderSystem("csc", model, queries=False)(waves)[0][0]
    assert (output.activity is None) != trained
    assert trained or output.estimates is not None


def test_untrained_copies_depend_on_the_seed_and_not_on_the_global_generator(model):
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    one, again, other = untrained_copy(model, 0), untrained_copy(model, 0), untrained_copy(model, 1)
    assert torch.rand(1) == expected
    assert not one.training
    assert one.config == model.config
    assert torch.equal(one.enter.weight, again.enter.weight)
    assert not torch.equal(one.enter.weight, other.enter.weight)


def test_mfcc_statistics_have_one_candidate_that_is_independent_of_the_level(waves):
    (quiet,), (loud,) = MfccSystem(RATE)([waves[0], 4 * waves[0]])
    assert quiet.embeddings.shape == (1, 40)
    np.testing.assert_allclose(quiet.embeddings, loud.embeddings, atol=1e-4)
