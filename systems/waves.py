"""Read the list of WAV files that the benchmark gives to a system."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

Wave = NDArray[np.float32]
BATCH_SECONDS = 64


def read_list(names: Path, rate: int) -> list[Wave]:
    """Read the mono WAV files of a list; exit with a message if one does not have ``rate`` hertz."""
    waves = []
    for name in names.read_text(encoding="utf-8").splitlines():
        wave_N, its_rate = soundfile.read(name, dtype="float32")
        if wave_N.ndim != 1 or its_rate != rate:
            sys.exit(f"{name}: must be a mono file at {rate} Hz, not at {its_rate} Hz")
        waves.append(wave_N)
    return waves


def batches_of_one_length(waves: Sequence[Wave], rate: int) -> Iterator[tuple[list[int], Wave]]:
    """Batches of waves of equal length, so that no padding can change a result: positions, and ``[B, N]``."""
    by_length: defaultdict[int, list[int]] = defaultdict(list)
    for row, wave_N in enumerate(waves):
        by_length[len(wave_N)].append(row)
    for length, rows in by_length.items():
        size = max(1, BATCH_SECONDS * rate // length)
        for start in range(0, len(rows), size):
            some = rows[start : start + size]
            yield some, np.stack([waves[row] for row in some])
