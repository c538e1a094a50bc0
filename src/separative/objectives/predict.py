"""Rivals that predict: the future (contrastive predictive coding) and the missing (masked frames)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from separative.objectives.objective import Losses, ObjectiveConfig, OneEmbedding, mean_of

if TYPE_CHECKING:
    from separative.model import Separated, SeparativeEncoder


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
