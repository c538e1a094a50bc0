"""The exact sum over an inventory of any size, with the logits of one chunk of rows in memory at a time.

For each embedding the contrastive loss needs one number from all P rows, ln Σ_j exp f(e, j). It is
accumulated chunk by chunk with a running maximum. The forward pass keeps the logits of the first chunks, up
to a fixed amount of memory; the backward pass reuses them and recomputes the others. Memory beyond the
inventory and its gradient is therefore bounded, and nothing is sampled.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from separative.distributed import SINGLE_PROCESS, ProcessGroup

# Logits in a chunk: as many as fit into the cache of a CPU; on a GPU, enough to keep it busy.
CPU_CHUNK, GPU_CHUNK = 2**19, 2**26
# Logits that the forward pass keeps for the backward pass (144 MB). The others are computed twice.
KEPT_LOGITS = 36_000_000
# Below any logit, but finite: differences of maxima, and their products with 0, are never NaN.
_LOWEST = -1e30
# Replaces the length of a row of zeros in divisions.
_SHORTEST = 1e-12


def partition_terms(
    embedding: Tensor,
    rows: Tensor,
    alpha: Tensor,
    identity: Tensor,
    *,
    chunk: int | None = None,
    processes: ProcessGroup = SINGLE_PROCESS,
    first: int = 0,
) -> tuple[Tensor, Tensor]:
    """The two terms of the contrastive loss, with gradients for embeddings, rows and α.

    With f(e, j) = 2α (cos(e, row_j) − 1) these are, for each embedding:

    - ln Σ_{j≠y} exp f(e, j) [R], the sum over all identities but the true one; −∞ if there are no others;
    - cos(e, row_y) [R].

    With several processes, each has its own embeddings and some of the rows. Only maxima, sums and embeddings
    are exchanged. Gradients are those of the mean over processes of whatever each computes from its results.
    For rows and α they are complete. For embeddings they still have to be averaged over processes, as data
    parallel training does with the gradients of the network.

    Args:
        embedding: [R,E], unit norm.
        rows: [P,E], of any length but 0; used at unit norm.
        alpha: a scalar.
        identity: index y of the true identity of each embedding [R].
        chunk: number of logits in memory at a time; depends on the device by default.
        processes: the processes that share the rows.
        first: identity of this process's first row.

    >>> embedding = torch.eye(3)[:2]
    >>> others, cosine = partition_terms(embedding, torch.eye(3), torch.tensor(1.0), torch.tensor([0, 1]))
    >>> others.exp()                                        # two other rows at f = −2 each
    tensor([0.2707, 0.2707])
    >>> cosine
    tensor([1., 1.])
    """
    terms: tuple[Tensor, Tensor] = _PartitionTerms.apply(  # type: ignore[no-untyped-call]
        embedding, rows, alpha, identity, chunk, processes, first
    )
    return terms


@torch.no_grad()
def log_partition(
    embedding: Tensor,
    rows: Tensor,
    alpha: Tensor,
    *,
    chunk: int | None = None,
    processes: ProcessGroup = SINGLE_PROCESS,
) -> Tensor:
    """ln Σ_j exp f(e, j) over all rows [R], without gradient; arguments as in :func:`partition_terms`.

    >>> log_partition(torch.eye(3)[:1], torch.eye(3), torch.tensor(0.0))     # ln 3
    tensor([1.0986])
    """
    all_RE, own = processes.gather(embedding)
    no_identity_R = torch.full((len(all_RE),), -1, device=all_RE.device)
    top_R, sum_R, _ = _accumulate(all_RE, rows, alpha, no_identity_R, chunk)
    return _combine_processes(top_R, sum_R, alpha, processes)[own]


@torch.no_grad()
def cosines(
    embedding: Tensor,
    rows: Tensor,
    identity: Tensor,
    *,
    processes: ProcessGroup = SINGLE_PROCESS,
    first: int = 0,
) -> Tensor:
    """cos(e, row_y) [B,C,K] of embeddings [B,C,E] and the rows of identities [B,K], without gradient.

    >>> cosines(torch.eye(3)[None, :2], torch.eye(3), torch.tensor([[1, 2]]))
    tensor([[[0., 0.],
             [1., 0.]]])
    """
    (all_BCE, own), (all_BK, _) = processes.gather(embedding), processes.gather(identity)
    unit_BKE, present_BK = _unit_rows(rows, all_BK - first)
    cos_BCK = (all_BCE @ unit_BKE.transpose(1, 2)) * present_BK.unsqueeze(1)
    return processes.sum(cos_BCK)[own]


class _PartitionTerms(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        embed_RE: Tensor,
        row_PE: Tensor,
        alpha: Tensor,
        identity_R: Tensor,
        chunk: int | None,
        processes: ProcessGroup,
        first: int,
    ) -> tuple[Tensor, Tensor]:
        (embed_RE, own), (identity_R, _) = processes.gather(embed_RE), processes.gather(identity_R)
        identity_R = identity_R - first
        kept: list[Tensor] = []
        top_R, sum_R, per_length_P = _accumulate(embed_RE, row_PE, alpha, identity_R, chunk, kept)
        others_R = _combine_processes(top_R, sum_R, alpha, processes)
        true_RE, present_R = _unit_rows(row_PE, identity_R)
        cos_R = processes.sum(torch.linalg.vecdot(embed_RE, true_RE) * present_R)
        ctx.save_for_backward(embed_RE, row_PE, per_length_P, alpha, identity_R, others_R, cos_R, *kept)
        ctx.chunk, ctx.processes, ctx.own = chunk, processes, own
        return others_R[own], cos_R[own]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, others_grad_R: Tensor, cos_grad_R: Tensor) -> tuple[Tensor | None, ...]:
        embed_RE, row_PE, per_length_P, alpha, identity_R, others_R, cos_R, *kept = ctx.saved_tensors
        processes: ProcessGroup = ctx.processes
        (others_grad_R, _), (cos_grad_R, _) = processes.gather(others_grad_R), processes.gather(cos_grad_R)
        # If there is no other identity, the sum is empty and its gradient is 0, not NaN.
        others_grad_R = torch.where(others_R.isfinite(), others_grad_R, torch.zeros_like(others_grad_R))
        shift_R = torch.where(others_R.isfinite(), others_R, torch.zeros_like(others_R)) + 2 * alpha
        row_grad_PE, embed_grad_RE = torch.empty_like(row_PE), torch.zeros_like(embed_RE)
        # The loop adds the gradient of the first term of f = 2α cos − 2α. The second term is added after the
        # loop for all rows together, because their shares sum to 1.
        alpha_grad = torch.zeros_like(alpha)
        pull_RE = 2 * alpha * others_grad_R.unsqueeze(1) * embed_RE
        for part, per_length_J1, scaled_JR in _chunks(
            embed_RE, row_PE, alpha, identity_R, ctx.chunk, per_length_P, kept
        ):
            row_JE = row_PE[part]
            # d others / d f(e, j) is the share of j in the sum; it is 0 for the true identity.
            share_JR = scaled_JR.sub(shift_R).exp_()
            radial_J1 = (share_JR * scaled_JR) @ others_grad_R.unsqueeze(1)
            alpha_grad += radial_J1.sum() / alpha.clamp(min=1e-30)
            share_JR.mul_(per_length_J1)
            embed_grad_RE.addmm_(share_JR.T, row_JE)
            # Through the normalisation of a row, only the gradient tangent to the sphere passes, divided by
            # the row's length.
            inwards_J1 = radial_J1.mul_(per_length_J1.square()).neg_()
            torch.mul(row_JE, inwards_J1, out=row_grad_PE[part]).addmm_(share_JR, pull_RE)
        embed_grad_RE.mul_(2 * alpha * others_grad_R.unsqueeze(1))
        true_RE, present_R = _unit_rows(row_PE, identity_R)
        cos_grad_R1 = (cos_grad_R * present_R).unsqueeze(1)
        embed_grad_RE.addcmul_(cos_grad_R1, true_RE)
        place_R = identity_R.clamp(0, len(row_PE) - 1)
        tangent_RE = (embed_RE - cos_R.unsqueeze(1) * true_RE) * per_length_P[place_R].unsqueeze(1)
        row_grad_PE.index_add_(0, place_R, cos_grad_R1 * tangent_RE)
        alpha_grad = processes.sum(alpha_grad) - 2 * others_grad_R.sum()
        if processes.world_size > 1:
            row_grad_PE /= processes.world_size
            alpha_grad = alpha_grad / processes.world_size
        return processes.sum(embed_grad_RE)[ctx.own], row_grad_PE, alpha_grad, None, None, None, None


def _combine_processes(top_R: Tensor, sum_R: Tensor, alpha: Tensor, processes: ProcessGroup) -> Tensor:
    """Logarithm of the sum over the rows of all processes, from the maximum and sum of each process."""
    highest_R = processes.max(top_R)
    return highest_R - 2 * alpha + processes.sum(sum_R * (top_R - highest_R).exp()).log()


def _unit_rows(row_PE: Tensor, identity: Tensor) -> tuple[Tensor, Tensor]:
    """Rows of the identities at unit norm, and 1 where this process has the row, else 0 (with any row)."""
    place = identity.clamp(0, len(row_PE) - 1)
    row = row_PE[place]
    unit = row / row.norm(dim=-1, keepdim=True).clamp(min=_SHORTEST)
    return unit, (identity == place).to(row_PE.dtype)


def _accumulate(
    embed_RE: Tensor,
    row_PE: Tensor,
    alpha: Tensor,
    identity_R: Tensor,
    chunk: int | None,
    kept: list[Tensor] | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Accumulate exp(2α cos − maximum) over all identities but the true ones.

    Appends the logits of the first chunks to ``kept``.

    Returns:
        maxima [R], sums [R], and 1 / length of the rows [P].
    """
    top_R = torch.full_like(embed_RE[:, 0], _LOWEST)
    sum_R, per_lengths = torch.zeros_like(top_R), []
    for part, per_length_J1, scaled_JR in _chunks(embed_RE, row_PE, alpha, identity_R, chunk):
        higher_R = torch.maximum(top_R, scaled_JR.amax(0))
        sum_R = sum_R * (top_R - higher_R).exp() + scaled_JR.sub(higher_R).exp_().sum(0)
        top_R = higher_R
        per_lengths.append(per_length_J1)
        if kept is not None and part.stop * len(embed_RE) <= KEPT_LOGITS:
            kept.append(scaled_JR)
    return top_R, sum_R, torch.cat(per_lengths).squeeze(1)


