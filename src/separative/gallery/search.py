"""Nearest-neighbour search over many embeddings.

A scan of 8-bit codes preselects candidates, which the gallery then compares by exact cosines. A graph index
would be faster, but it finds only half of ten neighbours among evenly spread embeddings, and its file would
still hold deleted speakers (docs/experiments.md). One million speakers need 128 MB.
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

# Range of an 8-bit code, in standard deviations of one component of a random unit vector. Larger values clip.
CODE_RANGE = 6.0
# With fewer embeddings per thread, starting threads costs more than it saves.
MIN_ROWS_PER_THREAD = 20_000
# Number of similarities in a group. Only the groups with the largest maxima are searched for the best.
GROUP_SIZE = 64


class EmbeddingIndex:
    """Embeddings of unit norm by id, in memory as one byte per dimension.

    Args:
        size: number of dimensions.
        threads: number of threads for a search; by default one per processor.

    >>> import numpy as np
    >>> index = EmbeddingIndex(2)
    >>> index.update(np.array([7, 8]), np.eye(2, dtype=np.float32), deleted=[])
    >>> int(index.nearest(np.array([0.0, 1.0]), count=1)[0])
    8
    """

    def __init__(self, size: int, threads: int | None = None) -> None:
        self.size, self.count = size, 0
        self.threads = threads or os.cpu_count() or 1
        self._scale = 127.0 / min(1.0, CODE_RANGE / size**0.5)
        self._row_of: dict[int, int] = {}
        self._id_N, self._code_NE = np.zeros(0, np.int64), np.zeros((0, size), np.int8)
        self._pool: ThreadPoolExecutor | None = None

    def __len__(self) -> int:
        return self.count

    def update(self, ids: Ids, embeddings: Floats, deleted: list[int]) -> None:
        """Add or replace embeddings [N,E] by id, and remove the ids in ``deleted``."""
        code_NE = self._encode(embeddings)
        new = np.array([int(i) not in self._row_of for i in ids], bool)
        for i, code_E in zip(ids[~new].tolist(), code_NE[~new], strict=True):
            self._code_NE[self._row_of[i]] = code_E
        count = self.count + int(new.sum())
        if count > len(self._id_N):
            capacity = max(count, 3 * len(self._id_N) // 2)
            self._id_N = np.concatenate([self._id_N, np.zeros(capacity - len(self._id_N), np.int64)])
            more = np.zeros((capacity - len(self._code_NE), self.size), np.int8)
            self._code_NE = np.concatenate([self._code_NE, more])
        self._id_N[self.count : count] = ids[new]
        self._code_NE[self.count : count] = code_NE[new]
        self._row_of.update(zip(ids[new].tolist(), range(self.count, count), strict=True))
        self.count = count
        for i in deleted:
            row = self._row_of.pop(i, None)
            if row is not None:
                # Move the last row into the free place, so that rows stay contiguous.
                self.count -= 1
                last = int(self._id_N[self.count])
                self._id_N[row], self._code_NE[row] = last, self._code_NE[self.count]
                self._code_NE[self.count] = 0
                if last != i:
                    self._row_of[last] = row

    def nearest(self, embedding: Floats, count: int) -> Ids:
        """Ids of the ``count`` or more nearest to an embedding [E], in no order."""
        numkong, code_1E = _import_numkong(), self._encode(embedding)[None]
        parts = max(1, min(self.threads, self.count // MIN_ROWS_PER_THREAD))
        edges = np.linspace(0, self.count, parts + 1).astype(int)

        def search_part(part: int) -> Ids:
            low, high = edges[part], edges[part + 1]
            if high - low <= count:
                return self._id_N[low:high].copy()
            # Products and sums of bytes are integers, computed without rounding.
            similarity_N1 = numkong.dots_packed(self._code_NE[low:high], numkong.dots_pack(code_1E))
            ids: Ids = self._id_N[low + _largest(np.asarray(similarity_N1)[:, 0], count)]
            return ids

        if parts == 1:
            return search_part(0)
        self._pool = self._pool or ThreadPoolExecutor(self.threads)
        return np.concatenate(list(self._pool.map(search_part, range(parts))))

    def _encode(self, embedding: Floats) -> NDArray[np.int8]:
        code: NDArray[np.int8] = np.rint(embedding * self._scale).clip(-127, 127).astype(np.int8)
        return code


def _largest(similarity_N: NDArray[np.int32], count: int) -> Ids:
    """Indices of the ``count`` largest values, in no order.

    All of them are in the ``count`` groups with the largest maxima, so only these groups are searched.
    """
    groups = len(similarity_N) // GROUP_SIZE
    if groups <= count:
        return np.argpartition(similarity_N, -count)[-count:]
    # In this table a column is a group: the maximum over rows is then vectorised over contiguous memory.
    best_G = similarity_N[: groups * GROUP_SIZE].reshape(GROUP_SIZE, groups).max(0)
    chosen_K = np.argpartition(best_G, -count)[-count:]
    row_M = (chosen_K + groups * np.arange(GROUP_SIZE)[:, None]).ravel()
    row_M = np.concatenate([row_M, np.arange(groups * GROUP_SIZE, len(similarity_N))])
    rows: Ids = row_M[np.argpartition(similarity_N[row_M], -count)[-count:]]
    return rows


def _import_numkong() -> Any:
    try:
        import numkong
    except ImportError as error:
        raise MissingExtraError("a gallery", "gallery") from error
    return numkong
