"""Mel-frequency cepstral coefficients, for the baseline that everything must beat."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from separative.inference.recording import Wave

WINDOW, HOP = 0.025, 0.010
FLOOR_DB = -30.0


def mfcc(wave_N: Wave, rate: int, count: int = 20, mels: int = 40) -> NDArray[np.float64]:
    """Coefficients [T,count] of 25 ms Hann frames every 10 ms, without the zeroth, which is loudness.

    Cosine transform (type II, orthonormal) of the log energies in triangular mel bands from 60 Hz to 0.475 of
    the rate.
    """
    frames_TW = _frames(wave_N, rate)
    power_TF = np.abs(np.fft.rfft(frames_TW * np.hanning(frames_TW.shape[1]))) ** 2
    log_TM = np.log(power_TF @ _mel_filters(frames_TW.shape[1], rate, mels).T + 1e-10)
    band_M = np.arange(mels)
    cosine_KM = np.sqrt(2 / mels) * np.cos(np.pi * np.arange(1, count + 1)[:, None] * (band_M + 0.5) / mels)
    return np.asarray(log_TM @ cosine_KM.T)


def speech_frames(wave_N: Wave, rate: int) -> NDArray[np.bool_]:
    """Frames [T] within 30 dB of the 95th percentile of the frame energies."""
    energy_T = (_frames(wave_N, rate) ** 2).mean(1) + 1e-12
    return np.asarray(10 * np.log10(energy_T / np.quantile(energy_T, 0.95)) > FLOOR_DB)


def _frames(wave_N: Wave, rate: int) -> NDArray[np.float64]:
    window = np.lib.stride_tricks.sliding_window_view(wave_N.astype(np.float64), round(WINDOW * rate))
    return window[:: round(HOP * rate)]


def _mel_filters(size: int, rate: int, mels: int) -> NDArray[np.float64]:
    """Triangles [M,F] that are 1 at their own mel and 0 at their neighbours'."""
    low, high = (2595 * np.log10(1 + hertz / 700) for hertz in (60.0, 0.475 * rate))
    mel_F = 2595 * np.log10(1 + np.fft.rfftfreq(size, 1 / rate) / 700)
    step = (high - low) / (mels + 1)
    centre_M = low + step * np.arange(1, mels + 1)
    return np.asarray(np.maximum(0.0, 1 - np.abs(mel_F - centre_M[:, None]) / step))
