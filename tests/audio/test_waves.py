"""Sampling rate, level and the speech gate."""

import math

import numpy as np
import pytest

from separative import audio

LEVEL_TOLERANCE_DB = 1e-4
IMAGE_DB = -60.0


def sine(hertz: float, rate: int, seconds: float = 1.0) -> np.ndarray:
    return np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate).astype(np.float32)


def spectrum_db(wave_N: np.ndarray) -> np.ndarray:
    """Power spectrum of 1 s (one bin per hertz), relative to the strongest bin; a window hides the edges."""
    power_F = np.abs(np.fft.rfft(wave_N * np.blackman(len(wave_N)))) ** 2
    return 10 * np.log10(power_F / power_F.max() + 1e-20)


@pytest.mark.parametrize(
    ("from_rate", "to_rate"), [(8000, 16000), (11025, 16000), (16000, 48000), (22050, 16000)]
)
def test_images_are_below_60_db(from_rate: int, to_rate: int) -> None:
    hertz = round(0.85 * min(from_rate, to_rate) / 2)
    spectrum_F = spectrum_db(audio.resample(sine(hertz, from_rate), from_rate, to_rate))
    assert abs(int(spectrum_F.argmax()) - hertz) <= 1
    spectrum_F[hertz - 20 : hertz + 21] = -np.inf
    assert spectrum_F.max() < IMAGE_DB


@pytest.mark.parametrize(("from_rate", "to_rate"), [(16000, 8000), (44100, 16000), (48000, 16000)])
def test_frequencies_above_the_new_nyquist_are_removed(from_rate: int, to_rate: int) -> None:
    above = sine(1.02 * to_rate / 2, from_rate)
    inner = slice(to_rate // 10, -to_rate // 10)
    assert audio.level_db(audio.resample(above, from_rate, to_rate)[inner]) - audio.level_db(above) < IMAGE_DB


def test_resampling_keeps_level_length_and_channels() -> None:
    wave_CN = np.stack([sine(440, 44100), 0.5 * sine(880, 44100)])
    resampled_CN = audio.resample(wave_CN, 44100, 16000)
    assert resampled_CN.shape == (2, 16000)
    assert resampled_CN.dtype == np.float32
    expected_CN = np.stack([sine(440, 16000), 0.5 * sine(880, 16000)])
    np.testing.assert_allclose(resampled_CN[:, 2000:-2000], expected_CN[:, 2000:-2000], atol=1e-3)
    assert audio.resample(wave_CN, 16000, 16000) is wave_CN


def test_level_is_measured_and_set() -> None:
    assert audio.level_db(np.ones(100, np.float32)) == 0.0
    assert audio.level_db(sine(100, 8000)) == pytest.approx(-10 * math.log10(2), abs=LEVEL_TOLERANCE_DB)
    assert audio.level_db(np.zeros(10, np.float32)) == audio.level_db(np.zeros(0, np.float32)) == -math.inf
    for db in (-60.0, -23.0, 6.0):
        louder_N = audio.with_level(sine(100, 8000), db)
        assert louder_N.dtype == np.float32
        assert audio.level_db(louder_N) == pytest.approx(db, abs=LEVEL_TOLERANCE_DB)
    assert not audio.with_level(np.zeros(10, np.float32), -20.0).any()


def test_the_speech_gate_uses_the_loud_frames_of_each_row_and_the_floor() -> None:
    power_KT = np.array([[1.0, 0.5, 2e-3, 1e-4], [1e-3, 1e-3, 1e-5, 1e-7]])
    np.testing.assert_array_equal(audio.speech_gate(power_KT), [[1, 1, 1, 0], [1, 1, 1, 0]])
    np.testing.assert_array_equal(audio.speech_gate(power_KT, 20.0, 1e-2), [[1, 1, 0, 0], [0, 0, 0, 0]])
    assert not audio.speech_gate(np.zeros(5)).any()


def test_the_adaptive_threshold_is_10_to_35_db_below_the_loud_frames() -> None:
    for quiet, db in ((1.0, 10.0), (1e-3, 18.0), (1e-9, 35.0)):
        power_T = 1e6 * np.repeat([1.0, quiet], 50)
        threshold_db = 10 * math.log10(audio.adaptive_speech_threshold(power_T) / 1e6)
        assert threshold_db == pytest.approx(-db, abs=LEVEL_TOLERANCE_DB)
    assert audio.adaptive_speech_threshold(np.zeros(9)) > 0
