"""A gallery of very many speakers: time to open it and to search it, compared with exact search.

    python benchmarks/bench_gallery.py [--size 1000000]      # rewrites docs/benchmarks/gallery.md

Embeddings are synthetic: random directions, so that no speaker has near neighbours. Queries are embeddings of
enrolled speakers with noise, at a cosine of about 0.7.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from common import (
    Promise,
    Record,
    arguments,
    exponent,
    made_on,
    memory_mib,
    parsed,
    run_child,
    table,
    write_page,
)

DIMENSIONS, QUERIES, TOP = 128, 200, 10


def directions(count: int, seed: int) -> NDArray[np.float32]:
    rows = np.random.default_rng(seed).standard_normal((count, DIMENSIONS), dtype=np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows


def measure(case: Record) -> Record:
    """Fill the gallery, or open and search it; one case each."""
    import torch

    from separative.gallery import Gallery
    from separative.model import EncoderConfig, SeparativeEncoder, load_model, save_model

    torch.set_num_threads(case["threads"])
    folder, size = Path(case["folder"]), case["size"]
    if case["what"] == "fill":
        model = SeparativeEncoder(EncoderConfig(embedding=DIMENSIONS, width=16, speaker_width=16))
        save_model(model, folder / "model")
    model = load_model(folder / "model")
    rows = directions(size, 0)
    with Gallery(folder / "gallery", model) as gallery:
        if case["what"] == "fill":
            started = time.perf_counter()
            with gallery._store.write_transaction():
                for number, row in enumerate(rows):
                    gallery._store.save_speaker(f"speaker{number}", row)
            filled = time.perf_counter() - started
            return {"filled": filled}
        query_QE = rows[np.linspace(0, size - 1, QUERIES).astype(int)] + directions(QUERIES, 1)
        query_QE /= np.linalg.norm(query_QE, axis=1, keepdims=True)
        started = time.perf_counter()
        gallery.search(query_QE[0], TOP)
        opened = time.perf_counter() - started
        # Search once without pauses, and once with an exact search in between, which empties the CPU caches.
        wall, cold, hits = [], [], 0
        for query in query_QE:
            started = time.perf_counter()
            gallery.search(query, TOP)
            wall.append(time.perf_counter() - started)
        for query in query_QE:
            best = np.argpartition(-(rows @ query), TOP)[:TOP]
            started = time.perf_counter()
            found = gallery.search(query, TOP)
            cold.append(time.perf_counter() - started)
            hits += len({name for name, _ in found} & {f"speaker{i}" for i in best})
        return {
            "opened": opened,
            "ms": [1e3 * x for x in wall],
            "cold": 1e3 * statistics.median(cold),
            "recall": hits / (TOP * QUERIES),
            "memory": memory_mib("VmRSS") - rows.nbytes / 2**20,
            "disk": sum(p.stat().st_size for p in (folder / "gallery").rglob("*") if p.is_file()) / 2**20,
        }


def main() -> None:
    parser = arguments(__doc__, "gallery.md", runs=1, rounds=1)
    parser.add_argument("--size", type=int, default=1_000_000, help="number of speakers")
    args = parsed(parser, measure)
    loads, rows, sizes, medians = [os.getloadavg()[0]], [], [], []
    for size in (args.size // 1000, args.size // 100, args.size // 10, args.size):
        with tempfile.TemporaryDirectory() as folder:
            case = {"size": size, "folder": folder, "threads": args.threads, "keep_freed": False}
            made = run_child(__file__, case | {"what": "fill"})
            found = run_child(__file__, case | {"what": "find"})
        sizes.append(size)
        medians.append(statistics.median(found["ms"]))
        rows.append(
            [
                f"{size:,}",
                f"{medians[-1]:.2f} ({np.percentile(found['ms'], 95):.2f})",
                f"{found['cold']:.2f}",
                f"{found['recall']:.4f}",
                f"{found['opened']:.2f}",
                f"{made['filled']:.1f}",
                f"{found['memory']:.0f}",
                f"{found['disk']:.0f}",
            ]
        )
    header = ["speakers", "search, ms", "cold search, ms", f"recall@{TOP}", "opening, s", "filling, s"]
    header += ["memory, MiB", "disk, MiB"]
    write_page(
        args.page,
        [
            "# Galleries",
            "",
            f"Synthetic embeddings of {DIMENSIONS} dimensions with random directions. The {QUERIES}",
            "queries are",
            "enrolled speakers plus noise of the same power. Times are medians (95th percentiles) of",
            "`Gallery.search`, which reads names and exact embeddings of its candidates from the file.",
            "Recall is",
            f"measured against the exact {TOP} nearest speakers. Queries run one after another; for the cold",
            "search, the CPU caches are emptied before each query.",
            *made_on(loads, "numkong", "numpy"),
            "",
            *table(header, rows),
            "",
            f"Time grows with the number of speakers to the power of {exponent(sizes, medians):.2f}.",
            "",
            f"Made by `python benchmarks/bench_gallery.py --size {args.size}`.",
        ],
        [
            Promise(
                f"top {TOP} of {args.size:,} enrolled",
                f"{medians[-1]:.1f} ms",
                "< 20 ms",
                medians[-1] < 20,
            ),
            Promise(
                f"recall@{TOP} of {args.size:,} enrolled",
                f"{found['recall']:.4f}",
                "≥ 0.99",
                found["recall"] >= 0.99,
            ),
        ],
    )


if __name__ == "__main__":
    main()
