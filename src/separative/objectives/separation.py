"""Separation and activity losses (method, section 5)."""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor
from torch.nn import functional as F

SOFT = 1e-3  # τ: errors more than 30 dB below the source no longer count
_TINY = 1e-8


def separation_costs(estimate_BCN: Tensor, source_BKN: Tensor, mix_BN: Tensor) -> Tensor:
    """Cost in dB [B,C,K] of taking estimate c for source k: 10 log10(‖s − ŝ‖² / ‖s‖² + τ), −30 or more.

    This is the negative signal-to-distortion ratio with a soft threshold (method, section 5). A silent source
    (no energy at all) is measured against the mixture's energy instead, and its estimate trained to silence.
    Finite, with finite gradients, for silence, identical sources and any level.
    """
    estimate, source, mix = estimate_BCN.float(), source_BKN.float(), mix_BN.float()
    power_BK = source.square().sum(-1)
    silent_BK = power_BK <= _TINY * mix.square().sum(-1, keepdim=True)
    reference_BK = torch.where(silent_BK, mix.square().sum(-1, keepdim=True), power_BK) + _TINY
    error_BCK = (source.unsqueeze(1) - estimate.unsqueeze(2)).square().sum(-1)
    return 10 / math.log(10) * (error_BCK / reference_BK.unsqueeze(1) + SOFT).log()


def best_permutation(cost_BCK: Tensor) -> Tensor:
    """The order [B,K] of least total cost: source k belongs to stream ``order[k]``. No gradient.

    All orders are tried up to four streams; beyond, the assignment problem is solved (scipy).
    """
    cost_BCK = cost_BCK.detach()
    streams = cost_BCK.shape[1]
    if streams > 4:
        from scipy.optimize import linear_sum_assignment

        rows = [linear_sum_assignment(cost.T.cpu().numpy())[1] for cost in cost_BCK]
        return torch.tensor([list(map(int, row)) for row in rows], device=cost_BCK.device)
    orders_PK = torch.tensor(list(itertools.permutations(range(streams))), device=cost_BCK.device)
    place_K = torch.arange(streams, device=cost_BCK.device)
    total_BP = cost_BCK[:, orders_PK, place_K].sum(-1)
    return orders_PK[total_BP.argmin(-1)]


def reorder(x_BC: Tensor, order_BK: Tensor) -> Tensor:
    """``x`` with its second axis in the order of the sources: row k is stream ``order[k]``."""
    index = order_BK.reshape(order_BK.shape + (1,) * (x_BC.dim() - 2)).expand(-1, -1, *x_BC.shape[2:])
    return x_BC.gather(1, index)


def speech_activity(
    power_BCS: Tensor, mix_power_B: Tensor, range_db: float = 30.0, floor_db: float = -40.0
) -> Tensor:
    """Which segments a source speaks in [B,C,S] (1 or 0), from its mean power in each segment.

    Active: within ``range_db`` of the source's own 95th-percentile segment and above ``floor_db`` of the
    mixture.
    """
    loud_BC1 = power_BCS.quantile(0.95, dim=-1, keepdim=True)
    floor_B11 = mix_power_B[:, None, None] * 10 ** (floor_db / 10) + _TINY**2
    return ((power_BCS > loud_BC1 * 10 ** (-range_db / 10)) & (power_BCS > floor_B11)).float()


def audible(
    source_BCN: Tensor,
    mix_BN: Tensor,
    active_BCS: Tensor,
    segment_seconds: float,
    level_db: float = -15.0,
    seconds: float = 0.5,
) -> Tensor:
    """Which sources carry an identity loss [B,C]: over ``level_db`` of the mixture, active ``seconds``."""
    power_BC = source_BCN.square().sum(-1)
    loud = power_BC > mix_BN.square().sum(-1, keepdim=True) * 10 ** (level_db / 10)
    return loud & (power_BC > 0) & (active_BCS.sum(-1) * segment_seconds >= seconds)


def activity_loss(activity_BCS: Tensor, active_BCS: Tensor, valid_BS: Tensor) -> Tensor:
    """Binary cross-entropy of activity log-odds, mean over valid segments and streams (nats)."""
    loss = F.binary_cross_entropy_with_logits(activity_BCS.float(), active_BCS, reduction="none")
    weight = valid_BS.unsqueeze(1).expand_as(loss)
    return (loss * weight).sum() / weight.sum().clamp(min=1)
