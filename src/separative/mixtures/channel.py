"""Random recording channels, so that microphone and codec do not identify a speaker."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import fft

from separative.types import Wave

# The equaliser has one knot per octave: coarse enough to change the timbre and keep the formants.
EQ_LOW_HZ = 90.0
EQ_KNOTS = 8
# A bass gain is halved, in decibels, at this frequency.
BASS_HZ = 125.0
TELEPHONE_RATE = 8000
MU = 255.0


@dataclass(frozen=True, slots=True)
class Channel:
    """A linear frequency response, followed by a codec.

    Attributes:
        eq_db: gains at knots one octave apart from 90 Hz, interpolated linearly in log frequency.
        tilt_db: slope of the response in decibels per octave; 0 dB at 1 kHz.
        highpass_hz: -3 dB point of a magnitude of second order; None for no high-pass.
        lowpass_hz: -3 dB point of a magnitude of fourth order; None for no low-pass.
        codec: ``none``, ``mulaw`` (8 bits a sample at the full rate) or ``telephone`` (mu-law at 8 kHz).
        bass_db: gain of frequencies below 125 Hz.

    >>> channel = Channel((0.0,) * 8, 0.0, None, 3000.0, "none")
    >>> (20 * np.log10(channel.response(np.array([300.0, 3000.0])))).round(1)
    array([-0., -3.])
    >>> channel.apply(np.ones(100, np.float32), 16000).shape
    (100,)
    """

    eq_db: tuple[float, ...]
    tilt_db: float
    highpass_hz: float | None
    lowpass_hz: float | None
    codec: str
    bass_db: float = 0.0

    @staticmethod
    def draw(rng: np.random.Generator, rate: int) -> Channel:
        """Draw a channel. High-pass and low-pass each have probability 1/2, a codec has 1/3."""
        use = rng.random(3)
        highpass_hz = float(np.exp(rng.uniform(np.log(60.0), np.log(400.0))))
        lowpass_hz = float(np.exp(rng.uniform(np.log(0.3), np.log(0.95)))) * rate / 2
        return Channel(
            eq_db=tuple(float(db) for db in rng.normal(0.0, 4.0, EQ_KNOTS).round(2)),
            tilt_db=round(float(rng.uniform(-2.0, 2.0)), 2),
            highpass_hz=round(highpass_hz, 1) if use[0] < 0.5 else None,
            lowpass_hz=round(lowpass_hz, 1) if use[1] < 0.5 else None,
            codec="none" if use[2] >= 1 / 3 else "telephone" if use[2] < 1 / 6 else "mulaw",
        )

    @staticmethod
    def draw_wide(rng: np.random.Generator, rate: int) -> Channel:
        """Draw a channel without codec that varies as much as those of real recordings.

        Meetings have 15 to 30 dB more bass than read speech and fall faster above 1 kHz. The equaliser has a
        standard deviation of 6 dB, the tilt is -6 to 4 dB per octave, 40 % have 5 to 22 dB of bass, 35 % a
        low-pass of 3 to 7 kHz, and 30 % a high-pass of 60 to 300 Hz.

        >>> Channel.draw_wide(np.random.default_rng(0), 16000).codec
        'none'
        """
        use = rng.random(3)
        bass_db, highpass_hz = (
            float(rng.uniform(5.0, 22.0)),
            float(np.exp(rng.uniform(*np.log((60.0, 300.0))))),
        )
        lowpass_hz = min(float(np.exp(rng.uniform(*np.log((3000.0, 7000.0))))), 0.45 * rate)
        return Channel(
            eq_db=tuple(float(db) for db in rng.normal(0.0, 6.0, EQ_KNOTS).round(2)),
            tilt_db=round(float(rng.uniform(-6.0, 4.0)), 2),
            highpass_hz=round(highpass_hz, 1) if use[1] < 0.3 else None,
            lowpass_hz=round(lowpass_hz, 1) if use[2] < 0.35 else None,
            codec="none",
            bass_db=round(bass_db, 2) if use[0] < 0.4 else 0.0,
        )

    def describe(self) -> dict[str, Any]:
        """The attributes as values that JSON can hold."""
        return asdict(self)

    def response(self, frequencies: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Linear magnitude [F] at frequencies [F] in hertz."""
        octaves_F = np.log2(np.maximum(frequencies, 20.0))
        knots = np.log2(EQ_LOW_HZ) + np.arange(EQ_KNOTS)
        gain_db_F = np.interp(octaves_F, knots, self.eq_db) + self.tilt_db * (octaves_F - np.log2(1000.0))
        if self.bass_db:
            gain_db_F += self.bass_db / (1.0 + (frequencies / BASS_HZ) ** 4)
        power_F: npt.NDArray[np.float64] = 10.0 ** (gain_db_F / 10.0)
        if self.highpass_hz is not None:
            power_F /= 1.0 + (self.highpass_hz / np.maximum(frequencies, 1.0)) ** 4
        if self.lowpass_hz is not None:
            power_F /= 1.0 + (frequencies / self.lowpass_hz) ** 8
        magnitude_F: npt.NDArray[np.float64] = np.sqrt(power_F)
        return magnitude_F

    def apply(self, waveform: Wave, rate: int) -> Wave:
        """Pass a waveform [N] through the channel: the length stays, there is no delay, the level changes."""
        size = fft.next_fast_len(len(waveform), real=True)
        spectrum_F = fft.rfft(waveform, size)
        spectrum_F *= sampled_response(self.response, size, rate)
        if self.codec == "telephone" and rate > TELEPHONE_RATE:
            # Truncating and zero-padding the spectrum resamples ideally to 8 kHz and back.
            low = round(size * TELEPHONE_RATE / rate)
            coded = _mu_law(fft.irfft(spectrum_F[: low // 2 + 1] * np.float32(low / size), low))
            spectrum_F[:] = 0.0
            spectrum_F[: low // 2 + 1] = fft.rfft(coded) * np.float32(size / low)
            return np.ascontiguousarray(fft.irfft(spectrum_F, size)[: len(waveform)])
        filtered_N = np.ascontiguousarray(fft.irfft(spectrum_F, size)[: len(waveform)])
        return filtered_N if self.codec == "none" else _mu_law(filtered_N)


def sampled_response(
    response: Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]], size: int, rate: int
) -> npt.NDArray[np.float32]:
    """A smooth ``response`` from 20 Hz on, at the frequencies [F] of a real FFT of ``size`` samples.

    >>> sampled_response(lambda hertz: 0 * hertz + 2, size=4, rate=16000)
    array([2., 2., 2.], dtype=float32)
    """
    # Computing it at 256 frequencies and interpolating saves most logarithms.
    grid = _grid(rate)
    hertz_F = np.arange(size // 2 + 1) * (rate / size)
    sampled_F: npt.NDArray[np.float32] = np.interp(hertz_F, grid, response(grid)).astype(np.float32)
    return sampled_F


@cache
def _grid(rate: int) -> npt.NDArray[np.float64]:
    return np.geomspace(20.0, rate / 2, 256)


def _mu_law(wave_N: Wave) -> Wave:
    """Encode to 8-bit mu-law and decode (continuous law of ITU-T G.711), relative to the waveform's peak."""
    peak = np.abs(wave_N).max()
    if peak == 0.0:
        return wave_N
    coded_N = np.rint(np.log1p(np.abs(wave_N) * (MU / peak)) * np.float32(127.0 / np.log1p(MU)))
    decoded_N: Wave = np.copysign(_MU_STEPS[coded_N.astype(np.intp)] * peak, wave_N)
    return decoded_N


_MU_STEPS = (np.expm1(np.arange(128) * (np.log1p(MU) / 127.0)) / MU).astype(np.float32)
