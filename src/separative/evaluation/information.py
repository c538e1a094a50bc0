"""How many nats of a speaker's identity an embedding holds, for speakers never trained on."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from separative.evaluation.bootstrap import SpeakerBootstrap
from separative.types import Floats

# Wide enough for any trained model (α starts at 10). Unbounded, speakers that one half separates perfectly
# would ask for an infinite α, and a single error in the other half for an infinite loss.
ALPHAS = (1e-2, 1e2)
GOLDEN = (5**0.5 - 1) / 2


def _loss(distance_NP: Floats, speaker_N: NDArray[np.intp], alpha: float) -> Floats:
    """-log softmax(-alpha·distance) at the true speaker, in nats [N] (method, section 4)."""
    logits_NP = -alpha * distance_NP
    top_N = logits_NP.max(1)
    total_N = top_N + np.log(np.exp(logits_NP - top_N[:, None]).sum(1))
    loss: Floats = total_N - logits_NP[np.arange(len(speaker_N)), speaker_N]
    return loss


def information_bound(
    embedding_NE: Floats,
    speaker_N: NDArray[np.intp],
    inventory_PE: Floats,
    speakers: SpeakerBootstrap,
    seed: int = 0,
) -> tuple[float, float, float]:
    """Lower bound on I(embedding; speaker) in nats, with its 95 % interval; at most ln P.

    For any inventory and alpha not fitted on these embeddings, I >= H(speaker) - E[loss] (method, section 4).
    The inventory comes from other recordings (enrolments). alpha, the one free number, is fitted on one half
    of the speakers and used on the other, and the reverse. Speakers count equally, so H = ln P.

    Args:
        embedding_NE: unit-norm embeddings of P speakers.
        speaker_N: index of each one's speaker, as in ``speakers``.
        inventory_PE: unit-norm vectors of the speakers.
        speakers: bootstrap draws over the P speakers.
    """
    count = len(inventory_PE)
    distance_NP = ((embedding_NE[:, None] - inventory_PE[None]) ** 2).sum(-1, dtype=np.float64)
    fold_P = np.random.default_rng(seed).permutation(count) % 2
    loss_N = np.empty(len(speaker_N))
    for fold in (0, 1):
        held_N = fold_P[speaker_N] == fold
        alpha = _best_alpha(distance_NP[~held_N], speaker_N[~held_N])
        loss_N[held_N] = _loss(distance_NP[held_N], speaker_N[held_N], alpha)
    loss, low, high = speakers.mean(loss_N, speaker_N)
    ceiling = float(np.log(count))
    return ceiling - loss, ceiling - high, ceiling - low


def _best_alpha(distance_NP: Floats, speaker_N: NDArray[np.intp]) -> float:
    """Minimise the mean loss, which is convex in alpha, by golden-section search on log alpha."""
    low, high = np.log(ALPHAS)
    while high - low > 1e-3:
        left, right = high - GOLDEN * (high - low), low + GOLDEN * (high - low)
        if (
            _loss(distance_NP, speaker_N, np.exp(left)).mean()
            < _loss(distance_NP, speaker_N, np.exp(right)).mean()
        ):
            high = right
        else:
            low = left
    return float(np.exp((low + high) / 2))
