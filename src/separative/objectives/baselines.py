"""Baseline objectives, trained on the same trunk, data and steps as ``csc`` (method, section 6).

All of them have one embedding per mixture. With speaker labels: softmax and additive angular margin
(``softmax``, ``aam``), supervised contrastive (``supcon``) and generalised end-to-end (``ge2e``). Without
labels: two halves of a recording (``neighbours``), the future (``cpc``) and masked segments (``masked``).
With recordings as identities, ``supcon`` contrasts views of recordings, as SimCLR does, and needs no labels.
Baselines with a second network are in :mod:`separative.objectives.momentum`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from separative.objectives.contrastive import Inventory, csc_loss
from separative.objectives.objective import Losses, Objective, ObjectiveConfig, activity_and_audible

if TYPE_CHECKING:
    from separative.model import EncoderOutput, SeparativeEncoder


# What the baselines share.


class SingleEmbeddingObjective(Objective):
    """Base class of the baselines: one embedding per mixture, for any number of speakers in it.

    >>> SingleEmbeddingObjective().streams
    1
    """

    streams = 1

    @staticmethod
    def embed(model: SeparativeEncoder, mixtures: Tensor) -> Tensor:
        """Embeddings [B,E] of unit norm of mixtures [B,N]."""
        query_BCE: Tensor = model(mixtures, separate=False).query_BCE
        return query_BCE[:, 0].float()


def mean_loss(name: str, losses: Tensor) -> Losses:
    """The mean of ``losses`` (0 if there are none) as the total and, called ``name``, as the only part.

    >>> mean_loss("ge2e", torch.tensor([1.0, 3.0])).parts
    {'ge2e': tensor(2.)}
    """
    total = losses.sum() / max(1, losses.numel())
    return Losses(total, {name: total.detach()})


def similarity_logits(embedding: Tensor, temperature: float) -> Tensor:
    """Pairwise cosines of unit vectors [R,E], divided by a temperature [R,R]; −10⁴ on the diagonal.

    >>> similarity_logits(torch.eye(2), temperature=0.1)
    tensor([[-10000.,      0.],
            [     0., -10000.]])
    """
    diagonal_RR = torch.eye(len(embedding), dtype=torch.bool, device=embedding.device)
    cos_RR = torch.einsum("re,se->rs", embedding, embedding)
    return (cos_RR / temperature).masked_fill(diagonal_RR, -1e4)


# With speaker labels: softmax and additive angular margin.


class SoftmaxConfig(ObjectiveConfig):
    """Softmax over class vectors of unit norm. ``scale``: initial value of the learnable scale.

    >>> SoftmaxConfig(objective="softmax").scale
    20.0
    """

    objective: Literal["softmax"]
    scale: float = Field(default=20.0, gt=0)


class AamConfig(ObjectiveConfig):
    """Additive angular margin softmax (arXiv 1801.07698) with its usual ``margin`` (radians) and ``scale``.

    >>> AamConfig(objective="aam").margin
    0.2
    """

    objective: Literal["aam"]
    scale: float = Field(default=30.0, gt=0)
    margin: float = Field(default=0.2, ge=0, lt=1.5)


class Classification(SingleEmbeddingObjective):
    """Classify the embedding of a mixture as each of its audible speakers; every speaker has equal weight.

    >>> objective = Classification(AamConfig(objective="aam"), identities=10, embedding=16)
    >>> objective.inventory.alpha.requires_grad                # the scale is fixed
    False
    """

    inventory: Inventory

    def __init__(self, config: SoftmaxConfig | AamConfig, identities: int, embedding: int) -> None:
        super().__init__()
        # On unit vectors the logits are 2α·cos, up to a constant.
        self.inventory = Inventory(identities, embedding, config.scale / 2)
        self.margin = config.margin if isinstance(config, AamConfig) else 0.0
        # The paper of the margin has a fixed scale. Without a margin the scale is learnt.
        self.inventory.a.requires_grad_(isinstance(config, SoftmaxConfig))

    def forward(
        self, model: SeparativeEncoder, mixtures: Tensor, sources: Tensor, identities: Tensor, groups: Tensor
    ) -> Losses:
        embed_BE = self.embed(model, mixtures)
        # Sums of squared samples exceed the range of half precision.
        _, audible_BC = activity_and_audible(model, mixtures.float(), sources.float(), identities)
        row_R, source_R = audible_BC.nonzero(as_tuple=True)
        loss_R = csc_loss(self.inventory, embed_BE[row_R], identities[row_R, source_R], margin=self.margin)
        return mean_loss("softmax", loss_R)


# With speaker labels: supervised contrastive.


class SupConConfig(ObjectiveConfig):
    """Supervised contrastive loss with its ``temperature``.

    >>> SupConConfig(objective="supcon").temperature
    0.1
    """

    objective: Literal["supcon"]
    temperature: float = Field(default=0.1, gt=0)


class SupervisedContrastive(SingleEmbeddingObjective):
    """Attract all views of a target and repel all others (arXiv 2004.11362, the loss "out").

    Two mixtures of different targets that share a speaker are not a pair of either kind.

    >>> SupervisedContrastive(SupConConfig(objective="supcon"), identities=10, embedding=16).min_views
    2
    """

    min_views = 2

    def __init__(self, config: SupConConfig, identities: int, embedding: int) -> None:
        super().__init__()
        self.temperature = config.temperature

    def forward(
        self, model: SeparativeEncoder, mixtures: Tensor, sources: Tensor, identities: Tensor, groups: Tensor
    ) -> Losses:
        embed_BE = self.embed(model, mixtures)
        diagonal_BB = torch.eye(len(groups), dtype=torch.bool, device=groups.device)
        positive_BB = (groups.unsqueeze(1) == groups) & ~diagonal_BB
        same_BBCC = identities[:, None, :, None] == identities[None, :, None, :]
        shared_BB = (same_BBCC & (identities >= 0)[:, None, :, None]).flatten(2).any(-1)
        logits_BB = similarity_logits(embed_BE, self.temperature)
        log_BB = logits_BB.masked_fill(shared_BB & ~positive_BB, -1e4).log_softmax(-1)
        return mean_loss("supcon", -(log_BB * positive_BB).sum(-1) / positive_BB.sum(-1))


# With speaker labels: generalised end-to-end.


class Ge2eConfig(ObjectiveConfig):
    """Generalised end-to-end loss; it has no options.

    >>> Ge2eConfig(objective="ge2e")
    Ge2eConfig(objective='ge2e')
    """

    objective: Literal["ge2e"]


class Ge2e(SingleEmbeddingObjective):
    """Generalised end-to-end loss, softmax variant (arXiv 1710.10467): views against centroids of targets.

    >>> Ge2e(Ge2eConfig(objective="ge2e"), identities=10, embedding=16).scale.item()
    10.0
    """

    min_views = 2

    def __init__(self, config: Ge2eConfig, identities: int, embedding: int) -> None:
        super().__init__()
        # The initial value of the paper. Its offset cancels in the softmax variant.
        self.scale = nn.Parameter(torch.tensor(10.0))

    def forward(
        self, model: SeparativeEncoder, mixtures: Tensor, sources: Tensor, identities: Tensor, groups: Tensor
    ) -> Losses:
        count = int(groups.max()) + 1
        embed_GVE = self.embed(model, mixtures).unflatten(0, (count, -1))
        views = embed_GVE.shape[1]
        sum_GE = embed_GVE.sum(1)
        cos_GVG = torch.einsum("gve,he->gvh", embed_GVE, F.normalize(sum_GE, dim=-1))
        # A view is compared with the centroid of the other views of its own target.
        others_GVE = F.normalize((sum_GE.unsqueeze(1) - embed_GVE) / (views - 1), dim=-1)
        own_GV = (embed_GVE * others_GVE).sum(-1)
        own_GG = torch.eye(count, dtype=torch.bool, device=groups.device)
        cos_GVG = torch.where(own_GG.unsqueeze(1), own_GV.unsqueeze(-1), cos_GVG)
        label_R = torch.arange(count, device=groups.device).repeat_interleave(views)
        logits_RG = self.scale.clamp(min=1e-6) * cos_GVG.flatten(0, 1)
        return mean_loss("ge2e", F.cross_entropy(logits_RG, label_R, reduction="none"))


# Without labels: two halves of a recording.


class NeighboursConfig(ObjectiveConfig):
    """Contrast of neighbouring halves with its ``temperature``.

    >>> NeighboursConfig(objective="neighbours").temperature
    0.1
    """

    objective: Literal["neighbours"]
    temperature: float = Field(default=0.1, gt=0)


class NeighbourPrediction(SingleEmbeddingObjective):
    """Attract the two halves of a mixture and repel halves of other mixtures (as arXiv 2002.05709).

    >>> config = NeighboursConfig(objective="neighbours")
    >>> NeighbourPrediction(config, identities=10, embedding=16).min_views
    1
    """

    def __init__(self, config: NeighboursConfig, identities: int, embedding: int) -> None:
        super().__init__()
        self.temperature = config.temperature

    def forward(
        self, model: SeparativeEncoder, mixtures: Tensor, sources: Tensor, identities: Tensor, groups: Tensor
    ) -> Losses:
        embed_RE = self.embed(model, _halves(mixtures))
        logits_RR = similarity_logits(embed_RE, self.temperature)
        batch = len(mixtures)
        other_R = torch.arange(2 * batch, device=mixtures.device).roll(batch)
        return mean_loss("neighbours", F.cross_entropy(logits_RR, other_R, reduction="none"))


def _halves(mix_BN: Tensor) -> Tensor:
    """The first halves of all mixtures, then the second halves [2B,N/2]."""
    half = mix_BN.shape[1] // 2
    return torch.cat([mix_BN[:, :half], mix_BN[:, half : 2 * half]])


# Without labels: the future.


class CpcConfig(ObjectiveConfig):
    """Contrastive predictive coding.

    ``horizon``: number of predicted segments · ``negatives``: number drawn per segment from other mixtures.

    >>> CpcConfig(objective="cpc").negatives
    64
    """

    objective: Literal["cpc"]
    horizon: int = Field(default=12, ge=1, le=1000)
    negatives: int = Field(default=64, ge=1, le=65536)


class FuturePrediction(SingleEmbeddingObjective):
    """Contrastive predictive coding with sampled negatives (arXiv 1807.03748).

    The first half of a mixture predicts segments of the second half. The trunk is not causal, so the halves
    are processed separately and nothing of the future can leak into the past. The context is the embedding of
    the first half: what is evaluated later is what makes the prediction.

    >>> objective = FuturePrediction(CpcConfig(objective="cpc"), identities=10, embedding=16)
    >>> objective.predict.out_features                         # horizon · embedding size
    192
    """

    def __init__(self, config: CpcConfig, identities: int, embedding: int) -> None:
        super().__init__()
        self.config = config
        self.predict = nn.Linear(embedding, config.horizon * embedding)

    def forward(
        self, model: SeparativeEncoder, mixtures: Tensor, sources: Tensor, identities: Tensor, groups: Tensor
    ) -> Losses:
        batch, device = len(mixtures), mixtures.device
        output: EncoderOutput = model(_halves(mixtures), separate=False)
        context_BE = output.query_BCE[:batch, 0]
        future_BSE = output.segment_BCSE[batch:, 0, : self.config.horizon].float()
        steps, size = future_BSE.shape[1:]
        predicted_BSE = self.predict(context_BE).float().unflatten(-1, (-1, size))[:, :steps]
        # Draw the negatives of each predicted segment from the segments of the other mixtures.
        other_BSK = torch.randint(1, batch, (batch, steps, self.config.negatives), device=device)
        other_BSK = (other_BSK + torch.arange(batch, device=device)[:, None, None]) % batch
        place_BSK = torch.randint(0, steps, other_BSK.shape, device=device)
        # Computing all products at once is cheaper than gathering the drawn segments.
        score_BSBS = torch.einsum("bse,cte->bsct", predicted_BSE, future_BSE) / size**0.5
        own = torch.arange(batch, device=device)
        step = torch.arange(steps, device=device)
        positive_BS = score_BSBS[own[:, None], step, own[:, None], step]
        negative_BSK = score_BSBS[own[:, None, None], step[None, :, None], other_BSK, place_BSK]
        logits_BSK = torch.cat([positive_BS.unsqueeze(-1), negative_BSK], dim=-1)
        return mean_loss("cpc", -logits_BSK.log_softmax(-1)[..., 0])


# Without labels: masked segments.


class MaskedConfig(ObjectiveConfig):
    """Masked prediction.

    ``share``: share of the segments that is masked · ``run``: number of consecutive masked segments ·
    ``bands``: number of frequency bands of the predicted spectrum.

    >>> MaskedConfig(objective="masked").share
    0.4
    """

    objective: Literal["masked"]
    share: float = Field(default=0.4, gt=0, lt=1)
    run: int = Field(default=4, ge=1, le=10_000)
    bands: int = Field(default=40, ge=4, le=1024)


class MaskedPrediction(SingleEmbeddingObjective):
    """Predict log spectra of masked segments from their representation and the embedding of the mixture.

    >>> objective = MaskedPrediction(MaskedConfig(objective="masked"), identities=10, embedding=16)
    >>> objective.restore(torch.zeros(32)).shape               # segment and embedding to 40 bands
    torch.Size([40])
    """

    def __init__(self, config: MaskedConfig, identities: int, embedding: int) -> None:
        super().__init__()
        self.config = config
        self.restore = nn.Sequential(
            nn.Linear(2 * embedding, 4 * embedding), nn.GELU(), nn.Linear(4 * embedding, config.bands)
        )

    def forward(
        self, model: SeparativeEncoder, mixtures: Tensor, sources: Tensor, identities: Tensor, groups: Tensor
    ) -> Losses:
        level_B1 = mixtures.float().square().mean(-1, keepdim=True).sqrt().clamp(min=1e-6)
        mix_BN = mixtures / level_B1
        segment_BSW = model.cut_segments(mix_BN.unsqueeze(1))[:, 0]
        masked_BS = self._draw_mask(len(segment_BSW), segment_BSW.shape[1], segment_BSW.device)
        visible_BN = model.join_segments(segment_BSW * ~masked_BS.unsqueeze(-1), mix_BN.shape[1])
        output: EncoderOutput = model(visible_BN, separate=False)
        query_BSE = output.query_BCE[:, 0].unsqueeze(1).expand(-1, masked_BS.shape[1], -1)
        predicted_BSK = self.restore(
            torch.cat([output.segment_BCSE[:, 0].float(), query_BSE.float()], dim=-1)
        )
        error_BSK = (predicted_BSK.float() - self._log_spectrum(segment_BSW)).abs()
        return mean_loss("masked", error_BSK.mean(-1)[masked_BS])

    def _draw_mask(self, batch: int, segments: int, device: torch.device) -> Tensor:
        """Masked segments [B,S]; every mixture has the same number of runs, which may overlap."""
        runs = max(1, round(self.config.share * segments / self.config.run))
        start_BR = torch.randint(0, max(1, segments - self.config.run + 1), (batch, runs), device=device)
        place_S = torch.arange(segments, device=device)
        after_BRS = place_S - start_BR.unsqueeze(-1)
        return ((after_BRS >= 0) & (after_BRS < self.config.run)).any(1)

    def _log_spectrum(self, segment_BSW: Tensor) -> Tensor:
        """Log power [B,S,K] in bands that widen with frequency, similar to auditory filters."""
        power_BSF = torch.fft.rfft(segment_BSW.float()).abs().square() / segment_BSW.shape[-1]
        bins = power_BSF.shape[-1]
        warped_F = torch.linspace(0, 1, bins, device=segment_BSW.device).mul(10).log1p() / 2.3979
        band_F = (warped_F * self.config.bands).long().clamp(max=self.config.bands - 1)
        pool_FK = F.one_hot(band_F, self.config.bands).float()
        pool_FK = pool_FK / pool_FK.sum(0).clamp(min=1)
        log_BSK: Tensor = (power_BSF @ pool_FK + 1e-5).log()
        return log_BSK
