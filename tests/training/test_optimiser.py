"""Muon for hidden matrices and AdamW for other weights, compared with slow references."""

import copy

import pytest
import torch
from torch import Tensor, nn

from separative.model import EncoderConfig, SeparativeEncoder
from separative.objectives import LossConfig, build_objective
from separative.training.optimiser import (
    ITERATIONS,
    MOMENTUM,
    QUINTIC,
    UPDATE_RMS,
    MuonAdamW,
    build_optimiser,
    orthogonalise,
)
from separative.training.recipe import OptimiserConfig


@pytest.mark.parametrize("shape", [(8, 8), (8, 40), (40, 8)])
def test_orthogonalise_brings_singular_values_near_1_and_keeps_directions(shape: tuple[int, int]) -> None:
    matrix = torch.randn(*shape, dtype=torch.float64)
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    # The result is diagonal in the basis of the singular vectors of the input.
    inside = left.T @ orthogonalise(matrix[None])[0] @ right.T
    values = inside.diagonal()
    assert (inside - torch.diag(values)).abs().max() < 1e-6
    assert values.min() > 0.3 and values.max() < 1.3


def test_zero_matrix_stays_zero() -> None:
    assert torch.equal(orthogonalise(torch.zeros(1, 3, 4)), torch.zeros(1, 3, 4))


def slow_muon(weight: Tensor, gradients: list[Tensor], lr: float, decay: float) -> Tensor:
    """The formula of Muon for one matrix, step by step."""
    momentum = torch.zeros_like(weight)
    for gradient in gradients:
        momentum = MOMENTUM * momentum + (1 - MOMENTUM) * gradient
        x = MOMENTUM * momentum + (1 - MOMENTUM) * gradient
        x = x / x.norm()
        a, b, c = QUINTIC
        for _ in range(ITERATIONS):
            x = a * x + b * (x @ x.T @ x) + c * (x @ x.T @ x @ x.T @ x)
        weight = weight * (1 - lr * decay) - lr * UPDATE_RMS * max(weight.shape) ** 0.5 * x
    return weight


def test_updates_equal_the_formula_and_adamw() -> None:
    matrices = [nn.Parameter(torch.randn(3, 5, dtype=torch.float64)) for _ in range(2)]
    matrices.append(nn.Parameter(torch.randn(6, 4, dtype=torch.float64)))
    bias, reference = (nn.Parameter(torch.ones(4, dtype=torch.float64)) for _ in range(2))
    ours = MuonAdamW(
        [{"params": matrices, "by": "muon", "weight_decay": 0.1}, {"params": [bias]}],
        lr=0.01,
        weight_decay=0.0,
    )
    adamw = torch.optim.AdamW([reference], lr=0.01, weight_decay=0.0)
    starts = [m.detach().clone() for m in matrices]
    gradients = [[torch.randn_like(m) for m in matrices] for _ in range(3)]
    for step_gradients in gradients:
        for matrix, gradient in zip(matrices, step_gradients, strict=True):
            matrix.grad = gradient.clone()
        bias.grad = reference.grad = torch.randn(4, dtype=torch.float64)
        ours.step()
        adamw.step()
    for matrix, start, own in zip(matrices, starts, zip(*gradients, strict=True), strict=True):
        torch.testing.assert_close(matrix.detach(), slow_muon(start, list(own), 0.01, 0.1), atol=1e-9, rtol=0)
    assert torch.equal(bias, reference)


