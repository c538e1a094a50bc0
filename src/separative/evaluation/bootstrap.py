"""95 % intervals by drawing talkers: trials of one talker stand or fall together, talkers do not."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from separative.errors import SeparativeError
from separative.metrics import Floats


class Talkers:
    """Bootstrap draws over one set of talkers, shared by every figure computed on them.

    Talkers are drawn with replacement; ``times_RP`` says how often each of P talkers was drawn in each of R
    resamples. With ``strata`` (the corpus of each talker) every stratum keeps its number of talkers.
    """

    def __init__(
        self, names: Sequence[str], resamples: int, seed: int, strata: Sequence[str] | None = None
    ) -> None:
        self.index = {name: i for i, name in enumerate(names)}
        stratum_P = np.asarray(strata if strata is not None else [""] * len(names))
        rng = np.random.default_rng(seed)
        self.times_RP = np.zeros((resamples, len(names)))
        for stratum in np.unique(stratum_P):
            members = np.flatnonzero(stratum_P == stratum)
            chance = np.full(len(members), 1 / len(members))
            self.times_RP[:, members] = rng.multinomial(len(members), chance, size=resamples)

    def indices(self, talkers: Sequence[str]) -> NDArray[np.intp]:
        return np.array([self.index[t] for t in talkers], dtype=np.intp)

    def trial_weights(
        self, left_N: NDArray[np.intp], right_N: NDArray[np.intp], resamples: slice = slice(None)
    ) -> Floats:
        """Weight [R,N] of each trial in each of the resamples, for talkers given by index.

        Each copy of a talker drawn m times counts as a talker: it has its own target trials (weight m) and
        meets every copy of the others (weight m·m'). Copies of one talker never meet as non-targets.
        """
        times_RP = self.times_RP[resamples]
        weight_RN = times_RP[:, left_N]
        other_N = left_N != right_N
        weight_RN[:, other_N] *= times_RP[:, right_N[other_N]]
        return weight_RN

    def ratio(
        self, part_N: Floats, whole_N: Floats, talker_N: NDArray[np.intp]
    ) -> tuple[float, float, float]:
        """Sum of the parts over the sum of the wholes, with its 95 % interval."""
        count = self.times_RP.shape[1]
        part_P, whole_P = (np.bincount(talker_N, weights=x, minlength=count) for x in (part_N, whole_N))
        value = float(part_P.sum() / whole_P.sum())
        with np.errstate(invalid="ignore"):
            return value, *interval((self.times_RP @ part_P) / (self.times_RP @ whole_P), value)

    def mean(self, value_N: Floats, talker_N: NDArray[np.intp]) -> tuple[float, float, float]:
        """Mean over talkers of each talker's mean value, with its 95 % interval."""
        talkers = self.times_RP.shape[1]
        count_P = np.bincount(talker_N, minlength=talkers)
        here = count_P > 0
        mean_P = np.bincount(talker_N, weights=value_N, minlength=talkers)[here] / count_P[here]
        times_RP = self.times_RP[:, here]
        drawn = times_RP.sum(1) > 0
        value = float(mean_P.mean())
        return value, *interval((times_RP @ mean_P)[drawn] / times_RP.sum(1)[drawn], value)


def interval(value_R: Floats, value: float) -> tuple[float, float]:
    """95 % interval by the bias-corrected percentiles (Efron, 1981); undefined resamples (NaN) do not count.

    The correction matters for error rates: with fewer different talkers the ROC's hull is more flattering, so
    resamples lie below the estimate as the estimate lies below the truth.

    Raises:
        SeparativeError: no resample is defined; there are too few talkers.
    """
    value_R = value_R[~np.isnan(value_R)]
    if not len(value_R):
        raise SeparativeError("an interval needs more talkers: none of the resamples has a figure")
    below = (np.mean(value_R < value) + np.mean(value_R <= value)) / 2
    normal = NormalDist()
    bias = normal.inv_cdf(float(np.clip(below, 1 / (len(value_R) + 1), 1 - 1 / (len(value_R) + 1))))
    low, high = np.quantile(value_R, [normal.cdf(2 * bias + normal.inv_cdf(p)) for p in (0.025, 0.975)])
    return float(low), float(high)
