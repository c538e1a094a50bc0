"""The contrastive separative loss over global speaker vectors (method, section 4)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from separative.distributed import ALONE, Processes, share_of
from separative.objectives.partition import at_least_single, cosines, log_partition, partition

DRAWN_AT_ONCE = 2**16


class Inventory(nn.Module):
    """Global speaker vectors: one learnable row per identity, used at unit norm, and the precision α.

    f(e, j) = −α ‖e − inventory_j‖², which on unit vectors is 2α·cos − 2α. Rows start a tenth as long as
    standard normal ones: their effective step grows as their length shrinks. Never weight-decay them.

    Of several processes each holds its share of the rows, those of the identities ``rows``; all must use the
    inventory together.
    """

    def __init__(
        self, identities: int, embedding: int, alpha: float = 10.0, *, processes: Processes = ALONE
    ) -> None:
        super().__init__()
        self.processes, self.rows = processes, share_of(identities, processes)
        drawn_PE = torch.empty(len(self.rows), embedding)
        # Drawn alike in all processes, a block at a time, so that the start does not hang on their number.
        for start in range(0, identities, DRAWN_AT_ONCE):
            block_JE = torch.randn(min(DRAWN_AT_ONCE, identities - start), embedding)
            first, last = max(start, self.rows.start), min(start + len(block_JE), self.rows.stop)
            if last > first:
                drawn_PE[first - self.rows.start : last - self.rows.start] = block_JE[
                    first - start : last - start
                ]
        self.row_PE = nn.Parameter(drawn_PE.mul_(0.1))
        # softplus(a) = α, inverted without overflow.
        self.a = nn.Parameter(torch.tensor(alpha + math.log(-math.expm1(-alpha))))

    @property
    def alpha(self) -> Tensor:
        return F.softplus(self.a)

    @property
    def unit_PE(self) -> Tensor:
        return F.normalize(at_least_single(self.row_PE), dim=-1)

    def forward(self, embed_RE: Tensor) -> Tensor:
        """f(e, j) [R,P] for embeddings of unit norm: all logits at once."""
        return squared_distance_logits(embed_RE, self.unit_PE, self.alpha)

    def partition(self, embed_RE: Tensor, identity_R: Tensor) -> tuple[Tensor, Tensor]:
        """ln Σ_{j≠y} exp f(e, j) and cos(e, row_y) [R]; see :func:`partition.partition`."""
        # Half precision's products would be too coarse for differences of logits.
        with torch.autocast(embed_RE.device.type, enabled=False):
            rows_PE = at_least_single(self.row_PE)
            return partition(
                at_least_single(embed_RE).to(rows_PE.dtype),
                rows_PE,
                self.alpha,
                identity_R,
                processes=self.processes,
                first=self.rows.start,
            )

    @torch.no_grad()
    def nats(self, embed_BCE: Tensor, identity_BK: Tensor) -> Tensor:
        """−ln( exp f(e, y) / Σ_j exp f(e, j) ) [B,C,K] of every embedding for every identity, no gradient."""
        with torch.autocast(embed_BCE.device.type, enabled=False):
            rows_PE = at_least_single(self.row_PE)
            embed_BCE = at_least_single(embed_BCE).to(rows_PE.dtype)
            sum_BC = log_partition(embed_BCE.flatten(0, 1), rows_PE, self.alpha, processes=self.processes)
            cos_BCK = cosines(
                embed_BCE, rows_PE, identity_BK, processes=self.processes, first=self.rows.start
            )
        return sum_BC.view(*embed_BCE.shape[:2], 1) - 2 * self.alpha * (cos_BCK - 1)

    def spread(self) -> Tensor:
        """Mean ln of the distance to the nearest other row: the spreading term rewards it."""
        unit = self.unit_PE
        cos_PP = (unit @ unit.T).clone().fill_diagonal_(-1.0)
        return 0.5 * (2 - 2 * cos_PP.amax(1)).clamp(min=1e-6).log().mean()


def squared_distance_logits(embed_RE: Tensor, unit_PE: Tensor, alpha: Tensor) -> Tensor:
    """−α ‖e − row‖² [R,P] for unit vectors, by one matrix product."""
    return 2 * alpha * (at_least_single(embed_RE) @ unit_PE.T - 1)


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
    if negatives is not None or smoothing > 0:
        return _loss_of_all_logits(inventory, embed_RE, identity_R, margin, smoothing, negatives)
    others_R, cos_R = inventory.partition(embed_RE, identity_R)
    # −ln(exp f_y / (exp f_y + Σ_others)), finite also where the others are none or far above.
    behind_R = others_R - 2 * inventory.alpha * (_widened(cos_R, margin) - 1)
    return torch.logaddexp(behind_R, torch.zeros_like(behind_R))


def _loss_of_all_logits(
    inventory: Inventory,
    embed_RE: Tensor,
    identity_R: Tensor,
    margin: float,
    smoothing: float,
    negatives: int | None,
) -> Tensor:
    """What needs every logit by itself: smoothing, and sampled negatives."""
    logits_RP = inventory(embed_RE)
    if negatives is not None:
        drawn_P = torch.zeros(logits_RP.shape[1], dtype=torch.bool, device=logits_RP.device)
        drawn_P[torch.randperm(len(drawn_P))[:negatives].to(drawn_P.device)] = True
        keep_RP = drawn_P.expand_as(logits_RP).scatter(1, identity_R.unsqueeze(1), True)
        logits_RP = logits_RP.masked_fill(~keep_RP, -1e4)
    if margin > 0:
        true = identity_R.unsqueeze(1)
        cos_R1 = logits_RP.gather(1, true) / (2 * inventory.alpha) + 1
        logits_RP = logits_RP.scatter(1, true, 2 * inventory.alpha * (_widened(cos_R1, margin) - 1))
    return F.cross_entropy(logits_RP, identity_R, reduction="none", label_smoothing=smoothing)


def _widened(cos: Tensor, margin: float) -> Tensor:
    """The cosine of an angle that is ``margin`` wider."""
    if margin == 0:
        return cos
    cos = cos.clamp(-1 + 1e-6, 1 - 1e-6)
    wider = cos * math.cos(margin) - (1 - cos.square()).sqrt() * math.sin(margin)
    # Past π − margin the angle would wrap: go on linearly there.
    return torch.where(cos > -math.cos(margin), wider, cos - margin * math.sin(margin))


def information_bound(loss: float, entropy: float) -> float:
    """I(e; identity) ≥ H(identity) − L in nats; never below 0, which always holds."""
    return max(0.0, entropy - loss)
