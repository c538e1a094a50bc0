"""Nearest neighbours among very many embeddings: blocks by id, each searched exactly or through a graph.

A graph (HNSW, arXiv 1603.09320) holds what it indexes, so a talker is only gone from its file once the file
is: a block that changes loses its graph, and is searched exactly until the next :meth:`Neighbours.index`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from separative.errors import MissingExtraError
from separative.files import replacing

Floats = NDArray[np.float32]
Ids = NDArray[np.int64]

BLOCK = 50_000
# Neighbours of a node in a graph, and how far it is searched: for recall of 0.99 or more at ten.
CONNECTIVITY, WIDTH_ADD, WIDTH_SEARCH = 16, 96, 96


class Neighbours:
    """Embeddings of unit norm by id, in memory at half precision, with graphs in ``folder``."""

    def __init__(self, folder: Path, size: int) -> None:
        self.folder, self.size = folder, size
        self.blocks: dict[int, _Block] = {}

    def __len__(self) -> int:
        return sum(len(block.ids) for block in self.blocks.values())

    def update(self, ids: Ids, embed_NE: Floats, gone: list[int]) -> None:
        """Take in new and changed embeddings, and forget those that are gone."""
        numbers = np.concatenate([ids // BLOCK, np.array(gone, np.int64) // BLOCK])
        for number in np.unique(numbers):
            path = self._path(int(number))
            block = self.blocks.get(int(number)) or _Block(path, self.size)
            here = ids // BLOCK == number
            block.update(ids[here], embed_NE[here], gone)
            self.blocks[int(number)] = block

    def forget(self, ids: list[int]) -> None:
        """Remove the graphs that hold any of the ids, before these go: a stop in between leaves no trace."""
        for number in {i // BLOCK for i in ids}:
            self._path(number).unlink(missing_ok=True)

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:05d}.usearch"

    def nearest(self, embed_E: Floats, count: int) -> Ids:
        """Ids of ``count`` or more that are near, in no order."""
        parts = [block.nearest(embed_E, count) for block in self.blocks.values()]
        return np.concatenate(parts) if parts else np.zeros(0, np.int64)

    def index(self) -> int:
        """Build graphs of all full blocks that have none; returns how many were built."""
        todo = [
            block for block in self.blocks.values() if block.graph is None and len(block.ids) >= BLOCK // 4
        ]
        for block in todo:
            block.build()
        return len(todo)


class _Block:
    def __init__(self, path: Path, size: int) -> None:
        self.path, self.ids = path, np.zeros(0, np.int64)
        self.embed_NE = np.zeros((0, size), np.float16)
        self.graph: Any = None

    def update(self, ids: Ids, embed_NE: Floats, gone: list[int]) -> None:
        keep = ~np.isin(self.ids, np.concatenate([ids, np.array(gone, np.int64)]))
        first = not len(self.ids)
        self.ids = np.concatenate([self.ids[keep], ids])
        self.embed_NE = np.concatenate([self.embed_NE[keep], embed_NE.astype(np.float16)])
        self.graph = None
        if first and self.path.is_file():
            self.graph = self._open()
        if self.graph is None:
            self.path.unlink(missing_ok=True)

    def nearest(self, embed_E: Floats, count: int) -> Ids:
        usearch = _usearch()
        if self.graph is not None:
            found = self.graph.search(embed_E.astype(np.float16), count)
            return np.asarray(found.keys, np.int64)
        if not len(self.ids):
            return self.ids
        found = usearch.search(
            self.embed_NE,
            embed_E.astype(np.float16),
            min(count, len(self.ids)),
            usearch.MetricKind.IP,
            exact=True,
        )
        return self.ids[np.asarray(found.keys, np.int64)]

    def build(self) -> None:
        graph = self._new()
        graph.add(self.ids, self.embed_NE)
        self.path.parent.mkdir(exist_ok=True)
        with replacing(self.path) as beside:
            graph.save(str(beside))
        self.graph = graph

    def _new(self) -> Any:
        usearch = _usearch()
        return usearch.Index(
            ndim=self.embed_NE.shape[1],
            metric=usearch.MetricKind.IP,
            dtype="f16",
            connectivity=CONNECTIVITY,
            expansion_add=WIDTH_ADD,
            expansion_search=WIDTH_SEARCH,
        )

    def _open(self) -> Any:
        """The graph in the file, if it is of just these embeddings."""
        graph = self._new()
        try:
            graph.load(str(self.path))
            held = np.asarray(graph.keys, np.int64)
            if not np.array_equal(np.sort(held), np.sort(self.ids)):
                return None
            stored_NE = np.asarray(graph.get(self.ids), np.float16)
            return graph if np.array_equal(stored_NE, self.embed_NE) else None
        # usearch: RuntimeError for a damaged file.
        except (RuntimeError, ValueError, OSError):
            return None


def _usearch() -> Any:
    try:
        import usearch.index
    except ImportError as error:
        raise MissingExtraError("a gallery", "gallery") from error
    return usearch.index
