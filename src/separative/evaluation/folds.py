"""Talkers dealt to folds, for calibrations that have not seen the talkers they are used on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from separative.metrics import Floats, fit_calibration

FOLDS = 5

Chosen = NDArray[np.bool_]


def deal_folds(corpus_of: Mapping[str, str], folds: int = FOLDS, seed: int = 0) -> NDArray[np.intp]:
    """A fold [P] for each talker of ``corpus_of``, in its order: at random, but evenly in each corpus.

    At least two talkers a fold; hence fewer folds where there are fewer than ``2 * folds`` talkers.
    """
    names = list(corpus_of)
    shuffled = np.random.default_rng(seed).permutation(len(names))
    dealt = sorted(shuffled, key=lambda i: corpus_of[names[i]])  # stable: still shuffled within a corpus
    fold_P = np.empty(len(names), np.intp)
    fold_P[dealt] = np.arange(len(names)) % max(1, min(folds, len(names) // 2))
    return fold_P


def held_out(left_N: NDArray[np.intp], right_N: NDArray[np.intp]) -> Iterator[tuple[Chosen, Chosen]]:
    """For each pair of folds (or fold): which trials [N] lie there, and which have a talker in neither.

    ``left_N`` and ``right_N`` are the folds of the compared talkers. Every trial lies in one place.
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
    """Log-likelihood ratios [N] in nats, each by a calibration fitted on trials of other talkers.

    ``left_N`` and ``right_N`` are the folds of the compared talkers. The trials between two folds (or within
    one) are calibrated by a logistic regression, at ``prior``, on the trials that have a talker in neither of
    them. None if there are too few talkers: some such rest lacks target or non-target trials.
    """
    if not enough(target_N, left_N, right_N):
        return None
    llr_N = np.empty(len(score_N))
    for held_N, others_N in held_out(left_N, right_N):
        fitted = fit_calibration(score_N[others_N], target_N[others_N], prior=prior)
        llr_N[held_N] = fitted.llr(score_N[held_N])
    return llr_N
