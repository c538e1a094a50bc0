"""Cluster the streams of many windows: how many speakers there are, and which stream belongs to which."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from separative.types import Floats

Labels = NDArray[np.int64]

# Most embeddings that are compared pairwise; the others are matched with the speakers found. Linkage alone,
# for short recordings, is cheap enough for more.
MAX_COMPARED, MAX_LINKED = 400, 1200
# With fewer embeddings, neighbourhoods mean little, and average linkage alone counts the speakers.
FEW = 20
# Mean cosine between two clusters above which they are merged, with many embeddings and with few.
MANY_SAME_COSINE, FEW_SAME_COSINE = 0.25, 0.3
# Cosine to a speaker above which a cluster is part of that speaker. It is higher, as it compares means.
KNOWN_COSINE = 0.7
# Speech of a cluster that makes it a speaker, in full windows; with less it is an outlier.
MIN_WINDOWS = 3.0
# The same for short recordings, in seconds summed over the windows of one phase. A stream there needs less
# speech to be used.
SHORT_MIN_SECONDS, SHORT_STREAM_SECONDS = 2.0, 0.5
# Numbers of neighbours to try, as shares of all embeddings, and the least number.
NEIGHBOUR_SHARES = np.linspace(0.05, 0.35, 10)
MIN_NEIGHBOURS = 6
# Most speakers that can be found in a recording if their number is not given.
MAX_SPEAKERS = 20
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

    Speakers are first found among streams that are active alone, if there are enough of them. Then streams
    are matched with speakers, window by window and one to one, and the speakers' mean embeddings are updated,
    until nothing changes. Two streams of one window are two speakers unless their embeddings are nearly
    equal.

    Args:
        embedding: embedding of each stream in each window [W, C, E], unit norm.
        speech_seconds: seconds of speech in each [W, C]. Streams with less than ``min_seconds`` are not used
            to find speakers.
        alone_seconds: seconds in which no other stream of the window is active [W, C].
        same_cosine: cosine above which two streams of a window belong to one speaker.
        speakers: number of speakers; estimated if None.
        attended: attended embeddings [W, C, E], used to match the streams once more with the speakers found.
        phases: how often the recording is in the windows, see ``PHASES`` of :mod:`diarize`. With several, the
            recording is short, and average linkage alone finds the speakers: neighbourhoods, as spectral
            clustering uses them, would consist of the same piece of audio at other positions.

    Returns:
        the speaker of each stream [W, C], -1 for a silent stream; and the speakers' mean embeddings [K, E].

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
    usable_WC = seconds_WC >= min(min_seconds, float(seconds_WC.max()) if seconds_WC.size else 0.0)
    usable_WC &= seconds_WC > 0
    if not usable_WC.any():
        return np.full(seconds_WC.shape, -1), np.zeros((0, embed_WCE.shape[2]), np.float32)
    clear_WC = alone_WC >= min_seconds
    enough_clear = FEW if phases == 1 else 3 * phases
    chosen_WC, weight_WC = (clear_WC, alone_WC) if clear_WC.sum() >= enough_clear else (usable_WC, seconds_WC)
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
    """Alternate assignment and updates of the means until stable; drop speakers without streams."""
    label_WC = np.full(seconds_WC.shape, -1)
    for _ in range(MAX_ROUNDS):
        before = label_WC
        label_WC = _match_windows(embed_WCE, usable_WC, mean_KE, same_cosine)
        label_WC[usable_WC] = np.unique(label_WC[usable_WC], return_inverse=True)[1]
        mean_KE = _means(embed_WCE[usable_WC], seconds_WC[usable_WC], label_WC[usable_WC])
        if np.array_equal(label_WC, before):
            break
    return label_WC, mean_KE


def _find_speakers(unit_UE: Floats, weight_U: Floats, speakers: int | None) -> Floats:
    """Mean embeddings [K,E] of the speakers among U embeddings with ``weight_U`` seconds of speech.

    Few embeddings are clustered by average linkage. Many are clustered spectrally, with the number of
    speakers from the eigenvalues; this tolerates that the embeddings of one speaker vary. A speaker with too
    little speech for a spectral cluster is added if linkage finds a cluster that is unlike all others.
    """
    from scipy.cluster.hierarchy import linkage

    some = np.linspace(0, len(unit_UE) - 1, min(MAX_COMPARED, len(unit_UE))).astype(int)
    unit_UE, weight_U = unit_UE[some], weight_U[some]
    if len(unit_UE) == 1:
        return unit_UE
    tree = linkage(unit_UE, "average", metric="cosine")
    if len(unit_UE) < FEW:
        limit, criterion = (1 - FEW_SAME_COSINE, "distance") if speakers is None else (speakers, "maxclust")
        return _means(unit_UE, weight_U, _flat_clusters(tree, limit, criterion))
    spectral, enough = SpectralClusters(unit_UE), MIN_WINDOWS * float(weight_U.max())
    if speakers is not None:
        # Spectral clustering may split a speaker with much speech before it finds one with little; linkage
        # may take one odd window for a speaker. The result with the most different speakers is right more
        # often.
        ways = [spectral.labels(speakers), _cut_tree(tree, weight_U, speakers, enough)]
        found = [_means(unit_UE, weight_U, label_U) for label_U in ways]
        return min(found, key=lambda mean_KE: (-len(mean_KE), _largest_cosine(mean_KE)))
    mean_KE = _means(unit_UE, weight_U, spectral.labels(spectral.count()))
    cluster_U = _flat_clusters(tree, 1 - MANY_SAME_COSINE, "distance")
    mean_JE, seconds_J = _means(unit_UE, weight_U, cluster_U), np.bincount(cluster_U, weights=weight_U)[1:]
    for j in np.argsort(-seconds_J, kind="stable"):
        if seconds_J[j] >= enough and (mean_KE @ mean_JE[j]).max() < KNOWN_COSINE:
            mean_KE = np.concatenate([mean_KE, mean_JE[j : j + 1]])
    return mean_KE


def _link_speakers(unit_UE: Floats, weight_U: Floats, speakers: int | None) -> Floats:
    """Mean embeddings [K,E] of the speakers of a short recording, by average linkage.

    Clusters with little speech are no speakers, unless all have little.
    """
    from scipy.cluster.hierarchy import linkage

    some = np.linspace(0, len(unit_UE) - 1, min(MAX_LINKED, len(unit_UE))).astype(int)
    unit_UE, weight_U = unit_UE[some], weight_U[some]
    if len(unit_UE) == 1:
        return unit_UE
    tree = linkage(unit_UE, "average", metric="cosine")
    if speakers is not None:
        return _means(unit_UE, weight_U, _cut_tree(tree, weight_U, speakers, SHORT_MIN_SECONDS))
    label_U = _flat_clusters(tree, 1 - FEW_SAME_COSINE, "distance")
    seconds_J = np.bincount(label_U, weights=weight_U)
    enough_J = seconds_J >= min(SHORT_MIN_SECONDS, seconds_J.max())
    return _means(unit_UE, weight_U, np.where(enough_J[label_U], label_U, -1))


def _flat_clusters(tree: NDArray[np.float64], limit: float, criterion: str) -> Labels:
    from scipy.cluster.hierarchy import fcluster

    label_U: Labels = fcluster(tree, limit, criterion).astype(np.int64)
    return label_U


def _cut_tree(tree: NDArray[np.float64], weight_U: Floats, speakers: int, enough: float) -> Labels:
    """Cut the tree into the fewest clusters of which ``speakers`` have ``enough`` speech; others are -1."""
    for count in range(min(speakers, len(weight_U)), len(weight_U) + 1):
        label_U = _flat_clusters(tree, count, "maxclust")
        seconds_J = np.bincount(label_U, weights=weight_U)
        largest = np.argsort(-seconds_J, kind="stable")[:speakers]
        if seconds_J[largest[-1]] >= enough:
            return np.where(np.isin(label_U, largest), label_U, -1)
    # No cut has ``speakers`` clusters with enough speech.
    return _flat_clusters(tree, speakers, "maxclust")


def _means(unit_UE: Floats, weight_U: Floats, label_U: Labels) -> Floats:
    """Mean embedding of each label except -1."""
    members = [label_U == k for k in np.unique(label_U[label_U >= 0])]
    return np.stack([mean_embedding(unit_UE[member_U], weight_U[member_U]) for member_U in members])


def _largest_cosine(mean_KE: Floats) -> float:
    """Largest cosine between two speakers; about -1 for a single one."""
    return float((mean_KE @ mean_KE.T - 2 * np.eye(len(mean_KE))).max())


class SpectralClusters:
    """Spectral clustering of embeddings [U, E] that chooses the number of neighbours and of clusters.

    Graphs join every embedding with its most similar ones. The best graph has few neighbours and a large gap
    between the eigenvalues of its Laplacian: the normalised maximum eigengap (Park, Han, Kumar, Narayanan,
    "Auto-tuning spectral clustering for speaker diarization using normalized maximum eigengap", IEEE SPL
    2020).

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
        self._tried = np.unique(np.clip((NEIGHBOUR_SHARES * size).astype(int), MIN_NEIGHBOURS, size))
        value_PU = np.stack([np.linalg.eigvalsh(self._laplacian(p)) for p in self._tried])
        gap_PK = np.diff(value_PU[:, : MAX_SPEAKERS + 1], axis=1)
        # Neighbours over normalised eigengap, for every number of neighbours and of clusters: lower is
        # better.
        self._ratio_PK = self._tried[:, None] / np.maximum(gap_PK / value_PU[:, -1:], 1e-9)

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
        _, vector_UU = np.linalg.eigh(self._laplacian(int(self._tried[best])))
        point_UK = unit_rows(vector_UU[:, :count])
        centre_KK, _ = kmeans(point_UK, count, iter=10, seed=np.random.default_rng(0))
        label_U: Labels = vq(point_UK, centre_KK)[0].astype(np.int64)
        return label_U

    def _laplacian(self, neighbours: int) -> NDArray[np.float64]:
        joined_UU = np.zeros(self._order_UU.shape)
        np.put_along_axis(joined_UU, self._order_UU[:, :neighbours], 1.0, axis=1)
        joined_UU = (joined_UU + joined_UU.T) / 2
        laplacian_UU: NDArray[np.float64] = np.diag(joined_UU.sum(1)) - joined_UU
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
    """Return the weighted mean of embeddings [U, E] at unit norm [E]; ``weights`` [U].

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
    """Match the C streams of one window with K speakers, one to one, so that the sum of cosines is largest.

    If the embeddings of the active streams are all nearly equal, they may get the same speaker.

    Args:
        embedding: embeddings of the streams [C, E], unit norm.
        active: streams with speech [C]; the others get -1.
        speaker_mean: mean embeddings of the speakers [K, E], unit norm.
        same_cosine: cosine above which a stream belongs to a speaker, or two streams belong together.
        may_be_new: streams that may be new speakers [C]: those unlike all K speakers get K, K + 1, ...

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
    known = len(speaker_mean)
    cos_CK = embedding[present] @ speaker_mean.T
    cos_CC = embedding[present] @ embedding[present].T
    if known:
        label_C[present] = cos_CK.argmax(1)
        # The nearest speaker is the best match, unless different streams have the same one.
        if len(set(label_C[present])) < len(present) <= known and cos_CC.min() <= same_cosine:
            streams, speakers = linear_sum_assignment(-cos_CK)
            label_C[present[streams]] = speakers
    if may_be_new is not None:
        new: list[int] = []
        for i, c in enumerate(present):
            if not may_be_new[c] or (known and cos_CK[i, label_C[c]] > same_cosine):
                continue
            twin = next((j for j in new if cos_CC[i, j] > same_cosine), None)
            label_C[c] = known + len(new) if twin is None else label_C[present[twin]]
            if twin is None:
                new.append(i)
    return label_C


def _match_windows(
    embed_WCE: Floats, active_WC: NDArray[np.bool_], mean_KE: Floats, same_cosine: float
) -> Labels:
    """:func:`match_streams` for every window."""
    label_WC = np.where(active_WC, (embed_WCE @ mean_KE.T).argmax(-1), -1)
    # Only windows in which two streams have the same nearest speaker need the assignment.
    for w in np.flatnonzero([len(set(row[row >= 0])) < (row >= 0).sum() for row in label_WC]):
        label_WC[w] = match_streams(embed_WCE[w], active_WC[w], mean_KE, same_cosine)
    return label_WC
