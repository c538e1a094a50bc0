"""Cluster the streams of many windows: find the number of speakers, and the speaker of each stream."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from separative.types import Floats

Labels = NDArray[np.int64]

# Maximum number of embeddings that are compared pairwise, with spectral clustering and with average linkage
# alone, which is cheaper. If there are more, the speakers are found from an evenly spaced selection.
MAX_COMPARED, MAX_LINKED = 400, 1200
# Minimum number of embeddings for spectral clustering. With fewer, a neighbourhood graph says little, and
# average linkage alone finds the number of speakers.
MIN_SPECTRAL = 20
# Average linkage merges two clusters if the mean cosine between their embeddings is above this. The first
# value is for speakers that spectral clustering missed, the second for linkage without spectral clustering.
ADDED_MERGE_COSINE, FEW_SAME_COSINE = 0.25, 0.3
# A cluster is added as a missed speaker only if the cosines of its mean to all means found are below this.
ADDED_MAX_COSINE = 0.7
# Minimum speech of a cluster that counts as a speaker, as a multiple of the most speech that a stream has in
# one window. A cluster with less is an outlier.
MIN_WINDOWS = 3.0
# In short recordings, which are run in several phases: the same minimum in seconds per phase, and the minimum
# speech in seconds of a stream that is used to find speakers.
SHORT_MIN_SECONDS, SHORT_STREAM_SECONDS = 2.0, 0.5
# Numbers of neighbours to try in spectral clustering, as shares of all embeddings, and their minimum.
NEIGHBOUR_SHARES = np.linspace(0.05, 0.35, 10)
MIN_NEIGHBOURS = 6
# Maximum number of speakers that spectral clustering finds if the number is not given.
MAX_SPEAKERS = 20
# Maximum number of updates of the mean embeddings.
MAX_ROUNDS = 5


def cluster_speakers(
    embedding: Floats,
    speech_seconds: Floats,
    alone_seconds: Floats,
    *,
    same_cosine: float,
    speakers: int | None = None,
    min_seconds: float = 1.0,
    attended: Floats | None = None,
    phases: int = 1,
) -> tuple[Labels, Floats]:
    """Assign the C streams of W windows to speakers.

    Speakers are first found among the streams that are active alone for at least ``min_seconds``. If there
    are too few, all streams with ``min_seconds`` of speech are used. Then the streams of each window are
    matched with the speakers, see :func:`match_streams`, and the speakers' mean embeddings are updated. Both
    steps are repeated until nothing changes, at most MAX_ROUNDS times.

    Args:
        embedding: embedding of each stream in each window [W, C, E], unit norm.
        speech_seconds: seconds of speech of each stream in each window [W, C].
        alone_seconds: seconds in which the stream is active and no other stream of the window is [W, C].
        same_cosine: cosine above which two streams of a window may belong to the same speaker.
        speakers: number of speakers; estimated if None.
        min_seconds: minimum seconds of speech of a stream that is used to find speakers; with several phases
            at most SHORT_STREAM_SECONDS.
        attended: attended embeddings [W, C, E]. If given, these are used to match the streams again with the
            speakers found.
        phases: number of times that the model was run over the recording, with windows at different
            positions; W counts the windows of all phases. Several phases are used for short recordings only.
            Average linkage alone then finds the speakers. Spectral clustering is not used, because the
            nearest neighbours of a window would be the same audio in the other phases.

    Returns:
        The speaker of each stream [W, C], -1 for a silent stream; and the speakers' mean embeddings [K, E].

    Example:
        >>> a, b = np.eye(2)
        >>> seconds = np.full((3, 2), 2.0)
        >>> embedding = np.array([[a, b], [b, a], [a, b]])
        >>> label, mean = cluster_speakers(embedding, seconds, seconds, same_cosine=0.5)
        >>> (label == label[0]).tolist(), mean.shape
        ([[True, True], [False, False], [True, True]], (2, 2))
    """
    embed_WCE, seconds_WC, alone_WC = embedding, speech_seconds, alone_seconds
    if phases > 1:
        min_seconds = min(min_seconds, SHORT_STREAM_SECONDS)
    # If no stream has min_seconds of speech, those with the most are used.
    usable_WC = seconds_WC >= min(min_seconds, float(seconds_WC.max()) if seconds_WC.size else 0.0)
    usable_WC &= seconds_WC > 0
    if not usable_WC.any():
        return np.full(seconds_WC.shape, -1), np.zeros((0, embed_WCE.shape[2]), np.float32)
    enough_alone_WC = alone_WC >= min_seconds
    # With several phases, the same speech is counted once in each.
    min_alone_streams = MIN_SPECTRAL if phases == 1 else 3 * phases
    if enough_alone_WC.sum() >= min_alone_streams:
        chosen_WC, weight_WC = enough_alone_WC, alone_WC
    else:
        chosen_WC, weight_WC = usable_WC, seconds_WC
    if phases == 1:
        mean_KE = _find_speakers(embed_WCE[chosen_WC], weight_WC[chosen_WC], speakers)
    else:
        mean_KE = _link_speakers(embed_WCE[chosen_WC], weight_WC[chosen_WC] / phases, speakers)
    label_WC, mean_KE = _refine(embed_WCE, seconds_WC, usable_WC, mean_KE, same_cosine)
    if attended is not None:
        embed_WCE = attended
        mean_KE = _means(embed_WCE[usable_WC], seconds_WC[usable_WC], label_WC[usable_WC])
        label_WC, mean_KE = _refine(embed_WCE, seconds_WC, usable_WC, mean_KE, same_cosine)
    # Streams with little speech take no part in the means, but still get the nearest speaker.
    nearest_WC = _match_windows(embed_WCE, seconds_WC > 0, mean_KE, same_cosine)
    return np.where(label_WC < 0, nearest_WC, label_WC), mean_KE


def _refine(
    embed_WCE: Floats, seconds_WC: Floats, usable_WC: NDArray[np.bool_], mean_KE: Floats, same_cosine: float
) -> tuple[Labels, Floats]:
    """Alternate between assigning streams and updating means until stable; drop speakers without streams."""
    label_WC = np.full(seconds_WC.shape, -1)
    for _ in range(MAX_ROUNDS):
        previous_WC = label_WC
        label_WC = _match_windows(embed_WCE, usable_WC, mean_KE, same_cosine)
        # Number the speakers that have streams from 0.
        label_WC[usable_WC] = np.unique(label_WC[usable_WC], return_inverse=True)[1]
        mean_KE = _means(embed_WCE[usable_WC], seconds_WC[usable_WC], label_WC[usable_WC])
        if np.array_equal(label_WC, previous_WC):
            break
    return label_WC, mean_KE


def _find_speakers(embed_UE: Floats, seconds_U: Floats, speakers: int | None) -> Floats:
    """Mean embeddings [K,E] of the speakers among U unit-norm embeddings with ``seconds_U`` of speech.

    Fewer than MIN_SPECTRAL embeddings are clustered by average linkage. Otherwise spectral clustering finds
    the speakers, and their number from the eigenvalues; it works even if the embeddings of a speaker vary.
    It may miss a speaker with little speech. Such a speaker is added if average linkage finds a cluster with
    enough speech that is unlike all speakers found (ADDED_MAX_COSINE, MIN_WINDOWS).
    """
    from scipy.cluster.hierarchy import linkage

    selected = np.linspace(0, len(embed_UE) - 1, min(MAX_COMPARED, len(embed_UE))).astype(int)
    embed_UE, seconds_U = embed_UE[selected], seconds_U[selected]
    if len(embed_UE) == 1:
        return embed_UE
    tree = linkage(embed_UE, "average", metric="cosine")
    if len(embed_UE) < MIN_SPECTRAL:
        if speakers is None:
            label_U = _flat_clusters(tree, 1 - FEW_SAME_COSINE, "distance")
        else:
            label_U = _flat_clusters(tree, speakers, "maxclust")
        return _means(embed_UE, seconds_U, label_U)
    spectral, min_seconds = SpectralClusters(embed_UE), MIN_WINDOWS * float(seconds_U.max())
    if speakers is not None:
        # Spectral clustering may split a speaker with much speech instead of finding one with little. Average
        # linkage may mistake a few unusual windows for a speaker. Of the two results, choose the one with
        # more speakers or, if equal, the one with less similar speakers: it is more often right.
        labelings = [spectral.labels(speakers), _cut_tree(tree, seconds_U, speakers, min_seconds)]
        candidates = [_means(embed_UE, seconds_U, label_U) for label_U in labelings]
        return min(candidates, key=lambda mean_KE: (-len(mean_KE), _largest_cosine(mean_KE)))
    mean_KE = _means(embed_UE, seconds_U, spectral.labels(spectral.count()))
    cluster_U = _flat_clusters(tree, 1 - ADDED_MERGE_COSINE, "distance")
    # Clusters are numbered from 1.
    mean_JE, seconds_J = _means(embed_UE, seconds_U, cluster_U), np.bincount(cluster_U, weights=seconds_U)[1:]
    for j in np.argsort(-seconds_J, kind="stable"):
        if seconds_J[j] >= min_seconds and (mean_KE @ mean_JE[j]).max() < ADDED_MAX_COSINE:
            mean_KE = np.concatenate([mean_KE, mean_JE[j : j + 1]])
    return mean_KE


def _link_speakers(embed_UE: Floats, seconds_U: Floats, speakers: int | None) -> Floats:
    """Mean embeddings [K,E] of the speakers of a short recording, by average linkage.

    Clusters with less than SHORT_MIN_SECONDS are dropped. If all have less, the largest is kept.
    """
    from scipy.cluster.hierarchy import linkage

    selected = np.linspace(0, len(embed_UE) - 1, min(MAX_LINKED, len(embed_UE))).astype(int)
    embed_UE, seconds_U = embed_UE[selected], seconds_U[selected]
    if len(embed_UE) == 1:
        return embed_UE
    tree = linkage(embed_UE, "average", metric="cosine")
    if speakers is not None:
        return _means(embed_UE, seconds_U, _cut_tree(tree, seconds_U, speakers, SHORT_MIN_SECONDS))
    label_U = _flat_clusters(tree, 1 - FEW_SAME_COSINE, "distance")
    seconds_J = np.bincount(label_U, weights=seconds_U)
    kept_J = seconds_J >= min(SHORT_MIN_SECONDS, seconds_J.max())
    return _means(embed_UE, seconds_U, np.where(kept_J[label_U], label_U, -1))


def _flat_clusters(tree: NDArray[np.float64], limit: float, criterion: str) -> Labels:
    """Cut a linkage tree into clusters, numbered from 1; ``criterion`` as in ``scipy``'s ``fcluster``."""
    from scipy.cluster.hierarchy import fcluster

    label_U: Labels = fcluster(tree, limit, criterion).astype(np.int64)
    return label_U


