"""Global speaker vectors made by the cross-attention from other views (method, section 7).

All that is known is that the target is present in every view of its condition group. No label is needed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional as F

from separative.distributed import ProcessGroup, current_process_group
from separative.objectives.contrastive import precision_parameter, squared_distance_logits
from separative.objectives.partition import at_least_float32
from separative.objectives.separation import reorder

if TYPE_CHECKING:
    from separative.model import EncoderOutput, SeparativeEncoder


class PresenceConfig(BaseModel):
    """The section ``loss.presence`` of a recipe.

    With q the query of the target in a view and g the global vector that the attention makes of the other
    views, L = −ln( exp f(q, g) / Σ_k exp f(q, k) ) plus the same with q and g exchanged, where
    f(a, b) = −α ‖a − b‖².

    >>> PresenceConfig(queue=1024).residual
    False
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    weight: float = Field(default=1.0, ge=0, description="weight of the term")
    alpha: float = Field(default=10.0, gt=0, le=1000, description="initial precision α, which is learnt")
    residual: bool = Field(
        default=False,
        description="attend with the mean query of the target in the other views, and add it to the result"
        " (an ablation)",
    )
    own_view: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="probability that the memory of a query has its own view too (an ablation)",
    )
    contrast: Literal["all", "interferers"] = Field(
        default="all",
        description="compare with all other groups and the interferers of the own group, or with those only",
    )
    queue: int = Field(
        default=0, ge=0, le=1 << 20, description="number of past global vectors to compare with"
    )
    attention: bool = Field(
        default=True,
        description="make global vectors by attention; false for the mean query of the target in the other"
        " views (an ablation, which needs the order of the streams in all of them)",
    )
    attended: bool = Field(
        default=True,
        description="also train the embedding that attends to its own view alone, the one of a single"
        " recording",
    )


