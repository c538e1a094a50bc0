"""Trunks after equal training time: separation and recognition after a number of minutes on this machine.

    python benchmarks/bench_trunks.py --corpus speech.csv --noise noise.csv --minutes 15
        # rewrites docs/benchmarks/trunks.md; an hour on two cores

Every candidate is the recipe ``small`` with another local operator in the blocks of the trunk. The attention
across the pooled grid, the heads and everything else are the same. The candidates are evaluated by the
validation of the trainer on unseen speakers. This benchmark is not part of ``run.py``, because it takes too
long. Two of the operators are only defined here.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from common import Record, arguments, made_on, parsed, run_child, table, training_arguments, write_page
from separative.model.blocks import Block, ConvLocal, DepthwiseConv, RecurrentLocal

SHARES = (0.33, 0.67, 1.0)


class UShaped(nn.Module):
    """Depthwise convolutions at halved rates, added back on the way up (arXiv 2007.06833), gated."""

    def __init__(self, width: int, inner: int, kernel: int, depth: int = 4) -> None:
        super().__init__()
        self.norm, self.up, self.down = (
            nn.LayerNorm(width),
            nn.Linear(width, 2 * inner),
            nn.Linear(inner, width),
        )
        self.scales = nn.ModuleList(DepthwiseConv(inner, kernel, 1) for _ in range(depth))

    def forward(self, x_BTD: Tensor, valid_BT: Tensor) -> Tensor:
        value, gate = self.up(self.norm(x_BTD)).chunk(2, dim=-1)
        value = value * valid_BT.unsqueeze(-1)
        levels = [self.scales[0](value)]
        for scale in list(self.scales)[1:]:
            extra = levels[-1].shape[1] % 2
            halved = F.pad(levels[-1], (0, 0, 0, extra)).unflatten(1, (-1, 2)).mean(2)
            levels.append(scale(halved))
        mixed = levels.pop()
        while levels:
            finer = levels.pop()
            mixed = finer + mixed.repeat_interleave(2, dim=1)[:, : finer.shape[1]]
        out: Tensor = self.down(F.silu(mixed) * gate)
        return out


class LinearRecurrence(nn.Module):
    """A recurrence with a learned decay per channel, in both directions, gated by the input (arXiv
    2303.06349).
    """

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.norm, self.up, self.down = (
            nn.LayerNorm(width),
            nn.Linear(width, 2 * inner),
            nn.Linear(inner, width),
        )
        # Half-lives from one frame to one second; half of the channels run forwards and half backwards.
        self.decay = nn.Parameter(torch.linspace(0.0, 4.0, inner // 2).repeat(2))

    def forward(self, x_BTD: Tensor, valid_BT: Tensor) -> Tensor:
        value, gate = self.up(self.norm(x_BTD)).chunk(2, dim=-1)
        value = value * valid_BT.unsqueeze(-1)
        decay_D = self.decay.sigmoid()
        forth, back = (value * (1 - decay_D)).chunk(2, dim=-1)
        decays = decay_D.chunk(2)
        mixed = torch.cat([_scan(forth, decays[0]), _scan(back.flip(1), decays[1]).flip(1)], dim=-1)
        out: Tensor = self.down(F.silu(mixed) * gate)
        return out


def _scan(x_BTD: Tensor, decay_D: Tensor) -> Tensor:
    """Compute h[t] = decay · h[t−1] + x[t] in log₂ T passes over the whole sequence."""
    reach = 1
    while reach < x_BTD.shape[1]:
        x_BTD = x_BTD + F.pad(x_BTD[:, :-reach], (0, 0, reach, 0)) * decay_D**reach
        reach *= 2
    return x_BTD


def _conv(width: int, inner: int, place: int) -> nn.Module:
    return ConvLocal(width, inner, 5, (1, 2, 4, 8)[place % 4])


# Inner widths are chosen so that all candidates have nearly the same number of parameters.
CANDIDATES: dict[str, Callable[[int, int, int], nn.Module]] = {
    "depthwise convolution, gated": _conv,
    "locally recurrent (GALR)": lambda width, inner, place: RecurrentLocal(width, width // 2, 32),
    "U-shaped, four rates": lambda width, inner, place: UShaped(width, inner, 5),
    "linear recurrence, gated": lambda width, inner, place: LinearRecurrence(width, inner),
}


def measure(case: Record) -> Record:
    from separative.corpora import load_corpus
    from separative.mixtures import Mixer
    from separative.training import learner as learning
    from separative.training import load_recipe, machine
    from separative.training.validation import Validation

    machine.prepare(case["threads"])
    torch.manual_seed(0)
    recipe = load_recipe("small", ["mixtures.stages=[{step: 0, speakers: [0.0, 1.0]}]"])
    corpus = load_corpus(case["corpus"], keep_damaged=True)
    noise = load_corpus(case["noise"]).split("train")
    cache = Path(case["cache"])
    mixer = Mixer(corpus.split("train"), recipe.mixtures, seed=0, noise=noise, cache=cache)
    plain = learning.SeparativeEncoder

    def made(config: object) -> nn.Module:
        model = plain(config)  # type: ignore[arg-type]
        trunk = [
            m for part in (model.shared, model.per_stream) for m in part.modules() if isinstance(m, Block)
        ]
        for place, block in enumerate(trunk):
            width = recipe.model.width
            block.local = CANDIDATES[case["name"]](width, int(width * recipe.model.expansion), place)
        return model

    learning.SeparativeEncoder = made  # type: ignore[assignment, misc]
    learner = learning.Learner(recipe, len(mixer.identities), machine.launch("cpu"))
    validation = Validation(corpus.split("dev"), recipe.mixtures, cache=cache)
    wanted, trained, step = 60 * case["minutes"], 0.0, 0
    evaluations: list[Record] = []
    while len(evaluations) < len(SHARES):
        started = time.monotonic()
        learner.step(mixer.batch(step), step, min(1.0, trained / wanted))
        trained, step = trained + time.monotonic() - started, step + 1
        if trained >= SHARES[len(evaluations)] * wanted:
            evaluations.append(validation(learner.average) | {"step": step})
    return {"evaluations": evaluations, "parameters": sum(p.numel() for p in learner.model.parameters())}


def main() -> None:
    parser = arguments(__doc__, "trunks.md", runs=1, rounds=1)
    training_arguments(parser, minutes=15.0)
    args = parsed(parser, measure)
    if not (args.corpus and args.noise):
        parser.error("--corpus and --noise are required")
    common = {key: getattr(args, key) for key in ("corpus", "noise", "cache", "minutes", "threads")}
    loads, rows = [os.getloadavg()[0]], []
    # Run as many candidates at a time as there are cores for their threads.
    with ThreadPoolExecutor(max(1, (os.cpu_count() or 1) // args.threads)) as pool:
        results = list(pool.map(lambda name: run_child(__file__, common | {"name": name}), CANDIDATES))
    for name, found in zip(CANDIDATES, results, strict=True):
        cells = [
            f"{x['valid/eer_clean']:.1f} / {x['valid/eer_mixed']:.1f} / {x['valid/si_sdri_db']:.1f}"
            for x in found["evaluations"]
        ]
        parameters = f"{found['parameters'] / 1e6:.2f} M"
        rows.append([name, parameters, str(found["evaluations"][-1]["step"]), *cells])
    write_page(
        args.page,
        [
            "# Trunks after equal training time",
            "",
            f"Recipe `small` on mixtures of two speakers, {args.minutes:g} minutes each, {args.threads}",
            "threads, seed 0. Each cell has the EER on clean speech and on mixtures (%) and the SI-SDR",
            "improvement (dB) in",
            "validation on unseen speakers, after a third, two thirds and all of the time.",
            *made_on(loads, "torch"),
            "",
            *table(["local operator", "parameters", "steps", *(f"{s:.0%}" for s in SHARES)], rows),
            "",
            "Made by `python benchmarks/bench_trunks.py --corpus speech.csv --noise noise.csv"
            f" --minutes {args.minutes:g} --threads {args.threads}`.",
        ],
        [],
    )


if __name__ == "__main__":
    main()
