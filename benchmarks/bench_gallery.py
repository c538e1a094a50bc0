"""A gallery of very many speakers: opening it, finding ten of them, against exact search.

    python benchmarks/bench_gallery.py [--size 1000000]      # rewrites docs/benchmarks/gallery.md

Embeddings are synthetic: directions drawn evenly, so that nobody has near neighbours. Queries are enrolled
speakers heard again, at a cosine of 0.7 or so.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from common import Promise, Record, arguments, exponent, held_mib, made_on, parsed, put, run_child

DIMENSIONS, QUERIES, TOP = 128, 200, 10


def directions(count: int, seed: int) -> NDArray[np.float32]:
    rows = np.random.default_rng(seed).standard_normal((count, DIMENSIONS), dtype=np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows


def measure(case: Record) -> Record:
    """Fill, open anew, and find."""
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
            with gallery._rows.writing():
                for number, row in enumerate(rows):
                    gallery._rows.put_speaker(f"speaker{number}", row)
            filled = time.perf_counter() - started
            return {"filled": filled}
        heard = rows[np.linspace(0, size - 1, QUERIES).astype(int)] + directions(QUERIES, 1)
        heard /= np.linalg.norm(heard, axis=1, keepdims=True)
        started = time.perf_counter()
        gallery.find(heard[0], TOP)
        opened = time.perf_counter() - started
        # One after another, and again with the exact search between, which empties the processor's caches.
        wall, cold, hits = [], [], 0
        for query in heard:
            started = time.perf_counter()
            gallery.find(query, TOP)
            wall.append(time.perf_counter() - started)
        for query in heard:
            best = np.argpartition(-(rows @ query), TOP)[:TOP]
            started = time.perf_counter()
            found = gallery.find(query, TOP)
            cold.append(time.perf_counter() - started)
            hits += len({name for name, _ in found} & {f"speaker{i}" for i in best})
        return {
            "opened": opened,
            "ms": [1e3 * x for x in wall],
            "cold": 1e3 * statistics.median(cold),
            "recall": hits / (TOP * QUERIES),
            "memory": held_mib("VmRSS") - rows.nbytes / 2**20,
            "disk": sum(p.stat().st_size for p in (folder / "gallery").rglob("*") if p.is_file()) / 2**20,
        }


def main() -> None:
    parser = arguments(__doc__, "gallery.md", runs=1, rounds=1)
    parser.add_argument("--size", type=int, default=1_000_000)
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
            f"| {size:,} | {medians[-1]:.2f} ({np.percentile(found['ms'], 95):.2f}) | {found['cold']:.2f} |"
            f" {found['recall']:.4f} | {found['opened']:.2f} | {made['filled']:.1f} |"
            f" {found['memory']:.0f} | {found['disk']:.0f} |"
        )
    put(
        args.page,
        [
            "# Galleries",
            "",
            f"Synthetic embeddings of {DIMENSIONS} dimensions, drawn evenly; {QUERIES} queries, each an",
            "enrolled speaker plus as much noise. Median (95th percentile) of `Gallery.find`, which reads",
            f"names and exact embeddings of its candidates from the file; recall of the exact {TOP} nearest.",
            "One query after another; `cold`: after as much other memory was read as an exact search reads,",
            "so that nothing lies in the processor's caches.",
            *made_on(loads, "numkong", "numpy"),
            "",
            "| speakers | find, ms | cold, ms | recall@10 | opening, s | filling, s"
            " | memory, MiB | disk, MiB |",
            "|---|---|---|---|---|---|---|---|",
            *rows,
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
