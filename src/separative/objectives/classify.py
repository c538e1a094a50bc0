"""Rivals that classify talkers: softmax and additive-angular-margin softmax, one embedding for a mixture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field
from torch import Tensor

from separative.objectives.contrastive import Inventory, csc_loss
from separative.objectives.objective import (
    Losses,
    ObjectiveConfig,
    OneEmbedding,
    activity_and_heard,
    mean_of,
)

if TYPE_CHECKING:
    from separative.model import SeparativeEncoder


class SoftmaxConfig(ObjectiveConfig):
    """Softmax over unit-norm class vectors with a learnt scale, which starts at ``scale``."""

    objective: Literal["softmax"]
    scale: float = Field(default=20.0, gt=0)


class AamConfig(ObjectiveConfig):
    """Additive angular margin (arXiv 1801.07698) with its usual margin (radians) and scale."""

    objective: Literal["aam"]
    scale: float = Field(default=30.0, gt=0)
    margin: float = Field(default=0.2, ge=0, lt=1.5)


class Classification(OneEmbedding):
    """Every audible talker of a mixture is a class of its one embedding, with an equal share of the loss."""

    inventory: Inventory

    def __init__(self, config: SoftmaxConfig | AamConfig, identities: int, embedding: int) -> None:
        super().__init__()
        # On unit vectors the logits are 2α·cos, up to a constant.
        self.inventory = Inventory(identities, embedding, config.scale / 2)
        self.margin = config.margin if isinstance(config, AamConfig) else 0.0
        # A fixed scale with a margin, as in its paper; a learnt one without.
        self.inventory.a.requires_grad_(isinstance(config, SoftmaxConfig))

    def forward(
        self,
        model: SeparativeEncoder,
        mix_BN: Tensor,
        source_BCN: Tensor,
        identity_BC: Tensor,
        group_B: Tensor,
    ) -> Losses:
        embed_BE = self.embed(model, mix_BN)
        # Energies of samples leave the range of half precision.
        _, heard_BC = activity_and_heard(model, mix_BN.float(), source_BCN.float(), identity_BC)
        row_R, source_R = heard_BC.nonzero(as_tuple=True)
        loss_R = csc_loss(self.inventory, embed_BE[row_R], identity_BC[row_R, source_R], margin=self.margin)
        return mean_of("softmax", loss_R)
