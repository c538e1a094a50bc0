"""What every metric of verification asks of its trials."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from separative.errors import SeparativeError

Floats = NDArray[np.floating[Any]]


def need_finite(score: Floats, what: str = "an error rate") -> None:
    """Refuse NaN and infinite scores, naming the first of them.

    Raises:
        SeparativeError: a score that is not finite.
    """
    bad = np.flatnonzero(~np.isfinite(score))
    if len(bad):
        place = ", ".join(str(int(i)) for i in np.unravel_index(bad[0], score.shape))
        raise SeparativeError(
            f"{what} needs finite scores: number {place} is {score.flat[bad[0]]} ({len(bad)} such in all)"
        )


def need_both_classes(target_N: NDArray[np.bool_], what: str = "an error rate") -> None:
    """Refuse trials that are all of one kind.

    Raises:
        SeparativeError: no target trial or no non-target trial.
    """
    if not target_N.any() or target_N.all():
        raise SeparativeError(f"{what} needs at least one target and one non-target trial")


def class_shares(target_N: NDArray[np.bool_], weight_N: Floats | None = None) -> Floats:
    """Weights [N] scaled so that those of each class sum to 1; NaN where a class has no weight."""
    weight = np.ones(len(target_N)) if weight_N is None else np.asarray(weight_N, np.float64)
    total = float(weight @ target_N), float(weight @ ~target_N)
    with np.errstate(invalid="ignore", divide="ignore"):
        share_N: Floats = weight / np.where(target_N, *total)
    return share_N if min(total) > 0 else np.full(len(target_N), np.nan)
