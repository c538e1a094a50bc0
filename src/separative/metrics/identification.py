"""Identification rates against a gallery: closed set (the speaker is enrolled) and open set (perhaps not)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from separative.errors import SeparativeError
from separative.metrics.verification import require_finite
from separative.types import Floats


def identification_rates(
    scores: Floats, targets: NDArray[np.intp], ranks: Sequence[int] = (1, 5)
) -> dict[int, float]:
    """Compute the share of probes with the correct gallery entry among the k best, for every k in ``ranks``.

    In a tie the correct entry counts as the last, so a constant score identifies no probe.

    Args:
        scores: scores of R probes against G gallery entries [R, G].
        targets: index of the correct entry of each probe [R].

    Raises:
        SeparativeError: a rank is below 1, the gallery has fewer than two entries, or a score is not finite.

    Example:
        >>> scores = np.array([[0.9, 0.1, 0.3], [0.6, 0.4, 0.1]])
        >>> identification_rates(scores, np.array([0, 1]), ranks=(1, 2))
        {1: 0.5, 2: 1.0}
    """
    if min(ranks) < 1:
        raise SeparativeError(f"ranks begin at 1, not {min(ranks)}")
    own_R, other_RG = _own_and_others(scores, targets)
    rank_R = 1 + (other_RG >= own_R[:, None]).sum(1)
    return {rank: float(np.mean(rank_R <= rank)) for rank in ranks}


def open_set_rate(scores: Floats, targets: NDArray[np.intp], false_accepts: float = 0.01) -> float:
    """Compute the share of probes with the correct gallery entry as the best one and above a threshold.

    The threshold is the lowest that at most a share ``false_accepts`` of the impostors exceed. The impostors
    are the same probes with the correct entry taken out of the gallery.

    Args:
        scores: scores of R probes against G gallery entries [R, G].
        targets: index of the correct entry of each probe [R].

    Raises:
        SeparativeError: ``false_accepts`` is outside [0, 1), the gallery has fewer than two entries, or a
            score is not finite.

    Example:
        >>> scores = np.array([[0.9, 0.1, 0.3], [0.6, 0.4, 0.1]])
        >>> open_set_rate(scores, np.array([0, 0]), false_accepts=0.0)
        1.0
    """
    if not 0 <= false_accepts < 1:
        raise SeparativeError(f"false_accepts is a share from 0 to below 1, not {false_accepts:g}")
    own_R, other_RG = _own_and_others(scores, targets)
    impostor_R = other_RG.max(1)
    allowed = int(false_accepts * len(own_R) + 1e-9)
    threshold = np.sort(impostor_R)[-1 - allowed]
    return float(np.mean((own_R > impostor_R) & (own_R > threshold)))


def _own_and_others(scores: Floats, targets: NDArray[np.intp]) -> tuple[Floats, Floats]:
    """The score [R] of each probe's correct entry, and all scores [R,G] with that one at minus infinity."""
    other_RG = np.array(scores, np.float64)
    require_finite(other_RG, "identification")
    if other_RG.shape[1] < 2:
        raise SeparativeError("identification needs a gallery of at least two speakers")
    probes = np.arange(len(other_RG))
    own_R = other_RG[probes, targets]
    other_RG[probes, targets] = -np.inf
    return own_R, other_RG
