"""Speech in tar archives (shards) compared with plain files: packing, listing, decoding, drawing.

    python benchmarks/bench_shards.py [--utterances 100000]      # rewrites docs/benchmarks/shards.md

It writes clips of half a second (8 kB each) to a temporary folder.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile

from common import Promise, Record, arguments, made_on, parsed, run_child, table, write_page

RATE, SAMPLES, EACH = 8000, 4000, 50
BATCHES = 20


def measure(case: Record) -> Record:
    """Run one step in a separate process, so that nothing is cached from the step before."""
    from separative.corpora import load_corpus, pack_corpus
    from separative.corpora.store import WaveStore
    from separative.mixtures import Mixer, MixtureConfig

    source, folder = Path(case["source"]), Path(case["folder"])
    started = time.perf_counter()
    corpus = load_corpus(source)
    listed = time.perf_counter() - started
    started = time.perf_counter()
    if case["what"] == "pack":
        pack_corpus(corpus, folder)
        return {"listed": listed, "took": time.perf_counter() - started}
    WaveStore(corpus, RATE, folder)
    decoded = time.perf_counter() - started
    config = MixtureConfig(rate=RATE, seconds=1.0, batch=32)
    mixer = Mixer(corpus, config, seed=0, cache=folder)
    started = time.perf_counter()
    check = sum(float(mixer.batch(step).mixtures.square().sum()) for step in range(BATCHES))
    return {
        "listed": listed,
        "took": decoded,
        "drawn": BATCHES * 32 / (time.perf_counter() - started),
        "check": check,
    }


def main() -> None:
    parser = arguments(__doc__, "shards.md", runs=1, rounds=1)
    parser.add_argument("--utterances", type=int, default=100_000, help="number of clips")
    args = parsed(parser, measure)
    loads, rng = [os.getloadavg()[0]], np.random.default_rng(0)
    noise = np.round(6000 * rng.standard_normal(RATE * 60)).clip(-32768, 32767).astype(np.int16)
    with tempfile.TemporaryDirectory() as name:
        files, shards = Path(name) / "files", Path(name) / "shards"
        for number in range(args.utterances):
            path = files / f"t{number // EACH}" / f"{number}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            start = int(rng.integers(len(noise) - SAMPLES))
            soundfile.write(path, noise[start : start + SAMPLES], RATE)
        case = {"what": "pack", "source": str(files), "folder": str(shards)}
        packed = run_child(__file__, case)
        found = {
            kind: run_child(
                __file__,
                {"what": "decode", "source": str(source), "folder": str(Path(name) / f"cache-{kind}")},
            )
            for kind, source in (("files", files), ("shards", shards))
        }
        archives = len(list(shards.glob("*.tar")))
    rows = [
        [kind, f"{x['listed']:.1f}", f"{args.utterances / x['took']:.0f}", f"{x['drawn']:.0f}"]
        for kind, x in found.items()
    ]
    equal = found["files"]["check"] == found["shards"]["check"]
    write_page(
        args.page,
        [
            "# Shards compared with files",
            "",
            f"{args.utterances} utterances of half a second (WAV, 8 kHz, {args.utterances // EACH}",
            "speakers),",
            f"on one local disk; {archives} archives, packed at {args.utterances / packed['took']:.0f} files",
            "per second. All files were just written and are still in memory, so this page does not show the",
            "advantage of archives on a disk or a network.",
            *made_on(loads, "torch", "soundfile"),
            "",
            *table(
                ["speech in", "listing, s", "files decoded per second", "mixtures drawn per second"], rows
            ),
            "",
            f"Made by `python benchmarks/bench_shards.py --utterances {args.utterances}`.",
        ],
        [Promise("mixtures from shards and from files", "equal" if equal else "differ", "equal", equal)],
    )


if __name__ == "__main__":
    main()