def test_optimiser_continues_from_a_state_dict() -> None:
    def run(optimiser: MuonAdamW, weights: list[nn.Parameter], steps: range) -> None:
        for step in steps:
            for number, weight in enumerate(weights):
                weight.grad = torch.sin(torch.arange(weight.numel()) + step + number).view(weight.shape)
            optimiser.step()

    def build(weights: list[nn.Parameter]) -> MuonAdamW:
        return MuonAdamW(
            [
                {"params": weights[:1], "by": "muon"},
                {"params": weights[1:2]},
                {"params": weights[2:], "by": "row"},
            ],
            lr=0.1,
        )

    weights = [nn.Parameter(torch.ones(3, 4)), nn.Parameter(torch.ones(4)), nn.Parameter(torch.ones(5, 2))]
    whole = build(weights)
    run(whole, weights, range(2))
    others = copy.deepcopy(weights)
    second = build(others)
    second.load_state_dict(copy.deepcopy(whole.state_dict()))
    run(whole, weights, range(2, 4))
    run(second, others, range(2, 4))
    assert all(torch.equal(a, b) for a, b in zip(weights, others, strict=True))


def test_row_updates_equal_the_formula() -> None:
    row_PE = nn.Parameter(torch.randn(4, 3, dtype=torch.float64))
    optimiser = MuonAdamW([{"params": [row_PE], "by": "row"}], lr=0.1, betas=(0.9, 0.99), weight_decay=0.0)
    slow, square = [list(map(float, row)) for row in row_PE.detach()], [0.0] * 4
    for step in range(1, 4):
        gradient = torch.randn(4, 3, dtype=torch.float64)
        # A row with zero gradient does not move.
        gradient[2] = 0
        row_PE.grad = gradient.clone()
        optimiser.step()
        for p in range(4):
            own = list(map(float, gradient[p]))
            square[p] = 0.99 * square[p] + 0.01 * sum(g * g for g in own) / 3
            size = (square[p] / (1 - 0.99**step)) ** 0.5 + 1e-8
            slow[p] = [x - 0.1 * g / size for x, g in zip(slow[p], own, strict=True)]
    torch.testing.assert_close(row_PE.detach(), torch.tensor(slow, dtype=torch.float64), atol=1e-6, rtol=0)


def test_row_updates_allocate_nothing_as_large_as_the_rows() -> None:
    from torch.utils._python_dispatch import TorchDispatchMode

    sizes: list[int] = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            out = func(*args, **(kwargs or {}))
            own = isinstance(out, torch.Tensor) and all(out is not a for a in args)
            # A view of the gradient needs no memory.
            if own and all(out.data_ptr() != x.data_ptr() for x in (row_PE, row_PE.grad)):
                sizes.append(out.numel())
            return out

    row_PE = nn.Parameter(torch.randn(1000, 16))
    row_PE.grad = torch.randn(1000, 16)
    optimiser = MuonAdamW([{"params": [row_PE], "by": "row"}], lr=0.1, weight_decay=0.0)
    with Watch():
        optimiser.step()
    assert sizes and max(sizes) <= 1000
    assert sum(x.numel() for x in optimiser.state[row_PE].values()) == 1001


def test_every_weight_is_in_one_group_and_only_hidden_matrices_go_to_muon() -> None:
    model = SeparativeEncoder(EncoderConfig(width=16, speaker_width=16, embedding=8, shared_blocks=1))
    objective = build_objective(LossConfig(), 5, 8)
    groups = build_optimiser(OptimiserConfig(), model, objective).param_groups
    listed = [id(w) for group in groups for w in group["params"]]
    assert sorted(listed) == sorted(id(w) for w in (*model.parameters(), *objective.parameters()))
    names = {id(w): name for name, w in model.named_parameters()}
    muon = {names[id(w)] for w in groups[0]["params"]}
    assert "shared.blocks.0.local.up.weight" in muon and "cross.key_value.weight" in muon
    assert not any("depthwise" in name or name.startswith("enter") or "bias" in name for name in muon)
    assert objective.inventory is not None
    assert [id(w) for w in groups[-1]["params"]] == [id(objective.inventory.row_PE)]
    plain = build_optimiser(OptimiserConfig(muon=False), model, objective).param_groups
    assert not plain[0]["params"]
    by_row = build_optimiser(OptimiserConfig(inventory_by="row"), model, objective).param_groups
    assert [group["by"] for group in by_row] == ["muon", "number", "number", "row"]
