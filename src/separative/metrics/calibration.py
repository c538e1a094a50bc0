"""Scores as evidence: log-likelihood ratios, what they cost, and how scores become them.

A log-likelihood ratio is llr = ln p(score | same speaker) / p(score | different speakers). Costs are in bits,
ratios in nats. Source: Brümmer and du Preez, "Application-independent evaluation of speaker detection", 2006.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from separative.errors import SeparativeError
from separative.metrics.verification import Roc, class_shares, need_both_classes, need_finite
from separative.types import Floats

# Keeps the scale finite where some score tells all pairs apart; far too weak to be seen in any other fit.
RIDGE = 1e-6
STEPS = 100


@dataclass(frozen=True)
class Calibration:
    """The affine map from scores to log-likelihood ratios: llr = ``scale`` · score + ``offset``, in nats."""

    scale: float
    offset: float

    def llr(self, score: ArrayLike) -> Floats:
        """Log-likelihood ratios in nats, of the shape of ``score``."""
        ratio: Floats = self.scale * np.asarray(score, np.float64) + self.offset
        return ratio

    def probability(self, score: ArrayLike, prior: float = 0.5) -> Floats:
        """Probability that the speakers are the same one, if ``prior`` was that before the score was seen.

        Raises:
            SeparativeError: a prior that is not between 0 and 1.
        """
        from scipy.special import expit

        chance: Floats = expit(self.llr(score) + log_odds(prior))
        return chance


def log_odds(prior: float) -> float:
    """ln prior / (1 - prior).

    Raises:
        SeparativeError: a prior that is not between 0 and 1.
    """
    if not 0 < prior < 1:
        raise SeparativeError(f"a prior is a probability between 0 and 1, both excluded, not {prior:g}")
    return float(np.log(prior) - np.log1p(-prior))


def cllr(llr_N: Floats, target_N: NDArray[np.bool_], weight_N: Floats | None = None) -> float:
    """Cost of log-likelihood ratios (nats) in bits: 0 for certainty that is right, 1 for llr = 0 throughout.

    ½·mean over targets of log₂(1 + e^-llr) + ½·mean over non-targets of log₂(1 + e^llr). NaN where the
    weights leave a class empty.

    Raises:
        SeparativeError: no target or no non-target trial, or a ratio that is not finite.
    """
    llr, target = np.asarray(llr_N, np.float64), np.asarray(target_N, bool)
    need_finite(llr, "Cllr")
    need_both_classes(target, "Cllr")
    cost_N = np.logaddexp(0, np.where(target, -llr, llr))
    return float(class_shares(target, weight_N) @ cost_N / (2 * np.log(2)))


def min_cllr(score_N: Floats, target_N: NDArray[np.bool_], weight_N: Floats | None = None) -> float:
    """Least Cllr in bits that any monotone map of the scores could reach, by pooling adjacent violators.

    Raises:
        SeparativeError: no target or no non-target trial, or a score that is not finite.
    """
    return Roc(np.asarray(score_N), np.asarray(target_N, bool)).min_cllr(weight_N)


def fit_calibration(
    score_N: Floats, target_N: NDArray[np.bool_], weight_N: Floats | None = None, prior: float = 0.5
) -> Calibration:
    """Prior-weighted logistic regression: the affine map of least expected cost at ``prior``.

    Minimises prior · mean over targets of ln(1 + e^-x) + (1 - prior) · mean over non-targets of ln(1 + e^x),
    x = llr + log odds of the prior; convex, by Newton's method with halved steps. Within a class trials count
    as ``weight_N`` says.

    Raises:
        SeparativeError: one class only (or without weight), a score that is not finite, a wrong prior.
    """
    from scipy.special import expit

    score, target = np.asarray(score_N, np.float64), np.asarray(target_N, bool)
    need_finite(score, "calibration")
    need_both_classes(target, "calibration")
    share_N = class_shares(target, weight_N)
    if np.isnan(share_N).any():
        raise SeparativeError("calibration needs weight on at least one target and one non-target trial")
    odds = log_odds(prior)
    weight = share_N * np.where(target, prior, 1 - prior)
    # Standardised scores: the Newton step is then well conditioned whatever the scale of the scores.
    centre, spread = float(weight @ score), float(np.sqrt(weight @ (score - float(weight @ score)) ** 2))
    spread = spread or 1.0
    unit_N = (score - centre) / spread
    sign_N = np.where(target, 1.0, -1.0)
    ridge_2 = np.array([RIDGE, RIDGE])

    def cost(map_2: Floats) -> float:
        x = map_2[0] * unit_N + map_2[1] + odds
        return float(weight @ np.logaddexp(0, -sign_N * x) + ridge_2 @ map_2**2 / 2)

    map_2, best = np.zeros(2), cost(np.zeros(2))
    for _ in range(STEPS):
        p_N = expit(map_2[0] * unit_N + map_2[1] + odds)
        pull_N, curve_N = weight * (p_N - target), weight * p_N * (1 - p_N)
        slope_2 = np.array([pull_N @ unit_N, pull_N.sum()]) + ridge_2 * map_2
        cross = curve_N @ unit_N
        hessian_22 = np.array([[curve_N @ unit_N**2, cross], [cross, curve_N.sum()]]) + np.diag(ridge_2)
        step_2 = np.linalg.solve(hessian_22, slope_2)
        if slope_2 @ step_2 < 1e-14:
            break
        while (found := cost(map_2 - step_2)) > best:
            step_2 /= 2
        map_2, best = map_2 - step_2, found
    scale = float(map_2[0]) / spread
    return Calibration(scale, float(map_2[1]) - scale * centre)
