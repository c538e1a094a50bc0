"""Exact ratios between waveforms: target to interferer (SIR) and target to noise (SNR)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from separative.errors import SeparativeError
from separative.types import Wave


@dataclass(frozen=True, slots=True)
class Mixed:
    """The result of :func:`mix_at`.

    Attributes:
        waveform: float32 [N], the sum of the sources and the noise.
        sources: float32 [C,N], scaled; the target first.
        noise: float32 [N], scaled; zeros without noise.
        gains: linear factor of each source.
        noise_gain: linear factor of the noise; 0 without noise.

    >>> ones = np.ones(4, np.float32)
    >>> mixed = mix_at(ones, [ones], sir_db=20.0)
    >>> [round(gain, 6) for gain in mixed.gains]
    [1.0, 0.1]
    >>> mixed.waveform
    array([1.1, 1.1, 1.1, 1.1], dtype=float32)
    """

    waveform: Wave
    sources: Wave
    noise: Wave
    gains: tuple[float, ...]
    noise_gain: float


def power(waveform: Wave) -> float:
    """Mean square of a waveform [N], computed in double precision.

    >>> power(np.array([3.0, -4.0], np.float32))
    12.5
    """
    return float(np.einsum("n,n->", waveform, waveform, dtype=np.float64)) / max(len(waveform), 1)


def ratio_db(reference: Wave, waveform: Wave) -> float:
    """Mean power of ``reference`` over that of ``waveform`` in dB; infinite if one of them is silent.

    >>> round(ratio_db(np.full(100, 2.0, np.float32), np.ones(100, np.float32)), 2)
    6.02
    """
    upper, lower = power(reference), power(waveform)
    if upper == 0.0 or lower == 0.0:
        return math.inf if upper > lower else -math.inf
    return 10.0 * math.log10(upper / lower)


def gain_for(reference: Wave, waveform: Wave, db: float) -> float:
    """Linear gain that puts ``waveform`` at ``db`` decibels below ``reference``.

    Raises:
        SeparativeError: one of the two is silent, so there is no ratio.

    >>> round(gain_for(np.ones(100, np.float32), np.ones(100, np.float32), 6.0), 4)
    0.5012
    """
    current = ratio_db(reference, waveform)
    if math.isinf(current):
        raise SeparativeError(
            f"a ratio of {db:g} dB needs two waveforms with energy, but one of them is silent"
        )
    return float(10.0 ** ((current - db) / 20.0))


def mix_at(
    target: Wave,
    interferers: Sequence[Wave] = (),
    sir_db: float | Sequence[float] = 0.0,
    noise: Wave | None = None,
    snr_db: float = 0.0,
    spans: Sequence[tuple[int, int]] | None = None,
) -> Mixed:
    """Mix a target with interferers, each at its SIR, and with noise at an SNR. The target keeps its level.

    Args:
        target: float32 [N].
        interferers: each float32 [N].
        sir_db: one value for all interferers, or one each.
        noise: float32 [N]; None for no noise.
        snr_db: mean power of the target over that of the noise.
        spans: samples ``[start, end)`` in which each speaker is active, the target first; by default the
            whole length. Ratios compare mean powers inside the spans.

    Raises:
        SeparativeError: the lengths differ, or a waveform that needs a ratio is silent.

    >>> rng = np.random.default_rng(0)
    >>> target, interferer, noise = rng.standard_normal((3, 1000)).astype(np.float32)
    >>> mixed = mix_at(target, [interferer], 5.0, noise, 10.0)
    >>> round(ratio_db(mixed.sources[0], mixed.sources[1]), 3), round(ratio_db(target, mixed.noise), 3)
    (5.0, 10.0)
    """
    waves = [target, *interferers, *([] if noise is None else [noise])]
    if len({len(wave_N) for wave_N in waves}) > 1:
        raise SeparativeError(
            f"the waveforms of a mixture must have one length, not {[len(wave_N) for wave_N in waves]}"
        )
    ratios = [float(sir_db)] * len(interferers) if isinstance(sir_db, int | float) else list(sir_db)
    (first, last), *active = spans if spans is not None else [(0, len(target))] * (1 + len(interferers))
    spoken_N = target[first:last]
    source_CN = np.empty((1 + len(interferers), len(target)), np.float32)
    source_CN[0] = target
    gains = [1.0]
    for row, (wave_N, db, (start, end)) in enumerate(zip(interferers, ratios, active, strict=True), 1):
        gains.append(gain_for(spoken_N, wave_N[start:end], db))
        np.multiply(wave_N, np.float32(gains[-1]), out=source_CN[row])
    noise_gain = 0.0 if noise is None else gain_for(spoken_N, noise, snr_db)
    noise_N = np.zeros_like(target) if noise is None else noise * np.float32(noise_gain)
    return Mixed(source_CN.sum(axis=0) + noise_N, source_CN, noise_N, tuple(gains), noise_gain)
