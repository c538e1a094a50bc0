"""Ratios between waveforms: target to interferer (SIR) and target to noise (SNR), exact over the crop."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from separative.errors import SeparativeError
from separative.types import Wave


@dataclass(frozen=True, slots=True)
class Mixed:
    """``mix_N`` is the sum of ``source_CN`` (target first) and ``noise_N``, in float32.

    ``gains`` are the linear factors of the sources, ``noise_gain`` that of the noise (0 without noise).
    """

    mix_N: Wave
    source_CN: Wave
    noise_N: Wave
    gains: tuple[float, ...]
    noise_gain: float


def power(wave_N: Wave) -> float:
    """Mean square, in double precision."""
    return float(np.einsum("n,n->", wave_N, wave_N, dtype=np.float64)) / max(len(wave_N), 1)


def ratio_db(reference_N: Wave, wave_N: Wave) -> float:
    """Mean power of ``reference_N`` over that of ``wave_N`` in dB; +-inf where one is silent."""
    upper, lower = power(reference_N), power(wave_N)
    if upper == 0.0 or lower == 0.0:
        return math.inf if upper > lower else -math.inf
    return 10.0 * math.log10(upper / lower)


def gain_for(reference_N: Wave, wave_N: Wave, db: float) -> float:
    """Linear gain of ``wave_N`` that puts ``reference_N`` ``db`` decibels above it.

    Raises:
        SeparativeError: one of the two is silent, so no ratio exists.
    """
    current = ratio_db(reference_N, wave_N)
    if math.isinf(current):
        raise SeparativeError(
            f"a ratio of {db:g} dB cannot be set against silence; give both waves some energy"
        )
    return float(10.0 ** ((current - db) / 20.0))


def mix_at(
    target_N: Wave,
    interferers: Sequence[Wave] = (),
    sir_db: float | Sequence[float] = 0.0,
    noise_N: Wave | None = None,
    snr_db: float = 0.0,
    spans: Sequence[tuple[int, int]] | None = None,
) -> Mixed:
    """Mix a target with interferers, each at its SIR, and noise at an SNR; the target keeps its level.

    Args:
        target_N: float32 ``[N]``.
        interferers: each float32 ``[N]``.
        sir_db: one for all interferers, or one each.
        noise_N: float32 ``[N]``; None for none.
        snr_db: mean power of the target over that of the noise.
        spans: ``[start, end)`` samples where each speaker speaks, the target first, whole length by default.
            Ratios are of mean powers inside the spans.

    Raises:
        SeparativeError: lengths differ, or a wave with a ratio to keep is silent.
    """
    waves = [target_N, *interferers, *([] if noise_N is None else [noise_N])]
    if len({len(wave_N) for wave_N in waves}) > 1:
        raise SeparativeError(
            f"waves of one mixture need one length, not {[len(wave_N) for wave_N in waves]}"
        )
    ratios = [float(sir_db)] * len(interferers) if isinstance(sir_db, int | float) else list(sir_db)
    (first, last), *active = spans if spans is not None else [(0, len(target_N))] * (1 + len(interferers))
    heard_N = target_N[first:last]
    source_CN = np.empty((1 + len(interferers), len(target_N)), np.float32)
    source_CN[0] = target_N
    gains = [1.0]
    for row, (wave_N, db, (start, end)) in enumerate(zip(interferers, ratios, active, strict=True), 1):
        gains.append(gain_for(heard_N, wave_N[start:end], db))
        np.multiply(wave_N, np.float32(gains[-1]), out=source_CN[row])
    noise_gain = 0.0 if noise_N is None else gain_for(heard_N, noise_N, snr_db)
    scaled_N = np.zeros_like(target_N) if noise_N is None else noise_N * np.float32(noise_gain)
    return Mixed(source_CN.sum(axis=0) + scaled_N, source_CN, scaled_N, tuple(gains), noise_gain)
