"""Find the number of speakers: merge clusters of embeddings, with a probability for each number.

Two kinds of evidence are added. Each merge has log-odds that both clusters are one speaker; these work with
few embeddings. The eigengap of spectral clustering says how many groups the embeddings form; it needs many,
and its weight grows with their number.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from separative.errors import ModelError, SeparativeError, validation_message
from separative.types import Floats

if TYPE_CHECKING:
    from separative.model import SeparativeEncoder

Labels = NDArray[np.int64]

# More seconds than this do not change the log-odds that two clusters are one speaker.
ENOUGH_SECONDS = 15.0
# Numbers of embeddings that are compared: at least and at most. With fewer, the eigengap is not used.
MIN_SPECTRAL, MAX_SPECTRAL = 20, 400
# Numbers of neighbours to try, as shares of all embeddings, and their minimum; largest number of clusters.
NEIGHBOUR_SHARES = np.linspace(0.05, 0.35, 10)
MIN_NEIGHBOURS = 6
MAX_CLUSTERS = 16


class CountingRule(BaseModel):
    """How evidence becomes a number of speakers.

    The constants depend on the embeddings of a model, so a card may have its own, under ``counting``. The
    defaults belong to the shipped model ``base``; ``benchmarks/fit_counting.py`` fits them on simulated
    conversations.

    Attributes:
        same_weights: log-odds that two clusters are one speaker: weights of their cosine, of their cosine
            relative to the cosine within each of them, of the logarithm of the shorter one's seconds, and of
            the share of time in which both are active in the same window.
        same_constant: constant of these log-odds.
        merge_scale: scale of these log-odds at each merge, which is the most likely one of many.
        prior_odds: prior odds of one more speaker.
        eigengap_weight: weight of the logarithm of the eigengap criterion, per factor e in the number of
            embeddings.

    Example:
        >>> CountingRule(prior_odds=0.5).prior_odds
        0.5
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    same_weights: tuple[float, float, float, float] = (3.25, 7.43, -0.86, -2.01)
    same_constant: float = -5.89
    merge_scale: float = Field(default=0.41, gt=0, le=100)
    prior_odds: float = Field(default=0.86, gt=0, le=100)
    eigengap_weight: float = Field(default=0.52, ge=0, le=100)

    @staticmethod
    def of(model: SeparativeEncoder) -> CountingRule:
        """Return the rule in the card of a model, or the defaults.

        Raises:
            ModelError: the entry of the card is damaged.
        """
        try:
            return CountingRule.model_validate(model.card.get("counting", {}))
        except ValidationError as error:
            raise ModelError(f"model card: 'counting': {validation_message(error, CountingRule)}") from error


@dataclass(frozen=True)
class SpeakerLimits:
    """What a user knows of the number of speakers: the least and the greatest; ``most`` None if unknown.

    Example:
        >>> SpeakerLimits.of(least=2, most=4)
        SpeakerLimits(least=2, most=4)
    """

    least: int = 1
    most: int | None = None

    @staticmethod
    def of(speakers: int | None = None, least: int | None = None, most: int | None = None) -> SpeakerLimits:
        """Return the limits of a known number ``speakers``, and of a minimum and a maximum.

        Raises:
            SeparativeError: a number is less than one, or they contradict each other.
        """
        given = {"speakers": speakers, "min_speakers": least, "max_speakers": most}
        for name, value in given.items():
            if value is not None and value < 1:
                raise SeparativeError(
                    f"{name} is {value}; pass at least 1, or leave it out to estimate the number"
                )
        lower = {name: value for name in ("speakers", "min_speakers") if (value := given[name])}
        upper = {name: value for name in ("speakers", "max_speakers") if (value := given[name])}
        if lower and upper:
            low, high = max(lower, key=lower.__getitem__), min(upper, key=upper.__getitem__)
            if lower[low] > upper[high]:
                raise SeparativeError(
                    f"{low} is {lower[low]} but {high} is {upper[high]}; raise {high} or lower {low}"
                )
        return SpeakerLimits(max(lower.values(), default=1), min(upper.values(), default=None))


DEFAULT_RULE, ANY_NUMBER = CountingRule(), SpeakerLimits()


