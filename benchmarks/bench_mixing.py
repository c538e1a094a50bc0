"""Drawing mixtures: seconds of mixture a second on one core, and how that stands to the corpus's size.

    python benchmarks/bench_mixing.py              # rewrites docs/benchmarks/mixing.md
    python benchmarks/bench_mixing.py --page -     # prints the page

Corpora are made up: a few files of modulated noise, and manifests that name ever more pieces of them.
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
    put,
    spread,
    take_turns,
    timed,
)

RATE = 16000
FILES, FILE_SECONDS, PIECE_SECONDS = 8, 240.0, 3.0
SIZES = (1_000, 10_000, 100_000, 1_000_000)
SPEAKER_UTTERANCES = 20
STEPS, WAIT_STEPS = 5, 80
PROMISED = {"plain": 150, "rooms": 60}
MOST_WAIT = 0.05


def made_up(folder: Path, utterances: int) -> object:
    """A corpus of so many pieces of FILES files, SPEAKER_UTTERANCES a speaker."""
    import numpy as np

    from separative import audio
    from separative.corpora import Corpus, Utterance

    rng = np.random.default_rng(0)
    paths = [folder / f"{number}.wav" for number in range(FILES)]
    for path in paths:
        wave_N = rng.standard_normal(int(FILE_SECONDS * RATE)).astype(np.float32)
        wave_N *= np.abs(np.sin(np.arange(len(wave_N)) * (12 / RATE))).astype(np.float32) * 0.1
        audio.write(path, wave_N, RATE)
    starts = rng.integers(0, int(FILE_SECONDS - PIECE_SECONDS), utterances)
    return Corpus(
        tuple(
            Utterance(
                id=str(number),
                path=paths[number % FILES],
                speaker=f"speaker{number // SPEAKER_UTTERANCES}",
                corpus="made up",
                seconds=PIECE_SECONDS,
                start=float(start),
            )
            for number, start in enumerate(starts)
        )
    )


def measure_wait(case: Record) -> Record:
    """Share of a training's time in which it waits for mixtures: recipe ``small`` as it stands."""
    import os

    from separative.training import load_recipe, train

    recipe = load_recipe(
        "small", [f"run.steps={WAIT_STEPS}", "run.log_every=20", "optimiser.inventory_crops=0"]
    )
    with tempfile.TemporaryDirectory() as folder:
        corpus = made_up(Path(folder), case["utterances"])
        log = train(recipe, corpus=corpus, noise=corpus, out=Path(folder) / "run") / "log.jsonl"  # type: ignore[arg-type]
        lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    # The first line holds the start of the worker.
    waiting = [line["waiting"] for line in lines if "waiting" in line][1:]
    return {"waiting": waiting, "cores": os.cpu_count()}


def measure(case: Record) -> Record:
    if case["what"] == "wait":
        return measure_wait(case)

    import torch

    from separative.mixtures import Mixer
    from separative.training import load_recipe

    torch.set_num_threads(1)
    config = load_recipe("small").mixtures
    noisy = [config.stages[0].model_copy(update={"noise": 0.3})]
    config = config.model_copy(update={"stages": tuple(noisy), "rooms": float(case["what"] == "rooms")})
    with tempfile.TemporaryDirectory() as folder:
        corpus = made_up(Path(folder), case["utterances"])
        # Growth is that of drawing and decoding piece by piece; a decoded corpus of that size is not made.
        cache = Path(folder) / "cache" if case["what"] != "growth" else None
        mixer = Mixer(corpus, config, seed=0, noise=corpus, cache=cache)  # type: ignore[arg-type]
        steps = iter(range(10**6))

        def draw() -> None:
            for _ in range(STEPS):
                mixer.batch(next(steps))

        return timed(draw, case["runs"], warm=1) | {"audio": STEPS * config.batch * config.seconds}


def main() -> None:
    args = parsed(arguments(__doc__, "mixing.md", runs=4, rounds=2), measure)
    keys = [("plain", 2_000), ("rooms", 2_000), ("wait", 2_000), *(("growth", size) for size in SIZES)]
    cases = [(sys.executable, {"what": what, "utterances": n, "runs": args.runs}) for what, n in keys]
    results, loads = take_turns(__file__, cases, args.rounds)
    found = dict(zip(keys, results, strict=True))
    lines = [
        "# Drawing mixtures",
        "",
        "The mixtures of recipe `small` (two speakers, three speeds, random channels) with 30 % noise; one",
        "process, one core.",
        *made_on(loads, "numpy", "scipy"),
        "",
        "| what | ms for a second of mixture (lowest–highest) | seconds of mixture a second | promised |",
        "|---|---|---|---|",
    ]
    promises = []
    words = {"plain": "decoded corpus", "rooms": "the same, every mixture in a simulated room"}
    for what, n in keys[:2]:
        one = found[what, n]
        audio = one[0]["audio"]
        lines.append(
            f"| {words[what]} | {spread(one, 'wall_s', 1000 / audio, 2)}"
            f" | {audio / median(one, 'wall_s'):.0f} | {PROMISED[what]} |"
        )
        speed = audio / median(one, "wall_s")
        named = f"drawing mixtures, {words[what]}: seconds a second and core"
        promises.append(Promise(named, f"{speed:.0f}", f"≥ {PROMISED[what]}", speed >= PROMISED[what]))
    times = [median(found["growth", size], "wall_s") for size in SIZES]
    audio = found["growth", SIZES[0]][0]["audio"]
    cells = ", ".join(f"{size:,}: {audio / t:.0f}" for size, t in zip(SIZES, times, strict=True))
    waited = median(found["wait", 2_000], "waiting")
    lines += [
        "",
        f"Training by recipe `small`, one process drawing beside, waits {waited:.1%} of its time.",
        "",
        "Without a decoded corpus, each crop's utterance decoded from its file when drawn, seconds of",
        f"mixture a second by utterances in the manifest: {cells}.",
        f"Time grows as that number to the **{exponent([float(s) for s in SIZES], times):.2f}**.",
        "",
        f"Medians of {args.rounds * args.runs} runs of {STEPS} steps in {args.rounds} processes, each after",
        "one to warm up.",
        "Made by `python benchmarks/bench_mixing.py`.",
    ]
    named = "training waits for mixtures, recipe `small`"
    promises.append(Promise(named, f"{waited:.1%}", f"< {MOST_WAIT:.0%}", waited < MOST_WAIT))
    slope = exponent([float(s) for s in SIZES], times)
    named = f"mixing up to {SIZES[-1]:,} utterances: growth of time"
    promises.append(Promise(named, f"{slope:.2f}", "≤ 0.05", slope <= 0.05))
    put(args.page, lines, promises)


if __name__ == "__main__":
    main()
