"""How many speakers there are, and which stream of which window is whose."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from separative.types import Floats

Labels = NDArray[np.int64]

# Embeddings that are compared pairwise at most; the others go to the nearest speaker.
MOST = 400
# Fewer embeddings than this have no neighbourhoods: clusters alone say how many speakers there are.
FEW = 20
# Mean cosine above which two clusters of many or of few embeddings are one speaker's; of means, it is higher.
ALIKE, ALIKE_IF_FEW, KNOWN = 0.25, 0.3, 0.7
# Full windows that make a speaker of a cluster; fewer are an outlier of somebody's.
LEAST_WINDOWS = 3.0
# Neighbours of every embedding that are tried: shares of all embeddings, but not fewer than these.
NEIGHBOURS = np.linspace(0.05, 0.35, 10)
FEWEST_NEIGHBOURS = 6
# Speakers that a recording can be found to have.
MOST_SPEAKERS = 20
ROUNDS = 5


def cluster_speakers(
    embed_WCE: Floats,
    seconds_WC: Floats,
    alone_WC: Floats,
    *,
    same: float,
    speakers: int | None = None,
    least_seconds: float = 1.0,
    attended_WCE: Floats | None = None,
) -> tuple[Labels, Floats]:
    """Whose each stream is [W,C] (−1: nobody's), and mean embeddings [K,E] of the speakers.

    Speakers are first found among streams that speak while no other does, if there are enough of them. Then
    streams and speakers are matched, window by window and one to one, and means taken anew, a few times: two
    streams of a window are two speakers, unless they sound the same.

    Args:
        embed_WCE: unit norm, of each stream of each window.
        seconds_WC: of speech in each; below ``least_seconds`` a stream has no say in who is there.
        alone_WC: seconds of it while no other stream of the window speaks.
        same: cosine above which two streams of a window sound the same.
        speakers: how many there are, if known.
        attended_WCE: other embeddings of the streams, for matching them once more with the speakers then found.
    """
    voiced_WC = seconds_WC >= min(least_seconds, float(seconds_WC.max()) if seconds_WC.size else 0.0)
    voiced_WC &= seconds_WC > 0
    if not voiced_WC.any():
        return np.full(seconds_WC.shape, -1), np.zeros((0, embed_WCE.shape[2]), np.float32)
    clear_WC = alone_WC >= least_seconds
    judged_WC, weight_WC = (clear_WC, alone_WC) if clear_WC.sum() >= FEW else (voiced_WC, seconds_WC)
    centre_KE = _centres(embed_WCE[judged_WC], weight_WC[judged_WC], speakers)
    label_WC, centre_KE = _settle(embed_WCE, seconds_WC, voiced_WC, centre_KE, same)
    if attended_WCE is not None:
        embed_WCE = attended_WCE
        centre_KE = _means(embed_WCE[voiced_WC], seconds_WC[voiced_WC], label_WC[voiced_WC])
        label_WC, centre_KE = _settle(embed_WCE, seconds_WC, voiced_WC, centre_KE, same)
    # Streams with too little speech to judge a speaker by still belong to whoever they are nearest to.
    nearest_WC = _match(embed_WCE, seconds_WC > 0, centre_KE, same)
    return np.where(label_WC < 0, nearest_WC, label_WC), centre_KE


def _settle(
    embed_WCE: Floats, seconds_WC: Floats, voiced_WC: NDArray[np.bool_], centre_KE: Floats, same: float
) -> tuple[Labels, Floats]:
    """Streams are matched with speakers and means taken anew, until nothing changes; who has none is gone."""
    label_WC = np.full(seconds_WC.shape, -1)
    for _ in range(ROUNDS):
        before = label_WC
        label_WC = _match(embed_WCE, voiced_WC, centre_KE, same)
        label_WC[voiced_WC] = np.unique(label_WC[voiced_WC], return_inverse=True)[1]
        centre_KE = _means(embed_WCE[voiced_WC], seconds_WC[voiced_WC], label_WC[voiced_WC])
        if np.array_equal(label_WC, before):
            break
    return label_WC, centre_KE


def _centres(unit_UE: Floats, weight_U: Floats, speakers: int | None) -> Floats:
    """Mean embeddings of the speakers among embeddings [U,E] with so much speech [U].

    Few embeddings are clustered by average linkage. More are cut up where their neighbourhoods hang together
    least, and the eigenvalues of the graph say into how many parts: one speaker's utterances differ, but not
    as islands do. Who says too little to be an island is a cluster like none of them.
    """
    from scipy.cluster.hierarchy import linkage

    some = np.linspace(0, len(unit_UE) - 1, min(MOST, len(unit_UE))).astype(int)
    unit_UE, weight_U = unit_UE[some], weight_U[some]
    if len(unit_UE) == 1:
        return unit_UE
    tree = linkage(unit_UE, "average", metric="cosine")
    if len(unit_UE) < FEW:
        far, by = (1 - ALIKE_IF_FEW, "distance") if speakers is None else (speakers, "maxclust")
        return _means(unit_UE, weight_U, _clusters(tree, far, by))
    graph, enough = Neighbourhoods(unit_UE), LEAST_WINDOWS * float(weight_U.max())
    if speakers is not None:
        # Islands divide the talkative before they show who says little; linkage may take an utterance for a
        # speaker. Where speakers are least alike, nobody is divided.
        ways = [graph.parts(speakers), _cut(tree, weight_U, speakers, enough)]
        found = [_means(unit_UE, weight_U, label_U) for label_U in ways]
        return min(found, key=lambda centre_KE: (-len(centre_KE), _likeness(centre_KE)))
    centre_KE = _means(unit_UE, weight_U, graph.parts(graph.count()))
    cluster_U = _clusters(tree, 1 - ALIKE, "distance")
    mean_JE, spoken_J = _means(unit_UE, weight_U, cluster_U), np.bincount(cluster_U, weights=weight_U)[1:]
    for j in np.argsort(-spoken_J, kind="stable"):
        if spoken_J[j] >= enough and (centre_KE @ mean_JE[j]).max() < KNOWN:
            centre_KE = np.concatenate([centre_KE, mean_JE[j : j + 1]])
    return centre_KE


def _clusters(tree: NDArray[np.float64], far: float, by: str) -> Labels:
    from scipy.cluster.hierarchy import fcluster

    label_U: Labels = fcluster(tree, far, by).astype(np.int64)
    return label_U


def _cut(tree: NDArray[np.float64], weight_U: Floats, speakers: int, enough: float) -> Labels:
    """Clusters of so many speakers, and −1 for outliers: cut ever lower until so many have enough speech."""
    for count in range(min(speakers, len(weight_U)), len(weight_U) + 1):
        label_U = _clusters(tree, count, "maxclust")
        spoken_J = np.bincount(label_U, weights=weight_U)
        large = np.argsort(-spoken_J, kind="stable")[:speakers]
        if spoken_J[large[-1]] >= enough:
            return np.where(np.isin(label_U, large), label_U, -1)
    # There never are so many.
    return _clusters(tree, speakers, "maxclust")


def _means(unit_UE: Floats, weight_U: Floats, label_U: Labels) -> Floats:
    """Mean embeddings of those of each label but −1."""
    mine = [label_U == k for k in np.unique(label_U[label_U >= 0])]
    return np.stack([mean_embedding(unit_UE[mine_U], weight_U[mine_U]) for mine_U in mine])


def _likeness(centre_KE: Floats) -> float:
    """The largest cosine between two speakers; of fewer speakers than two, the least there is."""
    return float((centre_KE @ centre_KE.T - 2 * np.eye(len(centre_KE))).max())


class Neighbourhoods:
    """Graphs that join every embedding to those it is most like; to how many, the spectrum decides.

    Spectral clustering by the normalised maximum eigengap: the best graph has few neighbours and a large gap
    between eigenvalues of its Laplacian (Park, Han, Kumar, Narayanan, "Auto-tuning spectral clustering for
    speaker diarization using normalized maximum eigengap", IEEE SPL 2020).
    """

    def __init__(self, unit_UE: Floats) -> None:
        size = len(unit_UE)
        self._order_UU = np.argsort(-(unit_UE @ unit_UE.T), axis=1)
        self._tried = np.unique(np.clip((NEIGHBOURS * size).astype(int), FEWEST_NEIGHBOURS, size))
        value_PU = np.stack([np.linalg.eigvalsh(self._laplacian(p)) for p in self._tried])
        gap_PK = np.diff(value_PU[:, : MOST_SPEAKERS + 1], axis=1)
        # Of each number of neighbours and of speakers: how little speaks for it.
        self._against_PK = self._tried[:, None] / np.maximum(gap_PK / value_PU[:, -1:], 1e-9)

    def count(self) -> int:
        """How many speakers there are."""
        best = int(self._against_PK.min(1).argmin())
        return int(self._against_PK[best].argmin()) + 1

    def parts(self, count: int) -> Labels:
        """Which of so many parts, or fewer, each embedding is in [U]."""
        from scipy.cluster.vq import kmeans, vq

        if count == 1:
            return np.zeros(len(self._order_UU), np.int64)
        count = min(count, len(self._order_UU))
        best = self._against_PK[:, min(count, self._against_PK.shape[1]) - 1].argmin()
        _, vector_UU = np.linalg.eigh(self._laplacian(int(self._tried[best])))
        place_UK = unit_rows(vector_UU[:, :count])
        code_KK, _ = kmeans(place_UK, count, iter=10, seed=np.random.default_rng(0))
        label_U: Labels = vq(place_UK, code_KK)[0].astype(np.int64)
        return label_U

    def _laplacian(self, neighbours: int) -> NDArray[np.float64]:
        joined_UU = np.zeros(self._order_UU.shape)
        np.put_along_axis(joined_UU, self._order_UU[:, :neighbours], 1.0, axis=1)
        joined_UU = (joined_UU + joined_UU.T) / 2
        laplacian_UU: NDArray[np.float64] = np.diag(joined_UU.sum(1)) - joined_UU
        return laplacian_UU


def unit_rows(rows: NDArray[Any]) -> NDArray[Any]:
    """Rows [...,E] at unit norm; those of zeros stay so."""
    found: NDArray[Any] = rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), 1e-9)
    return found


def mean_embedding(unit_UE: Floats, weight_U: Floats) -> Floats:
    """The direction of a weighted sum of embeddings, at unit norm."""
    return unit_rows((unit_UE * weight_U[:, None]).sum(0)).astype(np.float32)


def match_streams(
    embed_CE: Floats,
    voiced_C: NDArray[np.bool_],
    centre_KE: Floats,
    same: float,
    new_C: NDArray[np.bool_] | None = None,
) -> Labels:
    """Streams of one window to speakers, one to one as agrees best; streams that sound the same to one [C].

    −1 for streams that are not ``voiced_C``. Those of ``new_C`` that are like nobody are speakers K, K + 1 ...
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
        # Only if they want the same speaker, and do not sound the same, is there something to decide.
        if len(set(label_C[there])) < len(there) <= known and alike_CC.min() <= same:
            streams, speakers = linear_sum_assignment(-cos_CK)
            label_C[there[streams]] = speakers
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
    # Elsewhere every stream has the speaker it is nearest to.
    for w in np.flatnonzero([len(set(row[row >= 0])) < (row >= 0).sum() for row in label_WC]):
        label_WC[w] = match_streams(embed_WCE[w], voiced_WC[w], centre_KE, same)
    return label_WC
