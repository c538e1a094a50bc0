"""Random recording channels, so that a speaker's microphone and codec give nothing of the identity away."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import fft

from separative.types import Wave

# Spacing of the equaliser's knots: an octave is what changes a voice's colour and leaves its formants.
EQ_LOW_HZ = 90.0
EQ_KNOTS = 8
TELEPHONE_RATE = 8000
MU = 255.0


@dataclass(frozen=True, slots=True)
class Channel:
    """A linear response and a codec.

    Attributes:
        eq_db: gains at octave-spaced knots from 90 Hz, linear in log frequency between them.
        tilt_db: decibels per octave around 1 kHz.
        highpass_hz, lowpass_hz: -3 dB points of second and fourth order magnitudes; None for none.
        codec: ``none``, ``mulaw`` (8 bits a sample at the full rate) or ``telephone`` (the same at 8 kHz).
    """

    eq_db: tuple[float, ...]
    tilt_db: float
    highpass_hz: float | None
    lowpass_hz: float | None
    codec: str

    @staticmethod
    def draw(rng: np.random.Generator, rate: int) -> Channel:
        """A random channel; half of them band-limited on a side, a third with a codec."""
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

    def describe(self) -> dict[str, Any]:
        return asdict(self)

    def response(self, hertz_F: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Magnitude at each frequency."""
        octaves_F = np.log2(np.maximum(hertz_F, 20.0))
        knots = np.log2(EQ_LOW_HZ) + np.arange(EQ_KNOTS)
        gain_db_F = np.interp(octaves_F, knots, self.eq_db) + self.tilt_db * (octaves_F - np.log2(1000.0))
        power_F: npt.NDArray[np.float64] = 10.0 ** (gain_db_F / 10.0)
        if self.highpass_hz is not None:
            power_F /= 1.0 + (self.highpass_hz / np.maximum(hertz_F, 1.0)) ** 4
        if self.lowpass_hz is not None:
            power_F /= 1.0 + (hertz_F / self.lowpass_hz) ** 8
        magnitude_F: npt.NDArray[np.float64] = np.sqrt(power_F)
        return magnitude_F

    def apply(self, wave_N: Wave, rate: int) -> Wave:
        """The wave as it comes out of this channel: same length, no delay, of another level."""
        size = fft.next_fast_len(len(wave_N), real=True)
        spectrum_F = fft.rfft(wave_N, size)
        hertz_F = np.arange(len(spectrum_F)) * (rate / size)
        # Resolution far below the knots' spacing: interpolating the response saves most of the logarithms.
        grid = np.geomspace(20.0, rate / 2, 256)
        spectrum_F *= np.interp(hertz_F, grid, self.response(grid)).astype(np.float32)
        if self.codec == "telephone" and rate > TELEPHONE_RATE:
            # Cutting the spectrum is an ideal change of rate, there and back.
            low = round(size * TELEPHONE_RATE / rate)
            coded = _mu_law(fft.irfft(spectrum_F[: low // 2 + 1] * np.float32(low / size), low))
            spectrum_F[:] = 0.0
            spectrum_F[: low // 2 + 1] = fft.rfft(coded) * np.float32(size / low)
            return np.ascontiguousarray(fft.irfft(spectrum_F, size)[: len(wave_N)])
        filtered_N = np.ascontiguousarray(fft.irfft(spectrum_F, size)[: len(wave_N)])
        return filtered_N if self.codec == "none" else _mu_law(filtered_N)


def _mu_law(wave_N: Wave) -> Wave:
    """Through 8-bit mu-law and back (ITU-T G.711's continuous law), scaled to the wave's peak."""
    peak = np.abs(wave_N).max()
    if peak == 0.0:
        return wave_N
    coded_N = np.rint(np.log1p(np.abs(wave_N) * (MU / peak)) * np.float32(127.0 / np.log1p(MU)))
    decoded_N: Wave = np.copysign(_MU_STEPS[coded_N.astype(np.intp)] * peak, wave_N)
    return decoded_N


_MU_STEPS = (np.expm1(np.arange(128) * (np.log1p(MU) / 127.0)) / MU).astype(np.float32)
