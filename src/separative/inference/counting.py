"""Find the number of speakers: merge clusters of embeddings, with a probability for each number.

Two kinds of evidence are added. Each merge has log-odds that both clusters are one speaker; these work with
few embeddings. The eigengap of spectral clustering says how many groups the embeddings form; it needs many,
and its weight grows with their number.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from separative.types import Floats

Labels = NDArray[np.int64]

# The next constants were fitted on simulated conversations (docs/experiments.md).
# Log-odds that two clusters are one speaker: weights of their cosine, of their cosine relative to the cosine
# within each of them, of the logarithm of the shorter one's seconds, and of the share of time in which both
# are active in the same window; and the constant.
SAME_WEIGHTS, SAME_CONSTANT = np.array([3.25, 7.43, -0.86, -2.01]), -5.89
# Each merge is the most likely one of many, so its log-odds are scaled and shifted. The shift was raised from
# the fitted -0.11, with which leading silence changed the number in real recordings (docs/experiments.md).
MERGE_SCALE, MERGE_SHIFT = 0.41, 0.15
# Weight of the logarithm of the eigengap criterion, per factor e in the number of embeddings.
EIGENGAP_WEIGHT = 0.52
# More seconds than this do not change the log-odds.
ENOUGH_SECONDS = 15.0
# Numbers of embeddings that are compared: at least and at most. With fewer, the eigengap is not used.
MIN_SPECTRAL, MAX_SPECTRAL = 20, 400
# Numbers of neighbours to try, as shares of all embeddings, and their minimum; largest number of clusters.
NEIGHBOUR_SHARES = np.linspace(0.05, 0.35, 10)
MIN_NEIGHBOURS = 6
MAX_CLUSTERS = 16


class Merging:
    """Merges the two most similar of K clusters, again and again, until one is left.

    The last merge that joins different speakers is unknown. With the probability of each merge that both
    clusters are one speaker, there is a probability for each number of clusters at which to stop. Clusters
    with little speech are not counted. With the evidence of ``eigengap``, this gives the probability of each
    number of speakers. A given number is a limit.

    Args:
        embed_WCE: embeddings of all streams.
        label_WC: their clusters, or -1.
        alone_WC: seconds that count, in which the stream is active alone; also the weights.
        seconds_WC: all seconds in which it is active. Both count speech that is in two windows once.
        least: minimum of ``alone_WC`` of a speaker.
        eigengap: log-odds of each number of clusters, from :func:`eigengap_evidence`.

    Example:
        >>> embedding, label = np.eye(2)[[[0], [0], [1]]], np.array([[0], [1], [2]])
        >>> seconds = np.full((3, 1), 5.0)
        >>> merging = Merging(embedding, label, seconds, seconds, least=1.0)
        >>> merging.count_probability.argmax(), merging.means(2).tolist()
        (np.int64(2), [[1.0, 0.0], [0.0, 1.0]])
    """

    def __init__(
        self,
        embed_WCE: Floats,
        label_WC: Labels,
        alone_WC: Floats,
        seconds_WC: Floats,
        least: float,
        eigengap: Floats | None = None,
    ) -> None:
        count = int(label_WC.max()) + 1
        self.score: list[float] = []
        # Sum of embeddings and seconds of each cluster, once per number of clusters.
        sum_KE = np.stack([(embed_WCE * alone_WC[..., None])[label_WC == k].sum(0) for k in range(count)])
        seconds_K = np.bincount(label_WC[label_WC >= 0], alone_WC[label_WC >= 0]).astype(np.float64)
        together_KK = _seconds_together(label_WC, seconds_WC, count)
        self._cuts = [(sum_KE, seconds_K)]
        while len(seconds_K) > 1:
            score_KK = _same_log_odds(sum_KE, seconds_K, together_KK)
            i, j = divmod(int(score_KK.argmax()), len(seconds_K))
            self.score.append(float(score_KK[i, j]))
            # Row k of the matrix says which of the clusters become the new cluster k.
            join_JK: Floats = np.delete(np.eye(len(seconds_K)), j, 0)
            join_JK[i, j] = 1
            sum_KE, seconds_K = join_JK @ sum_KE, join_JK @ seconds_K
            together_KK = join_JK @ together_KK @ join_JK.T
            self._cuts.append((sum_KE, seconds_K))
        self._cuts.reverse()
        self._least = least
        # How many of the clusters are speakers.
        self._speakers = np.array([max(1, int((s_K >= least).sum())) for _, s_K in self._cuts])
        log_K = _cut_log_probabilities(MERGE_SCALE * np.array(self.score[::-1]) + MERGE_SHIFT)
        if eigengap is not None:
            log_K = log_K + eigengap[self._speakers]
        self._cut_probability = np.exp(log_K - np.logaddexp.reduce(log_K))

    @property
    def count_probability(self) -> Floats:
        """Probability that there are n speakers [MAX_CLUSTERS + 1], for n = 0, 1, 2, ..."""
        return np.bincount(self._speakers, self._cut_probability, MAX_CLUSTERS + 1).astype(np.float64)

    def means(self, speakers: int | None = None) -> Floats:
        """Mean embedding of each speaker [K, E], of the most probable number.

        If ``speakers`` is given, the most probable number up to that. Speakers of meetings that are split
        to reach the number have more errors (docs/experiments.md).
        """
        count_probability = self.count_probability
        if speakers is not None:
            count_probability[speakers + 1 :] = 0
        chosen = self._speakers == count_probability.argmax()
        sum_KE, seconds_K = self._cuts[int(np.where(chosen, self._cut_probability, -1).argmax())]
        mean_KE: Floats = unit_rows(sum_KE[seconds_K >= min(self._least, seconds_K.max())])
        return mean_KE.astype(np.float32)


def _cut_log_probabilities(score: Floats) -> Floats:
    """Log-probability [K] of stopping at 1, 2, ..., K clusters; ``score`` [K-1]: of merging to 1, 2, ..."""
    same, different = np.logaddexp(0, -score), np.logaddexp(0, score)
    # All merges to fewer clusters than at the stop join different speakers, all others the same speaker.
    log_K: Floats = -np.r_[0.0, different.cumsum()] - np.r_[same[::-1].cumsum()[::-1], 0.0]
    return log_K


def _seconds_together(label_WC: Labels, seconds_WC: Floats, count: int) -> Floats:
    """Seconds [K,K] in which two clusters are active in the same window: at most those of the shorter one."""
    together_KK = np.zeros((count, count))
    for c in range(1, label_WC.shape[1]):
        for other in range(c):
            one_W, two_W = label_WC[:, c], label_WC[:, other]
            both_W = (one_W >= 0) & (two_W >= 0) & (one_W != two_W)
            least_W = np.minimum(seconds_WC[:, c], seconds_WC[:, other])[both_W]
            np.add.at(together_KK, (one_W[both_W], two_W[both_W]), least_W)
    return together_KK + together_KK.T


def _same_log_odds(sum_KE: Floats, seconds_K: Floats, together_KK: Floats) -> Floats:
    """Log-odds [K,K] that two clusters are one speaker; -inf on the diagonal.

    The mean cosine between two clusters is compared with the mean cosine within them. The latter comes from
    the length of the mean embedding, without each second's cosine with itself.
    """
    length_K = np.linalg.norm(sum_KE, axis=1) / np.maximum(seconds_K, 1e-9)
    cos_KK = unit_rows(sum_KE) @ unit_rows(sum_KE).T
    independent_K = np.maximum(seconds_K, 0.5) + 0.5
    within_K = (length_K**2 * independent_K - 1) / np.maximum(independent_K - 1, 0.5)
    within_K = np.where(independent_K > 1.5, np.maximum(within_K, 0.05), 0.6 * length_K**2)
    pair_KK = seconds_K[:, None] + seconds_K + 1e-9
    within_KK = (within_K * seconds_K + (within_K * seconds_K)[:, None]) / pair_KK
    ratio_KK = length_K * length_K[:, None] * cos_KK / np.maximum(within_KK, 0.1)
    shorter_KK = np.minimum(seconds_K, seconds_K[:, None])
    feature_KKF = np.stack(
        [
            cos_KK,
            ratio_KK,
            np.log(np.minimum(shorter_KK, ENOUGH_SECONDS) + 0.25),
            np.minimum(together_KK, 5.0) / (shorter_KK + 1.0),
        ],
        -1,
    )
    score_KK: Floats = feature_KKF @ SAME_WEIGHTS + SAME_CONSTANT
    np.fill_diagonal(score_KK, -np.inf)
    return score_KK


def eigengap_evidence(embedding: Floats) -> Floats:
    """Log-odds [MAX_CLUSTERS + 1] of the number of clusters of embeddings [U, E], for 0, 1, 2, ...

    One graph is made for each number of neighbours to try; it connects every embedding with its most similar
    ones. The chosen graph has few neighbours and a large gap between successive eigenvalues of its Laplacian.
    This is the criterion "normalised maximum eigengap" (Park, Han, Kumar, Narayanan, "Auto-tuning spectral
    clustering for speaker diarization using normalized maximum eigengap", IEEE SPL 2020). Its logarithm has a
    weight that grows with U, from 0 at MIN_SPECTRAL embeddings.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> speakers = np.repeat(np.eye(3, 16), 20, axis=0) + 0.05 * rng.standard_normal((60, 16))
        >>> eigengap_evidence(unit_rows(speakers)).argmax()
        np.int64(3)
    """
    if len(embedding) <= MIN_SPECTRAL:
        return np.zeros(MAX_CLUSTERS + 1)
    size = min(MAX_SPECTRAL, len(embedding))
    embed_UE = embedding[np.linspace(0, len(embedding) - 1, size).astype(int)].astype(np.float64)
    order_UU = np.argsort(-(embed_UE @ embed_UE.T), axis=1)
    neighbours_P = np.unique(np.clip((NEIGHBOUR_SHARES * size).astype(int), MIN_NEIGHBOURS, size))
    value_PU = np.stack([np.linalg.eigvalsh(_laplacian(order_UU[:, :p])) for p in neighbours_P])
    gap_PK = np.diff(value_PU[:, : MAX_CLUSTERS + 1], axis=1) / value_PU[:, -1:]
    # Normalised eigengap divided by the number of neighbours, for each of P numbers of neighbours and K
    # numbers of clusters. The graph with the highest is used.
    log_PK = np.log(np.maximum(gap_PK, 1e-9) / neighbours_P[:, None])
    log_K = log_PK[log_PK.max(1).argmax()]
    weight = EIGENGAP_WEIGHT * np.log(size / MIN_SPECTRAL)
    evidence: Floats = weight * (np.r_[log_K.min(), log_K] - log_K.max())
    return evidence


def _laplacian(neighbour_UP: NDArray[np.int64]) -> NDArray[np.float64]:
    """Laplacian [U,U] of the graph that connects each embedding with these neighbours."""
    weight_UU = np.zeros((len(neighbour_UP), len(neighbour_UP)))
    np.put_along_axis(weight_UU, neighbour_UP, 1.0, axis=1)
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
