"""How many talkers there are, and which stream of which window is whose."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Labels = NDArray[np.int64]

# Pairwise distances of this many embeddings at most; the others go to the nearest talker.
MOST = 1500
ROUNDS = 5


def talkers_of(
    embed_WCE: Floats,
    seconds_WC: Floats,
    *,
    same: float,
    talkers: int | None = None,
    least_seconds: float = 1.0,
) -> tuple[Labels, Floats]:
    """Whose each stream is [W,C] (−1: nobody's), and mean embeddings [K,E] of the talkers, by speech.

    Embeddings are first clustered by average linkage. Then streams and talkers are matched anew, window by
    window and one to one, and means taken anew, a few times: two streams of a window are two talkers, unless
    they sound the same.

    Args:
        embed_WCE: unit norm, of each stream of each window.
        seconds_WC: of speech in each; below ``least_seconds`` a stream has no say in who is there.
        same: cosine above which two embeddings are of one talker.
        talkers: how many there are, if known.
    """
    voiced_WC = seconds_WC >= min(least_seconds, float(seconds_WC.max()) if seconds_WC.size else 0.0)
    voiced_WC &= seconds_WC > 0
    if not voiced_WC.any():
        return np.full(seconds_WC.shape, -1), np.zeros((0, embed_WCE.shape[2]), np.float32)
    unit_UE, weight_U = embed_WCE[voiced_WC], seconds_WC[voiced_WC]
    centre_KE = _centres(unit_UE, weight_U, same, talkers)
    label_WC = np.full(seconds_WC.shape, -1)
    for _ in range(ROUNDS):
        before = label_WC
        label_WC = _match(embed_WCE, voiced_WC, centre_KE, same)
        kept = [k for k in range(len(centre_KE)) if (label_WC == k).any()]
        centre_KE = np.stack([_mean(embed_WCE[label_WC == k], seconds_WC[label_WC == k]) for k in kept])
        label_WC = np.where(label_WC >= 0, np.searchsorted(kept, label_WC), -1)
        if np.array_equal(label_WC, before):
            break
    # Streams with too little speech to judge a talker by still belong to whoever they are nearest to.
    label_WC = np.where(
        (label_WC < 0) & (seconds_WC > 0), _match(embed_WCE, seconds_WC > 0, centre_KE, same), label_WC
    )
    spoken_K = np.array([seconds_WC[label_WC == k].sum() for k in range(len(centre_KE))])
    order = np.argsort(-spoken_K, kind="stable")
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return np.where(label_WC >= 0, rank[label_WC], -1), centre_KE[order]


def _centres(unit_UE: Floats, weight_U: Floats, same: float, talkers: int | None) -> Floats:
    """Mean embeddings of the clusters that hold a fair part of the speech."""
    from scipy.cluster.hierarchy import fcluster, linkage

    some = np.linspace(0, len(unit_UE) - 1, min(MOST, len(unit_UE))).astype(int)
    unit_UE, weight_U = unit_UE[some], weight_U[some]
    if len(unit_UE) == 1:
        return unit_UE
    tree = linkage(unit_UE, "average", metric="cosine")
    # A talker has said as much as a few windows hold; what is less is an outlier of somebody's.
    least = min(0.02 * float(weight_U.sum()), 3 * float(weight_U.max()))

    def large(label_U: NDArray[np.int32]) -> list[int]:
        sums = np.bincount(label_U, weights=weight_U)
        order = np.argsort(-sums)
        return [int(k) for k in order if sums[k] >= least and k > 0]

    if talkers is None:
        label_U = fcluster(tree, 1 - same, "distance")
        chosen = large(label_U) or [int(np.bincount(label_U, weights=weight_U).argmax())]
    else:
        # Cut ever lower until so many large clusters are there; outliers make clusters of their own.
        wanted = min(talkers, len(unit_UE))
        for count in range(wanted, len(unit_UE) + 1):
            label_U = fcluster(tree, count, "maxclust")
            chosen = large(label_U)
            if len(chosen) >= wanted:
                break
        chosen = chosen[:wanted]
    return np.stack([_mean(unit_UE[label_U == k], weight_U[label_U == k]) for k in chosen])


def _mean(unit_UE: Floats, weight_U: Floats) -> Floats:
    sum_E = (unit_UE * weight_U[:, None]).sum(0)
    mean_E: Floats = (sum_E / max(float(np.linalg.norm(sum_E)), 1e-9)).astype(np.float32)
    return mean_E


def _match(embed_WCE: Floats, voiced_WC: NDArray[np.bool_], centre_KE: Floats, same: float) -> Labels:
    """Streams of each window to talkers, one to one as agrees best; streams that sound the same to one."""
    from scipy.optimize import linear_sum_assignment

    cos_WCK = embed_WCE @ centre_KE.T
    label_WC = np.where(voiced_WC, cos_WCK.argmax(-1), -1)
    # Only windows whose streams want the same talker need a decision.
    for w in np.flatnonzero([len(set(row[row >= 0])) < (row >= 0).sum() for row in label_WC]):
        there = np.flatnonzero(voiced_WC[w])
        alike = embed_WCE[w, there] @ embed_WCE[w, there].T
        if alike.min() > same or len(centre_KE) < len(there):
            continue
        streams, talkers = linear_sum_assignment(-cos_WCK[w, there])
        label_WC[w, there[streams]] = talkers
    return label_WC
