"""How weights move: hidden matrices by Muon, all else by AdamW, a huge inventory row by row.

AdamW scales every number of a matrix by its own history. Muon (K. Jordan et al. 2024; size of a step after
arXiv 2502.16982) makes the update of a whole matrix orthogonal, so that all its directions learn at one
speed (docs/experiments.md).

AdamW keeps two numbers for each it moves. An inventory of millions of rows can do with one a row: the second
moment of the whole row, and no first one (as large embedding tables are trained, arXiv 1906.00091).
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
# A step of AdamW moves a number by about 0.2 times its rate, root mean square; so does this one.
SIZE = 0.2
# Coefficients of Newton-Schulz iterations that push singular values towards 1 fastest; five are enough.
QUINTIC = (3.4445, -4.7750, 2.0315)
ITERATIONS = 5


class MuonAdamW(torch.optim.AdamW):
    """AdamW; for groups with ``by: muon`` (matrices only) Muon, with ``by: row`` one second moment a row."""

    def __init__(self, groups: list[dict[str, Any]], **defaults: Any) -> None:
        super().__init__([{"by": "number"} | group for group in groups], **defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> Any:
        every = self.param_groups
        self.param_groups = [group for group in every if group["by"] == "number"]
        try:
            loss = super().step(closure)
        finally:
            self.param_groups = every
        for group in every:
            if group["by"] == "muon":
                self._step_matrices(group)
            elif group["by"] == "row":
                self._step_rows(group)
        return loss

    def _step_matrices(self, group: dict[str, Any]) -> None:
        alike: dict[tuple[int, ...], list[Tensor]] = defaultdict(list)
        moves: dict[Tensor, Tensor] = {}
        for weight in (w for w in group["params"] if w.grad is not None):
            state, gradient = self.state[weight], weight.grad
            if not state:
                # AdamW looks for a step in every state that it reads back.
                state["step"], state["momentum"] = torch.zeros(()), torch.zeros_like(weight)
            state["step"] += 1
            state["momentum"].lerp_(gradient, 1 - MOMENTUM)
            moves[weight] = torch.lerp(gradient, state["momentum"], MOMENTUM)
            alike[tuple(weight.shape)].append(weight)
        # Matrices of one shape go through the iterations together.
        for shape, weights in alike.items():
            size = SIZE * max(shape) ** 0.5
            straight_GRC = orthogonalise(torch.stack([moves[weight] for weight in weights]))
            for weight, move in zip(weights, straight_GRC, strict=True):
                weight.mul_(1 - group["lr"] * group["weight_decay"]).sub_(move, alpha=group["lr"] * size)

    def _step_rows(self, group: dict[str, Any]) -> None:
        beta = group["betas"][1]
        for weight in (w for w in group["params"] if w.grad is not None):
            state = self.state[weight]
            if not state:
                state["step"] = torch.zeros(())
                state["square_P"] = weight.new_zeros(len(weight))
            state["step"] += 1
            # Nothing here is as large as the weight: the gradient becomes the step in its own place.
            norm_P = torch.linalg.vector_norm(weight.grad, dim=1)
            state["square_P"].lerp_(norm_P.square() / weight.shape[1], 1 - beta)
            size_P = (state["square_P"] / (1 - beta ** float(state["step"]))).sqrt() + group["eps"]
            weight.sub_(weight.grad.mul_((group["lr"] / size_P).unsqueeze(1)))


def orthogonalise(matrix_GRC: Tensor) -> Tensor:
    """U Vᵀ of each matrix U Σ Vᵀ, nearly: singular values between about 0.7 and 1.2."""
    rows, columns = matrix_GRC.shape[1:]
    x: Tensor = matrix_GRC.mT if rows > columns else matrix_GRC
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-12)
    a, b, c = QUINTIC
    for _ in range(ITERATIONS):
        square = x @ x.mT
        x = a * x + (b * square + c * square @ square) @ x
    return x.mT if rows > columns else x


def build_optimiser(config: OptimiserConfig, model: SeparativeEncoder, objective: Objective) -> MuonAdamW:
    """The optimiser of a run; a group's ``scale`` is its learning rate over that of the recipe."""
    inventory = objective.inventory
    rows = [] if inventory is None else [inventory.row_PE]
    hidden = hidden_matrices(model) if config.muon else []
    taken = {id(weight) for weight in (*rows, *hidden)}
    rest = [w for w in (*model.parameters(), *objective.parameters()) if id(w) not in taken]
    groups: list[dict[str, Any]] = [
        {"params": hidden, "weight_decay": config.weight_decay, "scale": 1.0, "by": "muon"},
        {"params": [w for w in rest if w.dim() > 1], "weight_decay": config.weight_decay, "scale": 1.0},
        {"params": [w for w in rest if w.dim() <= 1], "scale": 1.0},
        # A row's speaker is heard once in many steps. A second moment with a long memory keeps those gradients
        # in view, so that the small ones in between are not blown up into a random walk.
        {"params": rows, "scale": config.inventory_lr, "betas": (0.9, 0.999), "by": config.inventory_by},
    ]
    return MuonAdamW(groups, lr=config.lr, betas=(0.9, 0.98), weight_decay=0.0)


def hidden_matrices(model: nn.Module) -> list[Tensor]:
    """Weights of linear maps between hidden layers: not of the front end, nor of single numbers."""
    return [
        module.weight
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
        and min(module.weight.shape) > 1
        and not name.startswith(("front_end", "enter"))
    ]
