"""The exact sum over an inventory of any size, with logits held for a chunk of rows at a time.

What the contrastive loss needs of P rows is one number for each embedding, ln Σ_j exp f(e, j). It is gathered
chunk by chunk with a running maximum. The backward pass takes the logits of the first chunks from the forward
one, as many as a fixed memory holds, and computes the others again: memory beyond the inventory and its
gradient is bounded, and nothing is sampled.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from separative.distributed import ALONE, Processes

# Logits at once: what a processor's cache holds; on a GPU, enough to keep it busy.
CPU_LOGITS, GPU_LOGITS = 2**19, 2**26
# Logits kept from the forward pass to the backward one (144 MB); what is beyond is computed twice.
KEPT_LOGITS = 36_000_000
# Below any logit, and finite: a difference of maxima, or 0 times it, is never NaN.
_LOWEST = -1e30
_SHORTEST = 1e-12  # length of a row of zeros, for division


def partition(
    embed_RE: Tensor,
    row_PE: Tensor,
    alpha: Tensor,
    identity_R: Tensor,
    *,
    at_once: int | None = None,
    processes: Processes = ALONE,
    first: int = 0,
) -> tuple[Tensor, Tensor]:
    """What the contrastive loss needs of a whole inventory, with gradients for all floating arguments.

    With f(e, j) = 2α (cos(e, row_j) − 1) this is ln Σ_{j≠y} exp f(e, j), the sum over all identities but the
    true one [R] (−∞ if there are none), and cos(e, row_y) [R].

    With several processes each has embeddings of its own and some of the rows; only maxima, sums and
    embeddings go from one to another. Gradients are then those of the mean over processes of what each makes
    of its results: of rows and α as they are, of embeddings for whoever averages over processes after them.

    Args:
        embed_RE: unit norm.
        row_PE: of any length but 0; used at unit norm.
        alpha: a number.
        identity_R: y of each embedding.
        at_once: logits held at a time; by device if not given.
        processes: the processes that share the rows.
        first: identity of this process's first row.
    """
    found: tuple[Tensor, Tensor] = _Partition.apply(  # type: ignore[no-untyped-call]
        embed_RE, row_PE, alpha, identity_R, at_once, processes, first
    )
    return found


@torch.no_grad()
def log_partition(
    embed_RE: Tensor,
    row_PE: Tensor,
    alpha: Tensor,
    *,
    at_once: int | None = None,
    processes: Processes = ALONE,
) -> Tensor:
    """ln Σ_j exp f(e, j) over all rows [R], without gradient."""
    all_RE, own = processes.join(embed_RE)
    nobody_R = torch.full((len(all_RE),), -1, device=all_RE.device)
    top_R, sum_R, _ = _gather(all_RE, row_PE, alpha, nobody_R, at_once)
    return _over_ranks(top_R, sum_R, alpha, processes)[own]


@torch.no_grad()
def cosines(
    embed_BCE: Tensor, row_PE: Tensor, identity_BK: Tensor, *, processes: Processes = ALONE, first: int = 0
) -> Tensor:
    """cos(e, row_y) [B,C,K] of every embedding with the rows of K identities, without gradient."""
    (all_BCE, own), (all_BK, _) = processes.join(embed_BCE), processes.join(identity_BK)
    unit_BKE, here_BK = _units(row_PE, all_BK - first)
    cos_BCK = (all_BCE @ unit_BKE.transpose(1, 2)) * here_BK.unsqueeze(1)
    return processes.total(cos_BCK)[own]


class _Partition(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        embed_RE: Tensor,
        row_PE: Tensor,
        alpha: Tensor,
        identity_R: Tensor,
        at_once: int | None,
        processes: Processes,
        first: int,
    ) -> tuple[Tensor, Tensor]:
        (embed_RE, own), (identity_R, _) = processes.join(embed_RE), processes.join(identity_R)
        identity_R = identity_R - first
        kept: list[Tensor] = []
        top_R, sum_R, per_length_P = _gather(embed_RE, row_PE, alpha, identity_R, at_once, kept)
        others_R = _over_ranks(top_R, sum_R, alpha, processes)
        true_RE, here_R = _units(row_PE, identity_R)
        cos_R = processes.total(torch.linalg.vecdot(embed_RE, true_RE) * here_R)
        ctx.save_for_backward(embed_RE, row_PE, per_length_P, alpha, identity_R, others_R, cos_R, *kept)
        ctx.at_once, ctx.processes, ctx.own = at_once, processes, own
        return others_R[own], cos_R[own]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, others_grad_R: Tensor, cos_grad_R: Tensor) -> tuple[Tensor | None, ...]:
        embed_RE, row_PE, per_length_P, alpha, identity_R, others_R, cos_R, *kept = ctx.saved_tensors
        processes: Processes = ctx.processes
        (others_grad_R, _), (cos_grad_R, _) = processes.join(others_grad_R), processes.join(cos_grad_R)
        # Without any other identity the sum is empty: its gradient is 0, not NaN.
        others_grad_R = torch.where(others_R.isfinite(), others_grad_R, torch.zeros_like(others_grad_R))
        shift_R = torch.where(others_R.isfinite(), others_R, torch.zeros_like(others_R)) + 2 * alpha
        row_grad_PE, embed_grad_RE = torch.empty_like(row_PE), torch.zeros_like(embed_RE)
        # Of f = 2α cos − 2α; the second term is added below, for all rows at once: their shares add up to 1.
        alpha_grad = torch.zeros_like(alpha)
        pull_RE = 2 * alpha * others_grad_R.unsqueeze(1) * embed_RE
        for piece, per_length_J1, scaled_JR in _chunks(
            embed_RE, row_PE, alpha, identity_R, ctx.at_once, per_length_P, kept
        ):
            row_JE = row_PE[piece]
            # d others / d f(e, j) is the share of j in the sum: 0 for the true identity.
            share_JR = scaled_JR.sub(shift_R).exp_()
            radial_J1 = (share_JR * scaled_JR) @ others_grad_R.unsqueeze(1)
            alpha_grad += radial_J1.sum() / alpha.clamp(min=1e-30)
            share_JR.mul_(per_length_J1)
            embed_grad_RE.addmm_(share_JR.T, row_JE)
            # Through the normalisation: only what is tangent to the sphere, over the row's length.
            inwards_J1 = radial_J1.mul_(per_length_J1.square()).neg_()
            torch.mul(row_JE, inwards_J1, out=row_grad_PE[piece]).addmm_(share_JR, pull_RE)
        embed_grad_RE.mul_(2 * alpha * others_grad_R.unsqueeze(1))
        true_RE, here_R = _units(row_PE, identity_R)
        cos_grad_R1 = (cos_grad_R * here_R).unsqueeze(1)
        embed_grad_RE.addcmul_(cos_grad_R1, true_RE)
        place_R = identity_R.clamp(0, len(row_PE) - 1)
        tangent_RE = (embed_RE - cos_R.unsqueeze(1) * true_RE) * per_length_P[place_R].unsqueeze(1)
        row_grad_PE.index_add_(0, place_R, cos_grad_R1 * tangent_RE)
        alpha_grad = processes.total(alpha_grad) - 2 * others_grad_R.sum()
        if processes.world > 1:
            row_grad_PE /= processes.world
            alpha_grad = alpha_grad / processes.world
        return processes.total(embed_grad_RE)[ctx.own], row_grad_PE, alpha_grad, None, None, None, None


def _over_ranks(top_R: Tensor, sum_R: Tensor, alpha: Tensor, processes: Processes) -> Tensor:
    """ln of the whole sum from the maxima and sums of each process."""
    highest_R = processes.highest(top_R)
    return highest_R - 2 * alpha + processes.total(sum_R * (top_R - highest_R).exp()).log()


def _units(row_PE: Tensor, identity: Tensor) -> tuple[Tensor, Tensor]:
    """Rows of identities at unit norm, and 1 where the identity is among the rows (else 0, and any row)."""
    place = identity.clamp(0, len(row_PE) - 1)
    row = row_PE[place]
    unit = row / row.norm(dim=-1, keepdim=True).clamp(min=_SHORTEST)
    return unit, (identity == place).to(row_PE.dtype)


def _gather(
    embed_RE: Tensor,
    row_PE: Tensor,
    alpha: Tensor,
    identity_R: Tensor,
    at_once: int | None,
    kept: list[Tensor] | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """The sums of exp(2α cos − maximum) over all but the true identities: maxima, sums, 1 / length of rows.

    Logits of the first chunks are put into ``kept``.
    """
    top_R = torch.full_like(embed_RE[:, 0], _LOWEST)
    sum_R, per_lengths = torch.zeros_like(top_R), []
    for piece, per_length_J1, scaled_JR in _chunks(embed_RE, row_PE, alpha, identity_R, at_once):
        higher_R = torch.maximum(top_R, scaled_JR.amax(0))
        sum_R = sum_R * (top_R - higher_R).exp() + scaled_JR.sub(higher_R).exp_().sum(0)
        top_R = higher_R
        per_lengths.append(per_length_J1)
        if kept is not None and piece.stop * len(embed_RE) <= KEPT_LOGITS:
            kept.append(scaled_JR)
    return top_R, sum_R, torch.cat(per_lengths).squeeze(1)


def _chunks(
    embed_RE: Tensor,
    row_PE: Tensor,
    alpha: Tensor,
    identity_R: Tensor,
    at_once: int | None,
    per_length_P: Tensor | None = None,
    kept: Sequence[Tensor] = (),
) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """Of each chunk of J rows: where it lies, 1 / length [J,1], and 2α cos [J,R], less than ``_LOWEST`` for
    true identities. What an earlier pass found comes from ``per_length_P`` and, as far as it goes, ``kept``.
    """
    if at_once is None:
        at_once = GPU_LOGITS if embed_RE.is_cuda else CPU_LOGITS
    size = max(1, at_once // max(1, len(embed_RE)))
    scaled_ER = (2 * alpha * embed_RE).T
    for number, start in enumerate(range(0, len(row_PE), size)):
        piece = slice(start, min(start + size, len(row_PE)))
        row_JE = row_PE[piece]
        if per_length_P is None:
            per_length_J1 = row_JE.norm(dim=1, keepdim=True).clamp_(min=_SHORTEST).reciprocal_()
        else:
            per_length_J1 = per_length_P[piece].unsqueeze(1)
        if number < len(kept):
            yield piece, per_length_J1, kept[number]
            continue
        # Rows by embeddings, and lengths afterwards: the rows are read once and never copied.
        scaled_JR = (row_JE @ scaled_ER).mul_(per_length_J1)
        here_R = ((identity_R >= start) & (identity_R < piece.stop)).nonzero().squeeze(1)
        scaled_JR[identity_R[here_R] - start, here_R] = 2 * _LOWEST
        yield piece, per_length_J1, scaled_JR


def at_least_single(x: Tensor) -> Tensor:
    """Half precision as single; single and double as they are."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
