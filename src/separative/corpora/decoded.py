"""Decode utterances to integers of 16 bits, and sum them up in blocks."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from separative import audio
from separative.corpora.manifest import Utterance
from separative.errors import AudioError

FRAMES_PER_SECOND = 100
# -120 dB full scale, below the noise of any analogue-to-digital converter.
SILENT_PEAK = 1e-6
# Samples of a file that have a checksum of their own: 256 KiB.
BLOCK = 1 << 17

Samples = npt.NDArray[np.int16]


@dataclass(frozen=True, slots=True)
class Decoded:
    """Integer samples, the value of one integer step, and the power from which a frame is active.

    >>> len(Decoded(np.zeros(8, np.int16), 0.001, 1.0).samples_N)
    8
    """

    samples_N: Samples
    scale: float
    threshold: float


def decode(utterance: Utterance, rate: int) -> tuple[Decoded, str]:
    """Return the decoded utterance and ''; or no samples and the reason why the file is bad.

    >>> from pathlib import Path
    >>> decoded, reason = decode(Utterance("ann", Path("ann.wav"), 1.0), 8000)
    >>> len(decoded.samples_N), reason
    (8000, '')
    """
    empty = Decoded(np.zeros(0, np.int16), 0.0, 0.0)
    try:
        wave_N = utterance.read(rate)
    except AudioError as error:
        return empty, str(error)
    peak = float(np.abs(wave_N).max(initial=0.0))
    if peak < SILENT_PEAK:
        return empty, f"{utterance.path}: {'silent throughout' if len(wave_N) else 'no samples'}"
    samples_N = np.rint(wave_N * (32767.0 / peak)).astype(np.int16)
    threshold = audio.adaptive_speech_threshold(frame_power(samples_N, rate // FRAMES_PER_SECOND))
    return Decoded(samples_N, peak / 32767.0, threshold), ""


def frame_power(samples_N: Samples, hop: int) -> npt.NDArray[np.float32]:
    """Return the mean power of each whole frame of ``hop`` samples, in squared integer steps.

    >>> frame_power(np.array([1, 1, 2, 2, 9], np.int16), 2)
    array([1., 4.], dtype=float32)
    """
    frames = samples_N[: len(samples_N) // hop * hop].reshape(-1, hop).astype(np.float32)
    power: npt.NDArray[np.float32] = np.einsum("fh,fh->f", frames, frames) / hop
    return power


class BlockSums:
    """CRC-32 of each block of ``BLOCK`` samples of a file that is being written.

    >>> sums = BlockSums()
    >>> sums.add(bytes(2 * BLOCK + 2))
    >>> len(sums.all())
    2
    """

    def __init__(self) -> None:
        self.sums: list[int] = []
        self.current, self.filled = 0, 0

    def add(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            part = view[: 2 * BLOCK - self.filled]
            self.current = zlib.crc32(part, self.current)
            self.filled, view = self.filled + len(part), view[len(part) :]
            if self.filled == 2 * BLOCK:
                self.sums.append(self.current)
                self.current, self.filled = 0, 0

    def all(self) -> npt.NDArray[np.uint32]:
        return np.array([*self.sums, *([self.current] if self.filled else [])], np.uint32)
