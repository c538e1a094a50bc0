"""Arithmetic on waveforms: sampling rate and level."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from separative.types import Wave


def resample(wave_N: Wave, from_rate: int, to_rate: int) -> Wave:
    """Change the sampling rate; time is the last axis.

    Args:
        wave_N: float32 ``[N]`` or ``[channels, N]``.
        from_rate, to_rate: hertz.

    Returns:
        float32 with about ``N * to_rate / from_rate`` samples; images and aliases lie below -60 dB
        (libsoxr, "HQ"). The input itself where the rates are equal.
    """
    if from_rate == to_rate:
        return wave_N
    import soxr

    # soxr wants time first.
    resampled: Wave = soxr.resample(wave_N.T, from_rate, to_rate, quality="HQ").T
    return np.ascontiguousarray(resampled, dtype=np.float32)


class Resampler:
    """:func:`resample` for a signal that comes in pieces, [N] or [channels,N]."""

    def __init__(self, from_rate: int, to_rate: int, channels: int = 1) -> None:
        self.soxr: Any = None
        if from_rate != to_rate:
            import soxr

            self.soxr = soxr.ResampleStream(from_rate, to_rate, channels, dtype="float32", quality="HQ")

    def __call__(self, wave: Wave, last: bool = False) -> Wave:
        if self.soxr is None:
            return wave
        found: Wave = self.soxr.resample_chunk(np.ascontiguousarray(wave.T), last=last).T
        return found


def level_db(wave: Wave) -> float:
    """Root-mean-square level in dB relative to full scale (a square wave of ±1 is 0 dB); -inf for silence."""
    power = float(np.mean(np.square(wave, dtype=np.float64))) if wave.size else 0.0
    return 10.0 * math.log10(power) if power > 0.0 else -math.inf


def with_level(wave: Wave, db: float) -> Wave:
    """Scale a waveform to an RMS level in dB full scale; silence stays silence, nothing is clipped."""
    current = level_db(wave)
    if current == -math.inf:
        return wave.copy()
    # In double precision: a gain in float32 alone would cost 1e-7 of the level.
    return (wave * np.float64(10.0 ** ((db - current) / 20.0))).astype(np.float32)
