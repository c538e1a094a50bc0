"""Calibration by the quality of both sides of a comparison: net speech, noise, overlap and bandwidth.

Different speakers of one quality score around a level with a spread, and both depend on the quality. A score
is first centred and scaled by these (z), then mapped to a log-likelihood ratio by a logistic regression that
depends on the quality too. The distribution of z between different speakers gives the false-alarm rate of a
score. A cohort, recordings of other people in the same conditions, moves the level of each comparison to what
it measures there. It has a map of its own, because scores spread less around a measured level.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from separative.errors import SeparativeError
from separative.metrics.verification import require_both_classes
from separative.types import Floats

QUALITIES = ("log speech seconds", "signal-to-noise", "other speech", "treble", "narrow band")
# One measured difference counts as much as this many: the level without a cohort is the prior.
COHORT_PRIOR = 1.0
RIDGE = 1e-3
# Rates of different speakers at which the quantiles of z are stored.
RATES = (0.99, 0.9, 0.7, 0.5, 0.3, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002)
LEAST_RATE = 1e-4
LEAST_SLOPE = 0.1
LEAST_VARIANCE = 1e-4


def pair_features(left: Floats, right: Floats) -> Floats:
    """Features [N,F] of N comparisons, from the qualities [N,Q] of both sides in any order.

    >>> one, two = np.array([[1.0, 2.0, 0.0, -1.0, 0.0]]), np.array([[0.5, 1.0, 0.5, -3.0, 1.0]])
    >>> bool((pair_features(one, two) == pair_features(two, one)).all())
    True
    """
    total_NQ, narrow_N = left + right, left[:, 4] + right[:, 4]
    columns = (
        np.ones(len(left)),
        *total_NQ[:, :4].T,
        np.abs(left[:, 0] - right[:, 0]),
        narrow_N == 1,
        narrow_N == 2,
    )
    features_NF: Floats = np.column_stack(columns).astype(np.float64)
    return features_NF


@dataclass(frozen=True)
class QualityMap:
    """From centred scores to z, log-likelihood ratios and false-alarm rates.

    Attributes:
        offset: mean of the centred scores of different speakers.
        spread: log variance of these by feature [F].
        tail: quantiles of z of different speakers, exceeded at RATES.
        slope, base: llr = (features · slope) z + features · base, in nats.

    >>> QualityMap(0.0, (0.0,), (0.0,) * len(RATES), (1.0,), (0.0,)).offset
    0.0
    """

    offset: float
    spread: tuple[float, ...]
    tail: tuple[float, ...]
    slope: tuple[float, ...]
    base: tuple[float, ...]

    def z(self, centred: Floats, features: Floats) -> Floats:
        """Centred scores [N] in standard deviations of those of different speakers."""
        z_N: Floats = (centred - self.offset) / np.exp(features @ np.array(self.spread) / 2)
        return z_N

    def llr(self, centred: Floats, features: Floats) -> Floats:
        """Log-likelihood ratios [N] in nats."""
        slope_N = np.maximum(features @ np.array(self.slope), LEAST_SLOPE)
        llr_N: Floats = slope_N * self.z(centred, features) + features @ np.array(self.base)
        return llr_N

    def false_alarm_rate(self, centred: Floats, features: Floats) -> Floats:
        """Share of comparisons of different speakers of these qualities that score as high or higher [N]."""
        from scipy.special import expit, logit

        z_N, tail = self.z(centred, features), np.array(self.tail)
        odds = logit(np.array(RATES))
        # Beyond the stored quantiles the log odds continue in a straight line.
        below = odds[0] - (z_N - tail[0]) * (odds[0] - odds[1]) / (tail[1] - tail[0])
        above = odds[-1] - (z_N - tail[-1]) * (odds[-2] - odds[-1]) / (tail[-1] - tail[-2])
        found_N = np.where(z_N < tail[0], below, np.where(z_N > tail[-1], above, np.interp(z_N, tail, odds)))
        rate_N: Floats = np.maximum(expit(found_N), LEAST_RATE)
        return rate_N


@dataclass(frozen=True)
class QualityCalibration:
    """A calibration by quality; made by :func:`fit_quality_calibration`.

    Attributes:
        directions: directions of the embedding space [R,E] that show the channel; they are removed.
        low, high: range of each feature [F] in the fit. Features outside count as its ends.
        level: level of the scores of different speakers by feature [F].
        alone, cohort: maps without and with a cohort; ``cohort`` is None if there were too few speakers.
        cohort_size: number of recordings of the cohorts of the fit.
        narrow: whether telephone bands were part of the fit.

    >>> zeros, ones = (0.0,) * 8, (1.0,) * 8
    >>> plain = QualityMap(0.0, zeros, tuple(float(z) for z in range(len(RATES))), ones, zeros)
    >>> calibration = QualityCalibration(((1.0, 0.0),), zeros, ones, zeros, plain, None, 0, narrow=True)
    >>> calibration.project(np.array([[0.6, 0.8]])).tolist()
    [[0.0, 1.0]]
    >>> QualityCalibration.from_record(calibration.record()) == calibration
    True
    """

    directions: tuple[tuple[float, ...], ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    level: tuple[float, ...]
    alone: QualityMap
    cohort: QualityMap | None
    cohort_size: int
    narrow: bool

    def project(self, embeddings: ArrayLike) -> Floats:
        """Embeddings [...,E] without the directions of the channel, unit norm."""
        vector_E, direction_RE = np.asarray(embeddings, np.float64), np.array(self.directions)
        rest_E = vector_E - (vector_E @ direction_RE.T) @ direction_RE if len(direction_RE) else vector_E
        unit_E: Floats = rest_E / np.maximum(np.linalg.norm(rest_E, axis=-1, keepdims=True), 1e-12)
        return unit_E

    def features(self, left: Floats, right: Floats) -> Floats:
        """Features [N,F] from the qualities [N,Q] of both sides, within the range of the fit."""
        clipped_NF: Floats = np.clip(pair_features(left, right), self.low, self.high)
        return clipped_NF

    def centred(self, score: Floats, features: Floats) -> Floats:
        """Scores [N] of projected embeddings above the level that the features [N,F] predict."""
        rest_N: Floats = score - features @ np.array(self.level)
        return rest_N

    def shift(self, embedding: Floats, quality: Floats, cohort: Floats, qualities: Floats) -> float:
        """How far the scores of one side against a cohort are above the level of the features.

        Few recordings count less: the mean is multiplied by M / (M + COHORT_PRIOR).

        Args:
            embedding, quality: the side [E] and [Q].
            cohort, qualities: projected embeddings [M,E] and qualities [M,Q] of other speakers.
        """
        feature_MF = self.features(np.repeat(quality[None], len(cohort), axis=0), qualities)
        above_M = self.centred(cohort @ self.project(embedding), feature_MF)
        return float(above_M.sum() / (len(cohort) + COHORT_PRIOR))

    def record(self) -> dict[str, Any]:
        """The calibration as values that JSON can hold, rounded to six digits."""
        rounded: dict[str, Any] = _rounded(asdict(self))
        return rounded

    @staticmethod
    def from_record(record: Mapping[str, Any]) -> QualityCalibration:
        """Read what :meth:`record` returned.

        Raises:
            SeparativeError: an entry is missing or has another form; the message names it.
        """
        try:
            maps = [
                None
                if record[name] is None
                else QualityMap(
                    float(record[name]["offset"]),
                    *(_numbers(record[name][key]) for key in ("spread", "tail", "slope", "base")),
                )
                for name in ("alone", "cohort")
            ]
            low, high, level = (_numbers(record[name]) for name in ("low", "high", "level"))
            directions = tuple(_numbers(row) for row in record["directions"])
            size, narrow = int(record["cohort_size"]), bool(record["narrow"])
        except (KeyError, TypeError, ValueError) as error:
            raise SeparativeError(f"the calibration by quality is damaged ({error})") from error
        features = pair_features(np.zeros((1, len(QUALITIES))), np.zeros((1, len(QUALITIES)))).shape[1]
        if maps[0] is None or any(
            {len(v) for v in (m.spread, m.slope, m.base, low, high, level)} != {features}
            or len(m.tail) != len(RATES)
            for m in maps
            if m is not None
        ):
            raise SeparativeError("the calibration by quality has another number of features")
        return QualityCalibration(directions, low, high, level, maps[0], maps[1], size, narrow)


def channel_directions(embeddings: Floats, speakers: ArrayLike, conditions: ArrayLike, count: int) -> Floats:
    """Directions [R,E] in which the embeddings of one speaker differ most between conditions.

    Args:
        embeddings: embeddings [M,E].
        speakers, conditions: speaker and condition of each [M].
        count: number R; fewer if there are fewer differences.

    >>> embeddings = np.array([[1.0, 0.0, 0.1], [0.0, 1.0, -0.1], [1.0, 0.0, 0.9], [0.0, 1.0, 1.1]])
    >>> direction_E = channel_directions(embeddings, ["a", "b", "a", "b"], ["c", "c", "t", "t"], 1)[0]
    >>> float(direction_E[2]) > 0.99
    True
    """
    _, speaker_M = np.unique(np.asarray(speakers), return_inverse=True)
    _, condition_M = np.unique(np.asarray(conditions), return_inverse=True)
    offsets = []
    for speaker in range(speaker_M.max() + 1):
        own_M = speaker_M == speaker
        for condition in np.unique(condition_M[own_M]):
            here_M = own_M & (condition_M == condition)
            offsets.append(embeddings[here_M].mean(0) - embeddings[own_M].mean(0))
    _, strength_R, direction_RE = np.linalg.svd(np.array(offsets), full_matrices=False)
    found_RE: Floats = direction_RE[:count][strength_R[:count] > 1e-9]
    return found_RE * np.where(found_RE.sum(1, keepdims=True) < 0, -1.0, 1.0)


def fit_level(score: Floats, features: Floats, weights: Floats) -> Floats:
    """Least squares level [F] of scores of different speakers [N] by feature [N,F].

    >>> fit_level(np.full(4, 0.3), np.ones((4, 1)), np.ones(4)).round(2).tolist()
    [0.3]
    """
    share_N = weights / weights.sum()
    gram_FF = features.T @ (share_N[:, None] * features) + RIDGE * _penalty(features.shape[1])
    level_F: Floats = np.linalg.solve(gram_FF, features.T @ (share_N * score))
    return level_F


def fit_map(centred: Floats, features: Floats, targets: NDArray[np.bool_], weights: Floats) -> QualityMap:
    """Fit a map: spread and tail to different speakers, and the log-likelihood ratios to all.

    Args:
        centred: scores above their level [N].
        features: features [N,F].
        targets: whether the speakers are the same [N].
        weights: weight of each comparison within its class [N].

    Raises:
        SeparativeError: a class is missing.

    >>> rng = np.random.default_rng(0)
    >>> targets = np.arange(4000) % 2 == 0
    >>> centred, ones = 0.3 * targets + 0.1 * rng.standard_normal(4000), np.ones(4000)
    >>> fitted = fit_map(centred, ones[:, None], targets, ones)
    >>> fitted.false_alarm_rate(np.array([0.1645]), np.ones((1, 1))).round(2).tolist()
    [0.05]
    """
    from scipy.optimize import minimize

    require_both_classes(targets, "calibration by quality")
    share_N = np.where(targets, weights / weights[targets].sum(), weights / weights[~targets].sum())
    other_N, wide_NF, own_N = centred[~targets], features[~targets], share_N[~targets]
    offset = float(own_N @ other_N)
    rest_N = other_N - offset
    variance_F = fit_level(np.log(rest_N**2 + LEAST_VARIANCE), wide_NF, own_N)
    # The mean of log r² is below the log of the mean, so z is scaled to unit variance afterwards.
    variance_F[0] += np.log(max(float(own_N @ (rest_N**2 / np.exp(wide_NF @ variance_F))), 1e-6))
    z_N = rest_N / np.exp(wide_NF @ variance_F / 2)
    order = np.argsort(z_N)
    tail = np.interp(1 - np.array(RATES), np.cumsum(own_N[order]), z_N[order])
    # Quantiles must differ for the interpolation, also for few comparisons.
    tail = np.maximum.accumulate(tail + 1e-6 * np.arange(len(tail)))
    z_all_N = (centred - offset) / np.exp(features @ variance_F / 2)
    input_NG = np.column_stack([z_all_N[:, None] * features, features])
    penalty_G = RIDGE * np.tile(np.diag(_penalty(features.shape[1])), 2) + 1e-6
    sign_N = np.where(targets, 1.0, -1.0)

    def cost(map_G: Floats) -> tuple[float, Floats]:
        from scipy.special import expit

        x_N = sign_N * (input_NG @ map_G)
        slope_N = -share_N * sign_N * expit(-x_N) / 2
        value = float(share_N @ np.logaddexp(0, -x_N) / 2 + penalty_G @ map_G**2 / 2)
        return value, input_NG.T @ slope_N + penalty_G * map_G

    start_G = np.zeros(input_NG.shape[1])
    start_G[0] = 1.0
    map_G = minimize(cost, start_G, jac=True, method="L-BFGS-B", options={"maxiter": 500}).x
    slope_F, base_F = np.split(map_G, 2)
    return QualityMap(offset, *(tuple(map(float, v)) for v in (variance_F, tail, slope_F, base_F)))


def _penalty(size: int) -> Floats:
    """Weight of the ridge [F,F]: all features but the constant."""
    return np.diag(np.append(0.0, np.ones(size - 1)))


def _numbers(values: Any) -> tuple[float, ...]:
    found = tuple(float(value) for value in values)
    if not np.isfinite(found).all():
        raise ValueError("a value is not finite")
    return found


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return tuple(_rounded(one) for one in value)
    return float(f"{value:.6g}") if isinstance(value, float) else value
