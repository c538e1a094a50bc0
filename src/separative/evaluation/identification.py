"""Rows of identification: who of the enrolled talkers is it, and is it one of them at all?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from separative.evaluation.bootstrap import Talkers, interval
from separative.evaluation.results import Row
from separative.evaluation.trials import TrialList
from separative.evaluation.verification import Enrolled, Scored
from separative.metrics import Floats

RANKS = (1, 5)
FALSE_ACCEPTS = 0.01


def identification_rows(scored: Sequence[Scored], trials: TrialList, talkers: Talkers) -> list[Row]:
    """Share (%) of test sides whose talker is among the 1 and 5 best, and share identified in an open set.

    The gallery of a test side are the enrolled talkers of its corpus, but for those who are heard in it as
    interferers; a talker's score is the mean over their enrolments. Ties count against the system. In the
    open set, the own talker must come first and above the threshold that 1 % of the test sides pass when
    their own talker is taken out. The bootstrap draws the talkers of the test sides; the gallery stays whole.
    """
    place = trials.place
    true_R = talkers.indices([side.talker for side in trials.tests])
    rows = []
    for one in scored:
        for condition, score_LR in one.score_LR.items():
            gallery_RG = _gallery(one.enrolled, score_LR, trials, condition, talkers)
            here_R = np.isfinite(gallery_RG[np.arange(len(true_R)), true_R])
            here_R &= np.isfinite(gallery_RG).sum(1) > 1
            if not here_R.any():
                continue
            times_RP = np.vstack([np.ones(len(talkers.index)), talkers.times_RP])
            weight_WR = times_RP[:, true_R[here_R]]
            for metric, all_W in identify(gallery_RG[here_R], true_R[here_R], weight_WR).items():
                value, count = float(100 * all_W[0]), int(here_R.sum())
                low, high = interval(100 * all_W[1:], value)
                rows.append(Row(one.model, condition, metric, value, low, high, count, place, trials.seed))
    return rows


def identify(score_RG: Floats, true_R: NDArray[np.intp], weight_WR: Floats) -> dict[str, Floats]:
    """``top-1``, ``top-5`` and ``open set`` as shares, under every weighting [W] of the R probes.

    Equal to :func:`separative.metrics.identification` and ``open_set`` where a weight is a number of copies;
    minus infinity where a talker is not in the gallery of a probe.
    """
    probes = np.arange(len(true_R))
    own_R, other_RG = score_RG[probes, true_R], np.array(score_RG, np.float64)
    other_RG[probes, true_R] = -np.inf
    rank_R, impostor_R = 1 + (other_RG >= own_R[:, None]).sum(1), other_RG.max(1)
    total_W = weight_WR.sum(1)
    with np.errstate(invalid="ignore"):
        found = {f"top-{k}": weight_WR @ (rank_R <= k) / total_W for k in RANKS}
        # The impostor at which, from the top, more weight than allowed has been passed.
        order_R = np.argsort(-impostor_R, kind="stable")
        passed_WR = np.cumsum(weight_WR[:, order_R], axis=1)
        allowed_W = np.floor(FALSE_ACCEPTS * total_W + 1e-9)
        threshold_W = impostor_R[order_R][(passed_WR > allowed_W[:, None]).argmax(1)]
        accepted_WR = (own_R > impostor_R) & (own_R > threshold_W[:, None])
        found["open set"] = (weight_WR * accepted_WR).sum(1) / total_W
    return found


def _gallery(
    enrolled: Enrolled, score_LR: Floats, trials: TrialList, condition: str, talkers: Talkers
) -> Floats:
    """Mean score [R,P] of each test side with each talker's enrolments; minus infinity without any."""
    allowed_LR = enrolled.allowed(trials, condition)
    talker_L = talkers.indices([trials.enrolments[group[0]].talker for group in enrolled.sides])
    member_PL = np.zeros((len(talkers.index), len(talker_L)))
    member_PL[talker_L, np.arange(len(talker_L))] = 1
    count_PR = member_PL @ allowed_LR
    total_PR = member_PL @ np.where(allowed_LR, score_LR, 0.0)
    mean_PR = np.where(count_PR > 0, total_PR / np.maximum(count_PR, 1), -np.inf)
    return np.ascontiguousarray(mean_PR.T)