def _cut_tree(tree: NDArray[np.float64], seconds_U: Floats, speakers: int, min_seconds: float) -> Labels:
    """Cut the tree so that ``speakers`` clusters have at least ``min_seconds`` of speech.

    Of all such cuts, the one with the fewest clusters is used, and its other clusters are labelled -1.
    """
    for count in range(min(speakers, len(seconds_U)), len(seconds_U) + 1):
        label_U = _flat_clusters(tree, count, "maxclust")
        seconds_J = np.bincount(label_U, weights=seconds_U)
        largest = np.argsort(-seconds_J, kind="stable")[:speakers]
        if seconds_J[largest[-1]] >= min_seconds:
            return np.where(np.isin(label_U, largest), label_U, -1)
    # There is no such cut: ignore ``min_seconds``.
    return _flat_clusters(tree, speakers, "maxclust")


def _means(embed_UE: Floats, seconds_U: Floats, label_U: Labels) -> Floats:
    """Mean embedding [K,E] of each label except -1, weighted by seconds of speech."""
    members = [label_U == k for k in np.unique(label_U[label_U >= 0])]
    return np.stack([mean_embedding(embed_UE[member_U], seconds_U[member_U]) for member_U in members])


def _largest_cosine(mean_KE: Floats) -> float:
    """Largest cosine between two different speakers; -1 for a single speaker."""
    # Subtracting 2 from the diagonal excludes the cosine of each speaker with itself.
    return float((mean_KE @ mean_KE.T - 2 * np.eye(len(mean_KE))).max())


