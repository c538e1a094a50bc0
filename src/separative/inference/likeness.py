"""Warn if a recording is unlike the recordings that the model was trained on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from separative.audio import level_db
from separative.inference.confidence import mean_confidence
from separative.inference.quality import NARROW_DB, measure_noise_and_band
from separative.inference.speakers import Speaker
from separative.types import Wave

PIECE_SECONDS, MAX_PIECES = 10.0, 60
"""Length of the pieces that are measured, and how many of a long recording; they are spread evenly."""

LOUD_DB = 20.0
"""Pieces this far below the loudest one are left out: there is hardly any speech in them."""

# Chosen by hand; benchmarks/fit_confidence.py says how often they warn (docs/recordings.md).
LEAST_SNR_DB = 10.0
LEAST_CONFIDENCE = 0.7


class MeasuredBlocks:
    """Blocks of a recording that are measured while they are read.

    Args:
        blocks: one channel in blocks [N].
        rate: their sampling rate in hertz.
        seconds: length of the recording, to spread the pieces.

    Example:
        >>> noise = np.random.default_rng(0).standard_normal(32000).astype(np.float32)
        >>> blocks = MeasuredBlocks([noise], 16000, 2.0)
        >>> len(list(blocks)), blocks.snr_db < 10
        (1, True)
    """

    def __init__(self, blocks: Iterable[Wave], rate: int, seconds: float) -> None:
        self.blocks, self.rate = blocks, rate
        self.every = max(1, int(np.ceil(seconds / PIECE_SECONDS / MAX_PIECES)))
        self.levels: list[float] = []
        self.measured: list[tuple[float, float]] = []

    def __iter__(self) -> Iterator[Wave]:
        self.levels, self.measured = [], []
        size, number = round(PIECE_SECONDS * self.rate), 0
        for block_N in self.blocks:
            for start in range(0, len(block_N), size):
                piece_N = block_N[start : start + size]
                # A short rest at the end says little.
                if number % self.every == 0 and piece_N.any() and (len(piece_N) > size / 4 or not number):
                    self.levels.append(level_db(piece_N))
                    self.measured.append(measure_noise_and_band(piece_N, self.rate))
                number += 1
            yield block_N

    @property
    def snr_db(self) -> float | None:
        """Median over the pieces of the signal-to-noise ratio; None if nothing was measured."""
        return self._median(0)

    @property
    def treble_db(self) -> float | None:
        """Median over the pieces of the treble, see :class:`separative.inference.quality.Quality`."""
        return self._median(1)

    def _median(self, which: int) -> float | None:
        loud = max(self.levels, default=0.0) - LOUD_DB
        values = [row[which] for row, level in zip(self.measured, self.levels, strict=True) if level >= loud]
        return float(np.median(values)) if values else None


def unlike_training(
    speakers: Sequence[Speaker], snr_db: float | None, treble_db: float | None
) -> tuple[str, ...]:
    """Say how a recording is unlike those of the training, in plain sentences; empty if it is not.

    Args:
        speakers: the speakers found, with the confidence of their turns.
        snr_db, treble_db: of the recording, see :class:`MeasuredBlocks`; None if not known.

    Example:
        >>> unlike_training([], snr_db=30.0, treble_db=-60.0)
        ('the recording has the band of a telephone: expect more errors',)
    """
    found = []
    if treble_db is not None and treble_db < NARROW_DB:
        found.append("the recording has the band of a telephone: expect more errors")
    if snr_db is not None and snr_db < LEAST_SNR_DB:
        found.append(f"the noise is only {snr_db:.0f} dB below the speech: expect more errors")
    confidence = mean_confidence(speakers)
    if confidence is not None and confidence < LEAST_CONFIDENCE:
        found.append(f"the turns have a mean confidence of only {confidence:.2f}: check them")
    return tuple(found)
