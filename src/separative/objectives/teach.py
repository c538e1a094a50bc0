"""Learn a teacher's vectors from mixtures, together with separation and the inventory (method, section 8)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from separative.errors import SeparativeError
from separative.objectives.csc import SeparativeConfig, SeparativeObjective
from separative.objectives.objective import Losses, activity_and_audible
from separative.objectives.partition import at_least_float32, partition_terms
from separative.objectives.separation import reorder

if TYPE_CHECKING:
    from separative.model import SeparativeEncoder


class TeachConfig(SeparativeConfig):
    """Weights of the losses of ``csc`` and of w_teach·(L_teach(query) + L_teach(attended)).

    L_teach = (1 − cos(e, t)) + λ·KL, see :func:`teacher_divergence`.

    >>> TeachConfig(divergence=0.0).teach
    1.0
    """

    objective: Literal["teach"] = "teach"
    teach: float = Field(default=1.0, ge=0, description="w_teach")
    divergence: float = Field(default=0.1, ge=0, description="λ, weight of the Kullback-Leibler divergence")
    teach_alpha: float = Field(default=10.0, gt=0, le=1000, description="fixed precision α of the divergence")


class TeachObjective(SeparativeObjective):
    """The objective ``teach``: embeddings approach a teacher's vectors of the clean recordings.

    Attributes:
        teacher_RE: the teacher's vectors of all training recordings in the embedding space, unit norm. They
            come from a file and are not part of the objective's state; see :meth:`set_teacher`.

    >>> objective = TeachObjective(TeachConfig(), identities=3, embedding=4)
    >>> objective.set_teacher(torch.eye(4))
    >>> len(objective.teacher_RE)
    4
    """

    needs_teacher: ClassVar[bool] = True
    config: TeachConfig
    teacher_RE: Tensor

    def __init__(self, config: TeachConfig, identities: int, embedding: int) -> None:
        super().__init__(config, identities, embedding)
        self.register_buffer("teacher_RE", torch.zeros(0, embedding), persistent=False)

    def set_teacher(self, rows: Tensor) -> None:
        """Set the teacher's vectors of all training recordings [R,E], unit norm."""
        self.teacher_RE = rows.to(self.teacher_RE)

    def forward(
        self,
        model: SeparativeEncoder,
        mixtures: Tensor,
        sources: Tensor,
        identities: Tensor,
        groups: Tensor,
        targets: Tensor | None = None,
        *,
        alone: bool = False,
    ) -> Losses:
        """Compute the losses of a batch; see :class:`Objective`.

        Args:
            targets: the teacher's vector of each source [B,C,E], unit norm; zeros if it has none.
            alone: the mixtures have one speaker, and only the speaker head learns.

        Raises:
            SeparativeError: there are no targets.
        """
        if targets is None or not len(self.teacher_RE):
            raise SeparativeError("the objective 'teach' needs the teacher's vectors; train with --vectors")
        w = self.config
        output, (sources, identities, targets) = self.run(
            model, mixtures, groups, alone, sources, identities, targets
        )
        target_BCE = at_least_float32(targets)
        # A source needs no label: the teacher's vector of its recording is enough.
        known_BC = (target_BCE.square().sum(-1) > 0).long() - 1
        _, taught_BC = activity_and_audible(model, mixtures.float(), sources.float(), known_BC)
        embeddings = {"query": output.query_BCE, "attended": output.attended_BCE}

        with torch.no_grad():
            costs = [
                1 - at_least_float32(x_BCE) @ target_BCE.transpose(1, 2) for x_BCE in embeddings.values()
            ]
            cost_BCK = w.teach * sum(costs) * taught_BC.unsqueeze(1)
        losses = self.compute_losses(model, output, mixtures, sources, identities, groups, cost_BCK)
        if losses.order is None:
            return losses

        total, parts = losses.total, dict(losses.parts)
        # As in `compute_losses`: the mean is over the sources of all processes.
        count = self.processes.sum(taught_BC.sum()).clamp(min=1) / self.processes.world_size
        target_RE = target_BCE[taught_BC]
        for name, x_BCE in embeddings.items():
            embed_RE = at_least_float32(reorder(x_BCE, losses.order)[taught_BC])
            cos_R = torch.linalg.vecdot(embed_RE, target_RE)
            loss = (1 - cos_R).sum() / count
            parts[f"teach_cos_{name}"] = cos_R.detach().sum() / count
            if w.divergence > 0:
                divergence = (
                    teacher_divergence(embed_RE, target_RE, self.teacher_RE, w.teach_alpha).sum() / count
                )
                loss = loss + w.divergence * divergence
                parts[f"teach_kl_{name}"] = divergence.detach()
            total = total + w.teach * loss
        return Losses(total, parts, losses.order)


def teacher_divergence(
    embedding: Tensor, target: Tensor, rows: Tensor, alpha: float, *, chunk: int | None = None
) -> Tensor:
    """Kullback-Leibler divergence [R] from p = softmax_j 2α cos(t, row_j) to s = softmax_j 2α cos(e, row_j).

    The sums are exact and run over all rows, one chunk at a time. With m = Σ_j p_j row_j, the divergence is
    2α m·(t − e) + ln Σ_j exp(2α e·row_j) − ln Σ_j exp(2α t·row_j). The gradient of the last sum by t is 2α m.
    So :func:`~.partition.partition_terms` computes all three terms. Only ``embedding`` has a gradient.

    Args:
        embedding: e [R,E], unit norm.
        target: t [R,E], unit norm.
        rows: the teacher's vectors of all recordings [P,E], unit norm.
        alpha: the precision α.
        chunk: number of logits in memory at a time; depends on the device by default.

    >>> e = torch.eye(3)[:2]
    >>> teacher_divergence(e, e, torch.eye(3), alpha=10.0)
    tensor([0., 0.])
    """
    with torch.autocast(embedding.device.type, enabled=False):
        row_PE, target_RE = rows.to(embedding.dtype), target.detach().to(embedding.dtype)
        precision = torch.tensor(alpha, dtype=embedding.dtype, device=embedding.device)
        no_identity_R = torch.full((len(embedding),), -1, device=embedding.device)
        with torch.enable_grad():
            variable_RE = target_RE.clone().requires_grad_()
            entropy_R, _ = partition_terms(variable_RE, row_PE, precision, no_identity_R, chunk=chunk)
            (pull_RE,) = torch.autograd.grad(entropy_R.sum(), variable_RE)
        sum_R, _ = partition_terms(embedding, row_PE, precision, no_identity_R, chunk=chunk)
        linear_R: Tensor = torch.linalg.vecdot(pull_RE, target_RE - embedding)
        return linear_R + sum_R - entropy_R.detach()
