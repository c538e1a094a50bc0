"""Separated waveforms at the recording's own rate: masks below the model's band edge, turns above it."""

from pathlib import Path

import numpy as np
import pytest

from separative import audio
from separative.inference.full_band import read_own_format, restore_band

MODEL_RATE, RATE, SECONDS = 8000, 24000, 3


def everywhere(count: int):
    return lambda second_T: np.ones((count, len(second_T)), np.float32)


def two_tones() -> tuple[np.ndarray, np.ndarray]:
    """Two sources of 300 and 1500 Hz at the model's rate, and the recording: both, at its own rate."""
    time = np.arange(SECONDS * RATE) / RATE
    low, high = (0.2 * np.sin(2 * np.pi * hertz * time) for hertz in (300, 1500))
    own = np.stack([low, high]).astype(np.float32)
    return np.stack([audio.resample(x, RATE, MODEL_RATE) for x in own]), own


def restore(rows: np.ndarray, source, gate, policy="mean", cuts: int = 1) -> np.ndarray:
    pieces = np.array_split(rows, cuts, axis=1)
    return np.concatenate(list(restore_band(pieces, MODEL_RATE, source, policy, gate)), axis=-1)


def snr_db(wanted: np.ndarray, found: np.ndarray) -> float:
    return 10 * np.log10(np.square(wanted).sum() / np.square(wanted - found).sum())


def test_a_perfect_separation_is_kept_in_every_channel() -> None:
    estimates, own = two_tones()
    gains = np.array([1.0, 0.3], np.float32)
    stereo = gains[:, None] * own.sum(0)
    rows = np.concatenate([estimates, estimates.sum(0, keepdims=True)])
    restored = restore(rows, (stereo, RATE), everywhere(2))
    assert restored.shape == (2, 2, SECONDS * RATE)
    middle = slice(RATE // 10, -RATE // 10)
    for k in range(2):
        for channel, gain in enumerate(gains):
            assert snr_db(gain * own[k, middle], restored[k, channel, middle]) > 30


@pytest.mark.parametrize("cuts", [2, 7])
def test_the_result_does_not_depend_on_the_pieces(cuts: int) -> None:
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((3, SECONDS * MODEL_RATE)).astype(np.float32)
    source = 0.1 * rng.standard_normal((2, SECONDS * RATE)).astype(np.float32)
    whole = restore(rows, (source, RATE), everywhere(2))
    np.testing.assert_allclose(restore(rows, (source, RATE), everywhere(2), cuts=cuts), whole, atol=1e-5)


def test_the_voices_add_up_to_the_recording_if_the_estimates_add_up_to_the_mixture() -> None:
    rng = np.random.default_rng(1)
    estimates = 0.1 * rng.standard_normal((2, SECONDS * MODEL_RATE)).astype(np.float32)
    rows = np.concatenate([estimates, estimates.sum(0, keepdims=True)])
    source = audio.resample(rows[2], MODEL_RATE, RATE)
    restored = restore(rows, (source, RATE), everywhere(2))
    assert snr_db(source, restored.sum(0)[0]) > 60


def test_what_belongs_to_no_speaker_is_left_out() -> None:
    estimates, own = two_tones()
    rows = np.stack([estimates[0], estimates.sum(0)])
    restored = restore(rows, (own.sum(0), RATE), everywhere(1))
    assert snr_db(own[0], restored[0, 0]) > 20


def test_frequencies_above_the_band_follow_the_turns() -> None:
    rng = np.random.default_rng(2)
    source = 0.1 * rng.standard_normal(SECONDS * RATE).astype(np.float32)
    mixture = audio.resample(source, RATE, MODEL_RATE)
    rows = np.stack([mixture, mixture])
    restored = restore(rows, (source, RATE), lambda t: (t < 1.5)[None].astype(np.float32))[0, 0]
    spectrum = np.abs(np.fft.rfft(restored.reshape(6, -1)))
    hertz = np.fft.rfftfreq(restored.size // 6, 1 / RATE)
    above = np.square(spectrum[:, hertz > 4200]).sum(1)
    assert 10 * np.log10(above[:3].min() / above[4:].max()) > 40
    # Below, the mask alone decides.
    below = np.square(spectrum[:, hertz < 3300]).sum(1)
    assert below.min() > 0.8 * below.max()


def test_one_channel_of_several_is_restored_alone() -> None:
    rng = np.random.default_rng(3)
    stereo = 0.1 * rng.standard_normal((2, SECONDS * RATE)).astype(np.float32)
    mixture = audio.resample(stereo[1], RATE, MODEL_RATE)
    restored = restore(np.stack([mixture, mixture]), (stereo, RATE), everywhere(1), policy=1)
    assert restored.shape == (1, 1, SECONDS * RATE)
    assert snr_db(stereo[1], restored[0, 0]) > 60


def test_a_recording_with_a_lower_rate_than_the_model_is_restored() -> None:
    source = 0.1 * np.random.default_rng(4).standard_normal(4000 * SECONDS).astype(np.float32)
    mixture = audio.resample(source, 4000, MODEL_RATE)
    restored = restore(np.stack([mixture, mixture]), (source, 4000), everywhere(1))
    assert restored.shape == (1, 1, len(source))
    assert snr_db(source, restored[0, 0]) > 30


def test_files_and_waveforms_have_their_own_format(tmp_path: Path) -> None:
    audio.write(tmp_path / "a.flac", np.zeros((2, 9000), np.float32), 44100)
    assert read_own_format(tmp_path / "a.flac", "mean") == (44100, 2)
    assert read_own_format(tmp_path / "a.flac", 1) == (44100, 1)
    assert read_own_format((np.zeros(100, np.float32), 8000), "first") == (8000, 1)


def test_nothing_gives_nothing() -> None:
    assert list(restore_band([], MODEL_RATE, (np.ones(100, np.float32), RATE), "mean", everywhere(1))) == []