class PresenceTerm(nn.Module):
    """The loss of ``presence``, its precision α, and the queue of past global vectors.

    Attributes:
        queue_QE: past global vectors of unit norm. They have no gradient.
        identity_Q: identity of each; −1 for an empty place.

    >>> term = PresenceTerm(PresenceConfig(queue=4), embedding=8)
    >>> term.alpha, term.identity_Q
    (tensor(10., grad_fn=...), tensor([-1, -1, -1, -1]))
    """

    queue_QE: Tensor
    identity_Q: Tensor
    next_place: Tensor

    def __init__(self, config: PresenceConfig, embedding: int) -> None:
        super().__init__()
        self.config, self.processes = config, current_process_group()
        self.a = precision_parameter(config.alpha)
        self.register_buffer("queue_QE", torch.zeros(config.queue, embedding))
        self.register_buffer("identity_Q", torch.full((config.queue,), -1))
        self.register_buffer("next_place", torch.zeros((), dtype=torch.int64))

    @property
    def alpha(self) -> Tensor:
        """The precision α > 0."""
        return F.softplus(self.a)

    def prepare(self, model: SeparativeEncoder) -> None:
        """Give the output of a new cross-attention random weights.

        They are zero in a new model, and global vectors without a residual would all be zero. The small
        scale keeps attended embeddings close to their queries at first.
        """
        if model.cross is not None and self.config.attention and not self.config.residual:
            nn.init.orthogonal_(model.cross.out.weight, gain=0.03)

    def forward(
        self,
        model: SeparativeEncoder,
        output: EncoderOutput,
        order: Tensor,
        audible: Tensor,
        identities: Tensor,
        groups: Tensor,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the weighted loss and its parts for the log, in nats.

        A view without a speaker, and a target that is inaudible, contribute nothing. A group of one view has
        no global vector and contributes nothing either.

        Args:
            model: the encoder, with cross-attention.
            output: its output for the mixtures.
            order: the stream of each source [B,K].
            audible: whether each source is audible, with or without an identity [B,K].
            identities: identity of each source [B,K]; the target is the first, and −1 if there is no speaker.
            groups: condition group of each mixture [B].
        """
        w = self.config
        query_BKE = reorder(at_least_float32(output.query_BCE), order)
        query_BE, identity_B = query_BKE[:, 0], identities[:, 0]
        present_B = identity_B >= 0
        same_BB = groups.unsqueeze(1) == groups
        own_BB = torch.eye(len(groups), dtype=torch.bool, device=groups.device)
        others_BB = same_BB & ~own_BB & present_B
        reach_BB = others_BB | self._own_views(own_BB)
        mean_BE = F.normalize(reach_BB.to(query_BE.dtype) @ query_BE, dim=-1)
        global_BE = mean_BE
        if w.attention:
            # With its own query as the residual, a view would find itself.
            asking_BE = mean_BE if w.residual else query_BE
            global_BE = self._attend(model, output, asking_BE, reach_BB, w.residual)
        used_B = present_B & audible[:, 0] & others_BB.any(1)

        embeddings = {"query": query_BE}
        if w.attended:
            embeddings["attended"] = self._attend(model, output, query_BE, own_BB, residual=True)
        every, own = _gather(torch.stack([global_BE, *embeddings.values()], dim=1), self.processes)
        identity_A, _ = self.processes.gather(identity_B)
        used_A, _ = self.processes.gather(used_B)
        place_B = torch.arange(len(groups), device=groups.device) + (own.start or 0)
        # The other groups of the step. Those of the same identity are left out, like the own group's views.
        known_BA = used_A & (identity_B.unsqueeze(1) != identity_A) & (w.contrast == "all")
        known_BA = known_BA.scatter(1, place_B.unsqueeze(1), True)
        # The interferers in all views of the group. Which speakers they are need not be known.
        interferer_RE = query_BKE[:, 1:].flatten(0, 1)
        differs_BR = (identities[:, 1:].flatten() != identity_B.unsqueeze(1)) & audible[:, 1:].flatten()
        interferes_BR = differs_BR & same_BB.repeat_interleave(query_BKE.shape[1] - 1, dim=1)
        past_BQ = (self.identity_Q >= 0) & (self.identity_Q != identity_B.unsqueeze(1))

        keys = [(every[:, 0], known_BA), (interferer_RE, interferes_BR), (self.queue_QE, past_BQ)]
        count = self.processes.sum(used_B.sum()).clamp(min=1) / self.processes.world_size
        total = query_BE.new_zeros(())
        parts: dict[str, Tensor] = {}
        for number, (name, embed_BE) in enumerate(embeddings.items(), 1):
            found_B, count_B = self._contrast(embed_BE, keys, place_B)
            back_B, _ = self._contrast(
                global_BE, [(every[:, number], known_BA), (interferer_RE, interferes_BR)], place_B
            )
            found, back = ((x_B * used_B).sum() / count for x_B in (found_B, back_B))
            total = total + w.weight * (found + back)
            parts |= {f"presence_{name}": found.detach(), f"presence_{name}_back": back.detach()}
            if name == "query":
                # Lower bound on the mutual information between query and global vector.
                bound_B = count_B.log() - found_B.detach()
                parts["presence_bound"] = (bound_B * used_B).sum() / count
        first_B = groups != F.pad(groups, (1, -1), value=-1)
        kept_A, _ = self.processes.gather(used_B & first_B)
        self._remember(every[kept_A, 0].detach(), identity_A[kept_A])
        return total, parts

    def _own_views(self, own_BB: Tensor) -> Tensor:
        """Mask [B,B] of the own views that stay in the memory."""
        if self.config.own_view == 0:
            return torch.zeros_like(own_BB)
        # The processes of a training run share the random state: each draws for all and takes its part.
        chance_WB = torch.rand(self.processes.world_size, len(own_BB), device=own_BB.device)
        return own_BB & (chance_WB[self.processes.rank] < self.config.own_view).unsqueeze(1)

    def _attend(
        self,
        model: SeparativeEncoder,
        output: EncoderOutput,
        query_BE: Tensor,
        reach_BB: Tensor,
        residual: bool,
    ) -> Tensor:
        """Vectors [B,E] of unit norm that queries [B,E] attend to in the views that each can reach [B,B]."""
        cross: Any = model.cross
        bias_BCS = cross.logit_bias(output.activity_BCS.float(), output.valid_BS)
        open_BM = reach_BB.repeat_interleave(bias_BCS[0].numel(), dim=1)
        bias_BM = bias_BCS.reshape(1, -1).masked_fill(~open_BM, -1e4)
        memory_ME = output.segment_BCSE.flatten(0, 2)
        found_BE: Tensor = cross.attend(query_BE.to(memory_ME.dtype), memory_ME, bias_BM, residual=residual)
        return found_BE.to(query_BE.dtype)

    def _contrast(
        self, embed_BE: Tensor, keys: list[tuple[Tensor, Tensor]], place_B: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Loss [B] in nats of finding key number ``place_B``, and the number of keys [B].

        Args:
            embed_BE: embeddings of unit norm.
            keys: vectors of unit norm [J,E], and which of them each embedding is compared with [B,J].
            place_B: the place of the true key among the first of the ``keys``.
        """
        logits_BJ = squared_distance_logits(embed_BE, torch.cat([key for key, _ in keys]), self.alpha)
        known_BJ = torch.cat([known for _, known in keys], dim=1)
        loss_B = F.cross_entropy(logits_BJ.masked_fill(~known_BJ, -torch.inf), place_B, reduction="none")
        return loss_B, known_BJ.sum(1).to(loss_B.dtype)

    @torch.no_grad()
    def _remember(self, vectors: Tensor, identities: Tensor) -> None:
        """Replace the oldest vectors of the queue by new ones [J,E] with their identities [J]."""
        size = len(self.identity_Q)
        if size == 0 or not self.training:
            return
        vectors, identities = vectors[-size:], identities[-size:]
        place = (self.next_place + torch.arange(len(vectors), device=vectors.device)) % size
        self.queue_QE[place] = vectors.to(self.queue_QE)
        self.identity_Q[place] = identities
        self.next_place.add_(len(vectors)).remainder_(size)


class _GatherWithGradient(torch.autograd.Function):
    """Rows of all processes. The gradient of a row is the sum of what all processes compute from it."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, processes: ProcessGroup) -> Tensor:
        every, own = processes.gather(rows)
        ctx.processes, ctx.own = processes, own
        return every

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return ctx.processes.sum(gradients[0])[ctx.own], None


def _gather(rows: Tensor, processes: ProcessGroup) -> tuple[Tensor, slice]:
    """Rows of all processes, with gradient, and the slice of them that belongs to this process."""
    if processes.world_size == 1:
        return rows, slice(0, len(rows))
    every: Any = _GatherWithGradient.apply(rows, processes)  # type: ignore[no-untyped-call]
    first = processes.rank * len(rows)
    return every, slice(first, first + len(rows))
