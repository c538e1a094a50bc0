"""Calibration of scores to log-likelihood ratios, and the cost of such ratios.

A log-likelihood ratio is llr = ln p(score | same speaker) / p(score | different speakers), in nats. Costs are
in bits. Source: Brümmer and du Preez, "Application-independent evaluation of speaker detection", 2006.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from separative.errors import SeparativeError
from separative.metrics.verification import Roc, class_shares, require_both_classes, require_finite
from separative.types import Floats

# Keeps the scale finite if a threshold separates the classes perfectly; too weak to matter otherwise.
RIDGE = 1e-6
MAX_STEPS = 100


@dataclass(frozen=True)
class Calibration:
    """The affine map from scores to log-likelihood ratios: llr = ``scale`` * score + ``offset``, in nats.

    Example:
        >>> calibration = Calibration(scale=10.0, offset=-5.0)
        >>> calibration.llr([0.5, 0.7]).tolist(), float(calibration.probability(0.5))
        ([0.0, 2.0], 0.5)
    """

    scale: float
    offset: float

    def llr(self, score: ArrayLike) -> Floats:
        """Return log-likelihood ratios in nats, with the shape of ``score``."""
        ratio: Floats = self.scale * np.asarray(score, np.float64) + self.offset
        return ratio

    def probability(self, score: ArrayLike, prior: float = 0.5) -> Floats:
        """Return the probability that the speakers are the same; ``prior`` is that before the score is known.

        Raises:
            SeparativeError: the prior is not between 0 and 1.
        """
        from scipy.special import expit

        posterior: Floats = expit(self.llr(score) + log_odds(prior))
        return posterior


def log_odds(prior: float) -> float:
    """Compute ln(prior / (1 - prior)).

    Raises:
        SeparativeError: the prior is not between 0 and 1.

    Example:
        >>> log_odds(0.5), round(log_odds(0.9), 3)
        (0.0, 2.197)
    """
    if not 0 < prior < 1:
        raise SeparativeError(f"a prior is a probability between 0 and 1, both excluded, not {prior:g}")
    return float(np.log(prior) - np.log1p(-prior))


def cllr(llr: Floats, targets: NDArray[np.bool_], weights: Floats | None = None) -> float:
    """Compute the cost of log-likelihood ratios (Cllr) in bits.

    It is half the mean of log2(1 + e^-llr) over targets plus half the mean of log2(1 + e^llr) over
    non-targets. Certain and correct ratios cost 0, ratios of 0 cost 1. NaN if a class has no weight.

    Args:
        llr: a ratio in nats for each trial [N].
        targets: True for target trials [N].
        weights: weight of each trial [N]; 1 if None.

    Raises:
        SeparativeError: there is no target or no non-target trial, or a ratio is not finite.

    Example:
        >>> cllr(np.array([0.0, 0.0]), np.array([True, False]))
        1.0
        >>> round(cllr(np.array([4.0, -4.0]), np.array([True, False])), 3)
        0.026
    """
    llr_N, target_N = np.asarray(llr, np.float64), np.asarray(targets, bool)
    require_finite(llr_N, "Cllr")
    require_both_classes(target_N, "Cllr")
    cost_N = np.logaddexp(0, np.where(target_N, -llr_N, llr_N))
    return float(class_shares(target_N, weights) @ cost_N / (2 * np.log(2)))


def min_cllr(scores: Floats, targets: NDArray[np.bool_], weights: Floats | None = None) -> float:
    """Compute the least Cllr in bits that any monotone map of the scores reaches.

    Arguments and errors as for :func:`cllr`, with scores in place of ratios.

    Example:
        >>> round(min_cllr(np.array([0.9, 0.4, 0.6, 0.1]), np.array([True, True, False, False])), 3)
        0.5
    """
    return Roc(np.asarray(scores), np.asarray(targets, bool)).min_cllr(weights)


def fit_calibration(
    scores: Floats, targets: NDArray[np.bool_], weights: Floats | None = None, prior: float = 0.5
) -> Calibration:
    """Fit the calibration of least expected cost at ``prior`` by prior-weighted logistic regression.

    Minimises prior * mean over targets of ln(1 + e^-x) + (1 - prior) * mean over non-targets of ln(1 + e^x),
    where x = llr + log odds of the prior. The problem is convex and solved by Newton's method with step
    halving.

    Args:
        scores: a score for each trial [N].
        targets: True for target trials [N].
        weights: weight of each trial within its class [N]; 1 if None.
        prior: probability of a target trial.

    Raises:
        SeparativeError: a class has no trial or no weight, a score is not finite, or the prior is not
            between 0 and 1.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> targets = np.arange(1000) % 2 == 0
        >>> calibration = fit_calibration(targets + rng.standard_normal(1000), targets)
        >>> bool(calibration.llr(1.0) > 0 > calibration.llr(0.0))
        True
    """
    from scipy.special import expit

    score_N, target_N = np.asarray(scores, np.float64), np.asarray(targets, bool)
    require_finite(score_N, "calibration")
    require_both_classes(target_N, "calibration")
    share_N = class_shares(target_N, weights)
    if np.isnan(share_N).any():
        raise SeparativeError("calibration needs weight on at least one target and one non-target trial")
    odds = log_odds(prior)
    weight_N = share_N * np.where(target_N, prior, 1 - prior)
    # Scores are standardised, so that the Newton step is well conditioned whatever their scale.
    centre = float(weight_N @ score_N)
    spread = float(np.sqrt(weight_N @ (score_N - centre) ** 2)) or 1.0
    unit_N = (score_N - centre) / spread
    sign_N = np.where(target_N, 1.0, -1.0)
    ridge_2 = np.array([RIDGE, RIDGE])

    def cost(map_2: Floats) -> float:
        x_N = map_2[0] * unit_N + map_2[1] + odds
        return float(weight_N @ np.logaddexp(0, -sign_N * x_N) + ridge_2 @ map_2**2 / 2)

    map_2, best = np.zeros(2), cost(np.zeros(2))
    for _ in range(MAX_STEPS):
        p_N = expit(map_2[0] * unit_N + map_2[1] + odds)
        slope_N, curve_N = weight_N * (p_N - target_N), weight_N * p_N * (1 - p_N)
        gradient_2 = np.array([slope_N @ unit_N, slope_N.sum()]) + ridge_2 * map_2
        cross = curve_N @ unit_N
        hessian_22 = np.array([[curve_N @ unit_N**2, cross], [cross, curve_N.sum()]]) + np.diag(ridge_2)
        step_2 = np.linalg.solve(hessian_22, gradient_2)
        if gradient_2 @ step_2 < 1e-14:
            break
        while (found := cost(map_2 - step_2)) > best:
            step_2 /= 2
        map_2, best = map_2 - step_2, found
    scale = float(map_2[0]) / spread
    return Calibration(scale, float(map_2[1]) - scale * centre)
