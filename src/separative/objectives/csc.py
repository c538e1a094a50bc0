"""Contrastive separative coding: one order of the streams, three losses (method, sections 2, 4 and 5)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from separative.distributed import current_process_group
from separative.errors import SeparativeError
from separative.objectives.contrastive import Inventory, csc_loss
from separative.objectives.objective import Losses, Objective, ObjectiveConfig, activity_and_audible
from separative.objectives.presence import PresenceConfig, PresenceTerm
from separative.objectives.separation import activity_loss, best_permutation, reorder, separation_costs

if TYPE_CHECKING:
    from separative.model import EncoderOutput, SeparativeEncoder


class SeparativeConfig(ObjectiveConfig):
    """Weights that the objectives ``csc``, ``presence`` and ``teach`` share.

    >>> SeparativeConfig(objective="mine", separation=1.0).csc
    1.0
    """

    separation: float = Field(default=0.5, ge=0, description="w_sep, per 10 dB")
    csc: float = Field(default=1.0, ge=0, description="w_csc")
    single: float = Field(default=1.0, ge=0, le=1, description="factor on w_sep for mixtures of one speaker")
    activity: float = Field(default=0.5, ge=0, description="w_act")
    spread: float = Field(default=0.0, ge=0, description="γ")
    order: float = Field(
        default=1.0,
        ge=0,
        description="factor on the contrastive costs in the choice of the order; 1 if separation is 0",
    )
    alpha: float = Field(default=10.0, gt=0, description="initial precision α")
    margin: float = Field(default=0.0, ge=0, lt=1.5, description="additive angular margin in radians")
    smoothing: float = Field(default=0.0, ge=0, lt=1, description="label smoothing")
    own_drop: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="p_own, the probability that a query does not see the segments of its own view",
    )
    negatives: int | None = Field(
        default=None,
        ge=1,
        le=1 << 24,
        description="number of rows sampled as negatives (an ablation); null for the exact sum over all rows",
    )
    presence: PresenceConfig | None = Field(
        default=None, description="add the term of the objective presence, for groups of several views"
    )

    @property
    def needs_inventory(self) -> bool:
        """Whether there are global vectors of identities."""
        return True


class LossConfig(SeparativeConfig):
    """Weights of L = w_sep·L_sep/10 + w_csc·(L(query) + L(attended)) + w_act·L_act − γ·spread.

    >>> LossConfig(separation=1.0).csc
    1.0
    """

    objective: Literal["csc"] = "csc"


class PresenceLossConfig(SeparativeConfig):
    """Weights of the objective ``presence``: separation and presence, and the inventory if ``csc`` is not 0.

    >>> PresenceLossConfig(presence={"queue": 1024}).needs_inventory
    False
    """

    objective: Literal["presence"] = "presence"
    csc: float = Field(default=0.0, ge=0, description="w_csc; 0 for no inventory")
    presence: PresenceConfig = PresenceConfig()

    @property
    def needs_inventory(self) -> bool:
        """Whether there are global vectors of identities."""
        return self.csc > 0


class SeparativeObjective(Objective):
    """The objectives ``csc`` and ``presence``; owns the inventory of global speaker vectors, if there is one.

    Attributes:
        presence: the term of presence, or None.

    >>> objective = SeparativeObjective(LossConfig(), identities=251, embedding=192)
    >>> objective.inventory.row_PE.shape
    torch.Size([251, 192])
    """

    inventory: Inventory | None
    single_process = False
    learns_alone = True

    def __init__(self, config: SeparativeConfig, identities: int, embedding: int) -> None:
        super().__init__()
        self.config, self.processes = config, current_process_group()
        if self.processes.world_size > 1 and (config.negatives or config.smoothing or config.spread):
            raise SeparativeError(
                "loss.negatives, loss.smoothing and loss.spread need the whole inventory in one process: "
                "remove them from the recipe, or train in one process"
            )
        self.identities = identities
        if config.needs_inventory:
            self.inventory = Inventory(identities, embedding, config.alpha, processes=self.processes)
        self.presence = None if config.presence is None else PresenceTerm(config.presence, embedding)

    def prepare(self, model: SeparativeEncoder) -> None:
        if self.presence is not None:
            self.presence.prepare(model)

    def forward(
        self,
        model: SeparativeEncoder,
        mixtures: Tensor,
        sources: Tensor,
        identities: Tensor,
        groups: Tensor,
        *,
        alone: bool = False,
    ) -> Losses:
        """Compute the losses of a batch; see :class:`Objective`.

        Args:
            alone: the mixtures have one speaker, and only the speaker head learns.
        """
        output, (sources, identities) = self.run(model, mixtures, groups, alone, sources, identities)
        return self.compute_losses(model, output, mixtures, sources, identities, groups)

    def run(
        self, model: SeparativeEncoder, mixtures: Tensor, groups: Tensor, alone: bool, *of_sources: Tensor
    ) -> tuple[EncoderOutput, list[Tensor]]:
        """Run the model on a batch, with waveforms if their loss has a weight.

        Returns the output, and of the tensors ``of_sources`` [B,C,...] the sources that have a stream in it.
        """
        w = self.config
        output: EncoderOutput = model(
            mixtures, group_B=groups, own_drop=w.own_drop, separate=w.separation > 0, alone=alone
        )
        streams = output.query_BCE.shape[1]
        return output, [tensor[:, :streams] for tensor in of_sources]

    def compute_losses(
        self,
        model: SeparativeEncoder,
        output: EncoderOutput,
        mixtures: Tensor,
        sources: Tensor,
        identities: Tensor,
        groups: Tensor | None = None,
        more_costs: Tensor | None = None,
    ) -> Losses:
        """Compute the losses from the output of the model; other arguments as in :class:`Objective`.

        Args:
            groups: condition group of each mixture [B]; by default each mixture is its own group.
            more_costs: further costs of assigning each stream to each source [B,C,K], for the order.
        """
        w = self.config
        separate = w.separation > 0 and output.estimate_BCN.shape[-1] > 0
        # Sums of squared samples exceed the range of half precision.
        mix_BN, source_BCN = mixtures.float(), sources.float()
        known_BC = (identities >= 0) & (identities < self.identities)
        active_BCS, heard_BC = activity_and_audible(model, mix_BN, source_BCN, torch.zeros_like(identities))
        audible_BC = heard_BC & known_BC
        label_BK = identities.where(known_BC, 0)
        embeddings = {"query": output.query_BCE, "attended": output.attended_BCE}
        if self.inventory is None:
            embeddings = {}

        # Single speakers soon teach the second stream to be silent, which is slow to unlearn on mixtures.
        single_B = (source_BCN.square().sum(-1) > 0).sum(1) <= 1
        share_B = torch.where(single_B, w.single, 1.0) if separate else mix_BN.new_zeros(len(mix_BN))

        # Choose one order of the streams without gradient. All losses below use it.
        with torch.no_grad():
            cost_BCK = self._waveform_and_activity_costs(
                output, mix_BN, source_BCN, active_BCS, share_B, separate
            )
            nats = {
                name: self._inventory.pairwise_losses(x_BCE, label_BK) for name, x_BCE in embeddings.items()
            }
            # Without a separation loss there are no waveforms, and the embeddings decide.
            order_weight = w.order if separate else 1.0
            for nats_BCK in nats.values():
                cost_BCK += order_weight * w.csc * nats_BCK * audible_BC.unsqueeze(1)
            if more_costs is not None:
                cost_BCK += order_weight * more_costs
            order_BK = best_permutation(cost_BCK)

        total = mix_BN.new_zeros(())
        parts: dict[str, Tensor] = {}
        if separate:
            # Compare each source with its own stream only: every row has one estimate and one source.
            sep_BK = separation_costs(
                reorder(output.estimate_BCN, order_BK).flatten(0, 1).unsqueeze(1),
                source_BCN.flatten(0, 1).unsqueeze(1),
                mix_BN.repeat_interleave(source_BCN.shape[1], dim=0),
            ).view(label_BK.shape)
            total = total + w.separation / 10 * (share_B.unsqueeze(1) * sep_BK).mean()
            parts["separation_db"] = sep_BK.detach().mean()
        # The mean is over the audible sources of all processes. Their number differs between processes, but
        # gradients are averaged over processes with equal weight; the division by world_size corrects that.
        count = self.processes.sum(audible_BC.sum()).clamp(min=1) / self.processes.world_size
        for name, x_BCE in embeddings.items():
            loss_R = csc_loss(
                self._inventory,
                reorder(x_BCE, order_BK)[audible_BC],
                label_BK[audible_BC],
                margin=w.margin,
                smoothing=w.smoothing,
                negatives=w.negatives,
            )
            total = total + w.csc * loss_R.sum() / count
            # The log has the loss without margin and smoothing, which bounds the mutual information.
            chosen_BK = nats[name].gather(1, order_BK.unsqueeze(1)).squeeze(1)
            parts[f"csc_{name}"] = chosen_BK[audible_BC].sum() / count
        loss = activity_loss(reorder(output.activity_BCS, order_BK), active_BCS, output.valid_BS)
        total = total + w.activity * loss
        parts["activity"] = loss.detach()
        if w.spread > 0 and self.inventory is not None:
            total = total - w.spread * self.inventory.spread()
        if self.presence is not None:
            groups = torch.arange(len(mixtures), device=mixtures.device) if groups is None else groups
            found, terms = self.presence(model, output, order_BK, heard_BC, identities, groups)
            total, parts = total + found, parts | terms
        return Losses(total, parts, order_BK)

    @property
    def _inventory(self) -> Inventory:
        assert self.inventory is not None
        return self.inventory

    def _waveform_and_activity_costs(
        self,
        output: EncoderOutput,
        mix_BN: Tensor,
        source_BCN: Tensor,
        active_BCS: Tensor,
        share_B: Tensor,
        separate: bool,
    ) -> Tensor:
        """Cost of assigning each stream to each source by waveform, if there is one, and activity [B,C,K]."""
        w = self.config
        cost_BCK = mix_BN.new_zeros(*source_BCN.shape[:2], source_BCN.shape[1])
        if separate:
            decibels_BCK = separation_costs(output.estimate_BCN, source_BCN, mix_BN)
            cost_BCK += w.separation / 10 * share_B[:, None, None] * decibels_BCK
        if not separate or w.single < 1:
            # Where waveforms count little or not at all, activity decides which stream belongs to a source.
            costs_BCK = _activity_costs(output.activity_BCS, active_BCS)
            cost_BCK += w.activity * (1 - share_B)[:, None, None] * costs_BCK
        return cost_BCK


def _activity_costs(log_odds_BCS: Tensor, active_BKS: Tensor) -> Tensor:
    """Mean binary cross-entropy [B,C,K] of every stream's activity against every source's."""
    x, y = log_odds_BCS.float().unsqueeze(2), active_BKS.unsqueeze(1)
    return (F.softplus(x) - x * y).mean(-1)
