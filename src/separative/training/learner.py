"""The learner: encoder, running average, objective and optimiser, and one training step."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from separative.distributed import current_process_group
from separative.errors import LossError, SeparativeError
from separative.mixtures import Batch, Mixer, MixtureConfig, Stage, loader
from separative.model import EncoderConfig, SeparativeEncoder, start_from
from separative.model.blocks import Block
from separative.objectives import Inventory, build_objective
from separative.objectives.momentum import update_average
from separative.training.optimiser import build_optimiser
from separative.training.recipe import OptimiserConfig, Recipe
from separative.types import Progress

if TYPE_CHECKING:
    from lightning_fabric import Fabric


# Number of batches of forward passes that initialise the inventory: about a minute on two cores.
MAX_INIT_BATCHES = 200


def single_speaker_config(config: MixtureConfig) -> MixtureConfig:
    """The same mixtures with the target only: no interferers and no noise, and none without a speaker.

    >>> single_speaker_config(MixtureConfig(batch=8)).stages[0].speakers
    (1.0,)
    """
    return config.model_copy(update={"stages": (Stage(speakers=(1.0,)),), "empty": 0.0})


@torch.no_grad()
def init_inventory(
    model: SeparativeEncoder,
    inventory: Inventory,
    mixer: Mixer,
    *,
    crops: int,
    workers: int = 0,
    progress: Progress | None = None,
) -> None:
    """Set every row to the mean embedding of ``crops`` crops of its identity, by the untrained network.

    Untrained embeddings separate speakers about as well as averaged spectra do. With random rows that is
    lost: the loss stays at ln P until rows and embeddings have become aligned. The lengths of rows are kept.
    Identities that do not fit into :data:`MAX_INIT_BATCHES` batches (in label-free corpora) keep random rows.

    Args:
        model: the network; it runs in its current mode.
        inventory: rows to set, in place.
        mixer: draws mixtures of one speaker; see :func:`single_speaker_config`.
        crops: number of crops per identity.
        workers: number of processes that draw mixtures.
        progress: called with (done, total) batches.

    >>> from separative.corpora import load_corpus
    >>> from separative.model import EncoderConfig
    >>> model = SeparativeEncoder(EncoderConfig(width=16, speaker_width=16, embedding=8, shared_blocks=1))
    >>> config = single_speaker_config(MixtureConfig(batch=4, seconds=1.0))
    >>> inventory = Inventory(identities=4, embedding=8)
    >>> before = inventory.row_PE.clone()
    >>> init_inventory(model, inventory, Mixer(load_corpus("speech"), config, seed=0), crops=1)
    >>> bool((inventory.row_PE != before).all())
    True
    """
    row_PE = inventory.row_PE
    sum_PE = row_PE.new_zeros(len(mixer.identities), row_PE.shape[1])
    steps = min(MAX_INIT_BATCHES, crops * math.ceil(len(mixer.identities) / mixer.config.batch))
    # The model is in training mode, as in the steps to come: normalisation uses the statistics of the batch.
    processes = inventory.processes
    for done, batch in enumerate(loader(mixer, steps=steps, workers=workers, processes=processes), 1):
        query_BCE = model(batch.mixtures.to(row_PE.device), separate=False).query_BCE
        sum_PE.index_add_(0, batch.identities[:, 0].to(row_PE.device), query_BCE.mean(1))
        if progress is not None:
            progress(done, steps)
    length = processes.sum(row_PE.norm(dim=1).sum()) / mixer.pool.known
    rows = inventory.rows
    sum_PE = processes.sum(sum_PE)[rows.start : rows.stop]
    drawn_P = sum_PE.abs().sum(1) > 0
    row_PE[drawn_P] = F.normalize(sum_PE[drawn_P], dim=1) * length


class Learner:
    """Everything that a checkpoint must contain, and the training step that changes it.

    Args:
        recipe: what to build.
        identities: number of identities P, the rows of the inventory.
        fabric: result of :func:`separative.training.machine.launch`. With several processes, each process has
            a learner, and all of them take every step together.
        teacher: size of the teacher's vectors; 0 without a teacher.

    Attributes:
        targets: the teacher's vectors for the sources of a batch; None without a teacher, and until
            :func:`~separative.training.teaching.prepare_targets` makes them.

    Raises:
        SeparativeError: several processes, with an objective that needs the whole batch in one process.

    >>> from separative.training import machine, parse_recipe
    >>> sizes = {"width": 16, "speaker_width": 16, "embedding": 8, "shared_blocks": 1}
    >>> recipe = parse_recipe({"model": sizes, "mixtures": {"batch": 4}}, "example")
    >>> learner = Learner(recipe, identities=4, fabric=machine.launch("cpu"))
    >>> sorted(learner.modules)
    ['average', 'model', 'objective']
    """

    def __init__(self, recipe: Recipe, identities: int, fabric: Fabric, *, teacher: int = 0) -> None:
        self.recipe, self.fabric, self.processes = recipe, fabric, current_process_group()
        self.targets: Callable[[Batch], Tensor] | None = None
        # Validate again: the size of the vectors limits that of the embeddings.
        config = EncoderConfig.model_validate(recipe.model.model_dump() | {"teacher": teacher})
        self.model = SeparativeEncoder(config)
        self.objective = build_objective(recipe.loss, identities, recipe.model.embedding)
        self.objective.prepare(self.model)
        if self.processes.world_size > 1 and self.objective.single_process:
            raise SeparativeError(
                f"the objective '{recipe.loss.objective}' compares all mixtures of a batch: "
                "train it in one process"
            )
        if self.processes.world_size > 1 and any(stage.alone for stage in recipe.mixtures.stages):
            raise SeparativeError(
                "a stage in which the speaker head learns alone needs one process: remove 'alone' from"
                " mixtures.stages, or train in one process"
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
        # Fabric averages gradients over processes for the network only.
        self._objective_weights = [p for p in self.objective.parameters() if p is not self.rows]

    @property
    def modules(self) -> dict[str, nn.Module]:
        """The modules with a state, by name."""
        return {"model": self.model, "average": self.average, "objective": self.objective}

    def start_from(self, model: SeparativeEncoder) -> None:
        """Copy the weights of a trained model into the model and the running average."""
        for own in (self.model, self.average):
            start_from(own, model)

    def compile_blocks(self) -> None:
        """Compile the blocks with torch.compile at their first step; names of weights do not change."""
        # All blocks share the code of one class, and each of them is one recompilation of it.
        torch._dynamo.config.recompile_limit = max(64, torch._dynamo.config.recompile_limit)
        for module in self.model.modules():
            if isinstance(module, Block):
                module.compile()

    def step(self, batch: Batch, step: int, fraction: float) -> dict[str, float]:
        """Take one training step and return losses, gradient norm and learning rate.

        Args:
            batch: mixtures.
            step: number of the step, from 0.
            fraction: finished fraction of the run, 0 to 1, for the learning rate.

        Raises:
            LossError: the loss or its gradient is not finite. The weights are unchanged, but running
                statistics may have changed: continue from a checkpoint.
        """
        recipe, device = self.recipe, self.fabric.device
        rate = learning_rate(recipe.optimiser, step, fraction)
        for group in self.optimiser.param_groups:
            group["lr"] = rate * group["scale"]
        tensors = (x.to(device) for x in (batch.mixtures, batch.sources, batch.identities, batch.groups))
        taught = {} if self.targets is None else {"targets": self.targets(batch).to(device)}
        alone = {"alone": True} if recipe.mixtures.stage(step).alone else {}
        losses = self.objective(self._wrapped, *tensors, **taught, **alone)
        self.optimiser.zero_grad()
        self.fabric.backward(losses.total)
        norm = self._clip_gradients(recipe.optimiser.clip)
        if not math.isfinite(float(losses.total.detach())) or not math.isfinite(norm):
            raise LossError(step, [info["index"] for info in batch.info])
        self.optimiser.step()
        # The decay is small at first, so that the average soon forgets the untrained network.
        update_average(self.average, self.model, min(recipe.optimiser.ema, (step + 1) / (step + 11)))
        parts = {**losses.parts, "loss": losses.total.detach()}
        values = torch.stack([value.float() for value in parts.values()])
        means = (self.processes.sum(values) / self.processes.world_size).tolist()
        return {**dict(zip(parts, means, strict=True)), "gradient": norm, "lr": rate}

    def _clip_gradients(self, max_norm: float) -> float:
        """Average the gradients that Fabric does not average, and clip the norm of all gradients together."""
        if self.processes.world_size > 1:
            for weight in self._objective_weights:
                if weight.grad is not None:
                    weight.grad = self.processes.sum(weight.grad) / self.processes.world_size
        gradients = [p.grad for p in self._weights if p.grad is not None]
        squared = nn.utils.get_total_norm(gradients).square()
        if self.rows is not None and self.rows.grad is not None:
            # Every process has different rows.
            squared = squared + self.processes.sum(self.rows.grad.norm().square())
            gradients.append(self.rows.grad)
        norm = float(squared.sqrt())
        if norm > max_norm:
            torch._foreach_mul_(gradients, max_norm / (norm + 1e-6))
        return norm


def learning_rate(config: OptimiserConfig, step: int, fraction: float) -> float:
    """Learning rate with linear warm-up over steps and cosine decay to a twentieth over the run.

    Args:
        config: learning rate and number of warm-up steps.
        step: number of the step, from 0.
        fraction: finished fraction of the run, 0 to 1.

    >>> config = OptimiserConfig(lr=1e-3, warmup=10)
    >>> learning_rate(config, step=4, fraction=0.0), round(learning_rate(config, step=99, fraction=1.0), 8)
    (0.0005, 5e-05)
    """
    warm = min(1.0, (step + 1) / config.warmup) if config.warmup else 1.0
    return config.lr * warm * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * fraction)))
