"""Cluster the streams of many windows: find the number of speakers, and the speaker of each stream.

Too many clusters are made first. Then the two most similar ones are merged, again and again. For each merge
there is a probability that both are one speaker, and from these follows a probability for each number of
speakers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from separative.inference.counting import (
    ANY_NUMBER,
    DEFAULT_RULE,
    MAX_CLUSTERS,
    CountingRule,
    Merging,
    SpeakerLimits,
    eigengap_evidence,
    unit_rows,
)
from separative.types import Floats

Labels = NDArray[np.int64]

# Cosine above which `listen` takes a stream for a known speaker.
FEW_SAME_COSINE = 0.3
# Streams with less speech, in seconds, take no part in the mean embeddings. The weight of a stream is the
# speech in which it is active alone; if that is too short, a share of all its speech.
MIN_STREAM_SECONDS, OVERLAPPED_WEIGHT = 0.5, 0.3
# Streams that must be active alone, so that others do not count: a number, and a multiple of the repeats.
MIN_ALONE_STREAMS, MIN_ALONE_REPEATS = 8, 1.5
# Maximum number of embeddings that are compared pairwise to make the clusters, and of updates of the means.
MAX_COMPARED, MAX_ROUNDS = 1200, 5
# A cluster with less speech than MIN_SECONDS, or than MIN_WINDOWS windows have, is not a speaker of its own.
MIN_SECONDS, MIN_WINDOWS = 1.0, 1.5
# Least seconds of speech of a stream alone, so that the eigengap counts it.
EIGENGAP_SECONDS = 1.0


@dataclass(frozen=True)
class Clustering:
    """The speakers of a recording; the result of :func:`cluster_speakers`.

    Attributes:
        label: speaker of each stream in each window [W, C], 0 to K - 1; -1 for silence and noise.
        mean: mean embedding of each speaker [K, E], unit norm.
        count_probability: probability that there are n speakers, for n = 0, 1, 2, ... to 16.

    Example:
        >>> seconds = np.ones((2, 1))
        >>> cluster_speakers(np.ones((2, 1, 1)), seconds, seconds, same_cosine=0.5).label.tolist()
        [[0], [0]]
    """

    label: Labels
    mean: Floats
    count_probability: Floats


def cluster_speakers(
    embedding: Floats,
    speech_seconds: Floats,
    alone_seconds: Floats,
    *,
    same_cosine: float,
    limits: SpeakerLimits = ANY_NUMBER,
    rule: CountingRule = DEFAULT_RULE,
    attended: Floats | None = None,
    evidence: Floats | None = None,
    phases: int = 1,
    overlap: float = 1.0,
) -> Clustering:
    """Assign the C streams of W windows to speakers.

    Clusters are first made of the streams that are active alone; if there are too few, of all streams. Those
    that are noise are removed, and the others are merged (:class:`Merging`). Then the streams of each window
    are matched with the speakers, see :func:`match_streams`, and the speakers' mean embeddings are updated.
    Both steps are repeated until nothing changes, at most MAX_ROUNDS times.

    Args:
        embedding: embedding of each stream in each window [W, C, E], unit norm.
        speech_seconds: seconds of speech of each stream in each window [W, C].
        alone_seconds: seconds in which the stream is active and no other stream of the window is [W, C].
        same_cosine: cosine above which two streams of a window may belong to the same speaker.
        limits: what is known of the number of speakers.
        rule: how the number is estimated.
        attended: attended embeddings [W, C, E]. If given, these are used to match the streams again with the
            speakers found.
        evidence: evidence for speech in each stream [W, C]. A cluster in which the sum is not positive is
            noise. None if everything is speech.
        phases: number of times that the model was run over the recording; W counts the windows of all.
        overlap: number of windows of one phase that contain the same speech.

    Example:
        >>> a, b = np.eye(2)
        >>> seconds = np.full((3, 2), 2.0)
        >>> embedding = np.array([[a, b], [b, a], [a, b]])
        >>> found = cluster_speakers(embedding, seconds, seconds, same_cosine=0.5)
        >>> (found.label == found.label[0]).tolist(), found.mean.shape, found.count_probability.argmax()
        ([[True, True], [False, False], [True, True]], (2, 2), np.int64(2))
    """
    first = first_clusters(
        embedding,
        speech_seconds,
        alone_seconds,
        same_cosine=same_cosine,
        evidence=evidence,
        phases=phases,
        overlap=overlap,
    )
    if first.label.max(initial=-1) < 0:
        no_mean = np.zeros((0, embedding.shape[2]), np.float32)
        return Clustering(first.label, no_mean, np.ones(1))
    embed_WCE, weight_WC, usable_WC = embedding, first.weight, first.label >= 0
    merging = first.merging(embedding, rule)
    mean_KE = merging.means(limits)
    label_WC, mean_KE = _refine(embed_WCE, weight_WC, usable_WC, mean_KE, same_cosine)
    if attended is not None:
        embed_WCE = attended
        mean_KE = _means(embed_WCE[usable_WC], weight_WC[usable_WC], label_WC[usable_WC])
        label_WC, mean_KE = _refine(embed_WCE, weight_WC, usable_WC, mean_KE, same_cosine)
    # Streams with little speech take no part in the means, but still get the nearest speaker.
    nearest_WC = _match_windows(embed_WCE, (speech_seconds > 0) & ~first.noise, mean_KE, same_cosine)
    return Clustering(np.where(label_WC < 0, nearest_WC, label_WC), mean_KE, merging.count_probability)


@dataclass(frozen=True)
class FirstClusters:
    """Clusters before they are merged; too many, without those of noise. W windows with C streams.

    Attributes:
        label: cluster of each stream [W, C]; -1 for streams with little speech and for noise.
        noise: streams of noise [W, C].
        weight: weight of each stream in the mean of a speaker [W, C].
        counted: seconds of speech of each stream that count [W, C].
        compared: streams that the eigengap compares [W, C].
        seconds: seconds of speech of each stream [W, C]. Like ``counted``, speech that is in several windows
            counts once.
        least: seconds of ``counted`` that a speaker needs.

    Example:
        >>> seconds = np.ones((2, 1))
        >>> first_clusters(np.ones((2, 1, 1)), seconds, seconds, same_cosine=0.5).counted.tolist()
        [[1.0], [1.0]]
    """

    label: Labels
    noise: NDArray[np.bool_]
    weight: Floats
    counted: Floats
    compared: NDArray[np.bool_]
    seconds: Floats
    least: float

    def merging(self, embedding: Floats, rule: CountingRule) -> Merging:
        """Merge the clusters of these embeddings [W, C, E]."""
        eigengap = eigengap_evidence(embedding[self.compared])
        return Merging(embedding, self.label, self.counted, self.seconds, self.least, eigengap, rule)


def first_clusters(
    embedding: Floats,
    speech_seconds: Floats,
    alone_seconds: Floats,
    *,
    same_cosine: float,
    evidence: Floats | None = None,
    phases: int = 1,
    overlap: float = 1.0,
) -> FirstClusters:
    """Make clusters of the streams that are active alone; of all streams if those are too few.

    Arguments are as for :func:`cluster_speakers`.

    Example:
        >>> seconds = np.full((2, 2), 2.0)
        >>> embedding = np.tile(np.eye(2), (2, 1, 1))
        >>> first_clusters(embedding, seconds, seconds, same_cosine=0.5).label.tolist()
        [[0, 1], [0, 1]]
    """
    embed_WCE, seconds_WC, repeats = embedding, speech_seconds, phases * overlap
    usable_WC = seconds_WC >= min(MIN_STREAM_SECONDS, float(seconds_WC.max(initial=0.0)))
    usable_WC &= seconds_WC > 0
    if evidence is None:
        evidence = np.ones(seconds_WC.shape)
    is_alone_WC = alone_seconds >= MIN_STREAM_SECONDS
    weight_WC = np.where(is_alone_WC, alone_seconds, OVERLAPPED_WEIGHT * speech_seconds)
    # Speakers are found among the streams that are active alone, if there are enough.
    counted_WC = weight_WC
    if is_alone_WC.sum() >= max(MIN_ALONE_STREAMS, MIN_ALONE_REPEATS * repeats):
        counted_WC = np.where(is_alone_WC, alone_seconds, 0)
    label_WC = np.full(seconds_WC.shape, -1)
    if usable_WC.any():
        start_WC = usable_WC & (counted_WC > 0)
        mean_KE = _start(embed_WCE[start_WC], counted_WC[start_WC], repeats)
        label_WC, _ = _refine(embed_WCE, weight_WC, usable_WC, mean_KE, same_cosine)
        label_WC = _drop_clusters(label_WC, evidence)
    # Windows of other phases contain the same speech: they would all be neighbours.
    compared_WC = (label_WC >= 0) & (counted_WC >= EIGENGAP_SECONDS)
    compared_WC[len(compared_WC) // phases :] = False
    return FirstClusters(
        label_WC,
        usable_WC & (label_WC < 0),
        weight_WC,
        counted_WC / repeats,
        compared_WC,
        seconds_WC / repeats,
        max(MIN_SECONDS, MIN_WINDOWS * float(counted_WC.max(initial=0.0)) / repeats),
    )


def _start(embed_UE: Floats, weight_U: Floats, repeats: float) -> Floats:
    """Mean embeddings [K,E] of clusters, by Ward's linkage of embeddings without the recording's mean."""
    from scipy.cluster.hierarchy import fcluster, linkage

    # No more clusters than seconds.
    count = int(np.clip(weight_U.sum() / repeats, 1, min(MAX_CLUSTERS, len(embed_UE))))
    selected = np.linspace(0, len(embed_UE) - 1, min(MAX_COMPARED, len(embed_UE))).astype(int)
    embed_UE, weight_U = embed_UE[selected], weight_U[selected]
    if count == 1:
        return _means(embed_UE, weight_U, np.zeros(len(embed_UE), np.int64))
    # Half of the mean is subtracted: speakers of one recording share its acoustics.
    centre_E = (embed_UE * weight_U[:, None]).sum(0) / weight_U.sum()
    tree = linkage(unit_rows(embed_UE - centre_E / 2), "ward")
    return _means(embed_UE, weight_U, fcluster(tree, count, "maxclust").astype(np.int64))


def _refine(
    embed_WCE: Floats, weight_WC: Floats, usable_WC: NDArray[np.bool_], mean_KE: Floats, same_cosine: float
) -> tuple[Labels, Floats]:
    """Alternate between assigning streams and updating means until stable; drop speakers without streams."""
    label_WC = np.full(weight_WC.shape, -1)
    for _ in range(MAX_ROUNDS):
        previous_WC = label_WC
        label_WC = _match_windows(embed_WCE, usable_WC, mean_KE, same_cosine)
        # Number the speakers that have streams from 0.
        label_WC[usable_WC] = np.unique(label_WC[usable_WC], return_inverse=True)[1]
        mean_KE = _means(embed_WCE[usable_WC], weight_WC[usable_WC], label_WC[usable_WC])
        if np.array_equal(label_WC, previous_WC):
            break
    return label_WC, mean_KE


def _drop_clusters(label_WC: Labels, evidence_WC: Floats) -> Labels:
    """Set the labels of clusters without evidence for speech to -1, and number the others from 0."""
    found_WC = label_WC >= 0
    speech_K = np.bincount(label_WC[found_WC], evidence_WC[found_WC]) > 0
    return keep_speakers(label_WC, speech_K)


def keep_speakers(labels: Labels, kept: NDArray[np.bool_]) -> Labels:
    """Set the labels of the speakers that are not kept [K] to -1, and number the others from 0.

    Example:
        >>> keep_speakers(np.array([0, 1, 2, -1]), np.array([True, False, True]))
        array([ 0, -1,  1, -1])
    """
    return np.array([*np.where(kept, kept.cumsum() - 1, -1), -1], np.int64)[labels]


def _means(embed_UE: Floats, weight_U: Floats, label_U: Labels) -> Floats:
    """Mean embedding [K,E] of each label except -1, weighted."""
    members = [label_U == k for k in np.unique(label_U[label_U >= 0])]
    return np.stack([mean_embedding(embed_UE[member_U], weight_U[member_U]) for member_U in members])


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
