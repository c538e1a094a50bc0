"""Rivals that classify speakers: softmax and additive-angular-margin softmax, one embedding for a mixture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from separative.objectives.contrastive import Inventory, csc_loss
from separative.objectives.objective import (
    Losses,
    ObjectiveConfig,
    OneEmbedding,
    activity_and_heard,
    mean_of,
    similarity,
)

if TYPE_CHECKING:
    from separative.model import Separated, SeparativeEncoder


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
    """Every audible speaker of a mixture is a class of its one embedding, with an equal share of the loss."""

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


class SupConConfig(ObjectiveConfig):
    objective: Literal["supcon"]
    temperature: float = Field(default=0.1, gt=0)


class SupervisedContrastive(OneEmbedding):
    """All views of a target attract each other, all others repel (arXiv 2004.11362, loss "out").

    Two mixtures that share a speaker other than their common target are neither pair.
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


class NeighbourPrediction(OneEmbedding):
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


class CpcConfig(ObjectiveConfig):
    """``horizon``: segments predicted; ``negatives``: drawn for each, from other mixtures."""

    objective: Literal["cpc"]
    horizon: int = Field(default=12, ge=1)
    negatives: int = Field(default=64, ge=1)


class FuturePrediction(OneEmbedding):
    """Contrastive predictive coding with sampled negatives (arXiv 1807.03748).

    The first half of a mixture predicts segments of the second. Our trunk looks both ways, so the halves are
    heard apart: nothing of the future can leak. The context is the embedding of the past, so that what is
    tested later is what predicts.
    """

    def __init__(self, config: CpcConfig, identities: int, embedding: int) -> None:
        super().__init__()
        self.config = config
        self.predict = nn.Linear(embedding, config.horizon * embedding)

    def forward(
        self,
        model: SeparativeEncoder,
        mix_BN: Tensor,
        source_BCN: Tensor,
        identity_BC: Tensor,
        group_B: Tensor,
    ) -> Losses:
        half, batch = mix_BN.shape[1] // 2, len(mix_BN)
        out: Separated = model(torch.cat([mix_BN[:, :half], mix_BN[:, half : 2 * half]]), separate=False)
        context_BE = out.query_BCE[:batch, 0]
        future_BSE = out.segment_BCSE[batch:, 0, : self.config.horizon].float()
        steps, size = future_BSE.shape[1:]
        predicted_BSE = self.predict(context_BE).float().unflatten(-1, (-1, size))[:, :steps]
        # Negatives of a mixture: segments of the others, drawn anew for each segment to predict.
        other_BSK = torch.randint(1, batch, (batch, steps, self.config.negatives), device=mix_BN.device)
        other_BSK = (other_BSK + torch.arange(batch, device=mix_BN.device)[:, None, None]) % batch
        place_BSK = torch.randint(0, steps, other_BSK.shape, device=mix_BN.device)
        # All products at once cost less than gathering the segments drawn.
        score_BSBS = torch.einsum("bse,cte->bsct", predicted_BSE, future_BSE) / size**0.5
        own = torch.arange(batch, device=mix_BN.device)
        step = torch.arange(steps, device=mix_BN.device)
        right_BS = score_BSBS[own[:, None], step, own[:, None], step]
        wrong_BSK = score_BSBS[own[:, None, None], step[None, :, None], other_BSK, place_BSK]
        logits_BSK = torch.cat([right_BS.unsqueeze(-1), wrong_BSK], dim=-1)
        return mean_of("cpc", -logits_BSK.log_softmax(-1)[..., 0])


class MaskedConfig(ObjectiveConfig):
    """``share`` of the segments is hidden, in runs of ``run``; ``bands`` of the spectrum are restored."""

    objective: Literal["masked"]
    share: float = Field(default=0.4, gt=0, lt=1)
    run: int = Field(default=4, ge=1)
    bands: int = Field(default=40, ge=4)


class MaskedPrediction(OneEmbedding):
    """Log spectra of silenced segments are restored from their surroundings and the recording's embedding."""

    def __init__(self, config: MaskedConfig, identities: int, embedding: int) -> None:
        super().__init__()
        self.config = config
        self.restore = nn.Sequential(
            nn.Linear(2 * embedding, 4 * embedding), nn.GELU(), nn.Linear(4 * embedding, config.bands)
        )

    def forward(
        self,
        model: SeparativeEncoder,
        mix_BN: Tensor,
        source_BCN: Tensor,
        identity_BC: Tensor,
        group_B: Tensor,
    ) -> Losses:
        level_B1 = mix_BN.float().square().mean(-1, keepdim=True).sqrt().clamp(min=1e-6)
        mix_BN = mix_BN / level_B1
        piece_BSW = model.segment_waves(mix_BN.unsqueeze(1))[:, 0]
        hidden_BS = self._hide(len(piece_BSW), piece_BSW.shape[1], piece_BSW.device)
        left_BN = model.from_segments(piece_BSW * ~hidden_BS.unsqueeze(-1), mix_BN.shape[1])
        out: Separated = model(left_BN, separate=False)
        query_BSE = out.query_BCE[:, 0].unsqueeze(1).expand(-1, hidden_BS.shape[1], -1)
        guess_BSK = self.restore(torch.cat([out.segment_BCSE[:, 0].float(), query_BSE.float()], dim=-1))
        error_BSK = (guess_BSK.float() - self._spectrum(piece_BSW)).abs()
        return mean_of("masked", error_BSK.mean(-1)[hidden_BS])

    def _hide(self, batch: int, segments: int, device: torch.device) -> Tensor:
        """Runs of hidden segments [B,S]; every mixture has the same number of runs, which may overlap."""
        runs = max(1, round(self.config.share * segments / self.config.run))
        start_BR = torch.randint(0, max(1, segments - self.config.run + 1), (batch, runs), device=device)
        place_S = torch.arange(segments, device=device)
        after_BRS = place_S - start_BR.unsqueeze(-1)
        return ((after_BRS >= 0) & (after_BRS < self.config.run)).any(1)

    def _spectrum(self, piece_BSW: Tensor) -> Tensor:
        """Log power [B,S,K] in bands that widen with frequency, as those of hearing do."""
        power_BSF = torch.fft.rfft(piece_BSW.float()).abs().square() / piece_BSW.shape[-1]
        bins = power_BSF.shape[-1]
        warped_F = torch.linspace(0, 1, bins, device=piece_BSW.device).mul(10).log1p() / 2.3979
        band_F = (warped_F * self.config.bands).long().clamp(max=self.config.bands - 1)
        pool_FK = F.one_hot(band_F, self.config.bands).float()
        pool_FK = pool_FK / pool_FK.sum(0).clamp(min=1)
        log_BSK: Tensor = (power_BSF @ pool_FK + 1e-5).log()
        return log_BSK
