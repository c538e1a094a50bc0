"""Rivals that compare the embeddings of a batch: supervised contrastive, GE2E, neighbouring crops."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from separative.objectives.objective import Losses, ObjectiveConfig, OneEmbedding, mean_of, similarity

if TYPE_CHECKING:
    from separative.model import SeparativeEncoder


class SupConConfig(ObjectiveConfig):
    objective: Literal["supcon"]
    temperature: float = Field(default=0.1, gt=0)


class SupervisedContrastive(OneEmbedding):
    """All views of a target attract each other, all others repel (arXiv 2004.11362, loss "out").

    Two mixtures that share a talker other than their common target are neither pair.
    """

    views = 2

    def __init__(self, config: SupConConfig, identities: int, embedding: int) -> None:
        super().__init__()
        self.temperature = config.temperature

    def forward(
        self,
        model: SeparativeEncoder,
        mix_BN: Tensor,
        source_BCN: Tensor,
        identity_BC: Tensor,
        group_B: Tensor,
    ) -> Losses:
        embed_BE = self.embed(model, mix_BN)
        itself_BB = torch.eye(len(group_B), dtype=torch.bool, device=group_B.device)
        positive_BB = (group_B.unsqueeze(1) == group_B) & ~itself_BB
        both_BBCC = identity_BC[:, None, :, None] == identity_BC[None, :, None, :]
        shared_BB = (both_BBCC & (identity_BC >= 0)[:, None, :, None]).flatten(2).any(-1)
        logits_BB = similarity(embed_BE, self.temperature).masked_fill(shared_BB & ~positive_BB, -1e4)
        log_BB = logits_BB.log_softmax(-1)
        return mean_of("supcon", -(log_BB * positive_BB).sum(-1) / positive_BB.sum(-1))


class Ge2eConfig(ObjectiveConfig):
    objective: Literal["ge2e"]


class Ge2e(OneEmbedding):
    """Generalised end-to-end loss, softmax variant (arXiv 1710.10467): views against centroids of targets."""

    views = 2

    def __init__(self, config: Ge2eConfig, identities: int, embedding: int) -> None:
        super().__init__()
        # As the paper starts them; the offset cancels in the softmax variant.
        self.scale = nn.Parameter(torch.tensor(10.0))

    def forward(
        self,
        model: SeparativeEncoder,
        mix_BN: Tensor,
        source_BCN: Tensor,
        identity_BC: Tensor,
        group_B: Tensor,
    ) -> Losses:
        groups = int(group_B.max()) + 1
        embed_GVE = self.embed(model, mix_BN).unflatten(0, (groups, -1))
        views = embed_GVE.shape[1]
        sum_GE = embed_GVE.sum(1)
        cos_GVG = torch.einsum("gve,he->gvh", embed_GVE, F.normalize(sum_GE, dim=-1))
        # Against its own target, a view is left out of the centroid.
        others_GVE = F.normalize((sum_GE.unsqueeze(1) - embed_GVE) / (views - 1), dim=-1)
        own_GV = (embed_GVE * others_GVE).sum(-1)
        own_GG = torch.eye(groups, dtype=torch.bool, device=group_B.device)
        cos_GVG = torch.where(own_GG.unsqueeze(1), own_GV.unsqueeze(-1), cos_GVG)
        label_R = torch.arange(groups, device=group_B.device).repeat_interleave(views)
        logits_RG = self.scale.clamp(min=1e-6) * cos_GVG.flatten(0, 1)
        return mean_of("ge2e", F.cross_entropy(logits_RG, label_R, reduction="none"))


class NeighboursConfig(ObjectiveConfig):
    objective: Literal["neighbours"]
    temperature: float = Field(default=0.1, gt=0)


class Neighbours(OneEmbedding):
    """The two halves of a recording attract each other, halves of others repel (label-free; 2002.05709)."""

    def __init__(self, config: NeighboursConfig, identities: int, embedding: int) -> None:
        super().__init__()
        self.temperature = config.temperature

    def forward(
        self,
        model: SeparativeEncoder,
        mix_BN: Tensor,
        source_BCN: Tensor,
        identity_BC: Tensor,
        group_B: Tensor,
    ) -> Losses:
        half = mix_BN.shape[1] // 2
        batch = len(mix_BN)
        embed_RE = self.embed(model, torch.cat([mix_BN[:, :half], mix_BN[:, half : 2 * half]]))
        logits_RR = similarity(embed_RE, self.temperature)
        other_R = torch.arange(2 * batch, device=mix_BN.device).roll(batch)
        return mean_of("neighbours", F.cross_entropy(logits_RR, other_R, reduction="none"))
