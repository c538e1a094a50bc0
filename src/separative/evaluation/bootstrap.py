"""95 % intervals by drawing speakers: trials of one speaker stand or fall together, speakers do not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from separative.errors import SeparativeError
from separative.metrics import fit_calibration
from separative.types import Floats


class SpeakerBootstrap:
    """Bootstrap draws over one set of speakers, shared by every figure computed on them.

    Speakers are drawn with replacement; ``times_RP`` says how often each of P speakers was drawn in each of R
    resamples. With ``strata`` (the corpus of each speaker) every stratum keeps its number of speakers.
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

    def indices(self, speakers: Sequence[str]) -> NDArray[np.intp]:
        return np.array([self.index[t] for t in speakers], dtype=np.intp)

    def trial_weights(
        self, left_N: NDArray[np.intp], right_N: NDArray[np.intp], resamples: slice = slice(None)
    ) -> Floats:
        """Weight [R,N] of each trial in each of the resamples, for speakers given by index.

        Each copy of a speaker drawn m times counts as a speaker: it has its own target trials (weight m) and
        meets every copy of the others (weight m·m'). Copies of one speaker never meet as non-targets.
        """
        times_RP = self.times_RP[resamples]
        weight_RN = times_RP[:, left_N]
        other_N = left_N != right_N
        weight_RN[:, other_N] *= times_RP[:, right_N[other_N]]
        return weight_RN

    def ratio(
        self, part_N: Floats, whole_N: Floats, speaker_N: NDArray[np.intp]
    ) -> tuple[float, float, float]:
        """Sum of the parts over the sum of the wholes, with its 95 % interval."""
        count = self.times_RP.shape[1]
        part_P, whole_P = (np.bincount(speaker_N, weights=x, minlength=count) for x in (part_N, whole_N))
        value = float(part_P.sum() / whole_P.sum())
        with np.errstate(invalid="ignore"):
            return value, *interval((self.times_RP @ part_P) / (self.times_RP @ whole_P), value)

    def mean(self, value_N: Floats, speaker_N: NDArray[np.intp]) -> tuple[float, float, float]:
        """Mean over speakers of each speaker's mean value, with its 95 % interval."""
        speakers = self.times_RP.shape[1]
        count_P = np.bincount(speaker_N, minlength=speakers)
        here = count_P > 0
        mean_P = np.bincount(speaker_N, weights=value_N, minlength=speakers)[here] / count_P[here]
        times_RP = self.times_RP[:, here]
        drawn = times_RP.sum(1) > 0
        value = float(mean_P.mean())
        return value, *interval((times_RP @ mean_P)[drawn] / times_RP.sum(1)[drawn], value)


def interval(value_R: Floats, value: float) -> tuple[float, float]:
    """95 % interval by the bias-corrected percentiles (Efron, 1981); undefined resamples (NaN) do not count.

    The correction matters for error rates: with fewer different speakers the ROC's hull is more flattering, so
    resamples lie below the estimate as the estimate lies below the truth.

    Raises:
        SeparativeError: no resample is defined; there are too few speakers.
    """
    value_R = value_R[~np.isnan(value_R)]
    if not len(value_R):
        raise SeparativeError("an interval needs more speakers: none of the resamples has a figure")
    below = (np.mean(value_R < value) + np.mean(value_R <= value)) / 2
    normal = NormalDist()
    bias = normal.inv_cdf(float(np.clip(below, 1 / (len(value_R) + 1), 1 - 1 / (len(value_R) + 1))))
    low, high = np.quantile(value_R, [normal.cdf(2 * bias + normal.inv_cdf(p)) for p in (0.025, 0.975)])
    return float(low), float(high)


FOLDS = 5

Chosen = NDArray[np.bool_]


def deal_folds(corpus_of: Mapping[str, str], folds: int = FOLDS, seed: int = 0) -> NDArray[np.intp]:
    """A fold [P] for each speaker of ``corpus_of``, in its order: at random, but evenly in each corpus.

    At least two speakers a fold; hence fewer folds where there are fewer than ``2 * folds`` speakers.
    """
    names = list(corpus_of)
    shuffled = np.random.default_rng(seed).permutation(len(names))
    dealt = sorted(shuffled, key=lambda i: corpus_of[names[i]])  # stable: still shuffled within a corpus
    fold_P = np.empty(len(names), np.intp)
    fold_P[dealt] = np.arange(len(names)) % max(1, min(folds, len(names) // 2))
    return fold_P


def held_out(left_N: NDArray[np.intp], right_N: NDArray[np.intp]) -> Iterator[tuple[Chosen, Chosen]]:
    """For each pair of folds (or fold): which trials [N] lie there, and which have a speaker in neither.

    ``left_N`` and ``right_N`` are the folds of the compared speakers. Every trial lies in one place.
    """
    low_N, high_N = np.minimum(left_N, right_N), np.maximum(left_N, right_N)
    for low, high in sorted(set(zip(low_N.tolist(), high_N.tolist(), strict=True))):
        others_N = ~np.isin(left_N, (low, high)) & ~np.isin(right_N, (low, high))
        yield (low_N == low) & (high_N == high), others_N


def enough(target_N: Chosen, left_N: NDArray[np.intp], right_N: NDArray[np.intp]) -> bool:
    """Whether for every trial there are target and non-target trials of other folds to calibrate it by."""
    return all(
        target_N[others_N].any() and not target_N[others_N].all() for _, others_N in held_out(left_N, right_N)
    )


def held_out_llr(
    score_N: Floats,
    target_N: Chosen,
    left_N: NDArray[np.intp],
    right_N: NDArray[np.intp],
    *,
    prior: float = 0.5,
) -> Floats | None:
    """Log-likelihood ratios [N] in nats, each by a calibration fitted on trials of other speakers.

    ``left_N`` and ``right_N`` are the folds of the compared speakers. The trials between two folds (or within
    one) are calibrated by a logistic regression, at ``prior``, on the trials that have a speaker in neither of
    them. None if there are too few speakers: some such rest lacks target or non-target trials.
    """
    if not enough(target_N, left_N, right_N):
        return None
    llr_N = np.empty(len(score_N))
    for held_N, others_N in held_out(left_N, right_N):
        fitted = fit_calibration(score_N[others_N], target_N[others_N], prior=prior)
        llr_N[held_N] = fitted.llr(score_N[held_N])
    return llr_N
