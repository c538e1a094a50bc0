"""What every metric of verification asks of its trials."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from separative.errors import SeparativeError
from separative.types import Floats


def need_finite(score: Floats, what: str = "an error rate") -> None:
    """Refuse NaN and infinite scores, naming the first of them.

    Raises:
        SeparativeError: a score that is not finite.
    """
    bad = np.flatnonzero(~np.isfinite(score))
    if len(bad):
        place = ", ".join(str(int(i)) for i in np.unravel_index(bad[0], score.shape))
        raise SeparativeError(
            f"{what} needs finite scores: number {place} is {score.flat[bad[0]]} ({len(bad)} such in all)"
        )


def need_both_classes(target_N: NDArray[np.bool_], what: str = "an error rate") -> None:
    """Refuse trials that are all of one kind.

    Raises:
        SeparativeError: no target trial or no non-target trial.
    """
    if not target_N.any() or target_N.all():
        raise SeparativeError(f"{what} needs at least one target and one non-target trial")


def class_shares(target_N: NDArray[np.bool_], weight_N: Floats | None = None) -> Floats:
    """Weights [N] scaled so that those of each class sum to 1; NaN where a class has no weight."""
    weight = np.ones(len(target_N)) if weight_N is None else np.asarray(weight_N, np.float64)
    total = float(weight @ target_N), float(weight @ ~target_N)
    with np.errstate(invalid="ignore", divide="ignore"):
        share_N: Floats = weight / np.where(target_N, *total)
    return share_N if min(total) > 0 else np.full(len(target_N), np.nan)


@dataclass(frozen=True)
class Roc:
    """Scores sorted once, so that many weightings of the same trials (a bootstrap) are cheap."""

    score_N: Floats
    target_N: NDArray[np.bool_]

    def __post_init__(self) -> None:
        need_both_classes(self.target_N)
        need_finite(self.score_N)

    @cached_property
    def order_N(self) -> NDArray[np.intp]:
        return np.argsort(self.score_N, kind="stable")

    @cached_property
    def last_T(self) -> NDArray[np.intp]:
        """Position in the sorted order of the last trial of each tie."""
        sorted_N = self.score_N[self.order_N]
        return np.append(np.flatnonzero(np.diff(sorted_N) > 0), len(sorted_N) - 1)

    def points(self, weight_N: Floats | None = None) -> tuple[Floats, Floats]:
        """pmiss_T and pfa_T from "accept all" to "accept none"; NaN if a side has no weight."""
        weight = np.ones(len(self.score_N)) if weight_N is None else np.asarray(weight_N, np.float64)
        weight, target = weight[self.order_N], self.target_N[self.order_N]
        missed_T = np.append(0.0, np.cumsum(weight * target)[self.last_T])
        rejected_T = np.append(0.0, np.cumsum(weight * ~target)[self.last_T])
        with np.errstate(invalid="ignore"):
            return missed_T / missed_T[-1], 1 - rejected_T / rejected_T[-1]

    def eer(self, weight_N: Floats | None = None) -> float:
        """Equal error rate (0 to 0.5) where the convex hull crosses pmiss = pfa; NaN without weight.

        The hull edge over the diagonal is found by cutting: start from the edge between the trivial points,
        take the point farthest below it (a vertex of the hull), keep the half that still crosses the
        diagonal, until nothing lies below. Each cut is linear in the points left.
        """
        miss_T, fa_T = self.points(weight_N)
        if np.isnan(miss_T[-1]) or np.isnan(fa_T[-1]):
            return float("nan")
        low, high = 0, len(miss_T) - 1
        while True:
            rise, run = miss_T[high] - miss_T[low], fa_T[low] - fa_T[high]
            below_T = rise * (fa_T[low : high + 1] - fa_T[low]) + run * (miss_T[low : high + 1] - miss_T[low])
            cut = low + int(below_T.argmin())
            if below_T[cut - low] > -1e-12:
                break
            if miss_T[cut] > fa_T[cut]:
                high = cut
            else:
                low = cut
        gap = fa_T[low] - miss_T[low]
        return float(miss_T[low] + rise * gap / (rise + run)) if gap else float(miss_T[low])

    def min_dcf(self, p_target: float = 0.05, weight_N: Floats | None = None) -> float:
        """Smallest detection cost with unit costs, normalised by the best trivial decision (0 to 1)."""
        miss_T, fa_T = self.points(weight_N)
        cost_T = p_target * miss_T + (1 - p_target) * fa_T
        return float(cost_T.min() / min(p_target, 1 - p_target))

    def min_cllr(self, weight_N: Floats | None = None) -> float:
        """Least Cllr of any monotone map of the scores, in bits (0 to 1); NaN if a class has no weight.

        Pooling adjacent violators gives each tie the probability p of a target at prior 1/2, which costs
        -log2 p for its targets and -log2 (1 - p) for its non-targets.
        """
        from scipy.optimize import isotonic_regression
        from scipy.special import xlogy

        miss_T, fa_T = self.points(weight_N)
        if np.isnan(miss_T[-1]) or np.isnan(fa_T[-1]):
            return float("nan")
        target_T, other_T = np.diff(miss_T), -np.diff(fa_T)
        held_T = target_T + other_T > 0
        target_T, other_T = target_T[held_T], other_T[held_T]
        share_T = target_T + other_T
        p_T = isotonic_regression(target_T / share_T, weights=share_T).x.clip(0, 1)
        return float(-(xlogy(target_T, p_T) + xlogy(other_T, 1 - p_T)).sum() / (2 * np.log(2)))


def eer(score_N: Floats, target_N: NDArray[np.bool_], weight_N: Floats | None = None) -> float:
    """Equal error rate (a fraction) by the convex hull of the ROC, O(N log N).

    Raises:
        SeparativeError: no target or no non-target trial, or a score that is not finite.
    """
    return Roc(np.asarray(score_N), np.asarray(target_N, bool)).eer(weight_N)


def min_dcf(score_N: Floats, target_N: NDArray[np.bool_], p_target: float = 0.05) -> float:
    """Minimum normalised detection cost at prior ``p_target``, unit costs.

    Raises:
        SeparativeError: no target or no non-target trial, or a score that is not finite.
    """
    return Roc(np.asarray(score_N), np.asarray(target_N, bool)).min_dcf(p_target)


def adaptive_snorm(score_LR: Floats, left_LK: Floats, right_RK: Floats, top: int = 100) -> Floats:
    """Adaptive symmetric normalisation: scores in deviations above each side's nearest strangers.

    The mean of (score - mean_left)/std_left and (score - mean_right)/std_right, where mean and deviation are
    those of the ``top`` highest scores of that side against a cohort of K other speakers (Matějka et al.,
    Interspeech 2017; all K if there are fewer). No speaker of the trials may be in the cohort.

    Args:
        score_LR: scores of L left sides against R right sides.
        left_LK, right_RK: scores of the sides against the cohort; each may have a cohort of its own.

    Raises:
        SeparativeError: fewer than two strangers, a side that scores all of them alike, a score not finite.
    """
    for scores in (score_LR, left_LK, right_RK):
        need_finite(np.asarray(scores), "score normalisation")
    mean_L, deviation_L = _nearest(left_LK, top, "left")
    mean_R, deviation_R = _nearest(right_RK, top, "right")
    score = np.asarray(score_LR, np.float64)
    left_LR = (score - mean_L[:, None]) / deviation_L[:, None]
    normal_LR: Floats = (left_LR + (score - mean_R) / deviation_R) / 2
    return normal_LR


def _nearest(score_NK: Floats, top: int, side: str) -> tuple[Floats, Floats]:
    scores = np.asarray(score_NK, np.float64)
    count = min(top, scores.shape[1])
    if count < 2:
        raise SeparativeError(f"score normalisation needs a cohort and a top of at least 2, not {count}")
    highest = np.partition(scores, scores.shape[1] - count, axis=1)[:, -count:]
    deviation_N = highest.std(1)
    flat = np.flatnonzero(deviation_N <= 1e-12 * np.abs(highest).max(1))
    if len(flat):
        raise SeparativeError(f"the {side} side number {flat[0]} scores its whole cohort alike")
    return highest.mean(1), deviation_N
