"""The contrastive separative loss over global speaker vectors (method, section 4)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from separative.distributed import SINGLE_PROCESS, ProcessGroup, local_range
from separative.objectives.partition import at_least_float32, cosines, log_partition, partition_terms

# Rows that are drawn at a time when an inventory is created.
INIT_BLOCK = 2**16


class Inventory(nn.Module):
    """Global speaker vectors: one learnable row per identity, used at unit norm, and the precision α.

    f(e, j) = −α ‖e − inventory_j‖², which on unit vectors is 2α·cos − 2α. Rows are initialised with a tenth
    of the length of standard normal vectors: the effective learning rate of a row grows as its length
    shrinks. Do not apply weight decay to them.

    With several processes, each process holds the rows of the identities in the range ``rows``. All processes
    must call the methods together.

    >>> inventory = Inventory(identities=251, embedding=16, alpha=10.0)
    >>> embedding = F.normalize(torch.randn(4, 16), dim=-1)
    >>> inventory(embedding).shape
    torch.Size([4, 251])
    >>> inventory.alpha
    tensor(10., grad_fn=...)
    """

    def __init__(
        self,
        identities: int,
        embedding: int,
        alpha: float = 10.0,
        *,
        processes: ProcessGroup = SINGLE_PROCESS,
    ) -> None:
        super().__init__()
        self.processes, self.rows = processes, local_range(identities, processes)
        drawn_PE = torch.empty(len(self.rows), embedding)
        # Every process draws all rows, block by block, and keeps its own. The initial inventory is therefore
        # the same for any number of processes.
        for start in range(0, identities, INIT_BLOCK):
            block_JE = torch.randn(min(INIT_BLOCK, identities - start), embedding)
            first, last = max(start, self.rows.start), min(start + len(block_JE), self.rows.stop)
            if last > first:
                own = slice(first - self.rows.start, last - self.rows.start)
                drawn_PE[own] = block_JE[first - start : last - start]
        self.row_PE = nn.Parameter(drawn_PE.mul_(0.1))
        self.a = precision_parameter(alpha)

    @property
    def alpha(self) -> Tensor:
        """The precision α > 0."""
        return F.softplus(self.a)

    @property
    def unit_rows(self) -> Tensor:
        """The rows [P,E] at unit norm."""
        return F.normalize(at_least_float32(self.row_PE), dim=-1)

    def forward(self, embedding: Tensor) -> Tensor:
        """f(e, j) [R,P] for embeddings [R,E] of unit norm. Computes all logits at once."""
        return squared_distance_logits(embedding, self.unit_rows, self.alpha)

    def partition_terms(self, embedding: Tensor, identity: Tensor) -> tuple[Tensor, Tensor]:
        """ln Σ_{j≠y} exp f(e, j) and cos(e, row_y) [R]; see :func:`~.partition.partition_terms`."""
        # Products in half precision would be too coarse for differences of logits.
        with torch.autocast(embedding.device.type, enabled=False):
            rows_PE = at_least_float32(self.row_PE)
            return partition_terms(
                at_least_float32(embedding).to(rows_PE.dtype),
                rows_PE,
                self.alpha,
                identity,
                processes=self.processes,
                first=self.rows.start,
            )

    @torch.no_grad()
    def pairwise_losses(self, embedding: Tensor, identity: Tensor) -> Tensor:
        """−ln( exp f(e, y) / Σ_j exp f(e, j) ) [B,C,K] in nats, without gradient.

        Args:
            embedding: [B,C,E], unit norm.
            identity: K identities for each of the B mixtures [B,K].
        """
        with torch.autocast(embedding.device.type, enabled=False):
            rows_PE = at_least_float32(self.row_PE)
            embed_BCE = at_least_float32(embedding).to(rows_PE.dtype)
            sum_BC = log_partition(embed_BCE.flatten(0, 1), rows_PE, self.alpha, processes=self.processes)
            cos_BCK = cosines(embed_BCE, rows_PE, identity, processes=self.processes, first=self.rows.start)
        return sum_BC.view(*embed_BCE.shape[:2], 1) - 2 * self.alpha * (cos_BCK - 1)

    def spread(self) -> Tensor:
        """Mean log distance from a row to its nearest other row; the spreading term maximises it."""
        unit_PE = self.unit_rows
        cos_PP = (unit_PE @ unit_PE.T).clone().fill_diagonal_(-1.0)
        return 0.5 * (2 - 2 * cos_PP.amax(1)).clamp(min=1e-6).log().mean()


def precision_parameter(alpha: float) -> nn.Parameter:
    """The parameter a of a learnt precision α = softplus(a).

    >>> F.softplus(precision_parameter(10.0))
    tensor(10., grad_fn=...)
    """
    # The inverse of softplus, without overflow.
    return nn.Parameter(torch.tensor(alpha + math.log(-math.expm1(-alpha))))


def squared_distance_logits(embedding: Tensor, unit_rows: Tensor, alpha: Tensor) -> Tensor:
    """−α ‖e − row‖² [R,P] for unit vectors [R,E] and [P,E], with one matrix product.

    >>> squared_distance_logits(torch.eye(2), torch.eye(2), torch.tensor(3.0))
    tensor([[ 0., -6.],
            [-6.,  0.]])
    """
    return 2 * alpha * (at_least_float32(embedding) @ unit_rows.T - 1)


def csc_loss(
    inventory: Inventory,
    embedding: Tensor,
    identity: Tensor,
    *,
    margin: float = 0.0,
    smoothing: float = 0.0,
    negatives: int | None = None,
) -> Tensor:
    """L(e, y) [R] in nats, with the exact sum over the inventory: no negatives are sampled.

    The options change the loss only. To bound the mutual information
    (:func:`separative.metrics.information_bound`), use the loss without them.

    Args:
        inventory: global speaker vectors of P identities.
        embedding: [R,E], unit norm.
        identity: index y of the true identity of each embedding [R].
        margin: angle in radians that is added to the angle of the true identity.
        smoothing: share of the target distribution that is spread evenly over all identities.
        negatives: number of rows, drawn per batch, that replace the whole inventory. For comparison only.

    With α near 0, every identity is equally likely and the loss is ln P:

    >>> inventory = Inventory(identities=251, embedding=16, alpha=1e-9)
    >>> embedding = F.normalize(torch.randn(2, 16), dim=-1)
    >>> csc_loss(inventory, embedding, torch.tensor([0, 7]))
    tensor([5.5255, 5.5255], grad_fn=...)
    """
    if negatives is not None or smoothing > 0:
        return _dense_loss(inventory, embedding, identity, margin, smoothing, negatives)
    others_R, cos_R = inventory.partition_terms(embedding, identity)
    # −ln(exp f_y / (exp f_y + Σ_others)). This form stays finite if there are no others, or if they are far
    # more likely than y.
    behind_R = others_R - 2 * inventory.alpha * (_add_margin(cos_R, margin) - 1)
    return torch.logaddexp(behind_R, torch.zeros_like(behind_R))


def _dense_loss(
    inventory: Inventory,
    embedding: Tensor,
    identity: Tensor,
    margin: float,
    smoothing: float,
    negatives: int | None,
) -> Tensor:
    """The loss from a matrix of all logits, which label smoothing and sampled negatives need."""
    logits_RP = inventory(embedding)
    if negatives is not None:
        drawn_P = torch.zeros(logits_RP.shape[1], dtype=torch.bool, device=logits_RP.device)
        drawn_P[torch.randperm(len(drawn_P))[:negatives].to(drawn_P.device)] = True
        keep_RP = drawn_P.expand_as(logits_RP).scatter(1, identity.unsqueeze(1), True)
        logits_RP = logits_RP.masked_fill(~keep_RP, -1e4)
    if margin > 0:
        true_R1 = identity.unsqueeze(1)
        cos_R1 = logits_RP.gather(1, true_R1) / (2 * inventory.alpha) + 1
        logits_RP = logits_RP.scatter(1, true_R1, 2 * inventory.alpha * (_add_margin(cos_R1, margin) - 1))
    return F.cross_entropy(logits_RP, identity, reduction="none", label_smoothing=smoothing)


def _add_margin(cosine: Tensor, margin: float) -> Tensor:
    """The cosine of an angle that is ``margin`` radians wider."""
    if margin == 0:
        return cosine
    cosine = cosine.clamp(-1 + 1e-6, 1 - 1e-6)
    wider = cosine * math.cos(margin) - (1 - cosine.square()).sqrt() * math.sin(margin)
    # Beyond π − margin the cosine of the wider angle would rise again, so it continues linearly.
    return torch.where(cosine > -math.cos(margin), wider, cosine - margin * math.sin(margin))
