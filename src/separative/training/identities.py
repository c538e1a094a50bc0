"""Found identities: clusters of what a model embeds become the speakers of a corpus (method, section 7)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from separative.corpora.manifest import Corpus, IdentityKind, Utterance
from separative.corpora.store import WaveStore
from separative.errors import CorpusError
from separative.types import Floats, Progress, Wave

if TYPE_CHECKING:
    from separative.model import SeparativeEncoder

# Pieces of a recording, spread evenly over it, that its global vector is made of.
MAX_PIECES = 6
PIECE_SECONDS = 4.0
SHORTEST_SECONDS = 0.5
# All pairs of recordings that are linked must fit into memory; the others join the nearest cluster.
MOST_LINKED = 12_000
# Distances (1 − cosine) at which the tree of clusters may be cut.
CUTS = np.linspace(0.05, 0.95, 37)
# The search for a cut ends where the silhouette has fallen by this much. Looser cuts may have a higher one
# again: they divide corpora, languages or sexes, not speakers.
PEAK_FALL = 0.03


class GlobalVectors(NamedTuple):
    """Global vectors of recordings.

    Attributes:
        names: names of the recordings.
        vectors: one vector of unit norm for each [R,E].
        utterances: utterances of each recording.

    >>> GlobalVectors(("a",), np.eye(1), ((),)).names
    ('a',)
    """

    names: tuple[str, ...]
    vectors: Floats
    utterances: tuple[tuple[Utterance, ...], ...]


@torch.inference_mode()
def embed_recordings(
    model: SeparativeEncoder,
    corpus: Corpus,
    *,
    kind: IdentityKind = "recording",
    cache: Path | None = None,
    progress: Progress | None = None,
) -> GlobalVectors:
    """Embed every recording of a corpus: all of its pieces are the views of one condition group.

    The vector is the mean of the attended embeddings of the most active stream of each piece. Recordings
    without half a second of sound have no vector.

    Args:
        model: the model, in evaluation mode.
        corpus: recordings with one speaker each. Labels are not used.
        kind: what a recording is: a file (``recording``) or each ``utterance``.
        cache: folder for decoded audio.
        progress: called with (done, total) recordings.

    >>> import separative
    >>> corpus = separative.load_corpus("speech").split("dev")
    >>> embed_recordings(separative.load_model(), corpus).vectors.shape == (len(corpus), 128)
    True
    """
    store = WaveStore(corpus, model.rate, cache)
    recordings = corpus.identities(kind)
    names, vectors, kept = [], [], []
    for done, (name, utterances) in enumerate(recordings.items(), 1):
        pieces = _cut_pieces(store, utterances, model.rate)
        if pieces:
            names.append(name)
            vectors.append(_embed_group(model, pieces).cpu().numpy())
            kept.append(utterances)
        if progress is not None:
            progress(done, len(recordings))
    if not names:
        raise CorpusError("no recording of the corpus holds half a second of sound")
    return GlobalVectors(tuple(names), np.stack(vectors), tuple(kept))


def _cut_pieces(store: WaveStore, utterances: tuple[Utterance, ...], rate: int) -> list[Wave]:
    """Pieces of at most ``PIECE_SECONDS`` that are spread evenly over the utterances of a recording."""
    size = round(PIECE_SECONDS * rate)
    places = [
        (utterance, start, min(size, store.length(utterance) - start))
        for utterance in utterances
        for start in range(0, store.length(utterance), size)
    ]
    places = [place for place in places if place[2] >= SHORTEST_SECONDS * rate]
    chosen = np.unique(np.linspace(0, len(places) - 1, min(MAX_PIECES, len(places))).round().astype(int))
    pieces = [store.read(*places[i]) for i in chosen.tolist()]
    return [piece for piece in pieces if piece.any()]


def _embed_group(model: SeparativeEncoder, pieces: list[Wave]) -> Tensor:
    """The global vector [E] of one recording."""
    device = next(model.parameters()).device
    mix_BN = torch.zeros(len(pieces), max(map(len, pieces)))
    for row, piece in enumerate(pieces):
        mix_BN[row, : len(piece)] = torch.from_numpy(piece)
    length_B = torch.tensor([len(piece) for piece in pieces])
    one_group_B = torch.zeros(len(pieces), dtype=torch.long)
    output = model(
        mix_BN.to(device), group_B=one_group_B.to(device), length_B=length_B.to(device), separate=False
    )
    weight_BCS = output.activity_BCS.float().sigmoid() * output.valid_BS.unsqueeze(1)
    seconds_BC = weight_BCS.sum(-1)
    best_B = seconds_BC.argmax(1)
    row_B = torch.arange(len(pieces), device=device)
    embed_BE = output.attended_BCE[row_B, best_B].float()
    return F.normalize((seconds_BC[row_B, best_B].unsqueeze(1) * embed_BE).sum(0), dim=0)


def cluster_vectors(vectors: Floats, smallest: int = 2) -> NDArray[np.int64]:
    """Cluster vectors of unit norm [R,E]; the number of clusters comes from the data.

    Average linkage merges what agrees most. The tree is cut at the first peak of the mean silhouette, from
    tight clusters to loose ones: where vectors are close to their own cluster and far from the next one.

    Args:
        vectors: [R,E].
        smallest: vectors in smaller clusters get the label −1.

    Returns:
        Label of each vector [R], 0 for the largest cluster.

    >>> angle = np.array([0.0, 0.1, 0.05, 2.0, 2.1, 4.0])
    >>> cluster_vectors(np.stack([np.cos(angle), np.sin(angle)], axis=1)).tolist()
    [0, 0, 0, 1, 1, -1]
    """
    from scipy.cluster.hierarchy import fcluster, linkage

    if len(vectors) < 3:
        return np.full(len(vectors), -1)
    linked_R = np.linspace(0, len(vectors) - 1, min(MOST_LINKED, len(vectors))).round().astype(np.int64)
    tree = linkage(vectors[linked_R], "average", metric="cosine")
    best, best_cut, best_score = np.arange(len(linked_R)), 0.0, -np.inf
    for cut in CUTS.tolist():
        label_R = fcluster(tree, cut, "distance") - 1
        score = mean_silhouette(vectors[linked_R], label_R)
        if score > best_score:
            best, best_cut, best_score = label_R, cut, score
        elif score < best_score - PEAK_FALL:
            break
    if len(linked_R) < len(vectors):
        best = _join_nearest(vectors, vectors[linked_R], best, best_cut)
    _, number_R, count_K = np.unique(best, return_inverse=True, return_counts=True)
    rank_K = np.empty(len(count_K), np.int64)
    rank_K[np.argsort(-count_K, kind="stable")] = np.arange(len(count_K))
    return np.where(count_K[number_R] >= smallest, rank_K[number_R], -1)


def _join_nearest(
    vectors: Floats, linked: Floats, labels: NDArray[np.int64], cut: float
) -> NDArray[np.int64]:
    """Label of each vector: that of the nearest mean of a cluster, or a label of its own beyond ``cut``."""
    mean_KE = np.zeros((int(labels.max()) + 1, vectors.shape[1]))
    np.add.at(mean_KE, labels, linked)
    mean_KE /= np.linalg.norm(mean_KE, axis=1, keepdims=True)
    found = []
    for start in range(0, len(vectors), 1024):
        cos_RK = vectors[start : start + 1024] @ mean_KE.T
        alone_R = len(mean_KE) + np.arange(start, start + len(cos_RK))
        found.append(np.where(1 - cos_RK.max(axis=1) <= cut, cos_RK.argmax(axis=1), alone_R))
    return np.concatenate(found)


def mean_silhouette(vectors: Floats, labels: NDArray[np.integer]) -> float:
    """Mean of (b − a) / max(a, b) by cosine distance; −1 if there is only one cluster.

    a is the mean distance of a vector to the others of its cluster, and b the least mean distance to another
    cluster. A vector alone in its cluster counts 0.

    >>> angle = np.array([0.0, 0.0, np.pi, np.pi])
    >>> mean_silhouette(np.stack([np.cos(angle), np.sin(angle)], axis=1), np.array([0, 0, 1, 1]))
    1.0
    """
    _, number_R, count_K = np.unique(labels, return_inverse=True, return_counts=True)
    if len(count_K) < 2:
        return -1.0
    sum_KE = np.zeros((len(count_K), vectors.shape[1]))
    np.add.at(sum_KE, number_R, vectors)
    total = 0.0
    # The mean distance to a cluster is 1 − the product with its mean: no pairs are needed.
    for start in range(0, len(vectors), 1024):
        row, own = vectors[start : start + 1024], number_R[start : start + 1024]
        product_RK, place = row @ sum_KE.T, np.arange(len(row))
        far_RK = 1 - product_RK / count_K
        far_RK[place, own] = np.inf
        count_R = count_K[own]
        # The distance to itself is 0 and does not count.
        near_R = (count_R - product_RK[place, own]) / np.maximum(count_R - 1, 1)
        next_R = far_RK.min(axis=1)
        score_R = (next_R - near_R) / np.maximum(np.maximum(next_R, near_R), 1e-12)
        total += float(np.where(count_R > 1, score_R, 0.0).sum())
    return total / len(vectors)


@dataclass(frozen=True, slots=True)
class FoundIdentities:
    """The result of :func:`find_identities`.

    Attributes:
        corpus: the corpus; its speakers are the clusters, and recordings without a cluster have none.
        clusters: number of clusters.
        recordings: number of recordings.
        clustered: share of the recordings that are in a cluster.
        purity: share of the clustered recordings with the commonest true speaker of their cluster; None
            without labels.
        coverage: share of the labelled recordings that are in the commonest cluster of their speaker; None
            without labels.

    >>> FoundIdentities(Corpus(()), 0, 0, 0.0, None, None).clusters
    0
    """

    corpus: Corpus
    clusters: int
    recordings: int
    clustered: float
    purity: float | None
    coverage: float | None


def find_identities(
    model: SeparativeEncoder,
    corpus: Corpus,
    *,
    split: str = "train",
    kind: IdentityKind = "recording",
    smallest: int = 2,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> FoundIdentities:
    """Replace the speakers of a split by clusters of what a model embeds.

    Labels are not used. Where there are some, they are compared with the result. Other splits are unchanged.

    Args:
        model: the model, in evaluation mode.
        corpus: recordings with one speaker each.
        split: the split to cluster.
        kind: see :func:`embed_recordings`.
        smallest: fewest recordings of a found speaker.
        cache: folder for decoded audio.
        progress: called with (done, total) recordings.

    >>> import separative
    >>> found = find_identities(separative.load_model(), separative.load_corpus("speech"))
    >>> found.recordings, found.corpus.split("train").speakers[0]
    (8, 'found-00001')
    """
    part = corpus.split(split)
    made = embed_recordings(model, part, kind=kind, cache=cache, progress=progress)
    label_R = cluster_vectors(made.vectors, smallest)
    names = {
        utterance: f"found-{label + 1:05d}" if label >= 0 else None
        for utterances, label in zip(made.utterances, label_R.tolist(), strict=True)
        for utterance in utterances
    }
    inside = set(part.utterances)
    relabelled = tuple(replace(u, speaker=names.get(u)) if u in inside else u for u in corpus)
    truth = [utterances[0].speaker for utterances in made.utterances]
    purity, coverage = purity_and_coverage(label_R, truth)
    clusters, share = len(set(label_R.tolist()) - {-1}), float(np.mean(label_R >= 0))
    return FoundIdentities(Corpus(relabelled), clusters, len(label_R), share, purity, coverage)


def purity_and_coverage(
    labels: NDArray[np.integer], speakers: list[str | None]
) -> tuple[float | None, float | None]:
    """Purity of clusters and coverage of speakers, see :class:`FoundIdentities`.

    Args:
        labels: cluster of each recording [R]; −1 if it has none.
        speakers: true speaker of each; None if it has no label.

    >>> purity_and_coverage(np.array([0, 0, 0, 1, -1]), ["a", "a", "b", "b", "b"])
    (0.75, 0.6)
    """
    known = [(label, name) for label, name in zip(labels.tolist(), speakers, strict=True) if name is not None]
    clustered = [pair for pair in known if pair[0] >= 0]
    if not clustered:
        return None, None
    count: dict[tuple[int, str], int] = {}
    for pair in clustered:
        count[pair] = count.get(pair, 0) + 1
    by_cluster: dict[int, int] = {}
    by_speaker: dict[str, int] = {}
    for (label, name), size in count.items():
        by_cluster[label] = max(by_cluster.get(label, 0), size)
        by_speaker[name] = max(by_speaker.get(name, 0), size)
    return sum(by_cluster.values()) / len(clustered), sum(by_speaker.values()) / len(known)
