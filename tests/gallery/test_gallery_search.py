"""Nearest-neighbour search among many embeddings."""

import numpy as np
import pytest
from gallery_helpers import unit

from separative.gallery.search import EmbeddingIndex, _largest


@pytest.mark.parametrize("threads", [1, 3])
def test_the_index_finds_the_nearest_of_an_exact_search(
    threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("separative.gallery.search.MIN_ROWS_PER_THREAD", 100)
    size, index = 64, EmbeddingIndex(64, threads)
    rows, ids = unit(3000, size=size), np.arange(3000) * 7 + 1
    index.update(ids[:1000], rows[:1000], [])
    index.update(ids[1000:], rows[1000:], [])

    def check(present: np.ndarray) -> None:
        for query in unit(20, 5, size):
            best = ids[present][np.argsort(-(rows[present] @ query))[:10]]
            assert set(best.tolist()) <= set(index.nearest(query, 30).tolist())

    present = np.ones(3000, bool)
    check(present)
    # One embedding changes its sign. Every third is deleted, some of them twice, and the last one too.
    rows[5] *= -1
    index.update(ids[5:6], rows[5:6], ids[::3].tolist())
    index.update(ids[:0], rows[:0], [*ids[:4:3].tolist(), int(ids[-1])])
    present[::3] = present[-1] = False
    assert len(index) == present.sum()
    check(present)
    found = {int(i) for query in rows[:100] for i in index.nearest(query, 30)}
    assert found <= set(ids[present].tolist())


@pytest.mark.parametrize("count", [1, 10, 640, 5000, 6399, 6400])
def test_the_largest_values_are_found_among_equal_ones(count: int) -> None:
    # Many values are equal, and the last group is incomplete.
    similarity_N = np.random.default_rng(count).integers(-3000, 3000, 6400 + count % 3).astype(np.int32)
    rows = _largest(similarity_N, count)
    assert len(set(rows.tolist())) == count
    assert sorted(similarity_N[rows].tolist()) == sorted(similarity_N.tolist())[-count:]
