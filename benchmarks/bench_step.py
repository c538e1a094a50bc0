"""One training step of a recipe, forward + loss + backward, beside Asteroid's DPRNNTasNet in the same run.

    python benchmarks/bench_step.py --peer-python PEERS/bin/python      # rewrites docs/benchmarks/step.md
    python benchmarks/bench_step.py --page -                            # prints the page, ours alone

Every case runs in child processes of its own, so that its peak memory is its own; cases take turns, so that a
drift of the machine reaches all alike. ``PEERS`` is an environment with asteroid and the same torch.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[1] / "docs" / "benchmarks" / "step.md"
PEER, PEER_BATCH, PEER_SECONDS, PEER_RATE = "Asteroid DPRNNTasNet", 4, 4.0, 8000
# The inventory of the recipe's usual corpus: 541 talkers at three speeds.
IDENTITIES = 1623
MIB = 2**20
# What the trainer sets for itself (freed memory stays with the process), here for every case alike.
ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": str(2**30), "MALLOC_TRIM_THRESHOLD_": str(2**30)}


def ours(recipe: str, batch: int, seconds: float) -> tuple[Callable[[], None], dict[str, Any]]:
    """The step of the training loop, on mixtures of two modulated noises."""
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


def peer(batch: int, seconds: float) -> tuple[Callable[[], None], dict[str, Any]]:
    """Asteroid's defaults and a negative SI-SDR (mean squares of untrained outputs run into denormals)."""
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
        heard_BCN = scale_BC1 * source_BCN
        ratio_BC = heard_BCN.square().sum(-1) / (heard_BCN - estimate_BCN).square().sum(-1)
        (-10 * ratio_BC.log10().mean()).backward()

    return step, {"rate": PEER_RATE, "parameters": sum(p.numel() for p in model.parameters())}


def measure(case: dict[str, Any]) -> dict[str, Any]:
    """Wall and CPU seconds of every run after one that warms up, and memory in MiB."""
    import torch

    torch.set_num_threads(case["threads"])
    torch.manual_seed(0)
    make = peer if case["recipe"] is None else lambda *size: ours(case["recipe"], *size)
    step, facts = make(case["batch"], case["seconds"])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    wall_s, cpu_s = [], []
    for run in range(case["runs"] + 1):
        wall, cpu = time.perf_counter(), time.process_time()
        step()
        if run:
            wall_s.append(time.perf_counter() - wall)
            cpu_s.append(time.process_time() - cpu)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return facts | {
        "wall_s": wall_s,
        "cpu_s": cpu_s,
        "peak": peak,
        "step": peak - before,
        "torch": torch.__version__,
    }


def run_child(python: str, case: dict[str, Any]) -> dict[str, Any]:
    words = [python, "-W", "ignore", __file__, "--case", json.dumps(case)]
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True, env=os.environ | ALLOCATOR)
    return json.loads(done.stdout.splitlines()[-1])


