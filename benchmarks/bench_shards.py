"""Speech in tar archives beside plain files: packing, listing, decoding, drawing.

    python benchmarks/bench_shards.py [--utterances 100000]      # rewrites docs/benchmarks/shards.md

Clips of half a second, as many as asked for, are written to a temporary folder (8 kB each).
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile

from common import Promise, Record, arguments, made_on, parsed, put, run_child

RATE, SAMPLES, EACH = 8000, 4000, 50
BATCHES = 20


def measure(case: Record) -> Record:
    """A step of the way in a process of its own, so that nothing is remembered from the step before."""
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
    check = sum(float(mixer.batch(step).mix_BN.square().sum()) for step in range(BATCHES))
    return {
        "listed": listed,
        "took": decoded,
        "drawn": BATCHES * 32 / (time.perf_counter() - started),
        "check": check,
    }


def main() -> None:
    parser = arguments(__doc__, "shards.md", runs=1, rounds=1)
    parser.add_argument("--utterances", type=int, default=100_000)
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
        f"| {kind} | {x['listed']:.1f} | {args.utterances / x['took']:.0f} | {x['drawn']:.0f} |"
        for kind, x in found.items()
    ]
    equal = found["files"]["check"] == found["shards"]["check"]
    put(
        args.page,
        [
            "# Shards beside files",
            "",
            f"{args.utterances} utterances of half a second (WAV, 8 kHz, {args.utterances // EACH} speakers),",
            f"on one local disk; {archives} archives, packed at {args.utterances / packed['took']:.0f} files",
            "a second. Files were just written and lie in the system's memory: what archives spare a",
            "disk or a network is not seen here.",
            *made_on(loads, "torch", "soundfile"),
            "",
            "| speech in | listing, s | files decoded a second, once | mixtures drawn a second |",
            "|---|---|---|---|",
            *rows,
            "",
            f"Made by `python benchmarks/bench_shards.py --utterances {args.utterances}`.",
        ],
        [
            Promise(
                "mixtures from shards equal those from files", "equal" if equal else "differ", "equal", equal
            )
        ],
    )


if __name__ == "__main__":
    main()
