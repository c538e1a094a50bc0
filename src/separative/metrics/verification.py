"""Metrics of verification trials: equal error rate, detection cost, and score normalisation with a cohort."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from separative.errors import SeparativeError
from separative.types import Floats


def require_finite(scores: Floats, what: str = "an error rate") -> None:
    """Raise an error that names the first score that is NaN or infinite, if there is one.

    Raises:
        SeparativeError: a score is not finite. ``what`` begins the message.

    Example:
        >>> require_finite(np.array([0.5, np.nan]))
        Traceback (most recent call last):
        separative.errors.SeparativeError: an error rate needs finite scores: number 1 is nan (1 such in all)
    """
    bad = np.flatnonzero(~np.isfinite(scores))
    if len(bad):
        index = ", ".join(str(int(i)) for i in np.unravel_index(bad[0], scores.shape))
        raise SeparativeError(
            f"{what} needs finite scores: number {index} is {scores.flat[bad[0]]} ({len(bad)} such in all)"
        )


def require_both_classes(targets: NDArray[np.bool_], what: str = "an error rate") -> None:
    """Raise an error if all trials are target trials or all are non-target trials.

    Raises:
        SeparativeError: one class is missing. ``what`` begins the message.

    Example:
        >>> require_both_classes(np.array([True, True]))
        Traceback (most recent call last):
        separative.errors.SeparativeError: an error rate needs at least one target and one non-target trial
    """
    if not targets.any() or targets.all():
        raise SeparativeError(f"{what} needs at least one target and one non-target trial")


def class_shares(targets: NDArray[np.bool_], weights: Floats | None = None) -> Floats:
    """Scale weights [N] so that they sum to 1 in each class; all NaN if a class has no weight.

    Example:
        >>> class_shares(np.array([True, True, False])).tolist()
        [0.5, 0.5, 1.0]
    """
    weight_N = np.ones(len(targets)) if weights is None else np.asarray(weights, np.float64)
    total = float(weight_N @ targets), float(weight_N @ ~targets)
    with np.errstate(invalid="ignore", divide="ignore"):
        share_N: Floats = weight_N / np.where(targets, *total)
    return share_N if min(total) > 0 else np.full(len(targets), np.nan)


@dataclass(frozen=True)
class Roc:
    """Trials sorted by score once, so that many weightings of them (a bootstrap) are fast.

    Attributes:
        scores: a score for each trial [N], higher for the same speaker.
        targets: True for target trials [N].

    Raises:
        SeparativeError: there is no target or no non-target trial, or a score is not finite.

    Example:
        >>> roc = Roc(np.array([0.9, 0.4, 0.6, 0.1]), np.array([True, True, False, False]))
        >>> roc.eer(), roc.eer(weights=np.array([1.0, 0.0, 0.0, 1.0]))
        (0.25, 0.0)
    """

    scores: Floats
    targets: NDArray[np.bool_]

    def __post_init__(self) -> None:
        require_both_classes(self.targets)
        require_finite(self.scores)

    @cached_property
    def order(self) -> NDArray[np.intp]:
        """Indices that sort the trials by score [N]."""
        return np.argsort(self.scores, kind="stable")

    @cached_property
    def tie_ends(self) -> NDArray[np.intp]:
        """Index, in the sorted order, of the last trial of every group of equal scores [T]."""
        sorted_N = self.scores[self.order]
        return np.append(np.flatnonzero(np.diff(sorted_N) > 0), len(sorted_N) - 1)

    def points(self, weights: Floats | None = None) -> tuple[Floats, Floats]:
        """Return miss and false-alarm rates [T + 1], from accepting all trials to accepting none.

        Rates are NaN if a class has no weight.
        """
        weight_N = np.ones(len(self.scores)) if weights is None else np.asarray(weights, np.float64)
        weight_N, target_N = weight_N[self.order], self.targets[self.order]
        missed_T = np.append(0.0, np.cumsum(weight_N * target_N)[self.tie_ends])
        rejected_T = np.append(0.0, np.cumsum(weight_N * ~target_N)[self.tie_ends])
        with np.errstate(invalid="ignore"):
            return missed_T / missed_T[-1], 1 - rejected_T / rejected_T[-1]

    def eer(self, weights: Floats | None = None) -> float:
        """Return the equal error rate, 0 to 0.5; NaN if a class has no weight.

        It is the point of the convex hull of the ROC at which misses and false alarms are equal. The edge of
        the hull that crosses this diagonal is found by cutting. We start with the line between the two
        trivial points and take the point farthest below it, which is a vertex of the hull. The half that
        still crosses the diagonal is kept, until no point is below the line. Each cut is linear in the
        remaining points.
        """
        miss_T, fa_T = self.points(weights)
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

    def min_dcf(self, p_target: float = 0.05, weights: Floats | None = None) -> float:
        """Return the least detection cost with unit costs, divided by that of the best trivial decision."""
        miss_T, fa_T = self.points(weights)
        cost_T = p_target * miss_T + (1 - p_target) * fa_T
        return float(cost_T.min() / min(p_target, 1 - p_target))

    def min_cllr(self, weights: Floats | None = None) -> float:
        """Return the least Cllr in bits, 0 to 1, of any monotone map of the scores.

        Pooling adjacent violators gives each group of equal scores the probability p of a target at a prior
        of 1/2. The cost is -log2 p for its targets and -log2 (1 - p) for its non-targets. NaN if a class has
        no weight.
        """
        from scipy.optimize import isotonic_regression
        from scipy.special import xlogy

        miss_T, fa_T = self.points(weights)
        if np.isnan(miss_T[-1]) or np.isnan(fa_T[-1]):
            return float("nan")
        target_T, other_T = np.diff(miss_T), -np.diff(fa_T)
        weighted_T = target_T + other_T > 0
        target_T, other_T = target_T[weighted_T], other_T[weighted_T]
        share_T = target_T + other_T
        p_T = isotonic_regression(target_T / share_T, weights=share_T).x.clip(0, 1)
        return float(-(xlogy(target_T, p_T) + xlogy(other_T, 1 - p_T)).sum() / (2 * np.log(2)))


def eer(scores: Floats, targets: NDArray[np.bool_], weights: Floats | None = None) -> float:
    """Compute the equal error rate, 0 to 0.5, by the convex hull of the ROC in O(N log N).

    Args:
        scores: a score for each trial [N], higher for the same speaker.
        targets: True for target trials [N].
        weights: weight of each trial [N]; 1 if None.

    Raises:
        SeparativeError: there is no target or no non-target trial, or a score is not finite.

    Example:
        >>> eer(np.array([0.9, 0.8, 0.3, 0.2]), np.array([True, True, False, False]))
        0.0
    """
    return Roc(np.asarray(scores), np.asarray(targets, bool)).eer(weights)


def min_dcf(scores: Floats, targets: NDArray[np.bool_], p_target: float = 0.05) -> float:
    """Compute the minimum normalised detection cost with unit costs, 0 to 1.

    Args:
        scores, targets: as for :func:`eer`.
        p_target: prior probability of a target trial.

    Raises:
        SeparativeError: there is no target or no non-target trial, or a score is not finite.

    Example:
        >>> min_dcf(np.array([0.9, 0.4, 0.6, 0.1]), np.array([True, True, False, False]))
        0.5
    """
    return Roc(np.asarray(scores), np.asarray(targets, bool)).min_dcf(p_target)


def adaptive_snorm(
    scores: Floats, left_cohort_scores: Floats, right_cohort_scores: Floats, top: int = 100
) -> Floats:
    """Normalise scores by adaptive symmetric normalisation (Matějka et al., Interspeech 2017).

    The result is the mean of (score - mean_left) / std_left and (score - mean_right) / std_right. Mean and
    standard deviation are those of the ``top`` highest scores of that side against a cohort of other
    speakers. No speaker of the trials may be in the cohort.

    Args:
        scores: scores of L left sides against R right sides [L, R].
        left_cohort_scores: scores of the left sides against their cohort [L, K].
        right_cohort_scores: scores of the right sides against their cohort [R, K]; it may be another cohort.
        top: number of cohort scores to use; all of them if there are fewer.

    Raises:
        SeparativeError: a cohort has fewer than two speakers, a side has the same score with its whole
            cohort, or a score is not finite.

    Example:
        >>> left, right = np.array([[0.0, 2.0]]), np.array([[1.0, 3.0]])
        >>> adaptive_snorm(np.array([[4.0]]), left, right)
        array([[2.5]])
    """
    for some in (scores, left_cohort_scores, right_cohort_scores):
        require_finite(np.asarray(some), "score normalisation")
    mean_L, deviation_L = _cohort_statistics(left_cohort_scores, top, "left")
    mean_R, deviation_R = _cohort_statistics(right_cohort_scores, top, "right")
    score_LR = np.asarray(scores, np.float64)
    left_LR = (score_LR - mean_L[:, None]) / deviation_L[:, None]
    normal_LR: Floats = (left_LR + (score_LR - mean_R) / deviation_R) / 2
    return normal_LR


def _cohort_statistics(cohort_scores: Floats, top: int, side: str) -> tuple[Floats, Floats]:
    """Mean and standard deviation [N] of the ``top`` highest cohort scores of each side."""
    score_NK = np.asarray(cohort_scores, np.float64)
    count = min(top, score_NK.shape[1])
    if count < 2:
        raise SeparativeError(f"score normalisation needs a cohort and a top of at least 2, not {count}")
    highest_NK = np.partition(score_NK, score_NK.shape[1] - count, axis=1)[:, -count:]
    deviation_N = highest_NK.std(1)
    flat = np.flatnonzero(deviation_N <= 1e-12 * np.abs(highest_NK).max(1))
    if len(flat):
        raise SeparativeError(f"{side} side number {flat[0]} has the same score with its whole cohort")
    return highest_NK.mean(1), deviation_N
