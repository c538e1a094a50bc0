"""Label-free baselines with a second network, the running average of the trained one: ``moco`` and ``dino``.

As for the other baselines (:mod:`separative.objectives.baselines`), there is one embedding per mixture. The
views of a condition group are the augmented versions of one recording.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from separative.objectives.baselines import SingleEmbeddingObjective, mean_loss
from separative.objectives.objective import Losses, ObjectiveConfig

if TYPE_CHECKING:
    from separative.model import SeparativeEncoder


class MomentumObjective(SingleEmbeddingObjective):
    """Base class: keeps the running average of the network, which gives the targets and has no gradient.

    Attributes:
        slow: the running average, a part of the checkpoint.

    >>> MomentumObjective(momentum=0.99).min_views
    2
    """

    min_views = 2
    slow: SeparativeEncoder | None
    updates: Tensor

    def __init__(self, momentum: float) -> None:
        super().__init__()
        self.momentum = momentum
        self.register_module("slow", None)
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))

    def prepare(self, model: SeparativeEncoder) -> None:
        """Copy the network."""
        self.slow = copy.deepcopy(model).requires_grad_(False)

    @torch.no_grad()
    def update(self, slow: nn.Module, fast: nn.Module) -> None:
        """Move the running average towards a network; the first time, it becomes equal to it."""
        # The decay is small at first, so that the average soon forgets the untrained network.
        updates = float(self.updates)
        decay = min(self.momentum, updates / (updates + 10))
        update_average(slow, fast, decay)

    @torch.no_grad()
    def embed_slowly(self, model: SeparativeEncoder, mixtures: Tensor) -> Tensor:
        """Update the running average, and return its embeddings [B,E] of mixtures [B,N]."""
        if self.slow is None:
            self.prepare(model)
        assert self.slow is not None
        self.update(self.slow, model)
        return self.embed(self.slow, mixtures)


class MocoConfig(ObjectiveConfig):
    """Momentum contrast: ``temperature``, length of the ``queue``, and decay ``momentum`` of the average.

    >>> MocoConfig(objective="moco").queue
    1024
    """

    objective: Literal["moco"]
    temperature: float = Field(default=0.1, gt=0)
    queue: int = Field(default=1024, ge=1, le=1 << 20)
    momentum: float = Field(default=0.99, ge=0, lt=1)


class MomentumContrast(MomentumObjective):
    """Find the slow embedding of another view of the group among those of past steps (arXiv 1911.05722).

    >>> objective = MomentumContrast(MocoConfig(objective="moco", queue=5), identities=10, embedding=16)
    >>> objective.queue_QE.shape
    torch.Size([5, 16])
    """

    queue_QE: Tensor
    next_place: Tensor

    def __init__(self, config: MocoConfig, identities: int, embedding: int) -> None:
        super().__init__(config.momentum)
        self.temperature = config.temperature
        # As in the paper, the queue is random at first.
        self.register_buffer("queue_QE", F.normalize(torch.randn(config.queue, embedding), dim=-1))
        self.register_buffer("next_place", torch.zeros((), dtype=torch.int64))

    def forward(
        self, model: SeparativeEncoder, mixtures: Tensor, sources: Tensor, identities: Tensor, groups: Tensor
    ) -> Losses:
        slow_BE = self.embed_slowly(model, mixtures)
        self.updates += 1
        embed_BE = self.embed(model, mixtures)
        # The true key of a view is the next view of its group.
        true_BE = slow_BE.unflatten(0, (int(groups.max()) + 1, -1)).roll(-1, dims=1).flatten(0, 1)
        true_B1 = (embed_BE * true_BE).sum(-1, keepdim=True)
        logits_BQ = torch.cat([true_B1, embed_BE @ self.queue_QE.T], dim=1) / self.temperature
        loss_B = F.cross_entropy(logits_BQ, torch.zeros_like(groups), reduction="none")
        newest_JE = slow_BE[-len(self.queue_QE) :]
        place_J = (self.next_place + torch.arange(len(newest_JE), device=groups.device)) % len(self.queue_QE)
        self.queue_QE = self.queue_QE.index_copy(0, place_J, newest_JE)
        self.next_place = (self.next_place + len(newest_JE)) % len(self.queue_QE)
        return mean_loss("moco", loss_B)


class DinoConfig(ObjectiveConfig):
    """Self-distillation without labels; the values are those of the paper, for fewer prototypes.

    ``prototypes``: number of soft classes · ``hidden``: width of the head · ``temperature``: of the student ·
    ``slow_temperature``: of the running average · ``centre``: decay of the mean of its outputs ·
    ``momentum``: decay of the running average.

    >>> DinoConfig(objective="dino").prototypes
    1024
    """

    objective: Literal["dino"]
    prototypes: int = Field(default=1024, ge=2, le=1 << 17)
    hidden: int = Field(default=256, ge=1, le=8192)
    temperature: float = Field(default=0.1, gt=0)
    slow_temperature: float = Field(default=0.04, gt=0)
    centre: float = Field(default=0.9, ge=0, lt=1)
    momentum: float = Field(default=0.99, ge=0, lt=1)


class DinoHead(nn.Module):
    """Cosines [R,K] of projected embeddings [R,E] with K learnt prototypes.

    >>> DinoHead(embedding=8, hidden=16, prototypes=5)(torch.randn(3, 8)).shape
    torch.Size([3, 5])
    """

    def __init__(self, embedding: int, hidden: int, prototypes: int) -> None:
        super().__init__()
        self.project = nn.Sequential(
            nn.Linear(embedding, hidden),
            nn.GELU(),
            nn.Linear(hidden, hidden),
            nn.GELU(),
            nn.Linear(hidden, hidden),
        )
        self.prototype_KH = nn.Parameter(torch.randn(prototypes, hidden))

    def forward(self, embedding: Tensor) -> Tensor:
        """Cosines with the prototypes."""
        projected_RH = F.normalize(self.project(embedding), dim=-1)
        return projected_RH @ F.normalize(self.prototype_KH, dim=-1).T


class SelfDistillation(MomentumObjective):
    """Predict the slow network's soft class of a view from the other views of its group (arXiv 2104.14294).

    The trained network also predicts it from the halves of the other views. Its outputs cannot all become
    equal: the mean of the slow network's outputs is removed, and its temperature is low.

    >>> objective = SelfDistillation(DinoConfig(objective="dino"), identities=10, embedding=16)
    >>> objective.centre_K.shape
    torch.Size([1024])
    """

    centre_K: Tensor

    def __init__(self, config: DinoConfig, identities: int, embedding: int) -> None:
        super().__init__(config.momentum)
        self.config = config
        self.head = DinoHead(embedding, config.hidden, config.prototypes)
        self.slow_head = copy.deepcopy(self.head).requires_grad_(False)
        self.register_buffer("centre_K", torch.zeros(config.prototypes))

    def forward(
        self, model: SeparativeEncoder, mixtures: Tensor, sources: Tensor, identities: Tensor, groups: Tensor
    ) -> Losses:
        w, count = self.config, int(groups.max()) + 1
        slow_BE = self.embed_slowly(model, mixtures)
        self.update(self.slow_head, self.head)
        self.updates += 1
        half = mixtures.shape[1] // 2
        parts = [mixtures, mixtures[:, :half], mixtures[:, half : 2 * half]]
        embed_HBE = torch.stack([self.embed(model, part_BN) for part_BN in parts])
        log_HGVK = (self.head(embed_HBE) / w.temperature).log_softmax(-1).unflatten(1, (count, -1))
        with torch.no_grad():
            slow_BK = self.slow_head(slow_BE)
            class_BK = ((slow_BK - self.centre_K) / w.slow_temperature).softmax(-1)
            self.centre_K = torch.lerp(slow_BK.mean(0), self.centre_K, w.centre)
        loss_HGUV = -torch.einsum("guk,hgvk->hguv", class_BK.unflatten(0, (count, -1)), log_HGVK)
        other_UV = ~torch.eye(loss_HGUV.shape[-1], dtype=torch.bool, device=groups.device)
        return mean_loss("dino", loss_HGUV[..., other_UV])


@torch.no_grad()
def update_average(average: nn.Module, model: nn.Module, decay: float) -> None:
    """Move the running average of the weights towards the model; copy its buffers (running statistics).

    >>> average, model = torch.nn.Linear(1, 1, bias=False), torch.nn.Linear(1, 1, bias=False)
    >>> update_average(average, model, decay=0.0)
    >>> torch.equal(average.weight, model.weight)
    True
    """
    ours: list[Tensor] = list(average.parameters())
    theirs: list[Tensor] = list(model.parameters())
    torch._foreach_lerp_(ours, theirs, 1 - decay)
    for own, other in zip(average.buffers(), model.buffers(), strict=True):
        own.copy_(other)
