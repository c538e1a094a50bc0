"""Separation after equal training time on the same mixtures, compared with Asteroid's networks.

    python benchmarks/bench_separation.py --peer-python PEERS/bin/python --corpus speech.csv \
        --noise noise.csv --minutes 30      # rewrites docs/benchmarks/separation.md; hours on two cores

Each network is trained alone, on all threads. Ours is trained by its whole recipe, with identities and
activity. The peers are trained with their default sizes at 8 kHz by negative SI-SDR under the best
permutation (Adam, learning rate 1e-3 with the schedule of the recipe). Speakers, speeds, crops, channels and
ratios are those of the recipe. All networks are evaluated at 8 kHz on the same mixtures of two unseen
speakers at 0 dB. This benchmark is not part of ``run.py``, because it takes too long.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from common import (
    Promise,
    Record,
    arguments,
    made_on,
    parsed,
    run_child,
    table,
    training_arguments,
    write_page,
)

OURS, PEERS = "small", ("DPRNNTasNet", "ConvTasNet")
PEER_RATE, PEER_BATCH, PEER_LR = 8000, 8, 1e-3
TEST_SECONDS, TEST_STEPS = 4.0, 3
# Shares of the training after which the network is evaluated; the evaluation does not count as training.
EVALUATIONS = (0.5, 1.0)


def measure(case: Record) -> Record:
    import torch

    from separative.corpora import load_corpus
    from separative.mixtures import Mixer
    from separative.training import load_recipe, machine

    machine.prepare(case["threads"])
    torch.manual_seed(0)
    recipe = load_recipe(OURS)
    mine = case["system"] == OURS
    changes: Record = {} if mine else {"rate": PEER_RATE, "batch": PEER_BATCH}
    stages = [{"speakers": (0.0, 1.0)}]
    config = type(recipe.mixtures).model_validate(recipe.mixtures.model_dump() | {"stages": stages} | changes)
    corpus = load_corpus(case["corpus"], keep_damaged=True)
    noise = load_corpus(case["noise"]).split("train")
    mixer = Mixer(corpus.split("train"), config, seed=0, noise=noise, cache=Path(case["cache"]))
    step, separate = _ours(recipe, mixer) if mine else _peer(case["system"])
    test = _make_test(corpus.split("dev"), recipe.mixtures, Path(case["cache"]))
    trained, number, evaluations = 0.0, 0, []
    wanted = 60 * case["minutes"]
    while len(evaluations) < len(EVALUATIONS):
        started = time.monotonic()
        step(mixer.batch(number), number, trained / wanted)
        trained, number = trained + time.monotonic() - started, number + 1
        if trained >= EVALUATIONS[len(evaluations)] * wanted:
            evaluations.append({"minutes": trained / 60, "seconds": number * config.batch * config.seconds})
            evaluations[-1] |= test(separate)
    return {"evaluations": evaluations}


def _ours(recipe: Any, mixer: Any) -> tuple[Callable[..., Any], Callable[..., Any]]:
    import torch

    from separative.training import machine
    from separative.training.learner import Learner

    learner = Learner(recipe, len(mixer.identities), machine.launch("cpu"))

    def separate(mix_BN: torch.Tensor) -> torch.Tensor:
        return learner.average.eval()(mix_BN).estimate_BCN

    return lambda batch, step, share: learner.step(batch, step, min(share, 1.0)), separate


def _peer(name: str) -> tuple[Callable[..., Any], Callable[..., Any]]:
    import soxr
    import torch
    from asteroid import models
    from asteroid.losses import PITLossWrapper, pairwise_neg_sisdr

    from separative.training.learner import learning_rate
    from separative.training.recipe import OptimiserConfig

    network = getattr(models, name)(n_src=2, sample_rate=PEER_RATE)
    adam = torch.optim.Adam(network.parameters(), lr=PEER_LR)
    loss = PITLossWrapper(pairwise_neg_sisdr, pit_from="pw_mtx")
    config = OptimiserConfig(lr=PEER_LR, warmup=20)

    def step(batch: Any, number: int, share: float) -> None:
        network.train()
        adam.param_groups[0]["lr"] = learning_rate(config, number, min(share, 1.0))
        adam.zero_grad()
        loss(network(batch.mixtures.unsqueeze(1)), batch.sources).backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        adam.step()

    def separate(mix_BN: torch.Tensor) -> torch.Tensor:
        network.eval()
        slow_BN = torch.from_numpy(soxr.resample(mix_BN.numpy().T, 16000, PEER_RATE).T.copy())
        # Four mixtures at a time: a batch of 32 would need ten gigabytes.
        return torch.cat([network(some_BN.unsqueeze(1)) for some_BN in slow_BN.split(4)])

    return step, separate


def _make_test(dev: Any, config: Any, cache: Path) -> Callable[[Callable[..., Any]], Record]:
    """A test of the mean SI-SDR improvement in dB at PEER_RATE, with a 95 % interval over target speakers."""
    import numpy as np
    import soxr
    import torch

    from separative.metrics import si_sdr_improvement
    from separative.mixtures import Mixer

    plain = {"seconds": TEST_SECONDS, "batch": 32, "sir_db": (0.0, 0.0), "speeds": (1.0,), "channel": 0.0}
    plain |= {"stages": [{"speakers": (0.0, 1.0)}], "unlabelled": "drop"}
    mixer = Mixer(dev, type(config).model_validate(config.model_dump() | plain), seed=1, cache=cache)
    batches = [mixer.batch(step) for step in range(TEST_STEPS)]

    def slow(wave_CN: Any) -> Any:
        return soxr.resample(np.asarray(wave_CN).T, config.rate, PEER_RATE).T

    def test(separate: Callable[..., Any]) -> Record:
        gains: dict[int, list[float]] = {}
        with torch.inference_mode():
            for batch in batches:
                estimates = separate(batch.mixtures).numpy()
                for row, estimate_CN in enumerate(estimates):
                    mix_N = slow(batch.mixtures[row : row + 1])[0]
                    rated_CN = estimate_CN if estimate_CN.shape[-1] == len(mix_N) else slow(estimate_CN)
                    gain_K, _ = si_sdr_improvement(rated_CN, slow(batch.sources[row]), mix_N)
                    gains.setdefault(int(batch.identities[row, 0]), []).append(float(np.mean(gain_K)))
        speakers = list(gains.values())
        rng = np.random.default_rng(0)
        means = [
            np.mean([g for t in rng.integers(len(speakers), size=len(speakers)) for g in speakers[t]])
            for _ in range(500)
        ]
        low, high = np.percentile(means, [2.5, 97.5])
        return {
            "db": float(np.mean([g for t in speakers for g in t])),
            "low": float(low),
            "high": float(high),
        }

    return test


def main() -> None:
    parser = arguments(__doc__, "separation.md", runs=1, rounds=1)
    parser.add_argument("--peer-python", help="Python of an environment with asteroid and this package")
    training_arguments(parser, minutes=30.0)
    args = parsed(parser, measure)
    if not (args.peer_python and args.corpus and args.noise):
        parser.error("--peer-python, --corpus and --noise are required")
    import os

    common = {key: getattr(args, key) for key in ("corpus", "noise", "cache", "minutes", "threads")}
    loads, found = [], {}
    for system in (OURS, *PEERS):
        print(f"{system} …", file=sys.stderr, flush=True)
        loads.append(os.getloadavg()[0])
        found[system] = run_child(__file__, common | {"system": system}, args.peer_python)["evaluations"]
        print(json.dumps(found[system]), file=sys.stderr, flush=True)
    lines = [
        "# Separation after equal training time",
        "",
        f"SI-SDR improvement in dB (95 % interval over speakers) on {32 * TEST_STEPS} mixtures of two",
        f"unseen speakers at 0 dB, {TEST_SECONDS:g} s, evaluated at 8 kHz. Each network is trained for",
        f"{args.minutes:g} minutes on {args.threads} threads, including the drawing of mixtures.",
        *made_on(loads, "torch"),
        "",
    ]
    rows = [
        [
            system,
            *(f"{x['db']:.1f} ({x['low']:.1f} to {x['high']:.1f})" for x in evaluations),
            f"{evaluations[-1]['seconds']:,.0f}",
        ]
        for system, evaluations in found.items()
    ]
    heads = [f"after {share:.0%}" for share in EVALUATIONS]
    lines += table(["network", *heads, "seconds of mixtures"], rows)
    lines += [
        "",
        "Our network is trained by its whole recipe on mixtures of two speakers. The peers are trained by",
        "negative SI-SDR alone, with their default sizes.",
        "Made by `python benchmarks/bench_separation.py --peer-python PEERS/bin/python"
        f" --corpus speech.csv --noise noise.csv --minutes {args.minutes:g}`.",
    ]
    mine = found[OURS][-1]["db"]
    promises = [
        Promise(
            f"separation after {args.minutes:g} minutes of training each, minus that of Asteroid {peer}",
            f"{mine - found[peer][-1]['db']:+.1f} dB",
            "≥ 0 dB",
            mine >= found[peer][-1]["db"],
        )
        for peer in PEERS
    ]
    write_page(args.page, lines, promises)


if __name__ == "__main__":
    main()