def _chunks(
    embed_RE: Tensor,
    row_PE: Tensor,
    alpha: Tensor,
    identity_R: Tensor,
    chunk: int | None,
    per_length_P: Tensor | None = None,
    kept: Sequence[Tensor] = (),
) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """Yield for each chunk of J rows: their slice, 1 / length [J,1], and 2α cos [J,R].

    The entry of a true identity is less than ``_LOWEST``. ``per_length_P`` and ``kept`` are results of an
    earlier pass, which are used instead of computing them again.
    """
    if chunk is None:
        chunk = GPU_CHUNK if embed_RE.is_cuda else CPU_CHUNK
    size = max(1, chunk // max(1, len(embed_RE)))
    scaled_ER = (2 * alpha * embed_RE).T
    for number, start in enumerate(range(0, len(row_PE), size)):
        part = slice(start, min(start + size, len(row_PE)))
        row_JE = row_PE[part]
        if per_length_P is None:
            per_length_J1 = row_JE.norm(dim=1, keepdim=True).clamp_(min=_SHORTEST).reciprocal_()
        else:
            per_length_J1 = per_length_P[part].unsqueeze(1)
        if number < len(kept):
            yield part, per_length_J1, kept[number]
            continue
        # Multiply first and divide by the lengths afterwards: the rows are read once and never copied.
        scaled_JR = (row_JE @ scaled_ER).mul_(per_length_J1)
        true_R = ((identity_R >= start) & (identity_R < part.stop)).nonzero().squeeze(1)
        scaled_JR[identity_R[true_R] - start, true_R] = 2 * _LOWEST
        yield part, per_length_J1, scaled_JR


def at_least_float32(x: Tensor) -> Tensor:
    """Convert half precision to single precision; leave single and double precision unchanged.

    >>> at_least_float32(torch.ones(1, dtype=torch.bfloat16)).dtype
    torch.float32
    """
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