class SpectralClusters:
    """Spectral clustering of embeddings [U, E] that chooses the number of neighbours and of clusters.

    One graph is made for each number of neighbours to try; it connects every embedding with its most similar
    ones. The chosen graph has few neighbours and a large gap between successive eigenvalues of its Laplacian.
    This is the criterion "normalised maximum eigengap" (Park, Han, Kumar, Narayanan, "Auto-tuning spectral
    clustering for speaker diarization using normalized maximum eigengap", IEEE SPL 2020).

    Example:
        >>> rng = np.random.default_rng(0)
        >>> speakers = np.repeat(np.eye(3, 16), 20, axis=0) + 0.05 * rng.standard_normal((60, 16))
        >>> clusters = SpectralClusters(unit_rows(speakers))
        >>> clusters.count(), len(set(clusters.labels(3).tolist()))
        (3, 3)
    """

    def __init__(self, embedding: Floats) -> None:
        size = len(embedding)
        self._order_UU = np.argsort(-(embedding @ embedding.T), axis=1)
        self._neighbours_P = np.unique(np.clip((NEIGHBOUR_SHARES * size).astype(int), MIN_NEIGHBOURS, size))
        value_PU = np.stack([np.linalg.eigvalsh(self._laplacian(p)) for p in self._neighbours_P])
        gap_PK = np.diff(value_PU[:, : MAX_SPEAKERS + 1], axis=1)
        # Number of neighbours divided by the normalised eigengap, for each of P numbers of neighbours and K
        # numbers of clusters. The lowest is the best.
        self._ratio_PK = self._neighbours_P[:, None] / np.maximum(gap_PK / value_PU[:, -1:], 1e-9)

    def count(self) -> int:
        """Return the number of clusters."""
        best = int(self._ratio_PK.min(1).argmin())
        return int(self._ratio_PK[best].argmin()) + 1

    def labels(self, count: int) -> Labels:
        """Return the cluster of each embedding [U], for ``count`` clusters at most."""
        from scipy.cluster.vq import kmeans, vq

        if count == 1:
            return np.zeros(len(self._order_UU), np.int64)
        count = min(count, len(self._order_UU))
        best = self._ratio_PK[:, min(count, self._ratio_PK.shape[1]) - 1].argmin()
        _, vector_UU = np.linalg.eigh(self._laplacian(int(self._neighbours_P[best])))
        point_UK = unit_rows(vector_UU[:, :count])
        centre_KK, _ = kmeans(point_UK, count, iter=10, seed=np.random.default_rng(0))
        label_U: Labels = vq(point_UK, centre_KK)[0].astype(np.int64)
        return label_U

    def _laplacian(self, neighbours: int) -> NDArray[np.float64]:
        """Laplacian [U,U] of the graph with this number of neighbours."""
        weight_UU = np.zeros(self._order_UU.shape)
        np.put_along_axis(weight_UU, self._order_UU[:, :neighbours], 1.0, axis=1)
        weight_UU = (weight_UU + weight_UU.T) / 2
        laplacian_UU: NDArray[np.float64] = np.diag(weight_UU.sum(1)) - weight_UU
        return laplacian_UU


