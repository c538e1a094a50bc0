"""Contrastive separative coding: one permutation, three losses (method, sections 2, 4 and 5)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from pydantic import Field
from torch import Tensor

from separative.distributed import current
from separative.errors import SeparativeError
from separative.objectives.contrastive import Inventory, csc_loss
from separative.objectives.objective import Losses, Objective, ObjectiveConfig, activity_and_heard
from separative.objectives.separation import (
    activity_loss,
    best_permutation,
    reorder,
    separation_costs,
)

if TYPE_CHECKING:
    from separative.model import Separated, SeparativeEncoder


class LossConfig(ObjectiveConfig):
    """Weights of L = w_sep·L_sep/10 + w_csc·(L(query) + L(answer)) + w_act·L_act − γ·spread."""

    objective: Literal["csc"] = "csc"
    separation: float = Field(default=0.5, ge=0, description="w_sep, per 10 dB")
    csc: float = Field(default=1.0, ge=0, description="w_csc")
    single: float = Field(
        default=1.0,
        ge=0,
        le=1,
        description="share of w_sep in mixtures of one speaker",
    )
    activity: float = Field(default=0.5, ge=0, description="w_act")
    spread: float = Field(default=0.0, ge=0, description="γ")
    order: float = Field(
        default=1.0,
        ge=0,
        description="share of the contrastive costs in the order of streams; all without separation",
    )
    alpha: float = Field(default=10.0, gt=0, description="initial precision α")
    margin: float = Field(default=0.0, ge=0, lt=1.5, description="additive angular margin, radians")
    smoothing: float = Field(default=0.0, ge=0, lt=1, description="label smoothing")
    own_drop: float = Field(
        default=0.5, ge=0, le=1, description="p_own: a query does without its own view's memory"
    )
    negatives: int | None = Field(
        default=None, ge=1, description="rows drawn as negatives, an ablation; the exact sum over all if null"
    )


class SeparativeObjective(Objective):
    """Owns the inventory of global speaker vectors."""

    inventory: Inventory
    alone = False

    def __init__(self, config: LossConfig, identities: int, embedding: int) -> None:
        super().__init__()
        self.config, self.processes = config, current()
        if self.processes.world > 1 and (config.negatives or config.smoothing or config.spread):
            raise SeparativeError(
                "negatives, smoothing and spread need the whole inventory in one process: leave them out or"
                " train with one"
            )
        self.inventory = Inventory(identities, embedding, config.alpha, processes=self.processes)

    def forward(
        self,
        model: SeparativeEncoder,
        mix_BN: Tensor,
        source_BCN: Tensor,
        identity_BC: Tensor,
        group_B: Tensor,
    ) -> Losses:
        w = self.config
        out: Separated = model(mix_BN, group_B=group_B, own_drop=w.own_drop, separate=w.separation > 0)
        return self.judge(model, out, mix_BN, source_BCN, identity_BC)

    def judge(
        self,
        model: SeparativeEncoder,
        out: Separated,
        mix_BN: Tensor,
        source_BCN: Tensor,
        identity_BC: Tensor,
    ) -> Losses:
        """Losses of what the model made of a batch; arguments as of :class:`Objective`."""
        w = self.config
        # Energies of samples leave the range of half precision.
        mix_BN, source_BCN = mix_BN.float(), source_BCN.float()
        active_BCS, heard_BC = activity_and_heard(model, mix_BN, source_BCN, identity_BC)

        # Silence in the second stream is easily learnt from single speakers, and slow to unlearn on mixtures.
        single_B = (source_BCN.square().sum(-1) > 0).sum(1) <= 1
        share_B = torch.where(single_B, w.single, 1.0) if w.separation > 0 else mix_BN.new_zeros(len(mix_BN))

        # What each stream would cost for each source; one order serves every loss below.
        # Without gradient: first the choice, then the losses of the pairs it chose.
        label_BK = identity_BC.clamp(min=0)
        embeds = {"query": out.query_BCE, "answer": out.attended_BCE}
        with torch.no_grad():
            cost_BCK = mix_BN.new_zeros(*identity_BC.shape, identity_BC.shape[1])
            if w.separation > 0:
                decibels_BCK = separation_costs(out.estimate_BCN, source_BCN, mix_BN)
                cost_BCK += w.separation / 10 * share_B[:, None, None] * decibels_BCK
            if w.separation == 0 or w.single < 1:
                # Where waveforms do not say whose a stream is, its activity does.
                costs_BCK = _activity_costs(out.activity_BCS, active_BCS)
                cost_BCK += w.activity * (1 - share_B)[:, None, None] * costs_BCK
            nats = {name: self.inventory.nats(embed_BCE, label_BK) for name, embed_BCE in embeds.items()}
            # Without waveforms there is nothing better to go by than the embeddings.
            share = w.order if w.separation > 0 else 1.0
            for nats_BCK in nats.values():
                cost_BCK += share * w.csc * nats_BCK * heard_BC.unsqueeze(1)
            order_BK = best_permutation(cost_BCK)

        total = mix_BN.new_zeros(())
        parts: dict[str, Tensor] = {}
        if w.separation > 0:
            estimate_BKN = reorder(out.estimate_BCN, order_BK)
            # Each source with its own stream only: rows of one estimate and one source.
            sep_BK = separation_costs(
                estimate_BKN.flatten(0, 1).unsqueeze(1),
                source_BCN.flatten(0, 1).unsqueeze(1),
                mix_BN.repeat_interleave(source_BCN.shape[1], dim=0),
            ).view(label_BK.shape)
            total = total + w.separation / 10 * (share_B.unsqueeze(1) * sep_BK).mean()
            parts["separation_db"] = sep_BK.detach().mean()
        label_R = label_BK[heard_BC]
        # Processes are averaged over; each has as many mixtures, but not as many speakers in them.
        count = self.processes.total(heard_BC.sum()).clamp(min=1) / self.processes.world
        for name, embed_BCE in embeds.items():
            rows_RE = reorder(embed_BCE, order_BK)[heard_BC]
            loss_R = csc_loss(
                self.inventory,
                rows_RE,
                label_R,
                margin=w.margin,
                smoothing=w.smoothing,
                negatives=w.negatives,
            )
            # The mean over streams that are there; a batch without any contributes nothing.
            total = total + w.csc * loss_R.sum() / count
            # Reported without margin and smoothing, as the bound on information wants it.
            chosen_BK = nats[name].gather(1, order_BK.unsqueeze(1)).squeeze(1)
            parts[f"csc_{name}"] = chosen_BK[heard_BC].sum() / count
        loss = activity_loss(reorder(out.activity_BCS, order_BK), active_BCS, out.valid_BS)
        total = total + w.activity * loss
        parts["activity"] = loss.detach()
        if w.spread > 0:
            total = total - w.spread * self.inventory.spread()
        return Losses(total, parts, order_BK)


def _activity_costs(activity_BCS: Tensor, active_BKS: Tensor) -> Tensor:
    """Mean binary cross-entropy [B,C,K] of every stream's activity against every source's."""
    x, y = activity_BCS.float().unsqueeze(2), active_BKS.unsqueeze(1)
    return (torch.nn.functional.softplus(x) - x * y).mean(-1)
