"""What an objective is: a page of code that runs the model on a batch and says what to descend on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from separative.objectives.contrastive import Inventory
from separative.objectives.separation import audible, speech_activity

if TYPE_CHECKING:
    from separative.model import SeparativeEncoder


class ObjectiveConfig(BaseModel):
    """The section ``loss`` of a recipe; ``objective`` (a Literal in subclasses) names whose it is."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    objective: str


@dataclass(frozen=True)
class Losses:
    """Total to descend on, its parts as plain tensors without gradient (nats, dB), and the order of streams.

    ``order_BK`` (the stream of each source) is None for an objective that does not separate.
    """

    total: Tensor
    parts: dict[str, Tensor]
    order_BK: Tensor | None = None


class Objective(nn.Module):
    """Runs the model on a batch of mixtures; built from its configuration, P identities and E.

    Attributes:
        inventory: rows per identity, None for an objective that has none.
        streams: the model must have one stream for each source of a mixture (None), or this many.
        views: the least number of views in a condition group.
        alone: all of a batch must be in one process.
    """

    inventory: Inventory | None
    streams: ClassVar[int | None] = None
    views: ClassVar[int] = 1
    alone: ClassVar[bool] = True

    def __init__(self) -> None:
        super().__init__()
        self.inventory = None

    def forward(
        self,
        model: SeparativeEncoder,
        mix_BN: Tensor,
        source_BCN: Tensor,
        identity_BC: Tensor,
        group_B: Tensor,
    ) -> Losses:
        """Losses of a batch.

        Args:
            model: to be called; attributes are read, parameters are not touched.
            mix_BN: mixtures.
            source_BCN: what each speaker adds to it; the first is the group's target, zeros for none.
            identity_BC: identity of each source, 0 to P-1; −1 for none.
            group_B: condition group of each mixture; the views of a group lie side by side.
        """
        raise NotImplementedError


class OneEmbedding(Objective):
    """A rival of the method: one embedding for a mixture, whatever the number of its speakers (section 6)."""

    streams = 1

    @staticmethod
    def embed(model: SeparativeEncoder, mix_BN: Tensor) -> Tensor:
        """Embeddings [B,E] of unit norm."""
        query_BCE: Tensor = model(mix_BN, separate=False).query_BCE
        return query_BCE[:, 0].float()


def activity_and_heard(
    model: SeparativeEncoder, mix_BN: Tensor, source_BCN: Tensor, identity_BC: Tensor
) -> tuple[Tensor, Tensor]:
    """When each source speaks [B,C,S], and which are loud and long enough for their identity [B,C]."""
    active_BCS = speech_activity(model.segment_power(source_BCN), mix_BN.square().mean(-1))
    loud_BC = audible(source_BCN, mix_BN, active_BCS, model.segment_seconds)
    return active_BCS, loud_BC & (identity_BC >= 0)


def mean_of(name: str, loss_R: Tensor) -> Losses:
    """The mean of ``loss_R`` (0 of none) as the only part."""
    total = loss_R.sum() / max(1, loss_R.numel())
    return Losses(total, {name: total.detach()})


def similarity(embed_RE: Tensor, temperature: float) -> Tensor:
    """Cosines of unit vectors with each other over a temperature [R,R]; none with itself (−10⁴)."""
    itself_RR = torch.eye(len(embed_RE), dtype=torch.bool, device=embed_RE.device)
    cos_RR = torch.einsum("re,se->rs", embed_RE, embed_RE)
    return (cos_RR / temperature).masked_fill(itself_RR, -1e4)
