"""The exact sum over an inventory of any size, with logits held for a chunk of rows at a time.

What the contrastive loss needs of P rows is one number for each embedding, ln Σ_j exp f(e, j). It is gathered
chunk by chunk with a running maximum, and the backward pass computes each chunk's logits again: O(R·chunk)
memory beyond the inventory and its gradient, and nothing is sampled.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

# Logits at once: what a processor's cache holds; on a GPU, enough to keep it busy.
CPU_LOGITS, GPU_LOGITS = 2**19, 2**26
_LOWEST = -1e30  # below any logit and finite, so that differences of maxima are never NaN


def partition(
    embed_RE: Tensor, row_PE: Tensor, alpha: Tensor, identity_R: Tensor, *, at_once: int | None = None
) -> tuple[Tensor, Tensor]:
    """What the contrastive loss needs of a whole inventory, with gradients for all floating arguments.

    With f(e, j) = 2α (cos(e, row_j) − 1) this is ln Σ_{j≠y} exp f(e, j), the sum over all identities but the
    true one [R] (−∞ if there are none), and cos(e, row_y) [R].

    Args:
        embed_RE: unit norm.
        row_PE: of any length but 0; used at unit norm.
        alpha: a number.
        identity_R: y of each embedding.
        at_once: logits held at a time; by device if not given.
    """
    found: tuple[Tensor, Tensor] = _Partition.apply(  # type: ignore[no-untyped-call]
        embed_RE, row_PE, alpha, identity_R, at_once
    )
    return found


@torch.no_grad()
def log_partition(embed_RE: Tensor, row_PE: Tensor, alpha: Tensor, *, at_once: int | None = None) -> Tensor:
    """ln Σ_j exp f(e, j) over all rows [R], without gradient."""
    nobody_R = torch.full((len(embed_RE),), -1, device=embed_RE.device)
    return _gather(embed_RE, row_PE, alpha, nobody_R, at_once)[0]


class _Partition(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, embed_RE: Tensor, row_PE: Tensor, alpha: Tensor, identity_R: Tensor, at_once: int | None
    ) -> tuple[Tensor, Tensor]:
        others_R, cos_R = _gather(embed_RE, row_PE, alpha, identity_R, at_once)
        ctx.save_for_backward(embed_RE, row_PE, alpha, identity_R, others_R)
        ctx.at_once = at_once
        return others_R, cos_R

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, others_grad_R: Tensor, cos_grad_R: Tensor) -> tuple[Tensor | None, ...]:
        embed_RE, row_PE, alpha, identity_R, others_R = ctx.saved_tensors
        # Without any other identity the sum is empty: its gradient is 0, not NaN.
        others_R = torch.where(others_R.isfinite(), others_R, torch.zeros_like(others_R))
        row_grad_PE, embed_grad_RE = torch.empty_like(row_PE), torch.zeros_like(embed_RE)
        alpha_grad = torch.zeros_like(alpha)
        for start, unit_JE, length_J1, logit_RJ, true_R, column_R in _chunks(
            embed_RE, row_PE, alpha, identity_R, ctx.at_once
        ):
            # d others / d f(e, j) is the share of j in the sum: 0 for the true identity, whose logit is −∞.
            share_RJ = logit_RJ.sub(others_R.unsqueeze(1)).exp_().mul_(others_grad_R.unsqueeze(1))
            # f = 2α (cos − 1), so d f / d α = f / α; the true identity has no part in it.
            logit_RJ[true_R, column_R] = 0
            alpha_grad += torch.dot(share_RJ.flatten(), logit_RJ.flatten()) / alpha.clamp(min=1e-30)
            pull_RJ = share_RJ.mul_(2 * alpha)
            pull_RJ[true_R, column_R] = cos_grad_R[true_R]
            embed_grad_RE.addmm_(pull_RJ, unit_JE)
            unit_grad_JE = pull_RJ.T @ embed_RE
            # Through the normalisation: only what is tangent to the sphere, over the row's length.
            radial_J1 = (unit_grad_JE * unit_JE).sum(1, keepdim=True)
            tangent_JE = unit_grad_JE.addcmul_(radial_J1, unit_JE, value=-1)
            torch.div(tangent_JE, length_J1, out=row_grad_PE[start : start + len(unit_JE)])
        return embed_grad_RE, row_grad_PE, alpha_grad, None, None


def _gather(
    embed_RE: Tensor, row_PE: Tensor, alpha: Tensor, identity_R: Tensor, at_once: int | None
) -> tuple[Tensor, Tensor]:
    """The sums over all but the true identities, and the cosines with those."""
    top_R = torch.full_like(embed_RE[:, 0], _LOWEST)
    sum_R, cos_R = torch.zeros_like(top_R), torch.zeros_like(top_R)
    for _, unit_JE, _, logit_RJ, true_R, column_R in _chunks(embed_RE, row_PE, alpha, identity_R, at_once):
        cos_R[true_R] = (embed_RE[true_R] * unit_JE[column_R]).sum(1)
        higher_R = torch.maximum(top_R, logit_RJ.amax(1))
        sum_R = sum_R * (top_R - higher_R).exp() + logit_RJ.sub_(higher_R.unsqueeze(1)).exp_().sum(1)
        top_R = higher_R
    return top_R + sum_R.log(), cos_R


def _chunks(
    embed_RE: Tensor, row_PE: Tensor, alpha: Tensor, identity_R: Tensor, at_once: int | None
) -> Iterator[tuple[int, Tensor, Tensor, Tensor, Tensor, Tensor]]:
    """Of each chunk of J rows: its start, unit rows [J,E], their lengths [J,1], logits [R,J], and which
    embeddings have their identity in it, in which column. Logits of true identities are −∞."""
    if at_once is None:
        at_once = GPU_LOGITS if embed_RE.is_cuda else CPU_LOGITS
    size = max(1, at_once // max(1, len(embed_RE)))
    for start in range(0, len(row_PE), size):
        row_JE = row_PE[start : start + size]
        length_J1 = row_JE.norm(dim=1, keepdim=True).clamp(min=1e-12)
        unit_JE = row_JE / length_J1
        logit_RJ = (embed_RE @ unit_JE.T).sub_(1).mul_(2 * alpha)
        here_R = (identity_R >= start) & (identity_R < start + len(row_JE))
        true_R = here_R.nonzero().squeeze(1)
        column_R = identity_R[true_R] - start
        logit_RJ[true_R, column_R] = -torch.inf
        yield start, unit_JE, length_J1, logit_RJ, true_R, column_R


def at_least_single(x: Tensor) -> Tensor:
    """Half precision as single; single and double as they are."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