class Merging:
    """Merges the two most similar of K clusters, again and again, until one is left.

    The last merge that joins different speakers is unknown. With the probability of each merge that both
    clusters are one speaker, there is a probability for each number of clusters at which to stop. Clusters
    with little speech are not counted. With the evidence of ``eigengap``, this gives the probability of each
    number of speakers.

    Args:
        embed_WCE: embeddings of all streams.
        label_WC: their clusters, or -1.
        alone_WC: seconds that count, in which the stream is active alone; also the weights.
        seconds_WC: all seconds in which it is active. Both count speech that is in two windows once.
        least: minimum of ``alone_WC`` of a speaker.
        eigengap: evidence for each number of clusters, from :func:`eigengap_evidence`; none by default.
        rule: constants of the decision.

    Example:
        >>> embedding, label = np.eye(2)[[[0], [0], [1]]], np.array([[0], [1], [2]])
        >>> seconds = np.full((3, 1), 5.0)
        >>> merging = Merging(embedding, label, seconds, seconds, least=1.0)
        >>> merging.count_probability.argmax(), merging.means().tolist()
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
        rule: CountingRule = DEFAULT_RULE,
    ) -> None:
        self.score: list[float] = []
        # Sum of embeddings and seconds of each cluster, once per number of clusters.
        sum_KE, seconds_K, together_KK = describe_clusters(embed_WCE, label_WC, alone_WC, seconds_WC)
        self._cuts = [(sum_KE, seconds_K)]
        while len(seconds_K) > 1:
            score_KK = same_features(sum_KE, seconds_K, together_KK) @ rule.same_weights + rule.same_constant
            np.fill_diagonal(score_KK, -np.inf)
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
        self._seconds = float(self._cuts[0][1].sum())
        # How many of the clusters are speakers.
        self._speakers = np.array([max(1, int((s_K >= least).sum())) for _, s_K in self._cuts])
        self._eigengap = np.zeros(MAX_CLUSTERS + 1) if eigengap is None else eigengap
        self._rule = rule
        # The embeddings that count, to compare clusters with them.
        counted_WC = (label_WC >= 0) & (alone_WC > 0)
        self._embed_UE, self._weight_U = embed_WCE[counted_WC], alone_WC[counted_WC]

    @property
    def count_probability(self) -> Floats:
        """Probability that there are n speakers [MAX_CLUSTERS + 1], for n = 0, 1, 2, ..."""
        return self.weigh(self._rule)

    def weigh(self, rule: CountingRule) -> Floats:
        """Return ``count_probability`` with other constants, for the same merges."""
        return self._count_probability(self._log_cuts(rule))

    def _log_cuts(self, rule: CountingRule) -> Floats:
        """Log-odds [K] of stopping at 1, 2, ..., K clusters, against stopping at 1."""
        # One more cluster: both parts of a merge are different speakers after all.
        one_more = np.log(rule.prior_odds) - rule.merge_scale * np.array(self.score[::-1])
        log_K: Floats = np.r_[0.0, one_more.cumsum()] + rule.eigengap_weight * self._eigengap[self._speakers]
        return log_K

    def _count_probability(self, log_K: Floats) -> Floats:
        """Probability of each number of speakers from the log-odds of each number of clusters."""
        probability_K = np.exp(log_K - np.logaddexp.reduce(log_K))
        return np.bincount(self._speakers, probability_K, MAX_CLUSTERS + 1).astype(np.float64)

    def means(self, limits: SpeakerLimits = ANY_NUMBER) -> Floats:
        """Mean embedding of each speaker [K, E], of the most probable number within the limits.

        The greatest number is a limit. The least number is evidence: each speaker fewer costs log-odds that
        grow with the recording. They are 0 as long as the speakers asked for have up to ENOUGH_SECONDS of
        speech each: in short recordings, some of them have too little speech to be found, and others would
        be split (docs/experiments.md).
        """
        log_K = self._log_cuts(self._rule)
        if limits.least > 1:
            log_odds = max(0.0, self._seconds / (limits.least * ENOUGH_SECONDS) - 1)
            log_K = log_K - log_odds * np.maximum(limits.least - self._speakers, 0)
        if limits.most is not None:
            log_K = np.where(self._speakers > limits.most, -np.inf, log_K)
        chosen = self._speakers == self._count_probability(log_K).argmax()
        return self._clearest(int(np.where(chosen, log_K, -np.inf).argmax()))

    def _clearest(self, cut: int) -> Floats:
        """Means of the clusters of a cut, or of the next finer cut without one cluster.

        A cluster of streams that mix speakers is similar to no speaker, so that two speakers would be merged
        before it. The embeddings decide: the means to which they are more similar are used.
        """
        tried = [self._means(cut)]
        if cut + 1 < len(self._cuts):
            finer_KE = self._means(cut + 1)
            if len(finer_KE) == len(tried[0]) + 1:
                tried += [np.delete(finer_KE, k, 0) for k in range(len(finer_KE))]
        similarity = [float(self._weight_U @ (self._embed_UE @ mean_KE.T).max(1)) for mean_KE in tried]
        return tried[int(np.argmax(similarity))]

    def _means(self, cut: int) -> Floats:
        """Mean embeddings [K, E] of the clusters that are speakers."""
        sum_KE, seconds_K = self._cuts[cut]
        mean_KE: Floats = unit_rows(sum_KE[seconds_K >= min(self._least, seconds_K.max())])
        return mean_KE.astype(np.float32)


def describe_clusters(
    embedding: Floats, labels: Labels, alone_seconds: Floats, speech_seconds: Floats
) -> tuple[Floats, Floats, Floats]:
    """Return what the log-odds of merging K clusters need; arguments as for :class:`Merging`.

    Returns:
        sum of the embeddings [K, E], weighted by their seconds alone; these seconds [K]; and the seconds in
        which two clusters are active in the same window [K, K].

    Example:
        >>> ones = np.ones((2, 2))
        >>> labels = np.array([[0, 1], [0, -1]])
        >>> [x.tolist() for x in describe_clusters(np.ones((2, 2, 1)), labels, ones, ones)]
        [[[2.0], [1.0]], [2.0, 1.0], [[0.0, 1.0], [1.0, 0.0]]]
    """
    count = int(labels.max()) + 1
    sum_KE = np.stack([(embedding * alone_seconds[..., None])[labels == k].sum(0) for k in range(count)])
    seconds_K = np.bincount(labels[labels >= 0], alone_seconds[labels >= 0]).astype(np.float64)
    return sum_KE, seconds_K, _seconds_together(labels, speech_seconds, count)


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


def same_features(sums: Floats, seconds: Floats, together: Floats) -> Floats:
    """Return what the log-odds that two clusters are one speaker depend on [K, K, 4].

    These are the cosine of the clusters, the cosine relative to that within them, the logarithm of the
    shorter one's seconds, and the share of time in the same window. The cosine within a cluster comes from
    the length of its mean embedding, without each second's cosine with itself. Arguments are those of
    :func:`describe_clusters`.

    Example:
        >>> same_features(np.array([[5.0, 0.0], [0.0, 5.0]]), np.full(2, 5.0), np.zeros((2, 2))).shape
        (2, 2, 4)
    """
    sum_KE, seconds_K, together_KK = sums, seconds, together
    length_K = np.linalg.norm(sum_KE, axis=1) / np.maximum(seconds_K, 1e-9)
    cos_KK = unit_rows(sum_KE) @ unit_rows(sum_KE).T
    independent_K = np.maximum(seconds_K, 0.5) + 0.5
    within_K = (length_K**2 * independent_K - 1) / np.maximum(independent_K - 1, 0.5)
    within_K = np.where(independent_K > 1.5, np.maximum(within_K, 0.05), 0.6 * length_K**2)
    pair_KK = seconds_K[:, None] + seconds_K + 1e-9
    within_KK = (within_K * seconds_K + (within_K * seconds_K)[:, None]) / pair_KK
    ratio_KK = length_K * length_K[:, None] * cos_KK / np.maximum(within_KK, 0.1)
    shorter_KK = np.minimum(seconds_K, seconds_K[:, None])
    features: Floats = np.stack(
        [
            cos_KK,
            ratio_KK,
            np.log(np.minimum(shorter_KK, ENOUGH_SECONDS) + 0.25),
            np.minimum(together_KK, 5.0) / (shorter_KK + 1.0),
        ],
        -1,
    )
    return features


def eigengap_evidence(embedding: Floats) -> Floats:
    """Evidence [MAX_CLUSTERS + 1] for the number of clusters of embeddings [U, E], for 0, 1, 2, ...

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
    evidence: Floats = np.log(size / MIN_SPECTRAL) * (np.r_[log_K.min(), log_K] - log_K.max())
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
