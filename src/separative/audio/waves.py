"""Arithmetic on waveforms: sampling rate, level, and speech activity by energy."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from separative.types import Floats, Wave

# The mean of channels that are unrelated has 1/C of their power. With less than this share of it, they cancel
# each other: for two channels of equal power, that is a correlation below -0.75.
CANCELLED_SHARE = 0.25
# Mean power from which channels are compared: -80 dB full scale.
AUDIBLE_POWER = 1e-8


def resample(wave: Wave, from_rate: int, to_rate: int) -> Wave:
    """Change the sampling rate with libsoxr at quality "HQ"; images and aliases are below -60 dB.

    Args:
        wave: float32 ``[N]`` or ``[channels, N]``.
        from_rate, to_rate: hertz.

    Returns:
        float32 with about ``N * to_rate / from_rate`` samples; the input itself if the rates are equal.

    >>> resample(np.zeros(44100, np.float32), 44100, 16000).shape
    (16000,)
    """
    if from_rate == to_rate:
        return wave
    import soxr

    # soxr expects time on the first axis.
    resampled: Wave = soxr.resample(wave.T, from_rate, to_rate, quality="HQ").T
    return np.ascontiguousarray(resampled, dtype=np.float32)


class Resampler:
    """:func:`resample` for a signal that arrives in blocks.

    Call it with each block, float32 ``[N]`` or ``[channels, N]``. It returns the samples that are ready; with
    ``last=True`` it returns all that remain.

    >>> resampler = Resampler(16000, 8000)
    >>> block = np.zeros(8000, np.float32)
    >>> len(resampler(block)) + len(resampler(block, last=True))
    8000
    """

    def __init__(self, from_rate: int, to_rate: int, channels: int = 1) -> None:
        self.soxr: Any = None
        if from_rate != to_rate:
            import soxr

            self.soxr = soxr.ResampleStream(from_rate, to_rate, channels, dtype="float32", quality="HQ")

    def __call__(self, wave: Wave, last: bool = False) -> Wave:
        if self.soxr is None:
            return wave
        resampled: Wave = self.soxr.resample_chunk(np.ascontiguousarray(wave.T), last=last).T
        return resampled


def level_db(wave: Wave) -> float:
    """Return the root-mean-square level in dB relative to full scale; -inf for silence.

    A square wave of ±1 has a level of 0 dB.

    >>> level_db(np.full(8, 0.1, np.float32))
    -19.99...
    >>> level_db(np.zeros(8, np.float32))
    -inf
    """
    power = float(np.mean(np.square(wave, dtype=np.float64))) if wave.size else 0.0
    return 10.0 * math.log10(power) if power > 0.0 else -math.inf


def with_level(wave: Wave, db: float) -> Wave:
    """Return the waveform scaled to a level in dB (:func:`level_db`); silence stays silence.

    Samples beyond ±1 are not clipped.

    >>> with_level(np.full(4, 0.1, np.float32), 0.0)
    array([1., 1., 1., 1.], dtype=float32)
    """
    current = level_db(wave)
    if current == -math.inf:
        return wave.copy()
    # The gain is applied in double precision: a float32 gain would change the level by up to 1e-7.
    return (wave * np.float64(10.0 ** ((db - current) / 20.0))).astype(np.float32)


def speech_gate(power: Floats, range_db: float = 30.0, floor: float = 0.0) -> npt.NDArray[np.bool_]:
    """Return which frames are loud enough to be speech; an energy gate, not a speech detector.

    A frame passes if its power is less than ``range_db`` below that of the loud frames (95th percentile), and
    above ``floor``. Within 30 dB are speech sounds; pauses and the noise of codecs are below.

    Args:
        power: mean power of each frame ``[..., T]``; each row has its own percentile.
        range_db: dB below the loud frames.
        floor: lowest power of a frame that passes.

    Returns:
        bool ``[..., T]``.

    >>> speech_gate(np.array([1.0, 0.5, 0.01, 1e-4]))
    array([ True,  True,  True, False])
    """
    loud = np.quantile(power, 0.95, axis=-1, keepdims=True)
    gate: npt.NDArray[np.bool_] = (power > loud * 10 ** (-range_db / 10)) & (power > floor)
    return gate


def adaptive_speech_threshold(power: Floats) -> float:
    """Return the power at or above which a frame of one recording counts as speech, also in noise.

    The threshold is D dB below the loud frames (95th percentile). D is 60 % of the distance between loud and
    quiet (10th percentile) frames, so that the noise between words is below the threshold. D is limited to
    10–35 dB: steady speech stays active as a whole, and digital silence does not make every noise active.

    Args:
        power: mean power of each frame ``[T]``, of samples on the scale of 16-bit integers.

    >>> power = np.array([100.0] * 5 + [1.0] * 5) ** 2  # 40 dB apart: the threshold is 24 dB below
    >>> round(10 * np.log10(adaptive_speech_threshold(power)))
    16
    """
    if not len(power):
        return 0.0
    quiet_db, loud_db = np.percentile(10.0 * np.log10(power + 1e-3), [10, 95])
    down_db = np.clip(0.6 * (loud_db - quiet_db), 10.0, 35.0)
    # The threshold is positive, so that digital silence is never speech.
    return max(float(10.0 ** ((loud_db - down_db) / 10.0)), 1e-6)


class PhaseCheck:
    """Find out whether the channels of a recording cancel each other in their mean, block by block.

    >>> left = np.ones(8, np.float32)
    >>> check = PhaseCheck()
    >>> check.add(np.stack([left, -0.9 * left], axis=1), 0.05 * left)
    >>> round(check.lost_db())
    26
    """

    def __init__(self) -> None:
        self.frames, self.channels, self.power, self.mean_power = 0, 1, 0.0, 0.0

    def add(self, samples: Wave, mean: Wave) -> None:
        """Add a block: its channels ``[N, channels]`` and their mean ``[N]``."""
        self.frames, self.channels = self.frames + len(samples), samples.shape[1]
        self.power += float(np.vdot(samples, samples)) / self.channels
        self.mean_power += float(np.vdot(mean, mean))

    def lost_db(self) -> float | None:
        """Return by how much the mean is weaker than the channels; None if they do not cancel each other."""
        if self.power <= AUDIBLE_POWER * self.frames:
            return None
        if self.mean_power * self.channels >= CANCELLED_SHARE * self.power:
            return None
        return -10.0 * math.log10(max(self.mean_power / self.power, 1e-12))
