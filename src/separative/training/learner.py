"""What learns: the encoder, its running average, the objective and the optimiser; one step at a time."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from separative.distributed import current
from separative.errors import LossError, SeparativeError
from separative.mixtures import Batch, Mixer, MixtureConfig, Stage, loader
from separative.model import SeparativeEncoder, start_from
from separative.model.blocks import Block
from separative.objectives import Inventory, build_objective
from separative.training.optimiser import build_optimiser
from separative.training.recipe import OptimiserConfig, Recipe

if TYPE_CHECKING:
    from lightning_fabric import Fabric


# Forward passes only: about a minute on two cores.
MOST_STEPS = 200


def only_one_speaker(config: MixtureConfig) -> MixtureConfig:
    """The same crops, each alone and without noise."""
    return config.model_copy(update={"stages": (Stage(speakers=(1.0,)),)})


@torch.no_grad()
def init_inventory(
    model: SeparativeEncoder,
    inventory: Inventory,
    mixer: Mixer,
    *,
    crops: int,
    workers: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Start every row at the mean embedding of ``crops`` crops of its identity by the untrained network.

    Untrained embeddings tell speakers apart about as well as spectral averages do. Random rows throw that
    away: the loss then stays at ln P until rows and embeddings have found each other. Lengths are kept.
    Identities beyond what :data:`MOST_STEPS` steps can hold (label-free corpora) keep their random rows.
    """
    row_PE = inventory.row_PE
    sum_PE = row_PE.new_zeros(len(mixer.identities), row_PE.shape[1])
    steps = min(MOST_STEPS, crops * math.ceil(len(mixer.identities) / mixer.config.batch))
    # In training mode, as in the steps to come: statistics are those of the batch.
    processes = inventory.processes
    for done, batch in enumerate(loader(mixer, steps=steps, workers=workers, processes=processes), 1):
        query_BCE = model(batch.mix_BN.to(row_PE.device), separate=False).query_BCE
        sum_PE.index_add_(0, batch.identity_BC[:, 0].to(row_PE.device), query_BCE.mean(1))
        if progress is not None:
            progress(done, steps)
    length = processes.total(row_PE.norm(dim=1).sum()) / len(sum_PE)
    rows = inventory.rows
    sum_PE = processes.total(sum_PE)[rows.start : rows.stop]
    heard_P = sum_PE.abs().sum(1) > 0
    row_PE[heard_P] = torch.nn.functional.normalize(sum_PE[heard_P], dim=1) * length


class Learner:
    """Everything a checkpoint must hold, and the step that changes it.

    Args:
        recipe: what to build.
        identities: P, the rows of the inventory.
        fabric: see :func:`separative.training.machine.launch`; of several processes each has a learner, and
            they learn together.

    Raises:
        SeparativeError: several processes, and an objective that must have all of a batch in one.
    """

    def __init__(self, recipe: Recipe, identities: int, fabric: Fabric) -> None:
        self.recipe, self.fabric, self.processes = recipe, fabric, current()
        self.model = SeparativeEncoder(recipe.model)
        self.objective = build_objective(recipe.loss, identities, recipe.model.embedding)
        if self.processes.world > 1 and self.objective.alone:
            raise SeparativeError(
                f"the objective '{recipe.loss.objective}' compares all of a batch: train it in one process"
            )
        optimiser = build_optimiser(recipe.optimiser, self.model, self.objective)
        self.average = copy.deepcopy(self.model).requires_grad_(False).to(self.fabric.device)
        self.objective.to(self.fabric.device)
        self._wrapped, self.optimiser = self.fabric.setup(self.model, optimiser)
        inventory = self.objective.inventory
        self.rows = None if inventory is None else inventory.row_PE
        self._weights = [
            p for group in self.optimiser.param_groups for p in group["params"] if p is not self.rows
        ]
        # The engine averages gradients of the network alone over processes.
        self._beside = [p for p in self.objective.parameters() if p is not self.rows]

    @property
    def modules(self) -> dict[str, nn.Module]:
        """Modules with a state, by name."""
        return {"model": self.model, "average": self.average, "objective": self.objective}

    def start_from(self, model: SeparativeEncoder) -> None:
        """Take over a trained model's weights, for the running average too."""
        for own in (self.model, self.average):
            start_from(own, model)

    def learn(self, batch: Batch, step: int, share: float) -> dict[str, float]:
        """Take step ``step`` at ``share`` of the run; returns losses, gradient norm and learning rate.

        Raises:
            LossError: the loss or its gradient is not finite; no weight has moved then, but running
                statistics may have: go on from a checkpoint.
        """
        recipe, device = self.recipe, self.fabric.device
        rate = learning_rate(recipe.optimiser, step, share)
        for group in self.optimiser.param_groups:
            group["lr"] = rate * group["scale"]
        mix_BN, source_BCN, identity_BC, group_B = (
            x.to(device) for x in (batch.mix_BN, batch.source_BCN, batch.identity_BC, batch.group_B)
        )
        losses = self.objective(self._wrapped, mix_BN, source_BCN, identity_BC, group_B)
        self.optimiser.zero_grad()
        self.fabric.backward(losses.total)
        norm = self._clip(recipe.optimiser.clip)
        if not math.isfinite(float(losses.total.detach())) or not math.isfinite(norm):
            raise LossError(step, [info["index"] for info in batch.info])
        self.optimiser.step()
        # A short memory at first: the average must not remember the untrained network for long.
        _follow(self.average, self.model, min(recipe.optimiser.ema, (step + 1) / (step + 11)))
        parts = {**losses.parts, "loss": losses.total.detach()}
        values = torch.stack([value.float() for value in parts.values()])
        means = (self.processes.total(values) / self.processes.world).tolist()
        return {**dict(zip(parts, means, strict=True)), "gradient": norm, "lr": rate}

    def _clip(self, largest: float) -> float:
        """Average gradients over processes where the engine does not, and clip the norm of all together."""
        for weight in self._beside if self.processes.world > 1 else ():
            if weight.grad is not None:
                weight.grad = self.processes.total(weight.grad) / self.processes.world
        gradients = [p.grad for p in self._weights if p.grad is not None]
        squared = nn.utils.get_total_norm(gradients).square()
        if self.rows is not None and self.rows.grad is not None:
            # Every process has rows of its own.
            squared = squared + self.processes.total(self.rows.grad.norm().square())
            gradients.append(self.rows.grad)
        norm = float(squared.sqrt())
        if norm > largest:
            torch._foreach_mul_(gradients, largest / (norm + 1e-6))
        return norm


def compile_blocks(model: SeparativeEncoder) -> None:
    """Have torch compile the blocks at their first step; names of weights stay as they are."""
    # All blocks share their code, and every one is a version of it.
    torch._dynamo.config.recompile_limit = max(64, torch._dynamo.config.recompile_limit)
    for module in model.modules():
        if isinstance(module, Block):
            module.compile()


def learning_rate(config: OptimiserConfig, step: int, share: float) -> float:
    """Linear warm-up in steps, cosine decay to a twentieth over the run."""
    warm = min(1.0, (step + 1) / config.warmup) if config.warmup else 1.0
    return config.lr * warm * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * share)))


@torch.no_grad()
def _follow(average: nn.Module, model: nn.Module, decay: float) -> None:
    """Move the running average towards the model; buffers (running statistics) are taken over."""
    ours: list[Tensor] = list(average.parameters())
    theirs: list[Tensor] = list(model.parameters())
    torch._foreach_lerp_(ours, theirs, 1 - decay)
    for own, other in zip(average.buffers(), model.buffers(), strict=True):
        own.copy_(other)
