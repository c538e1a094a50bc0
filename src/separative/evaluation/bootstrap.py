"""Bootstrap intervals over speakers, and calibration on held-out speakers.

Trials of one speaker depend on each other, speakers do not. So speakers are what is resampled and held out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from separative.errors import SeparativeError
from separative.metrics import fit_calibration
from separative.types import Floats

FOLDS = 5

Mask = NDArray[np.bool_]
Indices = NDArray[np.intp]


class SpeakerBootstrap:
    """Bootstrap resamples of one set of speakers, drawn with replacement and shared by all figures.

    Attributes:
        index: position of each speaker by name.
        counts: how often each of P speakers was drawn in each of R resamples, float64 [R, P].

    Args:
        names: the speakers.
        resamples: number of resamples.
        seed: random seed.
        strata: corpus of each speaker; every resample keeps the number of speakers of each corpus.

    >>> speakers = SpeakerBootstrap(["ann", "bob", "eve"], resamples=100, seed=0)
    >>> value, low, high = speakers.mean(np.array([1.0, 2.0, 3.0]), speakers.indices(["ann", "bob", "eve"]))
    >>> low < value == 2.0 < high
    True
    """

    def __init__(
        self, names: Sequence[str], resamples: int, seed: int, strata: Sequence[str] | None = None
    ) -> None:
        self.index = {name: i for i, name in enumerate(names)}
        stratum_P = np.asarray(strata if strata is not None else [""] * len(names))
        rng = np.random.default_rng(seed)
        self.counts = np.zeros((resamples, len(names)))
        for stratum in np.unique(stratum_P):
            members = np.flatnonzero(stratum_P == stratum)
            chance = np.full(len(members), 1 / len(members))
            self.counts[:, members] = rng.multinomial(len(members), chance, size=resamples)

    def indices(self, speakers: Sequence[str]) -> Indices:
        """Positions [N] of speakers given by name."""
        return np.array([self.index[speaker] for speaker in speakers], dtype=np.intp)

    def trial_weights(self, left: Indices, right: Indices, resamples: slice = slice(None)) -> Floats:
        """Weights [R, N] of N trials in the resamples, for the compared speakers given by position.

        Each copy of a speaker counts as a speaker. The target trials of a speaker drawn m times have weight
        m. Non-target trials of speakers drawn m and m' times have weight m·m': all their copies are compared.
        Copies of one speaker are never compared as non-targets.
        """
        counts_RP = self.counts[resamples]
        weight_RN = counts_RP[:, left]
        other_N = left != right
        weight_RN[:, other_N] *= counts_RP[:, right[other_N]]
        return weight_RN

    def ratio(self, parts: Floats, wholes: Floats, speaker: Indices) -> tuple[float, float, float]:
        """Sum of the parts [N] over the sum of the wholes [N], and the ends of its 95 % interval."""
        count = self.counts.shape[1]
        part_P, whole_P = (np.bincount(speaker, weights=x, minlength=count) for x in (parts, wholes))
        value = float(part_P.sum() / whole_P.sum())
        part_R, whole_R = self.counts @ part_P, self.counts @ whole_P
        ratio_R = np.divide(part_R, whole_R, out=np.full(len(part_R), np.nan), where=whole_R > 0)
        return value, *bootstrap_interval(ratio_R, value)

    def mean(self, values: Floats, speaker: Indices) -> tuple[float, float, float]:
        """Mean over speakers of each speaker's mean of ``values`` [N], and the ends of its 95 % interval."""
        speakers = self.counts.shape[1]
        count_P = np.bincount(speaker, minlength=speakers)
        present_P = count_P > 0
        mean_P = np.bincount(speaker, weights=values, minlength=speakers)[present_P] / count_P[present_P]
        counts_RP = self.counts[:, present_P]
        drawn_R = counts_RP.sum(1) > 0
        value = float(mean_P.mean())
        return value, *bootstrap_interval((counts_RP @ mean_P)[drawn_R] / counts_RP.sum(1)[drawn_R], value)


def bootstrap_interval(resampled: Floats, value: float) -> tuple[float, float]:
    """Return the ends of a 95 % interval by bias-corrected percentiles (Efron, 1981).

    The correction matters for error rates: with fewer different speakers the convex hull of the ROC is more
    optimistic, so resamples are below the estimate as the estimate is below the true value.

    Args:
        resampled: the figure in each resample [R]; NaN where it is undefined, and then ignored.
        value: the figure on all data.

    Raises:
        SeparativeError: the figure is undefined in all resamples.

    >>> low, high = bootstrap_interval(np.linspace(0, 100, 1001), 50.0)
    >>> round(low, 1), round(high, 1)
    (2.5, 97.5)
    """
    resampled = resampled[~np.isnan(resampled)]
    if not len(resampled):
        raise SeparativeError("no resample has a defined figure; an interval needs more speakers")
    below = (np.mean(resampled < value) + np.mean(resampled <= value)) / 2
    normal = NormalDist()
    bias = normal.inv_cdf(float(np.clip(below, 1 / (len(resampled) + 1), 1 - 1 / (len(resampled) + 1))))
    low, high = np.quantile(resampled, [normal.cdf(2 * bias + normal.inv_cdf(p)) for p in (0.025, 0.975)])
    return float(low), float(high)


