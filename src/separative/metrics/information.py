"""Lower bounds on the mutual information between embeddings and speakers (method, section 4)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from separative.types import Floats

# Range of α in :func:`fit_alpha`. Trained models start at α = 10. Without bounds, speakers that one fold
# separates perfectly would give an infinite α, and a single error in the other fold an infinite loss.
ALPHA_RANGE = (1e-2, 1e2)
_GOLDEN = (5**0.5 - 1) / 2


def information_bound(loss: float, entropy: float) -> float:
    """Lower bound I(embedding; speaker) ≥ H(speaker) − loss in nats, at least 0.

    Args:
        loss: mean contrastive loss in nats, without margin or smoothing.
        entropy: entropy of the speakers in nats; ln P if all P speakers are equally likely.

    >>> round(information_bound(loss=2.0, entropy=float(np.log(251))), 3)
    3.525
    """
    return max(0.0, entropy - loss)


def contrastive_losses(distance: Floats, speaker: NDArray[np.integer], alpha: float) -> Floats:
    """−ln softmax(−α · distance) at the true speaker, in nats [N].

    Args:
        distance: squared distances of N embeddings from the vectors of P speakers [N,P].
        speaker: index of the true speaker of each embedding [N].
        alpha: precision.

    >>> contrastive_losses(np.array([[0.0, 2.0]]), np.array([0]), alpha=1.0).round(4)
    array([0.1269])
    """
    logits_NP = -alpha * distance
    top_N = logits_NP.max(1)
    total_N = top_N + np.log(np.exp(logits_NP - top_N[:, None]).sum(1))
    loss_N: Floats = total_N - logits_NP[np.arange(len(speaker)), speaker]
    return loss_N


def fit_alpha(distance: Floats, speaker: NDArray[np.integer]) -> float:
    """Find the α of least mean loss by golden-section search on log α; the loss is convex in α.

    Arguments as in :func:`contrastive_losses`.

    >>> distance = np.array([[0.1, 0.9], [0.8, 0.2], [0.6, 0.4]])
    >>> round(fit_alpha(distance, np.array([0, 1, 0])), 2)
    3.24
    """
    low, high = np.log(ALPHA_RANGE)
    while high - low > 1e-3:
        left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
        left_loss = contrastive_losses(distance, speaker, np.exp(left)).mean()
        if left_loss < contrastive_losses(distance, speaker, np.exp(right)).mean():
            high = right
        else:
            low = left
    return float(np.exp((low + high) / 2))


def cross_fitted_losses(
    distance: Floats,
    speaker: NDArray[np.integer],
    fold: ArrayLike,
    fit: Callable[[Floats, NDArray[np.integer]], float] = fit_alpha,
) -> Floats:
    """Contrastive losses [N] in nats with an α that is fitted on the other fold.

    The bound H − E[loss] holds for any speaker vectors and any α that are not fitted on the same embeddings.

    Args:
        distance: squared distances of N embeddings from the vectors of P speakers [N,P].
        speaker: index of the true speaker of each embedding [N].
        fold: fold of each embedding [N], 0 or 1.
        fit: finds α from distances and speakers.

    >>> distance = np.array([[0.1, 0.9], [0.8, 0.2], [0.6, 0.4], [0.3, 0.7]])
    >>> losses = cross_fitted_losses(distance, np.array([0, 1, 0, 1]), fold=[0, 0, 1, 1])
    >>> losses.shape
    (4,)
    """
    fold_N = np.asarray(fold)
    loss_N = np.empty(len(speaker))
    for number in (0, 1):
        own_N = fold_N == number
        alpha = fit(distance[~own_N], speaker[~own_N])
        loss_N[own_N] = contrastive_losses(distance[own_N], speaker[own_N], alpha)
    return loss_N
