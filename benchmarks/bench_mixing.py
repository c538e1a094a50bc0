"""Drawing mixtures: seconds of mixture per second on one core, by size of the corpus.

    python benchmarks/bench_mixing.py              # rewrites docs/benchmarks/mixing.md
    python benchmarks/bench_mixing.py --page -     # prints the page

The corpora are synthetic: a few files of modulated noise, and manifests with more and more segments of them.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from common import (
    Promise,
    Record,
    arguments,
    exponent,
    made_on,
    median,
    parsed,
    spread,
    table,
    take_turns,
    timed,
    write_page,
)

RATE = 16000
FILES, FILE_SECONDS, SEGMENT_SECONDS = 8, 240.0, 3.0
SIZES = (1_000, 10_000, 100_000, 1_000_000)
SPEAKER_UTTERANCES = 20
STEPS, WAIT_STEPS = 5, 80
PROMISED = {"plain": 150, "rooms": 60, "nuisances": 150}
NUISANCES = {"channels": 1.0, "rooms": 1.0, "noises": 1.0, "microphones": 1.0}
MOST_WAIT = 0.05


def synthetic_corpus(folder: Path, utterances: int) -> object:
    """A synthetic corpus of segments of FILES files, with SPEAKER_UTTERANCES utterances per speaker."""
    import numpy as np

    from separative import audio
    from separative.corpora import Corpus, Utterance

    rng = np.random.default_rng(0)
    paths = [folder / f"{number}.wav" for number in range(FILES)]
    for path in paths:
        wave_N = rng.standard_normal(int(FILE_SECONDS * RATE)).astype(np.float32)
        wave_N *= np.abs(np.sin(np.arange(len(wave_N)) * (12 / RATE))).astype(np.float32) * 0.1
        audio.write(path, wave_N, RATE)
    starts = rng.integers(0, int(FILE_SECONDS - SEGMENT_SECONDS), utterances)
    return Corpus(
        tuple(
            Utterance(
                id=str(number),
                path=paths[number % FILES],
                speaker=f"speaker{number // SPEAKER_UTTERANCES}",
                corpus="synthetic",
                seconds=SEGMENT_SECONDS,
                start=float(start),
            )
            for number, start in enumerate(starts)
        )
    )


def measure_wait(case: Record) -> Record:
    """Share of training time spent waiting for mixtures, with the recipe ``small``."""
    import os

    from separative.training import load_recipe, train

    recipe = load_recipe(
        "small", [f"run.steps={WAIT_STEPS}", "run.log_every=20", "optimiser.inventory_crops=0"]
    )
    with tempfile.TemporaryDirectory() as folder:
        corpus = synthetic_corpus(Path(folder), case["utterances"])
        log = train(recipe, corpus=corpus, noise=corpus, out=Path(folder) / "run") / "log.jsonl"  # type: ignore[arg-type]
        lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    # The first line includes the start of the worker.
    waiting = [line["waiting"] for line in lines if "waiting" in line][1:]
    return {"waiting": waiting, "cores": os.cpu_count()}


def measure(case: Record) -> Record:
    if case["what"] == "wait":
        return measure_wait(case)

    import torch

    from separative.mixtures import Mixer, NuisanceConfig
    from separative.training import load_recipe

    torch.set_num_threads(1)
    config = load_recipe("small").mixtures
    noisy = [config.stages[0].model_copy(update={"noise": 0.3})]
    every = NuisanceConfig(**NUISANCES) if case["what"] == "nuisances" else NuisanceConfig()
    changes = {"stages": tuple(noisy), "rooms": float(case["what"] == "rooms"), "nuisances": every}
    config = config.model_copy(update=changes)
    with tempfile.TemporaryDirectory() as folder:
        corpus = synthetic_corpus(Path(folder), case["utterances"])
        # The growth is measured without a decoded corpus: each crop is decoded from its file.
        cache = Path(folder) / "cache" if case["what"] != "growth" else None
        mixer = Mixer(corpus, config, seed=0, noise=corpus, cache=cache)  # type: ignore[arg-type]
        steps = iter(range(10**6))

        def draw() -> None:
            for _ in range(STEPS):
                mixer.batch(next(steps))

        return timed(draw, case["runs"], warm=1) | {"audio": STEPS * config.batch * config.seconds}


def main() -> None:
    args = parsed(arguments(__doc__, "mixing.md", runs=4, rounds=2), measure)
    keys = [*((what, 2_000) for what in (*PROMISED, "wait")), *(("growth", size) for size in SIZES)]
    cases = [(sys.executable, {"what": what, "utterances": n, "runs": args.runs}) for what, n in keys]
    results, loads = take_turns(__file__, cases, args.rounds)
    found = dict(zip(keys, results, strict=True))
    lines = [
        "# Drawing mixtures",
        "",
        "The mixtures of recipe `small` (two speakers, three speeds, random channels) with 30 % noise; one",
        "process, one core. The table has CPU time, the other figures have elapsed time.",
        *made_on(loads, "numpy", "scipy"),
        "",
    ]
    promises, rows = [], []
    words = {
        "plain": "decoded corpus",
        "rooms": "decoded corpus, every mixture in a simulated room",
        "nuisances": "decoded corpus, all nuisances in every mixture",
    }
    for what, n in keys[: len(words)]:
        one = found[what, n]
        audio = one[0]["audio"]
        speed = audio / median(one, "cpu_s")
        rows.append([words[what], spread(one, "cpu_s", 1000 / audio, 2), f"{speed:.0f}", str(PROMISED[what])])
        named = f"drawing mixtures, {words[what]}: seconds of mixture per second and core"
        promises.append(Promise(named, f"{speed:.0f}", f"≥ {PROMISED[what]}", speed >= PROMISED[what]))
    header = ["source", "ms per second of mixture (lowest–highest)", "seconds of mixture per second"]
    lines += table([*header, "promised"], rows)
    times = [median(found["growth", size], "wall_s") for size in SIZES]
    audio = found["growth", SIZES[0]][0]["audio"]
    cells = ", ".join(f"{size:,}: {audio / t:.0f}" for size, t in zip(SIZES, times, strict=True))
    waited = median(found["wait", 2_000], "waiting")
    lines += [
        "",
        f"Training with recipe `small` and one process that draws mixtures waits {waited:.1%} of its time.",
        "",
        "Without a decoded corpus, the utterance of each crop is decoded from its file. Seconds of",
        "mixture per",
        f"second, by utterances in the manifest: {cells}.",
        f"Time grows with that number to the power of **{exponent([float(s) for s in SIZES], times):.2f}**.",
        "",
        f"Medians of {args.rounds * args.runs} runs of {STEPS} steps in {args.rounds} processes, each after",
        "one warm-up run.",
        "Made by `python benchmarks/bench_mixing.py`.",
    ]
    named = "training waits for mixtures, recipe `small`"
    promises.append(Promise(named, f"{waited:.1%}", f"< {MOST_WAIT:.0%}", waited < MOST_WAIT))
    slope = exponent([float(s) for s in SIZES], times)
    named = f"mixing up to {SIZES[-1]:,} utterances: growth of time"
    promises.append(Promise(named, f"{slope:.2f}", "≤ 0.05", slope <= 0.05))
    write_page(args.page, lines, promises)


if __name__ == "__main__":
    main()
