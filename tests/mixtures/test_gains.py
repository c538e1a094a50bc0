"""Ratios and sums are exact, and the target is unchanged."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from separative.errors import SeparativeError
from separative.mixtures import gain_for, mix_at
from separative.mixtures.gains import ratio_db

EXACT_DB = 0.01
SUM = 1e-6


def slow_ratio_db(a: np.ndarray, b: np.ndarray) -> float:
    energies = [sum(float(x) ** 2 for x in wave) / len(wave) for wave in (a, b)]
    return 10 * float(np.log10(energies[0] / energies[1]))


def noise_like(seed: int, size: int = 400, level: float = 0.1) -> np.ndarray:
    return (level * np.random.default_rng(seed).standard_normal(size)).astype(np.float32)


@given(
    seed=st.integers(0, 999),
    levels=st.tuples(*[st.floats(-80.0, 0.0)] * 2),
    db=st.floats(-40.0, 40.0),
)
def test_scaled_waveform_has_the_given_ratio(seed: int, levels: tuple[float, float], db: float) -> None:
    target, other = (
        noise_like(seed + i, 300 + 100 * i, 10 ** (level / 20)) for i, level in enumerate(levels)
    )
    scaled = other * np.float32(gain_for(target, other, db))
    assert slow_ratio_db(target, scaled) == pytest.approx(db, abs=EXACT_DB)


@given(
    seed=st.integers(0, 999),
    sirs=st.lists(st.floats(-20.0, 20.0), max_size=3),
    snr=st.none() | st.floats(-5.0, 30.0),
)
def test_mixture_is_the_sum_of_its_parts_at_the_given_ratios(
    seed: int, sirs: list[float], snr: float | None
) -> None:
    target, hiss = noise_like(seed), None if snr is None else noise_like(seed + 1)
    spans = [(20 * i, 400 - 50 * i) for i in range(len(sirs))]
    whole = [(30, 380), *spans]
    others = [np.zeros(400, np.float32) for _ in sirs]
    for i, (start, end) in enumerate(spans):
        others[i][start:end] = noise_like(seed + 2 + i, end - start)
    mixed = mix_at(target, others, sirs, hiss, snr or 0.0, whole)
    np.testing.assert_array_equal(mixed.sources[0], target)
    np.testing.assert_allclose(
        mixed.waveform, mixed.sources.astype(np.float64).sum(axis=0) + mixed.noise, rtol=SUM, atol=SUM
    )
    for row, (db, (start, end)) in enumerate(zip(sirs, spans, strict=True), 1):
        assert slow_ratio_db(target[30:380], mixed.sources[row, start:end]) == pytest.approx(db, abs=EXACT_DB)
        np.testing.assert_allclose(mixed.sources[row], others[row - 1] * mixed.gains[row], rtol=1e-5)
    if snr is None:
        assert not mixed.noise.any()
        assert mixed.noise_gain == 0.0
    else:
        assert slow_ratio_db(target[30:380], mixed.noise) == pytest.approx(snr, abs=EXACT_DB)


def test_one_ratio_applies_to_all_interferers() -> None:
    mixed = mix_at(noise_like(0), [noise_like(1), noise_like(2)], -3)
    assert [ratio_db(mixed.sources[0], mixed.sources[c]) for c in (1, 2)] == pytest.approx(
        [-3, -3], abs=EXACT_DB
    )


def test_silence_and_unequal_lengths_are_refused() -> None:
    silence = np.zeros(400, np.float32)
    for target, other in ((silence, noise_like(0)), (noise_like(0), silence), (silence, silence)):
        with pytest.raises(SeparativeError, match="ratio of 5 dB needs two waveforms with energy"):
            mix_at(target, [other], 5.0)
    with pytest.raises(SeparativeError, match=r"must have one length, not \[400, 300\]"):
        mix_at(noise_like(0), [noise_like(1, 300)])
