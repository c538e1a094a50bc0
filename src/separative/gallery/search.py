"""Nearest neighbours among very many embeddings: all are compared, as bytes, and the best anew, exactly.

A graph would be quicker still, but finds only half of ten neighbours among speakers who are like nobody
(docs/experiments.md), and a file of it holds speakers who have been removed. A million take 128 MB here.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from separative.errors import MissingExtraError
from separative.types import Floats

Ids = NDArray[np.int64]

# Standard deviations of a component of an evenly drawn direction that a byte spans; beyond, it is clipped.
SPAN = 6.0
# Below so many for each thread, threads cost more than they save.
FEWEST = 20_000
# Rows that are judged together by the best of them.
TOGETHER = 64


class EmbeddingIndex:
    """Embeddings of unit norm by id, in memory at a byte a component."""

    def __init__(self, size: int, threads: int | None = None) -> None:
        self.size, self.count = size, 0
        self.threads = threads or os.cpu_count() or 1
        self._scale = 127.0 / min(1.0, SPAN / size**0.5)
        self._row_of: dict[int, int] = {}
        self._id_N, self._code_NE = np.zeros(0, np.int64), np.zeros((0, size), np.int8)
        self._pool: ThreadPoolExecutor | None = None

    def __len__(self) -> int:
        return self.count

    def update(self, ids: Ids, embed_NE: Floats, gone: list[int]) -> None:
        """Take in new and changed embeddings, and forget those that are gone."""
        code_NE = self._codes(embed_NE)
        fresh = np.array([int(i) not in self._row_of for i in ids], bool)
        for i, code_E in zip(ids[~fresh].tolist(), code_NE[~fresh], strict=True):
            self._code_NE[self._row_of[i]] = code_E
        wanted = self.count + int(fresh.sum())
        if wanted > len(self._id_N):
            room = max(wanted, 3 * len(self._id_N) // 2)
            self._id_N = np.concatenate([self._id_N, np.zeros(room - len(self._id_N), np.int64)])
            more = np.zeros((room - len(self._code_NE), self.size), np.int8)
            self._code_NE = np.concatenate([self._code_NE, more])
        self._id_N[self.count : wanted] = ids[fresh]
        self._code_NE[self.count : wanted] = code_NE[fresh]
        self._row_of.update(zip(ids[fresh].tolist(), range(self.count, wanted), strict=True))
        self.count = wanted
        for i in gone:
            row = self._row_of.pop(i, None)
            if row is not None:
                # The last one takes its place.
                self.count -= 1
                last = int(self._id_N[self.count])
                self._id_N[row], self._code_NE[row] = last, self._code_NE[self.count]
                self._code_NE[self.count] = 0
                if last != i:
                    self._row_of[last] = row

    def nearest(self, embed_E: Floats, count: int) -> Ids:
        """Ids of ``count`` or more that are near, in no order."""
        numkong, code_1E = _numkong(), self._codes(embed_E)[None]
        parts = max(1, min(self.threads, self.count // FEWEST))
        edges = np.linspace(0, self.count, parts + 1).astype(int)

        def look(part: int) -> Ids:
            low, high = edges[part], edges[part + 1]
            if high - low <= count:
                return self._id_N[low:high].copy()
            # Bytes are multiplied and summed as whole numbers, without rounding.
            like_N1 = numkong.dots_packed(self._code_NE[low:high], numkong.dots_pack(code_1E))
            ids: Ids = self._id_N[low + _largest(np.asarray(like_N1)[:, 0], count)]
            return ids

        if parts == 1:
            return look(0)
        self._pool = self._pool or ThreadPoolExecutor(self.threads)
        return np.concatenate(list(self._pool.map(look, range(parts))))

    def _codes(self, embed: Floats) -> NDArray[np.int8]:
        codes: NDArray[np.int8] = np.rint(embed * self._scale).clip(-127, 127).astype(np.int8)
        return codes


def _largest(like_N: NDArray[np.int32], count: int) -> Ids:
    """Rows of the ``count`` largest, in no order: they lie in the ``count`` groups of the largest maxima."""
    groups = len(like_N) // TOGETHER
    if groups <= count:
        return np.argpartition(like_N, -count)[-count:]
    # Every row of this table is a stretch, every column a group: maxima are taken of whole stretches.
    best_G = like_N[: groups * TOGETHER].reshape(TOGETHER, groups).max(0)
    chosen_K = np.argpartition(best_G, -count)[-count:]
    row_M = (chosen_K + groups * np.arange(TOGETHER)[:, None]).ravel()
    row_M = np.concatenate([row_M, np.arange(groups * TOGETHER, len(like_N))])
    rows: Ids = row_M[np.argpartition(like_N[row_M], -count)[-count:]]
    return rows


def _numkong() -> Any:
    try:
        import numkong
    except ImportError as error:
        raise MissingExtraError("a gallery", "gallery") from error
    return numkong