def unit_rows(rows: NDArray[Any]) -> NDArray[Any]:
    """Scale rows [..., E] to unit norm; rows of zeros stay zero.

    Example:
        >>> unit_rows(np.array([[3.0, 4.0], [0.0, 0.0]]))
        array([[0.6, 0.8],
               [0. , 0. ]])
    """
    unit: NDArray[Any] = rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), 1e-9)
    return unit


def mean_embedding(embedding: Floats, weights: Floats) -> Floats:
    """Return the mean [E] of embeddings [U, E], weighted with ``weights`` [U] and scaled to unit norm.

    Example:
        >>> mean_embedding(np.eye(2), np.array([3.0, 4.0]))
        array([0.6, 0.8], dtype=float32)
    """
    return unit_rows((embedding * weights[:, None]).sum(0)).astype(np.float32)


def match_streams(
    embedding: Floats,
    active: NDArray[np.bool_],
    speaker_mean: Floats,
    same_cosine: float,
    may_be_new: NDArray[np.bool_] | None = None,
) -> Labels:
    """Match the C streams of one window with K speakers, so that the sum of cosines is largest.

    Each stream gets a different speaker, with two exceptions: if more than K streams are active, or if the
    cosines between all of them are above ``same_cosine``, several streams may get the same speaker.

    Args:
        embedding: embeddings of the streams [C, E], unit norm.
        active: streams with speech [C]; the others get -1.
        speaker_mean: mean embeddings of the speakers [K, E], unit norm.
        same_cosine: cosine above which two embeddings may belong to the same speaker.
        may_be_new: streams that may be new speakers [C]; none by default. Such a stream becomes speaker K,
            K + 1, ... if its cosine to the speaker it matches is not above ``same_cosine``.

    Returns:
        The speaker of each stream [C].

    Example:
        >>> a, b, c = np.eye(3)
        >>> match_streams(np.stack([b, c]), np.array([True, True]), np.stack([a, b]), 0.5,
        ...               may_be_new=np.array([True, True])).tolist()
        [1, 2]
    """
    from scipy.optimize import linear_sum_assignment

    label_C = np.full(len(embedding), -1)
    present = np.flatnonzero(active)
    if not len(present):
        return label_C
    # Axis P: the active streams only.
    known = len(speaker_mean)
    cos_PK = embedding[present] @ speaker_mean.T
    cos_PP = embedding[present] @ embedding[present].T
    if known:
        label_C[present] = cos_PK.argmax(1)
        # Every stream gets its nearest speaker. If two streams then share one, assign them one to one.
        if len(set(label_C[present])) < len(present) <= known and cos_PP.min() <= same_cosine:
            streams, speakers = linear_sum_assignment(-cos_PK)
            label_C[present[streams]] = speakers
    if may_be_new is not None:
        new: list[int] = []
        for i, c in enumerate(present):
            if not may_be_new[c] or (known and cos_PK[i, label_C[c]] > same_cosine):
                continue
            # An earlier new speaker that this stream also belongs to.
            twin = next((j for j in new if cos_PP[i, j] > same_cosine), None)
            label_C[c] = known + len(new) if twin is None else label_C[present[twin]]
            if twin is None:
                new.append(i)
    return label_C


def _match_windows(
    embed_WCE: Floats, active_WC: NDArray[np.bool_], mean_KE: Floats, same_cosine: float
) -> Labels:
    """Apply :func:`match_streams` to every window."""
    label_WC = np.where(active_WC, (embed_WCE @ mean_KE.T).argmax(-1), -1)
    # Only windows in which two streams have the same nearest speaker need the assignment.
    for w in np.flatnonzero([len(set(row[row >= 0])) < (row >= 0).sum() for row in label_WC]):
        label_WC[w] = match_streams(embed_WCE[w], active_WC[w], mean_KE, same_cosine)
    return label_WC
