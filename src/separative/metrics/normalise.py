"""Scores made comparable across sides by what each side scores against strangers."""

from __future__ import annotations

import numpy as np

from separative.errors import SeparativeError
from separative.metrics.trials import Floats, need_finite


def adaptive_snorm(score_LR: Floats, left_LK: Floats, right_RK: Floats, top: int = 100) -> Floats:
    """Adaptive symmetric normalisation: scores in deviations above each side's nearest strangers.

    The mean of (score - mean_left)/std_left and (score - mean_right)/std_right, where mean and deviation are
    those of the ``top`` highest scores of that side against a cohort of K other talkers (Matějka et al.,
    Interspeech 2017; all K if there are fewer). No talker of the trials may be in the cohort.

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
