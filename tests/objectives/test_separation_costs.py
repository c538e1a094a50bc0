"""Separation and activity losses (method, section 5)."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from separative.objectives import (
    activity_loss,
    audible_sources,
    best_permutation,
    reorder,
    separation_costs,
    speech_activity,
)

DB = 1e-3  # float32 energies
FLOOR_DB = -30.0


def make_waveforms(*shape: int, seed: int = 0) -> Tensor:
    return 0.1 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def reference_cost(estimate_N: Tensor, source_N: Tensor, energy: float) -> float:
    error = sum((float(s) - float(e)) ** 2 for s, e in zip(source_N, estimate_N, strict=True))
    return -10 * math.log10(energy / (error + 1e-3 * energy))


def test_cost_is_the_thresholded_negative_sdr_of_every_pair() -> None:
    estimate_BCN, source_BKN = make_waveforms(2, 3, 300, seed=1), make_waveforms(2, 3, 300, seed=2)
    cost_BCK = separation_costs(estimate_BCN, source_BKN, source_BKN.sum(1))
    for b, c, k in itertools.product(range(2), range(3), range(3)):
        energy = float(source_BKN[b, k].double().square().sum())
        assert cost_BCK[b, c, k].item() == pytest.approx(
            reference_cost(estimate_BCN[b, c], source_BKN[b, k], energy), abs=DB
        )


@pytest.mark.parametrize("error_db", [-60.0, -30.0, -10.0, 0.0, 20.0])
def test_cost_has_a_soft_threshold_at_minus_30_db(error_db: float) -> None:
    source_BKN, other_BKN = make_waveforms(1, 1, 4000), make_waveforms(1, 1, 4000, seed=1)
    error = other_BKN / other_BKN.norm() * source_BKN.norm() * 10 ** (error_db / 20)
    cost = separation_costs(source_BKN + error, source_BKN, source_BKN[:, 0]).item()
    assert cost == pytest.approx(10 * math.log10(10 ** (error_db / 10) + 1e-3), abs=DB)
    assert cost >= FLOOR_DB


def test_gradients_vanish_below_the_threshold() -> None:
    """Gradient per decibel of error: about 1 at -10 dB, almost 0 at -60 dB."""
    source, direction = make_waveforms(1, 1, 4000), make_waveforms(1, 1, 4000, seed=1)
    direction = direction / direction.norm() * source.norm()
    gradients = []
    for level_db in (-10.0, -60.0):
        log_gain = torch.tensor(level_db, requires_grad=True)
        estimate = source + direction * 10 ** (log_gain / 20)
        separation_costs(estimate, source, source[:, 0]).sum().backward()
        gradients.append(log_gain.grad.item())
    assert gradients[0] == pytest.approx(1.0, abs=0.02) and 0 <= gradients[1] < 2e-3


@given(st.floats(-60, 40))
@settings(max_examples=15, deadline=None)
def test_cost_does_not_depend_on_the_level_of_the_mixture(level_db: float) -> None:
    estimate, source = make_waveforms(1, 2, 800), make_waveforms(1, 2, 800, seed=1)
    source[0, 1] = 0
    gain = 10 ** (level_db / 20)
    cost = separation_costs(estimate, source, source.sum(1))
    scaled = separation_costs(gain * estimate, gain * source, gain * source.sum(1))
    assert torch.allclose(cost, scaled, atol=0.05)


def test_silent_source_is_measured_against_the_mixture() -> None:
    source = make_waveforms(1, 2, 500)
    source[0, 1] = 0
    mix = source.sum(1)
    estimate = torch.stack([source[:, 0], 0.1 * mix], dim=1)
    cost = separation_costs(estimate, source, mix)[0, 1, 1].item()
    assert cost == pytest.approx(
        reference_cost(estimate[0, 1], source[0, 1], float(mix.square().sum())), abs=DB
    )
    estimate[0, 1] = 0
    assert separation_costs(estimate, source, mix)[0, 1, 1].item() == pytest.approx(FLOOR_DB, abs=DB)


def extreme_cases() -> dict[str, tuple[Tensor, Tensor, Tensor]]:
    speech, other = make_waveforms(2, 1, 600), make_waveforms(2, 1, 600, seed=1)
    clipped = (40 * torch.cat([speech, other], 1)).clamp(-1, 1)
    silence = torch.zeros(2, 2, 600)
    cases = {
        "silence": (silence, silence),
        "silent estimate": (silence, torch.cat([speech, other], 1)),
        "silent sources": (torch.cat([speech, other], 1), silence),
        "identical sources": (torch.cat([speech, speech], 1), torch.cat([speech, speech], 1)),
        "one speaker": (torch.cat([speech, other], 1), torch.cat([speech, torch.zeros_like(speech)], 1)),
        "clipped": (torch.cat([speech, other], 1), clipped),
        "inaudible": (torch.cat([speech, other], 1), 1e-5 * torch.cat([speech, other], 1)),
        "huge": (1e3 * torch.cat([speech, other], 1), 1e2 * torch.cat([speech, other], 1)),
    }
    return {name: (e, s, s.sum(1)) for name, (e, s) in cases.items()}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("case", extreme_cases())
def test_costs_and_gradients_are_finite(case: str, dtype: torch.dtype) -> None:
    estimate, source, mix = (x.to(dtype) for x in extreme_cases()[case])
    estimate.requires_grad_()
    cost = separation_costs(estimate, source, mix)
    cost.sum().backward()
    assert cost.dtype == torch.float32 and torch.isfinite(cost).all()
    assert torch.isfinite(estimate.grad).all() and cost.min() >= FLOOR_DB - DB


@given(st.permutations(range(3)), st.permutations(range(3)), st.integers(0, 99))
@settings(max_examples=20, deadline=None)
def test_permuting_sources_or_streams_permutes_costs(sources: list, streams: list, seed: int) -> None:
    estimate, source = make_waveforms(2, 3, 100, seed=seed), make_waveforms(2, 3, 100, seed=seed + 1)
    source[0, 2] = 0
    mix = source.sum(1)
    cost = separation_costs(estimate, source, mix)
    moved = separation_costs(estimate[:, streams], source[:, sources], mix)
    assert torch.allclose(moved, cost[:, streams][:, :, sources], atol=DB)
    # The best pairs and their cost are therefore the same.
    before, after = best_permutation(cost), best_permutation(moved)
    assert torch.equal(torch.tensor(streams)[after], before[:, sources])


@given(st.integers(1, 6), st.integers(0, 999))
@settings(max_examples=40, deadline=None)
def test_best_permutation_has_the_lowest_total_cost(streams: int, seed: int) -> None:
    cost_BCK = make_waveforms(3, streams, streams, seed=seed)
    order_BK = best_permutation(cost_BCK)
    for cost_CK, order_K in zip(cost_BCK, order_BK.tolist(), strict=True):
        cheapest = min(
            itertools.permutations(range(streams)),
            key=lambda order, cost=cost_CK: sum(float(cost[c, k]) for k, c in enumerate(order)),
        )
        assert tuple(order_K) == cheapest


def test_reorder_selects_the_stream_of_each_source() -> None:
    order_BK = torch.tensor([[2, 0, 1], [0, 1, 2]])
    for x_BC in (make_waveforms(2, 3), make_waveforms(2, 3, 4), make_waveforms(2, 3, 4, 5)):
        for b, k in itertools.product(range(2), range(3)):
            assert torch.equal(reorder(x_BC, order_BK)[b, k], x_BC[b, order_BK[b, k]])


def test_activity_does_not_depend_on_the_level_of_the_source() -> None:
    power_BCS = torch.full((1, 3, 10), 1e-4)
    power_BCS[0, 1] = 1e-4 * torch.tensor([1, 1, 1, 1e-2, 2e-3, 5e-4, 0, 0, 1, 1])
    power_BCS[0, 2] = 0
    active = speech_activity(power_BCS, torch.tensor([1e-4]))
    assert active[0].tolist() == [[1] * 10, [1, 1, 1, 1, 1, 0, 0, 0, 1, 1], [0] * 10]
    louder = speech_activity(100 * power_BCS, torch.tensor([1e-2]))
    assert torch.equal(louder, active)


@pytest.mark.parametrize(("below_db", "active"), [(-39.0, 1.0), (-41.0, 0.0)])
def test_sources_more_than_40_db_below_the_mixture_are_inactive(below_db: float, active: float) -> None:
    power_BCS = torch.full((1, 1, 8), 10 ** (below_db / 10))
    assert (speech_activity(power_BCS, torch.ones(1)) == active).all()


@pytest.mark.parametrize(
    ("level_db", "segments", "expected"),
    [(-14.9, 10, True), (-15.1, 10, False), (-10.0, 5, True), (-10.0, 4, False)],
)
def test_audible_sources_are_loud_and_long_enough(level_db: float, segments: int, expected: bool) -> None:
    """Above -15 dB relative to the mixture, and active for half a second: five segments of 0.1 s."""
    source = make_waveforms(1, 1, 1000)
    mix = source[:, 0] / 10 ** (level_db / 20)
    active = torch.zeros(1, 1, 10)
    active[..., :segments] = 1
    assert audible_sources(source, mix, active, 0.1).item() is expected


def test_silence_is_never_audible() -> None:
    assert not audible_sources(torch.zeros(1, 2, 100), torch.zeros(1, 100), torch.ones(1, 2, 10), 0.1).any()


def test_activity_loss_is_the_mean_cross_entropy_over_valid_segments() -> None:
    odds, active, valid = (
        20 * make_waveforms(2, 2, 6),
        (make_waveforms(2, 2, 6, seed=1) > 0).float(),
        torch.ones(2, 6),
    )
    valid[1, 3:] = 0
    expected = [
        -math.log(1 / (1 + math.exp(-(o if a else -o))))
        for row in range(2)
        for c in range(2)
        for o, a, v in zip(odds[row, c].tolist(), active[row, c].tolist(), valid[row].tolist(), strict=True)
        if v
    ]
    assert activity_loss(odds, active, valid).item() == pytest.approx(sum(expected) / len(expected), abs=1e-5)
    odds[1, :, 3:] = 1e3
    assert activity_loss(odds, active, valid).item() == pytest.approx(sum(expected) / len(expected), abs=1e-5)
