"""Fast models of speech codecs for training: band limits, quantisation noise and holes in the spectrum.

G.711 is exact. The other codecs are modelled in the short-time spectrum: coefficients are rounded to a step
that is proportional to the level of their band, and bands far below their neighbours are dropped, as coders
of few bits do. `separative.audio.recode` runs the real codecs, which take ten times as long.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import fft

from separative.errors import SeparativeError, choose
from separative.types import Wave

# Highest frequency of a telephone call, in hertz, and the lowest. G.712 passes 300 to 3400 Hz.
TELEPHONE_BAND = (200.0, 3400.0)
FRAME_SECONDS = 0.032
# Bands are as wide as this many bins at low frequencies, and a sixth of their frequency above.
LEAST_BINS = 3
# A level below which a band is dropped whatever its neighbours are: the resolution of 16 bits.
SILENCE = 2.0**-15


@dataclass(frozen=True, slots=True)
class Codec:
    """A codec with its bit rate.

    Attributes:
        name: ``mulaw``, ``alaw``, ``amr``, ``opus`` or ``mp3``.
        kbps: bit rate in kbit/s; G.711 always has 64.
        low_hz: lower limit of the band.
        high_hz: upper limit of the band.
        step: quantisation step, as a multiple of the root mean square of a coefficient in its band; 0 for
            G.711.
        mask_db: bands this far below the loudest one near them are dropped.

    >>> codec = Codec.named("amr", 6.0)
    >>> codec.high_hz
    3400.0
    >>> noise = 0.1 * np.random.default_rng(0).standard_normal(16000).astype(np.float32)
    >>> codec.apply(noise, 16000).shape
    (16000,)
    """

    name: str
    kbps: float
    low_hz: float
    high_hz: float
    step: float
    mask_db: float

    @staticmethod
    def named(name: str, kbps: float) -> Codec:
        """The codec with this bit rate in kbit/s: 4 to 64.

        Raises:
            SeparativeError: unknown name, or a bit rate out of range.
        """
        choose(name, NAMES, "codec", SeparativeError)
        if not 4.0 <= kbps <= 64.0:
            raise SeparativeError(f"a codec of {kbps:g} kbit/s: choose 4 to 64 kbit/s")
        if name in ("mulaw", "alaw"):
            return Codec(name, 64.0, *TELEPHONE_BAND, 0.0, 0.0)
        if name == "amr":
            # AMR: 4.75 to 12.2 kbit/s for a band of 3.4 kHz.
            return Codec(name, kbps, 100.0, 3400.0, round(float(np.clip(5.5 / kbps, 0.35, 1.2)), 3), 30.0)
        if name == "opus":
            # Opus of speech codes 4 kHz below about 9 kbit/s, 6 kHz to 13 and 8 kHz above.
            high_hz = 4000.0 if kbps < 9.0 else 6000.0 if kbps < 13.0 else 8000.0
            return Codec(name, kbps, 60.0, high_hz, round(float(np.clip(9.0 / kbps, 0.25, 1.3)), 3), 26.0)
        # MP3 for one channel cuts at about 5 kHz for 16 kbit/s and at 7.5 kHz for 32.
        high_hz = float(np.clip(220.0 * kbps + 1400.0, 2500.0, 16000.0))
        return Codec(name, kbps, 20.0, high_hz, round(float(np.clip(30.0 / kbps, 0.3, 2.0)), 3), 20.0)

    def describe(self) -> dict[str, Any]:
        """Name and bit rate as values that JSON can hold."""
        return {"name": self.name, "kbps": self.kbps}

    def response(self, frequencies: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Linear magnitude [F] of the band limits at frequencies [F] in hertz."""
        # Filters of the order of those in telephones: 24 dB an octave below, a brick wall above.
        gain_F = 1.0 / np.sqrt(1.0 + (self.low_hz / np.maximum(frequencies, 1.0)) ** 8)
        return np.asarray(gain_F / np.sqrt(1.0 + (frequencies / self.high_hz) ** 80))

    def apply(self, waveform: Wave, rate: int, start: int = 0) -> Wave:
        """Encode and decode a waveform [N]: the length stays, and there is no delay.

        The band limits of :meth:`response` are not applied here: a :class:`Microphone` applies them to every
        source.

        Args:
            waveform: float32 [N]; full scale is ±1.
            rate: sample rate in hertz.
            start: number of the first sample; frames are counted from 0, so that blocks of a recording are
                coded like the whole.
        """
        if self.step == 0.0:
            coded_N = _g711_table(self.name)[
                np.clip(np.rint(waveform * 32768.0), -32768, 32767).astype(np.int32)
            ]
            return self._limit(coded_N, rate)
        hop = max(8, round(FRAME_SECONDS * rate / 2))
        before = hop + start % hop
        frames = -(-(before + len(waveform)) // hop)
        padded_N = np.zeros((frames + 1) * hop, np.float32)
        padded_N[before : before + len(waveform)] = waveform
        block_TH = padded_N.reshape(-1, hop)
        window_W = _window(hop)
        spectrum_TF = fft.rfft(np.concatenate([block_TH[:-1], block_TH[1:]], axis=1) * window_W, axis=1)
        self._quantise(spectrum_TF, rate / (2 * hop))
        decoded_TW = fft.irfft(spectrum_TF, 2 * hop, axis=1)
        decoded_TW *= window_W
        padded_N[:] = 0.0
        block_TH[:-1] += decoded_TW[:, :hop]
        block_TH[1:] += decoded_TW[:, hop:]
        return padded_N[before : before + len(waveform)]

    def _limit(self, wave_N: Wave, rate: int) -> Wave:
        size = fft.next_fast_len(len(wave_N), real=True)
        spectrum_F = fft.rfft(wave_N, size)
        spectrum_F[round(self.high_hz * 1.05 * size / rate) :] = 0.0
        return np.ascontiguousarray(fft.irfft(spectrum_F, size)[: len(wave_N)])

    def _quantise(self, spectrum_TF: npt.NDArray[np.complex64], bin_hz: float) -> None:
        """Round the coefficients of short-time spectra [T,F] in place."""
        first_B, width_F = _bands(spectrum_TF.shape[1])
        size = 2 * (spectrum_TF.shape[1] - 1)
        power_TB = np.add.reduceat(spectrum_TF.real**2 + spectrum_TF.imag**2, first_B, axis=1)
        rms_TB = np.sqrt(power_TB / np.diff(first_B, append=spectrum_TF.shape[1]))
        # A band masks its neighbours: those above more than those below.
        near_TB = rms_TB.copy()
        for shift, fall_db in ((1, 6.0), (2, 12.0), (3, 18.0)):
            weight = np.float32(10.0 ** (-fall_db / 20.0))
            np.maximum(near_TB[:, shift:], weight * rms_TB[:, :-shift], out=near_TB[:, shift:])
            np.maximum(near_TB[:, :-shift], weight / 2 * rms_TB[:, shift:], out=near_TB[:, :-shift])
        loud_T1 = rms_TB.max(axis=1, keepdims=True)
        least_TB = np.maximum(near_TB, loud_T1 * np.float32(0.03)) * np.float32(
            10.0 ** (-self.mask_db / 20.0)
        )
        dropped_TB = rms_TB < np.maximum(least_TB, SILENCE * np.sqrt(size / 4.0))
        # The step of a dropped band is too large for any coefficient.
        step_TB = np.where(dropped_TB, np.float32(1e9), rms_TB * np.float32(self.step))
        step_TF = np.repeat(step_TB.astype(np.float32), width_F, axis=1)
        parts_TFX = spectrum_TF.view(np.float32).reshape(*spectrum_TF.shape, 2)
        parts_TFX /= step_TF[..., None]
        np.rint(parts_TFX, out=parts_TFX)
        parts_TFX *= step_TF[..., None]
        spectrum_TF[:, min(round(self.high_hz * 1.05 / bin_hz) + 1, spectrum_TF.shape[1]) :] = 0.0


NAMES = ("mulaw", "alaw", "amr", "opus", "mp3")


@cache
def _window(hop: int) -> Wave:
    """Square root of a Hann window [W] of two hops: its square overlaps to 1."""
    return np.sin(np.pi * (np.arange(2 * hop) + 0.5) / (2 * hop)).astype(np.float32)


@cache
def _bands(bins: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """First bin of each band [B], and the number of bins of each band [B]."""
    edges = [0]
    while edges[-1] < bins:
        edges.append(edges[-1] + max(LEAST_BINS, edges[-1] // 6))
    first_B = np.array(edges[:-1], np.intp)
    return first_B, np.diff(np.append(first_B, bins))


@cache
def _g711_table(law: str) -> Wave:
    """The decoded value of each 16-bit sample [65536]; negative samples index from the end (ITU-T G.711)."""
    sample_N = np.concatenate([np.arange(0, 32768), np.arange(-32768, 0)])
    size_N = np.abs(sample_N)
    if law == "mulaw":
        # 14-bit magnitudes, clipped, plus a bias of 33: the segment is the position of the leading bit.
        biased_N = np.minimum(size_N >> 2, 8158) + 33
        segment_N = np.floor(np.log2(biased_N)).astype(np.int64) - 5
        step_N = 1 << (segment_N + 1)
        decoded_N = ((biased_N // step_N) * step_N + step_N // 2 - 33) * 4
    else:
        # 13-bit magnitudes in 7 segments with 16 steps each; the first two have the same step.
        fine_N = np.minimum(size_N >> 3, 4095)
        segment_N = np.maximum(np.floor(np.log2(np.maximum(fine_N, 1))).astype(np.int64) - 5, 0)
        step_N = 1 << (segment_N + 1)
        decoded_N = ((fine_N // step_N) * step_N + step_N // 2) * 8
    table: Wave = (np.where(sample_N < 0, -decoded_N, decoded_N) / 32768.0).astype(np.float32)
    return table