def assign_folds(corpus_of: Mapping[str, str], folds: int = FOLDS, seed: int = 0) -> Indices:
    """Assign speakers to folds at random, evenly within each corpus.

    Every fold has at least two speakers, so there are fewer folds if there are fewer than ``2 * folds``
    speakers.

    Args:
        corpus_of: corpus of each of P speakers.
        folds: number of folds.
        seed: random seed.

    Returns:
        Fold of each speaker, in the order of ``corpus_of``, integer [P].

    >>> folds = assign_folds({"ann": "a", "bob": "a", "eve": "b", "ian": "b"}, folds=2)
    >>> sorted(folds.tolist())
    [0, 0, 1, 1]
    """
    names = list(corpus_of)
    shuffled = np.random.default_rng(seed).permutation(len(names))
    # Sorting is stable, so speakers stay shuffled within a corpus.
    order = sorted(shuffled, key=lambda i: corpus_of[names[i]])
    fold_P = np.empty(len(names), np.intp)
    fold_P[order] = np.arange(len(names)) % max(1, min(folds, len(names) // 2))
    return fold_P


def held_out_splits(left: Indices, right: Indices) -> Iterator[tuple[Mask, Mask]]:
    """For each pair of folds, yield which trials are between them and which have no speaker in either.

    Args:
        left, right: folds of the compared speakers of N trials. A pair may be one fold twice.

    Yields:
        Two masks [N]. Every trial is in exactly one of the first masks.

    >>> for held_out, others in held_out_splits(np.array([0, 0, 1]), np.array([0, 1, 1])):
    ...     print(held_out.astype(int), others.astype(int))
    [1 0 0] [0 0 1]
    [0 1 0] [0 0 0]
    [0 0 1] [1 0 0]
    """
    low_N, high_N = np.minimum(left, right), np.maximum(left, right)
    for low, high in sorted(set(zip(low_N.tolist(), high_N.tolist(), strict=True))):
        others_N = ~np.isin(left, (low, high)) & ~np.isin(right, (low, high))
        yield (low_N == low) & (high_N == high), others_N


def can_hold_out(target: Mask, left: Indices, right: Indices) -> bool:
    """Whether for all held-out trials there are target and non-target trials of other folds.

    Args:
        target: which of N trials are target trials.
        left, right: folds of the compared speakers.

    >>> fold = np.array([0, 1, 2])
    >>> left, right = np.repeat(fold, 3), np.tile(fold, 3)
    >>> can_hold_out(left == right, left, right)  # each fold has targets, but one fold alone no non-targets
    False
    """
    return all(
        target[others_N].any() and not target[others_N].all() for _, others_N in held_out_splits(left, right)
    )


def held_out_llr(
    scores: Floats, target: Mask, left: Indices, right: Indices, *, prior: float = 0.5
) -> Floats | None:
    """Calibrate each trial with a calibration that was fitted on trials of other speakers.

    The trials between two folds, or within one, are calibrated by a logistic regression on the trials that
    have no speaker in these folds.

    Args:
        scores: scores of N trials.
        target: which of them are target trials.
        left, right: folds of the compared speakers.
        prior: target prior of the regression.

    Returns:
        Log-likelihood ratios in nats [N]; None if there are too few speakers (see :func:`can_hold_out`).

    >>> fold = np.repeat(np.arange(4), 2)
    >>> left, right = np.repeat(fold, 8), np.tile(fold, 8)
    >>> target = np.eye(8, dtype=bool).ravel()
    >>> scores = 2.0 * target + np.random.default_rng(0).standard_normal(64)
    >>> llr = held_out_llr(scores, target, left, right)
    >>> bool(llr[target].mean() > llr[~target].mean())
    True
    """
    if not can_hold_out(target, left, right):
        return None
    llr_N = np.empty(len(scores))
    for held_out_N, others_N in held_out_splits(left, right):
        calibration = fit_calibration(scores[others_N], target[others_N], prior=prior)
        llr_N[held_out_N] = calibration.llr(scores[held_out_N])
    return llr_N
