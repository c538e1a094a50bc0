"""Found identities: the number of clusters comes from the data, and labels are only compared with them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from separative import load_corpus, load_model
from separative.corpora.manifest import Corpus
from separative.training import identities
from separative.training.identities import (
    cluster_vectors,
    embed_recordings,
    find_identities,
    mean_silhouette,
    purity_and_coverage,
)


def drawn(speakers: int, each: int, spread: float, seed: int = 0) -> tuple[np.ndarray, list[str]]:
    """Vectors of unit norm around speakers' directions, in a random order, and their speakers."""
    rng = np.random.default_rng(seed)
    centre = rng.standard_normal((speakers, 32))
    centre /= np.linalg.norm(centre, axis=1, keepdims=True)
    place = rng.permutation(np.arange(speakers).repeat(each))
    vectors = centre[place] + spread * rng.standard_normal((len(place), 32)) / 32**0.5
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True), [f"t{k}" for k in place]


@pytest.mark.parametrize(("speakers", "each", "spread"), [(5, 4, 0.3), (20, 6, 0.5), (40, 10, 0.6)])
def test_number_of_clusters_comes_from_the_data(speakers: int, each: int, spread: float) -> None:
    vectors, truth = drawn(speakers, each, spread)
    labels = cluster_vectors(vectors)
    assert len(set(labels.tolist()) - {-1}) == speakers
    purity, coverage = purity_and_coverage(labels, truth)
    assert purity == 1.0 and coverage == 1.0


def test_groups_of_speakers_are_not_taken_for_speakers() -> None:
    """Two corpora that differ much more than their speakers do."""
    vectors, truth = drawn(12, 6, 0.4)
    corpus = np.zeros((len(vectors), 32))
    corpus[:, 0] = [2.0 if int(name[1:]) < 6 else -2.0 for name in truth]
    joined = vectors + corpus
    joined /= np.linalg.norm(joined, axis=1, keepdims=True)
    two = np.sign(corpus[:, 0]).astype(int)
    labels = cluster_vectors(joined)
    assert mean_silhouette(joined, two) > mean_silhouette(joined, labels)
    purity, coverage = purity_and_coverage(labels, truth)
    assert purity > 0.95 and coverage > 0.9


def test_vectors_that_agree_with_none_have_no_cluster() -> None:
    vectors, _ = drawn(6, 5, 0.3)
    alone = np.linalg.qr(np.random.default_rng(7).standard_normal((32, 32)))[0][:2]
    labels = cluster_vectors(np.concatenate([vectors, alone]))
    assert (labels[:-2] >= 0).all() and labels[-2:].tolist() == [-1, -1]
    assert (cluster_vectors(np.concatenate([vectors, alone]), smallest=1) >= 0).all()


def test_vectors_beyond_the_limit_join_the_nearest_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, truth = drawn(6, 20, 0.4)
    monkeypatch.setattr(identities, "MOST_LINKED", 40)
    purity, coverage = purity_and_coverage(cluster_vectors(vectors), truth)
    assert purity == 1.0 and coverage > 0.95


def test_silhouette_equals_its_definition() -> None:
    vectors, _ = drawn(4, 5, 0.8)
    labels = np.random.default_rng(1).integers(0, 3, len(vectors))
    labels[0] = 7  # alone
    distance = 1 - vectors @ vectors.T
    scores = []
    for i, own in enumerate(labels):
        others = [j for j in range(len(labels)) if labels[j] == own and j != i]
        if not others:
            scores.append(0.0)
            continue
        near = distance[i, others].mean()
        following = min(distance[i, labels == other].mean() for other in set(labels) - {own})
        scores.append((following - near) / max(following, near))
    assert mean_silhouette(vectors, labels) == pytest.approx(np.mean(scores), abs=1e-9)


def test_labels_do_not_change_the_clusters(data: Path, tmp_path: Path) -> None:
    """Held-out speakers of real corpora, four recordings each, by the shipped model."""
    dev = load_corpus(data / "speech.csv").split("dev")
    chosen = [u for name in dev.speakers[::6] for u in dev.by_speaker[name][:4]]
    corpus = Corpus(tuple(chosen))
    model = load_model()
    found = find_identities(model, corpus, split="dev", cache=tmp_path)
    assert found.recordings == len(chosen) == 24
    assert found.purity > 0.8 and found.coverage > 0.8
    blank = Corpus(tuple(replace(u, speaker=None) for u in chosen))
    without = find_identities(model, blank, split="dev", cache=tmp_path)
    assert without.purity is None and without.coverage is None
    assert [u.speaker for u in without.corpus] == [u.speaker for u in found.corpus]


def test_pieces_of_a_recording_are_views_of_one_group(data: Path, tmp_path: Path) -> None:
    corpus = load_corpus(data / "speech.csv").split("dev")
    two = Corpus(corpus.utterances[:2])
    joined = embed_recordings(load_model(), two, cache=tmp_path)
    alone = embed_recordings(load_model(), Corpus(two.utterances[:1]), cache=tmp_path)
    assert np.allclose(joined.vectors[0], alone.vectors[0], atol=1e-5)
    assert np.allclose(np.linalg.norm(joined.vectors, axis=1), 1, atol=1e-5)
