"""Who of a gallery is it? Closed set: one of them, surely. Open set: perhaps none of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from separative.errors import SeparativeError
from separative.metrics.verification import need_finite
from separative.types import Floats


def identification(
    score_RG: Floats, true_R: NDArray[np.intp], ranks: Sequence[int] = (1, 5)
) -> dict[int, float]:
    """Share of R probes whose own entry of a gallery of G is among the k best, for each k of ``ranks``.

    An entry that ties with others counts as the last of them: a constant score identifies nobody.

    Raises:
        SeparativeError: a rank below 1, a gallery of one, a score that is not finite.
    """
    if min(ranks) < 1:
        raise SeparativeError(f"ranks begin at 1, not {min(ranks)}")
    own_R, other_RG = _own_and_others(score_RG, true_R)
    rank_R = 1 + (other_RG >= own_R[:, None]).sum(1)
    return {rank: float(np.mean(rank_R <= rank)) for rank in ranks}


def open_set(score_RG: Floats, true_R: NDArray[np.intp], false_accepts: float = 0.01) -> float:
    """Share of R probes identified: their own entry is the best and above the threshold.

    The threshold is the lowest that at most a share ``false_accepts`` of the impostors exceed; an impostor is
    a probe whose own entry has been taken out of the gallery.

    Raises:
        SeparativeError: ``false_accepts`` outside [0, 1), a gallery of one, a score that is not finite.
    """
    if not 0 <= false_accepts < 1:
        raise SeparativeError(f"false_accepts is a share from 0 to below 1, not {false_accepts:g}")
    own_R, other_RG = _own_and_others(score_RG, true_R)
    impostor_R = other_RG.max(1)
    allowed = int(false_accepts * len(own_R) + 1e-9)
    threshold = np.sort(impostor_R)[-1 - allowed]
    return float(np.mean((own_R > impostor_R) & (own_R > threshold)))


def _own_and_others(score_RG: Floats, true_R: NDArray[np.intp]) -> tuple[Floats, Floats]:
    """The score of each probe's own entry, and all scores with that one at minus infinity."""
    other_RG = np.array(score_RG, np.float64)
    need_finite(other_RG, "identification")
    if other_RG.shape[1] < 2:
        raise SeparativeError("identification needs a gallery of at least two speakers")
    probes = np.arange(len(other_RG))
    own_R = other_RG[probes, true_R]
    other_RG[probes, true_R] = -np.inf
    return own_R, other_RG