def summary(case: dict[str, Any], rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians over all runs of all rounds, per second of mixture too."""
    wall = [s for one in rounds for s in one["wall_s"]]
    audio = case["batch"] * case["seconds"]
    return {
        "name": case["name"],
        "mixtures": f"{case['batch']} × {case['seconds']:g} s",
        "rate": rounds[0]["rate"],
        "parameters": rounds[0]["parameters"],
        "wall": statistics.median(wall),
        "low": min(wall),
        "high": max(wall),
        "cpu": statistics.median([s for one in rounds for s in one["cpu_s"]]),
        "per_second": statistics.median(wall) / audio,
        "peak": statistics.median([one["peak"] for one in rounds]),
        "step": statistics.median([one["step"] for one in rounds]),
        "torch": rounds[0]["torch"],
    }


def page(rows: list[dict[str, Any]], loads: list[float], args: argparse.Namespace) -> str:
    cpu = next(
        (
            line.split(":")[1].strip()
            for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    torches = " / ".join(sorted({row["torch"] for row in rows}))
    lines = [
        "# One training step",
        "",
        f"Forward, loss and backward of the recipe `{args.recipe}`, {args.threads} threads.",
        f"Measured {datetime.date.today().isoformat()} on {cpu}, {os.cpu_count()} cores,",
        f"Python {platform.python_version()}, torch {torches};",
        f"load before each round {', '.join(f'{load:.2f}' for load in loads)}.",
        "",
        "| case | mixtures | Hz | parameters | step, s (lowest–highest) | CPU, s | ms per second of mixture"
        " | peak, MiB | of it the step, MiB |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {r['name']} | {r['mixtures']} | {r['rate']} | {r['parameters'] / 1e6:.2f} M"
        f" | {r['wall']:.3f} ({r['low']:.3f}–{r['high']:.3f}) | {r['cpu']:.3f}"
        f" | {1000 * r['per_second']:.1f} | {r['peak']:.0f} | {r['step']:.0f} |"
        for r in rows
    ]
    if len(rows) == 3:
        whole, same, other = rows
        lines += [
            "",
            f"Per second of mixture, {PEER} takes"
            f" **{other['per_second'] / whole['per_second']:.1f} times** as long as the recipe's own batch,",
            f"and {other['per_second'] / same['per_second']:.1f} times as long as a batch"
            " of as many seconds as its own.",
            f"For those seconds its step takes **{other['step'] / same['step']:.1f} times** the memory,",
            f"its process {other['peak'] / same['peak']:.1f} times.",
        ]
    lines += [
        "",
        f"Medians of {args.rounds * args.runs} steps in {args.rounds} processes, each after one to warm up.",
        "The step's memory is the process's peak less its peak before the first step (libraries, weights and",
        f"the batch). Mixtures are of modulated noises, the inventory has {IDENTITIES} rows;",
        "the peer has its own defaults and a negative SI-SDR without a search for the permutation.",
        "The optimiser's step is in neither.",
        "",
        "Made by `python benchmarks/bench_step.py"
        f"{' --peer-python PEERS/bin/python' if len(rows) == 3 else ''}`.",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--recipe", default="small", help="name or file")
    parser.add_argument("--peer-python", help="interpreter of an environment with asteroid")
    parser.add_argument("--rounds", type=int, default=3, help="processes of each case")
    parser.add_argument("--runs", type=int, default=5, help="timed steps in a process")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--page", default=str(PAGE), help="file to write, - to print")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.case:
        print(json.dumps(measure(json.loads(args.case))))
        return

    from separative.training import load_recipe

    mixtures = load_recipe(args.recipe).mixtures
    same = round(PEER_BATCH * PEER_SECONDS / mixtures.seconds)
    common = {"runs": args.runs, "threads": args.threads}
    own = {"name": f"`{args.recipe}`", "recipe": args.recipe, "seconds": mixtures.seconds}
    cases = [
        (sys.executable, common | own | {"batch": mixtures.batch}),
        (
            sys.executable,
            common | own | {"batch": same, "name": f"{own['name']}, as many seconds as the peer"},
        ),
    ]
    if args.peer_python:
        size = {"batch": PEER_BATCH, "seconds": PEER_SECONDS}
        cases.append((args.peer_python, common | size | {"name": PEER, "recipe": None}))
    rounds: list[list[dict[str, Any]]] = [[] for _ in cases]
    loads = []
    for _ in range(args.rounds):
        loads.append(os.getloadavg()[0])
        if loads[-1] > 0.5 * args.threads and len(loads) == 1:
            print(
                f"load {loads[-1]:.1f}: other work on this machine makes these times wrong", file=sys.stderr
            )
        for results, (python, case) in zip(rounds, cases, strict=True):
            results.append(run_child(python, case))
    text = page([summary(case, r) for (_, case), r in zip(cases, rounds, strict=True)], loads, args)
    if args.page == "-":
        print(text)
    else:
        Path(args.page).parent.mkdir(parents=True, exist_ok=True)
        Path(args.page).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
