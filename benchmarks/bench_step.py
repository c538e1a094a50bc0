"""One training step (forward, loss, backward) of a recipe, compared with Asteroid's DPRNNTasNet.

    python benchmarks/bench_step.py --peer-python PEERS/bin/python      # rewrites docs/benchmarks/step.md
    python benchmarks/bench_step.py --page -                            # prints the page, without the peer

Every case runs in separate processes, so that its peak memory can be measured. The cases take turns, so that
slow changes of the machine affect all of them. ``PEERS`` is an environment with asteroid and the same version
of torch.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

from common import (
    Promise,
    Record,
    arguments,
    made_on,
    median,
    parsed,
    spread,
    table,
    take_turns,
    timed,
    write_page,
)

PEER, PEER_BATCH, PEER_SECONDS, PEER_RATE = "Asteroid DPRNNTasNet", 4, 4.0, 8000
# Rows of the inventory for the usual corpus of the recipe: 541 speakers at three speeds.
IDENTITIES = 1623
# By recipe, the promise compared with the peer: times its speed, and its memory divided by.
HEADER = ["case", "mixtures", "Hz", "parameters", "step, s (lowest–highest)", "CPU, s"]
HEADER += ["ms per second of mixture", "peak memory, MiB", "memory of the step, MiB"]
PROMISES = {"small": (10, 5), "galr-8k": (2, 2)}


def ours(recipe: str, batch: int, seconds: float) -> tuple[Callable[[], None], Record]:
    """A training step of a recipe on mixtures of two modulated noises."""
    import torch

    from separative.model import SeparativeEncoder
    from separative.objectives import build_objective
    from separative.training import load_recipe

    plan = load_recipe(recipe)
    model = SeparativeEncoder(plan.model)
    objective = build_objective(plan.loss, IDENTITIES, plan.model.embedding)
    samples, views = round(seconds * plan.model.rate), plan.mixtures.stages[-1].views
    time_N = torch.arange(samples) / plan.model.rate
    source_BCN = 0.1 * torch.randn(batch, plan.model.streams, samples)
    source_BCN *= (3 * time_N + 6 * torch.rand(batch, plan.model.streams, 1)).sin()
    mix_BN, group_B = source_BCN.sum(1), torch.arange(batch) // views
    identity_BC = torch.rand(batch, IDENTITIES).argsort(-1)[:, : plan.model.streams]

    def step() -> None:
        model.zero_grad(set_to_none=True)
        objective.zero_grad(set_to_none=True)
        objective(model, mix_BN, source_BCN, identity_BC, group_B).total.backward()

    return step, {"rate": plan.model.rate, "parameters": sum(p.numel() for p in model.parameters())}


def peer(batch: int, seconds: float) -> tuple[Callable[[], None], Record]:
    """A training step of Asteroid's default network by negative SI-SDR.

    The mean square error of an untrained network would produce denormal numbers.
    """
    import torch
    from asteroid.models import DPRNNTasNet

    model = DPRNNTasNet(n_src=2)
    source_BCN = torch.randn(batch, 2, round(seconds * PEER_RATE))

    def step() -> None:
        model.zero_grad(set_to_none=True)
        estimate_BCN = model(source_BCN.sum(1))
        scale_BC1 = (estimate_BCN * source_BCN).sum(-1, keepdim=True) / source_BCN.square().sum(
            -1, keepdim=True
        )
        scaled_BCN = scale_BC1 * source_BCN
        ratio_BC = scaled_BCN.square().sum(-1) / (scaled_BCN - estimate_BCN).square().sum(-1)
        (-10 * ratio_BC.log10().mean()).backward()

    return step, {"rate": PEER_RATE, "parameters": sum(p.numel() for p in model.parameters())}


def measure(case: Record) -> Record:
    import torch

    torch.set_num_threads(case["threads"])
    torch.manual_seed(0)
    size = case["batch"], case["seconds"]
    step, facts = peer(*size) if case["recipe"] is None else ours(case["recipe"], *size)
    return facts | timed(step, case["runs"])


def row(case: Record, rounds: list[Record]) -> list[str]:
    audio, facts = case["batch"] * case["seconds"], rounds[0]
    return [
        case["name"],
        f"{case['batch']} × {case['seconds']:g} s",
        str(facts["rate"]),
        f"{facts['parameters'] / 1e6:.2f} M",
        spread(rounds, "wall_s"),
        f"{median(rounds, 'cpu_s'):.3f}",
        f"{1000 * median(rounds, 'wall_s') / audio:.1f}",
        f"{median(rounds, 'peak'):.0f}",
        f"{median(rounds, 'above'):.0f}",
    ]


def main() -> None:
    parser = arguments(__doc__, "step.md", runs=3, rounds=2)
    parser.add_argument("--peer-python", help="Python of an environment with asteroid")
    args = parsed(parser, measure)

    from separative.training import load_recipe

    common = {"runs": args.runs, "threads": args.threads}
    cases: list[tuple[str, Record]] = []
    for recipe in PROMISES:
        mixtures = load_recipe(recipe).mixtures
        same = round(PEER_BATCH * PEER_SECONDS / mixtures.seconds)
        for batch, suffix in ((mixtures.batch, ""), (same, ", batch as long as that of the peer")):
            named = {"name": f"`{recipe}`{suffix}", "recipe": recipe, "suffix": suffix}
            cases.append((sys.executable, common | named | {"batch": batch, "seconds": mixtures.seconds}))
    if args.peer_python:
        size = {"batch": PEER_BATCH, "seconds": PEER_SECONDS}
        cases.append((args.peer_python, common | size | {"name": PEER, "recipe": None}))
    results, loads = take_turns(__file__, cases, args.rounds)
    lines = [
        "# One training step",
        "",
        f"Forward, loss and backward, {args.threads} threads.",
        *made_on(loads, "torch"),
        "",
        *table(HEADER, [row(case, found) for (_, case), found in zip(cases, results, strict=True)]),
        "",
    ]
    promises: list[Promise] = []
    if args.peer_python:
        theirs = results[-1]
        per_second = median(theirs, "wall_s") / (PEER_BATCH * PEER_SECONDS)
        for (_, case), found in zip(cases[:-1], results[:-1], strict=True):
            if case["suffix"]:
                faster = per_second / (median(found, "wall_s") / (case["batch"] * case["seconds"]))
                smaller = median(theirs, "above") / median(found, "above")
                speed, memory = PROMISES[case["recipe"]]
                named = f"training step of `{case['recipe']}` compared with {PEER}"
                promises += [
                    Promise(f"{named}: speed", f"{faster:.1f}", f"≥ {speed}", faster >= speed),
                    Promise(f"{named}: memory", f"1/{smaller:.1f}", f"≤ 1/{memory}", smaller >= memory),
                ]
    lines += [
        f"Medians of {args.rounds * args.runs} steps in {args.rounds} processes, each after one",
        "warm-up step. The memory of the step is the peak memory of the process minus its peak before",
        "the first step (libraries, weights and the batch). The mixtures are modulated noises and the",
        "inventory has",
        f"{IDENTITIES} rows. The peer has its default sizes and is trained by negative SI-SDR without a",
        "search for the permutation. The step of the optimiser is not included.",
        "",
        "Made by `python benchmarks/bench_step.py"
        f"{' --peer-python PEERS/bin/python' if args.peer_python else ''}`.",
    ]
    write_page(args.page, lines, promises)


if __name__ == "__main__":
    main()
