"""The contrastive separative loss over global speaker vectors (method, section 4)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Inventory(nn.Module):
    """Global speaker vectors: one learnable row per identity, used at unit norm, and the precision α.

    f(e, j) = −α ‖e − inventory_j‖², which on unit vectors is 2α·cos − 2α. Rows start a tenth as long as
    standard normal ones: their effective step grows as their length shrinks. Never weight-decay them.
    """

    def __init__(self, identities: int, embedding: int, alpha: float = 10.0) -> None:
        super().__init__()
        self.row_PE = nn.Parameter(0.1 * torch.randn(identities, embedding))
        # softplus(a) = α, inverted without overflow.
        self.a = nn.Parameter(torch.tensor(alpha + math.log(-math.expm1(-alpha))))

    @property
    def alpha(self) -> Tensor:
        return F.softplus(self.a)

    @property
    def unit_PE(self) -> Tensor:
        return F.normalize(self.row_PE.float(), dim=-1)

    def forward(self, embed_RE: Tensor) -> Tensor:
        """f(e, j) [R,P] for embeddings of unit norm."""
        return squared_distance_logits(embed_RE, self.unit_PE, self.alpha)

    def log_posterior(self, embed_RE: Tensor) -> Tensor:
        """ln( exp f(e, y) / Σ_j exp f(e, j) ) for every y: [R,P], the sum exact over the whole inventory."""
        logits_RP: Tensor = self(embed_RE)
        return logits_RP.log_softmax(dim=-1)

    def spread(self) -> Tensor:
        """Mean ln of the distance to the nearest other row: the spreading term rewards it."""
        unit = self.unit_PE
        cos_PP = (unit @ unit.T).clone().fill_diagonal_(-1.0)
        return 0.5 * (2 - 2 * cos_PP.amax(1)).clamp(min=1e-6).log().mean()


def squared_distance_logits(embed_RE: Tensor, unit_PE: Tensor, alpha: Tensor) -> Tensor:
    """−α ‖e − row‖² [R,P] for unit vectors, by one matrix product."""
    return 2 * alpha * (embed_RE.float() @ unit_PE.T - 1)


def csc_loss(
    inventory: Inventory,
    embed_RE: Tensor,
    identity_R: Tensor,
    *,
    margin: float = 0.0,
    smoothing: float = 0.0,
    negatives: int | None = None,
) -> Tensor:
    """L(e, y) of each row [R] in nats: exact over the inventory, nothing sampled.

    ``margin`` (radians) is added to the angle of the true identity; ``smoothing`` spreads that share of the
    target evenly; ``negatives``, for comparison, puts that many rows drawn for the batch in the place of the
    whole inventory. All change the loss only: :func:`information_bound` wants the loss without them.
    """
    logits_RP = inventory(embed_RE)
    if negatives is not None:
        drawn_P = torch.zeros(logits_RP.shape[1], dtype=torch.bool, device=logits_RP.device)
        drawn_P[torch.randperm(len(drawn_P))[:negatives].to(drawn_P.device)] = True
        keep_RP = drawn_P.expand_as(logits_RP).scatter(1, identity_R.unsqueeze(1), True)
        logits_RP = logits_RP.masked_fill(~keep_RP, -1e4)
    if margin > 0:
        true = identity_R.unsqueeze(1)
        cos_R1 = (logits_RP.gather(1, true) / (2 * inventory.alpha) + 1).clamp(-1 + 1e-6, 1 - 1e-6)
        sin_R1 = (1 - cos_R1.square()).sqrt()
        moved = cos_R1 * math.cos(margin) - sin_R1 * math.sin(margin)
        # Past π − margin the angle would wrap: go on linearly there.
        moved = torch.where(cos_R1 > -math.cos(margin), moved, cos_R1 - margin * math.sin(margin))
        logits_RP = logits_RP.scatter(1, true, 2 * inventory.alpha * (moved - 1))
    return F.cross_entropy(logits_RP, identity_R, reduction="none", label_smoothing=smoothing)


def information_bound(loss: float, entropy: float) -> float:
    """I(e; identity) ≥ H(identity) − L in nats; never below 0, which always holds."""
    return max(0.0, entropy - loss)
