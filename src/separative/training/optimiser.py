"""The optimiser: Muon for hidden matrices, AdamW for other weights, and a row-wise rule for huge inventories.

AdamW scales the update of every weight by its own history. Muon (K. Jordan et al. 2024; update size as in
arXiv 2502.16982) makes the update of a whole matrix orthogonal, so that all its directions learn at the same
speed (docs/experiments.md).

AdamW stores two numbers per weight. For an inventory of millions of rows, one number per row is enough: the
second moment of the whole row, without a first moment (as for large embedding tables, arXiv 1906.00091).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from separative.model import SeparativeEncoder
from separative.objectives import Objective
from separative.training.recipe import OptimiserConfig

MOMENTUM = 0.95
# Root mean square of an update divided by the learning rate; AdamW has about the same value.
UPDATE_RMS = 0.2
# Coefficients of the Newton-Schulz iteration that brings singular values near 1 fastest; five iterations
# are enough.
QUINTIC = (3.4445, -4.7750, 2.0315)
ITERATIONS = 5


class MuonAdamW(torch.optim.AdamW):
    """AdamW with two more update rules, selected per parameter group.

    ``by: "number"`` is AdamW (the default) · ``by: "muon"`` is Muon, for matrices only · ``by: "row"`` keeps
    one second moment per row.

    >>> weight = nn.Parameter(torch.ones(3, 2))
    >>> optimiser = MuonAdamW([{"params": [weight], "by": "muon"}], lr=0.1)
    >>> weight.sum().backward()
    >>> optimiser.step()
    >>> bool((weight < 1).all())
    True
    """

    def __init__(self, groups: list[dict[str, Any]], **defaults: Any) -> None:
        super().__init__([{"by": "number"} | group for group in groups], **defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> Any:
        groups = self.param_groups
        self.param_groups = [group for group in groups if group["by"] == "number"]
        try:
            loss = super().step(closure)
        finally:
            self.param_groups = groups
        for group in groups:
            if group["by"] == "muon":
                self._step_matrices(group)
            elif group["by"] == "row":
                self._step_rows(group)
        return loss

    def _step_matrices(self, group: dict[str, Any]) -> None:
        by_shape: dict[tuple[int, ...], list[Tensor]] = defaultdict(list)
        updates: dict[Tensor, Tensor] = {}
        for weight in (w for w in group["params"] if w.grad is not None):
            state, gradient = self.state[weight], weight.grad
            if not state:
                # AdamW expects an entry 'step' in every state that it loads.
                state["step"], state["momentum"] = torch.zeros(()), torch.zeros_like(weight)
            state["step"] += 1
            state["momentum"].lerp_(gradient, 1 - MOMENTUM)
            updates[weight] = torch.lerp(gradient, state["momentum"], MOMENTUM)
            by_shape[tuple(weight.shape)].append(weight)
        # Matrices of the same shape are orthogonalised together.
        for shape, weights in by_shape.items():
            size = UPDATE_RMS * max(shape) ** 0.5
            orthogonal_GRC = orthogonalise(torch.stack([updates[weight] for weight in weights]))
            for weight, update in zip(weights, orthogonal_GRC, strict=True):
                weight.mul_(1 - group["lr"] * group["weight_decay"]).sub_(update, alpha=group["lr"] * size)

    def _step_rows(self, group: dict[str, Any]) -> None:
        beta = group["betas"][1]
        for weight in (w for w in group["params"] if w.grad is not None):
            state = self.state[weight]
            if not state:
                state["step"] = torch.zeros(())
                state["square_P"] = weight.new_zeros(len(weight))
            state["step"] += 1
            # The gradient is scaled in place, so no other tensor as large as the weight is allocated.
            norm_P = torch.linalg.vector_norm(weight.grad, dim=1)
            state["square_P"].lerp_(norm_P.square() / weight.shape[1], 1 - beta)
            size_P = (state["square_P"] / (1 - beta ** float(state["step"]))).sqrt() + group["eps"]
            weight.sub_(weight.grad.mul_((group["lr"] / size_P).unsqueeze(1)))


def orthogonalise(matrices: Tensor) -> Tensor:
    """Approximate U Vᵀ of each matrix U Σ Vᵀ [G,R,C]; singular values are between about 0.7 and 1.2.

    >>> orthogonalise(torch.tensor([[[4.0, 0.0], [0.0, 3.0]]])).round()
    tensor([[[1., 0.],
             [0., 1.]]])
    """
    rows, columns = matrices.shape[1:]
    x: Tensor = matrices.mT if rows > columns else matrices
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-12)
    a, b, c = QUINTIC
    for _ in range(ITERATIONS):
        square = x @ x.mT
        x = a * x + (b * square + c * square @ square) @ x
    return x.mT if rows > columns else x


def build_optimiser(config: OptimiserConfig, model: SeparativeEncoder, objective: Objective) -> MuonAdamW:
    """Build the optimiser of a run. The ``scale`` of a group multiplies the learning rate of the recipe.

    >>> from separative.model import EncoderConfig
    >>> from separative.objectives import LossConfig, build_objective
    >>> model = SeparativeEncoder(EncoderConfig(width=16, speaker_width=16, embedding=8, shared_blocks=1))
    >>> optimiser = build_optimiser(OptimiserConfig(), model, build_objective(LossConfig(), 5, 8))
    >>> [group["by"] for group in optimiser.param_groups]
    ['muon', 'number', 'number', 'number']
    """
    inventory = objective.inventory
    rows = [] if inventory is None else [inventory.row_PE]
    hidden = hidden_matrices(model) if config.muon else []
    assigned = {id(weight) for weight in (*rows, *hidden)}
    rest = [w for w in (*model.parameters(), *objective.parameters()) if id(w) not in assigned]
    groups: list[dict[str, Any]] = [
        {"params": hidden, "weight_decay": config.weight_decay, "scale": 1.0, "by": "muon"},
        {"params": [w for w in rest if w.dim() > 1], "weight_decay": config.weight_decay, "scale": 1.0},
        {"params": [w for w in rest if w.dim() <= 1], "scale": 1.0},
        # The speaker of a row is in a batch only once in many steps. With a short memory of the second
        # moment, the small gradients in between would be scaled up and the row would follow a random walk.
        {"params": rows, "scale": config.inventory_lr, "betas": (0.9, 0.999), "by": config.inventory_by},
    ]
    return MuonAdamW(groups, lr=config.lr, betas=(0.9, 0.98), weight_decay=0.0)


def hidden_matrices(model: nn.Module) -> list[Tensor]:
    """Weights of linear maps between hidden layers; without the front end and maps to or from one number.

    >>> hidden_matrices(nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 1)))[0].shape
    torch.Size([3, 4])
    """
    return [
        module.weight
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
        and min(module.weight.shape) > 1
        and not name.startswith(("front_end", "enter"))
    ]
