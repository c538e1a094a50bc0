"""Time and memory of the exact contrastive loss, by number of identities up to a million.

    python benchmarks/bench_loss.py              # rewrites docs/benchmarks/loss.md
    python benchmarks/bench_loss.py --page -     # prints the page

In the same run, the loss is compared with the naive loss (all logits at once) and with its matrix products.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

from common import (
    Promise,
    Record,
    arguments,
    exponent,
    made_on,
    median,
    parsed,
    run_child,
    spread,
    table,
    take_turns,
    timed,
    write_page,
)

MOST_ROWS = 10_000_000
SIZES = (10_000, 31_623, 100_000, 316_228, 1_000_000)
EMBED, ROWS = 128, 64
ALPHA = 10.0
MOST_MB, MOST_RATIO = 256, 1.3
HEADER = ["P", "loss, ms", "naive, ms", "three matrix products, ms", "loss ÷ products", "loss ÷ naive"]
HEADER += ["memory of the loss beyond its gradient, MB", "memory of the naive loss beyond its gradient, MB"]


def measure(case: Record) -> Record:
    import torch
    from torch.nn import functional as F

    from separative.objectives import Inventory, csc_loss
    from separative.training.optimiser import MuonAdamW

    torch.set_num_threads(case["threads"])
    torch.manual_seed(0)
    inventory = Inventory(case["identities"], EMBED, ALPHA)
    embed_RE = F.normalize(torch.randn(ROWS, EMBED), dim=-1).requires_grad_()
    label_R = torch.randint(case["identities"], (ROWS,))
    row_PE = inventory.row_PE.detach()

    def loss() -> None:
        inventory.row_PE.grad = None
        csc_loss(inventory, embed_RE, label_R).mean().backward()

    def naive() -> None:
        inventory.row_PE.grad = None
        F.cross_entropy(inventory(embed_RE), label_R).backward()

    def products() -> None:
        """Logits, and the gradients of embeddings and rows: the computation that cannot be avoided."""
        logits_RP = embed_RE.detach() @ row_PE.T
        logits_RP @ row_PE
        logits_RP.T @ embed_RE.detach()

    optimiser = MuonAdamW([{"params": [inventory.row_PE], "by": "row"}], lr=1e-3)

    def step() -> None:
        loss()
        optimiser.step()

    work: dict[str, Callable[[], None]] = {"loss": loss, "naive": naive, "products": products, "step": step}
    return timed(work[case["what"]], case["runs"], warm=2)


def main() -> None:
    args = parsed(arguments(__doc__, "loss.md", runs=8, rounds=1), measure)
    common = {"runs": args.runs, "threads": args.threads}
    keys = [(what, size) for what in ("loss", "naive", "products") for size in SIZES]
    cases = [(sys.executable, common | {"what": what, "identities": size}) for what, size in keys]
    # Memory is measured separately, because an allocator that keeps freed memory also has gaps.
    sparing = [(what, size) for what in ("loss", "naive") for size in SIZES]
    cases += [
        (sys.executable, common | {"what": what, "identities": size, "runs": 1, "keep_freed": False})
        for what, size in sparing
    ]
    from separative.objectives.partition import KEPT_LOGITS

    results, loads = take_turns(__file__, cases, args.rounds)
    found = dict(zip(keys, results, strict=False))
    held = dict(zip(sparing, results[len(keys) :], strict=True))
    most = run_child(
        __file__, common | {"what": "step", "identities": MOST_ROWS, "runs": 2, "keep_freed": False}
    )

    def beyond(what: str, size: int) -> float:
        """Memory beyond the inventory and its gradient, MB."""
        return max(0.0, median(held[what, size], "above") * 2**20 / 1e6 - 4 * size * EMBED / 1e6)

    lines = [
        "# The contrastive loss over a large inventory",
        "",
        f"Forward and backward pass of {ROWS} embeddings of size {EMBED}, with the exact sum over P",
        "identities;",
        f"{args.threads} threads.",
        *made_on(loads, "torch"),
        "",
    ]
    rows = []
    for size in SIZES:
        loss, naive, products = (found[what, size] for what in ("loss", "naive", "products"))
        rows.append(
            [
                f"{size:,}",
                *(spread(one, "wall_s", 1000, 1) for one in (loss, naive, products)),
                f"{median(loss, 'wall_s') / median(products, 'wall_s'):.2f}",
                f"{median(loss, 'wall_s') / median(naive, 'wall_s'):.2f}",
                f"{beyond('loss', size):.0f}",
                f"{beyond('naive', size):.0f}",
            ]
        )
    lines += table(HEADER, rows)
    times = [median(found["loss", size], "wall_s") for size in SIZES]
    lines += [
        "",
        f"At P = {MOST_ROWS:,}, the loss and a step of the optimiser with one moment per row"
        f" (`inventory_by: row`) take {median([most], 'wall_s'):.1f} s and at most",
        f"{most['peak'] / 1024:.1f} GiB,",
        f"of which the rows and their gradient take {2 * 4 * EMBED * MOST_ROWS / 2**30:.1f} GiB.",
        "",
        f"Time grows with P to the power of {exponent([float(s) for s in SIZES], times):.2f}.",
        "The three matrix products are the logits and the gradients of embeddings and rows. The loss",
        "keeps the",
        f"first {KEPT_LOGITS / 1e6:.0f} million logits for its backward pass and computes the others again.",
        "",
        f"Medians (lowest–highest) of {args.rounds * args.runs} runs in {args.rounds} processes, each after",
        "two warm-up runs. Memory is measured in separate processes. Made by `python",
        "benchmarks/bench_loss.py`.",
    ]
    loss, products = found["loss", SIZES[-1]], found["products", SIZES[-1]]
    megabytes = beyond("loss", SIZES[-1])
    ratio = median(loss, "wall_s") / median(products, "wall_s")
    slope = exponent([float(s) for s in SIZES], times)
    named = "exact loss, a million identities"
    promises = [
        Promise(f"{named}: extra memory", f"{megabytes:.0f} MB", f"≤ {MOST_MB} MB", megabytes <= MOST_MB),
        Promise(
            f"{named}: time relative to the matrix products",
            f"{ratio:.2f}",
            f"≤ {MOST_RATIO}",
            ratio <= MOST_RATIO,
        ),
        Promise("exact loss: growth of time with P", f"{slope:.2f}", "≤ 1.05", slope <= 1.05),
    ]
    write_page(args.page, lines, promises)


if __name__ == "__main__":
    main()
