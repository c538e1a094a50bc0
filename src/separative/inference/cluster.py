"""How many talkers there are, and which stream of which window is whose."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Labels = NDArray[np.int64]

# Pairwise distances of this many embeddings at most; the others go to the nearest talker.
MOST = 1500
ROUNDS = 5
# Share of the mean embedding of a recording that is taken off before its talkers are compared: what all of
# them have in common (the room, the microphone) says nothing of who is who. Not all of it, or a talker alone
# would fall apart.
COMMON = 0.65
# What a talker must have at least, of all speech and in windows full of it; less is an outlier of somebody's.
LEAST_SHARE, LEAST_WINDOWS, ENOUGH_WINDOWS = 0.03, 3.0, 10.0
# Cosine of what is left, above which two clusters are one talker's.
ALIKE = 0.1
# Cosine of what the recording makes of two clusters, above which they are one talker's after all.
ONE = 0.9


def talkers_of(
    embed_WCE: Floats,
    seconds_WC: Floats,
    *,
    gather: Callable[[Floats], Floats] | None = None,
    same: float,
    alike: float = ALIKE,
    talkers: int | None = None,
    least_seconds: float = 1.0,
) -> tuple[Labels, Floats]:
    """Whose each stream is [W,C] (−1: nobody's), and mean embeddings [K,E] of the talkers, by speech.

    Embeddings are first clustered by average linkage, and clusters joined of which the recording's windows
    together make the same. Then streams and talkers are matched anew, window by window and one to one, and
    means taken anew, a few times: two streams of a window are two talkers, unless they sound the same.

    Args:
        embed_WCE: unit norm, of each stream of each window.
        seconds_WC: of speech in each; below ``least_seconds`` a stream has no say in who is there.
        gather: the cross-attention over windows, from embeddings [U,E] to answers; if not given, embeddings
            stand for themselves.
        same: cosine above which two streams of a window sound the same.
        alike: cosine above which two clusters, without what all have in common, are of one talker.
        talkers: how many there are, if known.
    """
    voiced_WC = seconds_WC >= min(least_seconds, float(seconds_WC.max()) if seconds_WC.size else 0.0)
    voiced_WC &= seconds_WC > 0
    if not voiced_WC.any():
        return np.full(seconds_WC.shape, -1), np.zeros((0, embed_WCE.shape[2]), np.float32)
    unit_UE, weight_U = embed_WCE[voiced_WC], seconds_WC[voiced_WC]
    centre_KE = _centres(unit_UE, weight_U, gather, alike, talkers)
    label_WC = np.full(seconds_WC.shape, -1)
    for _ in range(ROUNDS):
        before = label_WC
        label_WC = _match(embed_WCE, voiced_WC, centre_KE, same)
        kept = [k for k in range(len(centre_KE)) if (label_WC == k).any()]
        centre_KE = np.stack(
            [mean_embedding(embed_WCE[label_WC == k], seconds_WC[label_WC == k]) for k in kept]
        )
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


def _centres(
    unit_UE: Floats,
    weight_U: Floats,
    gather: Callable[[Floats], Floats] | None,
    alike: float,
    talkers: int | None,
) -> Floats:
    """Mean embeddings of the clusters that hold a fair part of the speech."""
    from scipy.cluster.hierarchy import fcluster, linkage

    some = np.linspace(0, len(unit_UE) - 1, min(MOST, len(unit_UE))).astype(int)
    unit_UE, weight_U = unit_UE[some], weight_U[some]
    if len(unit_UE) == 1:
        return unit_UE
    tree = linkage(own_part(unit_UE, weight_U), "average", metric="cosine")
    full = float(weight_U.max())
    least = min(LEAST_SHARE * float(weight_U.sum()), ENOUGH_WINDOWS * full)
    if talkers is None:
        least = max(least, LEAST_WINDOWS * full)

    def large(label_U: NDArray[np.int32]) -> list[int]:
        sums = np.bincount(label_U, weights=weight_U)
        order = np.argsort(-sums)
        return [int(k) for k in order if sums[k] >= least and k > 0]

    if talkers is None:
        label_U = fcluster(tree, 1 - alike, "distance")
        chosen = large(label_U) or [int(np.bincount(label_U, weights=weight_U).argmax())]
        gathered_UE = unit_UE if gather is None else gather(unit_UE)
        label_U, chosen = _join(label_U, chosen, gathered_UE, weight_U)
    else:
        # Cut ever lower until so many large clusters are there; outliers make clusters of their own. Where
        # there never are, the cut that has most.
        wanted, chosen = min(talkers, len(unit_UE)), []
        for count in range(wanted, len(unit_UE) + 1):
            cut_U = fcluster(tree, count, "maxclust")
            found = large(cut_U)
            if not chosen or len(found) > len(chosen):
                label_U, chosen = cut_U, found or [int(np.bincount(cut_U, weights=weight_U).argmax())]
            if len(chosen) >= wanted:
                break
        chosen = chosen[:wanted]
    return np.stack([mean_embedding(unit_UE[label_U == k], weight_U[label_U == k]) for k in chosen])


def _join(
    label_U: NDArray[np.int32], chosen: list[int], gathered_UE: Floats, weight_U: Floats
) -> tuple[NDArray[np.int32], list[int]]:
    """The likest two clusters become one, as long as any two are one talker's."""
    while len(chosen) > 1:
        mean_KE = np.stack(
            [mean_embedding(gathered_UE[label_U == k], weight_U[label_U == k]) for k in chosen]
        )
        cos_KK = mean_KE @ mean_KE.T - 2 * np.eye(len(chosen))
        one, other = sorted(divmod(int(cos_KK.argmax()), len(chosen)))
        if cos_KK[one, other] <= ONE:
            break
        label_U = np.where(label_U == chosen[other], chosen[one], label_U)
        chosen = chosen[:other] + chosen[other + 1 :]
    return label_U, chosen


def own_part(unit_UE: Floats, weight_U: Floats) -> Floats:
    """Embeddings without the larger part of their mean, at unit norm: what tells talkers of one recording
    apart."""
    rest_UE = unit_UE - COMMON * np.average(unit_UE, axis=0, weights=weight_U)
    own_UE: Floats = (rest_UE / np.maximum(np.linalg.norm(rest_UE, axis=1, keepdims=True), 1e-9)).astype(
        np.float32
    )
    return own_UE


def mean_embedding(unit_UE: Floats, weight_U: Floats) -> Floats:
    """The direction of a weighted sum of embeddings, at unit norm."""
    sum_E = (unit_UE * weight_U[:, None]).sum(0)
    mean_E: Floats = (sum_E / max(float(np.linalg.norm(sum_E)), 1e-9)).astype(np.float32)
    return mean_E


def match_streams(
    embed_CE: Floats,
    voiced_C: NDArray[np.bool_],
    centre_KE: Floats,
    same: float,
    new_C: NDArray[np.bool_] | None = None,
) -> Labels:
    """Streams of one window to talkers, one to one as agrees best; streams that sound the same to one [C].

    −1 for streams that are not ``voiced_C``. Those of ``new_C`` that are like nobody are talkers K, K + 1 ...
    """
    from scipy.optimize import linear_sum_assignment

    label_C = np.full(len(embed_CE), -1)
    there = np.flatnonzero(voiced_C)
    if not len(there):
        return label_C
    known = len(centre_KE)
    cos_CK = embed_CE[there] @ centre_KE.T
    alike_CC = embed_CE[there] @ embed_CE[there].T
    if known:
        label_C[there] = cos_CK.argmax(1)
        # Only if they want the same talker, and do not sound the same, is there something to decide.
        if len(set(label_C[there])) < len(there) <= known and alike_CC.min() <= same:
            streams, talkers = linear_sum_assignment(-cos_CK)
            label_C[there[streams]] = talkers
    if new_C is not None:
        fresh: list[int] = []
        for place, c in enumerate(there):
            if not new_C[c] or (known and cos_CK[place, label_C[c]] > same):
                continue
            twin = next((i for i in fresh if alike_CC[place, i] > same), None)
            label_C[c] = known + len(fresh) if twin is None else label_C[there[twin]]
            if twin is None:
                fresh.append(place)
    return label_C


def _match(embed_WCE: Floats, voiced_WC: NDArray[np.bool_], centre_KE: Floats, same: float) -> Labels:
    label_WC = np.where(voiced_WC, (embed_WCE @ centre_KE.T).argmax(-1), -1)
    # Elsewhere every stream has the talker it is nearest to.
    for w in np.flatnonzero([len(set(row[row >= 0])) < (row >= 0).sum() for row in label_WC]):
        label_WC[w] = match_streams(embed_WCE[w], voiced_WC[w], centre_KE, same)
    return label_WC
