"""Separation and activity losses, and the order of streams (method, section 5)."""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor
from torch.nn import functional as F

# τ of the soft threshold: errors more than 30 dB below the source no longer count.
SOFT_THRESHOLD = 1e-3
_TINY = 1e-8


def separation_costs(estimates: Tensor, sources: Tensor, mixtures: Tensor) -> Tensor:
    """Cost in dB [B,C,K] of assigning estimate c to source k: 10 log10(‖s − ŝ‖² / ‖s‖² + τ), at least −30.

    This is the negative signal-to-distortion ratio with a soft threshold. A source of zero energy is measured
    against the energy of the mixture instead, which trains its estimate towards silence. Values and gradients
    are finite for silence, for identical sources and at any level.

    Args:
        estimates: [B,C,N]
        sources: [B,K,N]
        mixtures: [B,N]

    >>> sources = torch.tensor([[[1.0, -1.0], [0.5, 0.5]]])
    >>> separation_costs(sources, sources, sources.sum(1)).diagonal(dim1=1, dim2=2)
    tensor([[-30., -30.]])
    """
    estimate_BCN, source_BKN, mix_BN = estimates.float(), sources.float(), mixtures.float()
    power_BK = source_BKN.square().sum(-1)
    silent_BK = power_BK <= _TINY * mix_BN.square().sum(-1, keepdim=True)
    reference_BK = torch.where(silent_BK, mix_BN.square().sum(-1, keepdim=True), power_BK) + _TINY
    error_BCK = (source_BKN.unsqueeze(1) - estimate_BCN.unsqueeze(2)).square().sum(-1)
    return 10 / math.log(10) * (error_BCK / reference_BK.unsqueeze(1) + SOFT_THRESHOLD).log()


def best_permutation(costs: Tensor) -> Tensor:
    """Find the order [B,K] of least total cost: ``order[k]`` is the stream of source k. Without gradient.

    Tries all orders of up to four streams; with more, solves the assignment problem with SciPy.

    Args:
        costs: cost of assigning stream c to source k [B,C,K], with C = K.

    >>> best_permutation(torch.tensor([[[5.0, 0.0], [1.0, 9.0]]]))
    tensor([[1, 0]])
    """
    cost_BCK = costs.detach()
    streams = cost_BCK.shape[1]
    if streams > 4:
        from scipy.optimize import linear_sum_assignment

        rows = [linear_sum_assignment(cost.T.cpu().numpy())[1] for cost in cost_BCK]
        return torch.tensor([list(map(int, row)) for row in rows], device=cost_BCK.device)
    orders_PK = torch.tensor(list(itertools.permutations(range(streams))), device=cost_BCK.device)
    place_K = torch.arange(streams, device=cost_BCK.device)
    total_BP = cost_BCK[:, orders_PK, place_K].sum(-1)
    return orders_PK[total_BP.argmin(-1)]


def reorder(streams: Tensor, order: Tensor) -> Tensor:
    """Put the second axis of ``streams`` [B,C,...] into the order of the sources: entry k is ``order[k]``.

    >>> reorder(torch.tensor([[10, 20, 30]]), torch.tensor([[2, 0, 1]]))
    tensor([[30, 10, 20]])
    """
    index = order.reshape(order.shape + (1,) * (streams.dim() - 2)).expand(-1, -1, *streams.shape[2:])
    return streams.gather(1, index)


def speech_activity(
    segment_power: Tensor, mixture_power: Tensor, range_db: float = 30.0, floor_db: float = -40.0
) -> Tensor:
    """Activity of each source per segment [B,C,S], 1 or 0.

    A source is active if its power is within ``range_db`` of its own 95th percentile and above ``floor_db``
    relative to the mixture.

    Args:
        segment_power: mean power of each source in each segment [B,C,S].
        mixture_power: mean power of each mixture [B].

    >>> speech_activity(torch.tensor([[[1.0, 1e-2, 1e-5, 1.0]]]), torch.tensor([1.0]))
    tensor([[[1., 1., 0., 1.]]])
    """
    loud_BC1 = segment_power.quantile(0.95, dim=-1, keepdim=True)
    floor_B11 = mixture_power[:, None, None] * 10 ** (floor_db / 10) + _TINY**2
    return ((segment_power > loud_BC1 * 10 ** (-range_db / 10)) & (segment_power > floor_B11)).float()


def audible_sources(
    sources: Tensor,
    mixtures: Tensor,
    activity: Tensor,
    segment_seconds: float,
    level_db: float = -15.0,
    seconds: float = 0.5,
) -> Tensor:
    """Mask [B,C] of the sources that are loud and long enough to carry an identity loss.

    A source is audible if it is above ``level_db`` relative to the mixture and active for ``seconds``.

    Args:
        sources: [B,C,N]
        mixtures: [B,N]
        activity: [B,C,S], 1 or 0.
        segment_seconds: length of a segment.

    >>> sources = torch.stack([torch.ones(1, 100), torch.full((1, 100), 0.1)], dim=1)
    >>> audible_sources(sources, sources.sum(1), torch.ones(1, 2, 10), segment_seconds=0.1)
    tensor([[ True, False]])
    """
    power_BC = sources.square().sum(-1)
    loud_BC = power_BC > mixtures.square().sum(-1, keepdim=True) * 10 ** (level_db / 10)
    return loud_BC & (power_BC > 0) & (activity.sum(-1) * segment_seconds >= seconds)


def activity_loss(log_odds: Tensor, activity: Tensor, valid: Tensor) -> Tensor:
    """Binary cross-entropy of the activity in nats, averaged over valid segments and all streams.

    Args:
        log_odds: predicted log-odds of speech [B,C,S].
        activity: true activity [B,C,S], 1 or 0.
        valid: 1 for segments of the recording, 0 for padding [B,S].

    >>> activity_loss(torch.zeros(1, 2, 3), torch.ones(1, 2, 3), torch.ones(1, 3))      # ln 2
    tensor(0.6931)
    """
    loss_BCS = F.binary_cross_entropy_with_logits(log_odds.float(), activity, reduction="none")
    weight_BCS = valid.unsqueeze(1).expand_as(loss_BCS)
    return (loss_BCS * weight_BCS).sum() / weight_BCS.sum().clamp(min=1)
