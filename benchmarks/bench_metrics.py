"""Time and memory of error rates, costs and calibration, by number of scores.

    python benchmarks/bench_metrics.py              # rewrites docs/benchmarks/metrics.md
    python benchmarks/bench_metrics.py --page -     # prints the page

Every metric and size runs in a separate process, so that its peak memory can be measured.
"""

from __future__ import annotations

import sys

from common import (
    Promise,
    Record,
    arguments,
    exponent,
    made_on,
    median,
    parsed,
    table,
    take_turns,
    timed,
    write_page,
)

METRICS = ("eer", "min_dcf", "cllr", "min_cllr", "fit_calibration")
SIZES = (10_000, 31_623, 100_000, 316_228, 1_000_000)
LIMIT_S = 2.0


def measure(case: Record) -> Record:
    import numpy as np

    # Imported here, because the first import must not count as time of a metric.
    import scipy.optimize
    import scipy.special  # noqa: F401

    from separative import metrics

    target_N = np.arange(case["size"]) % 2 == 0
    score_N = np.random.default_rng(0).standard_normal(case["size"]) + 2.0 * target_N
    function = getattr(metrics, case["metric"])
    return timed(lambda: function(score_N, target_N), case["runs"], warm=0)


def growth_table(found: dict[tuple[str, int], float], fitted: tuple[int, ...], digits: int) -> list[str]:
    """A row per metric: values by number of scores, and the exponent fitted to the sizes ``fitted``."""
    rows = []
    for metric in METRICS:
        cells = [f"{found[metric, size]:.{digits}f}" for size in SIZES]
        slope = exponent([float(s) for s in fitted], [max(found[metric, s], 1e-9) for s in fitted])
        rows.append([f"`{metric}`", *cells, f"{slope:.2f}"])
    return table(["metric", *(f"{size:,}" for size in SIZES), "exponent"], rows)


def main() -> None:
    args = parsed(arguments(__doc__, "metrics.md", runs=5, rounds=1), measure)
    keys = [(metric, size) for metric in METRICS for size in SIZES]
    cases = [(sys.executable, {"metric": metric, "size": size, "runs": args.runs}) for metric, size in keys]
    results, loads = take_turns(__file__, cases, args.rounds)
    found = dict(zip(keys, results, strict=True))
    times = {key: 1000 * median(one, "wall_s") for key, one in found.items()}
    slowest = max(times[metric, SIZES[-1]] for metric in METRICS) / 1000
    lines = [
        "# Metrics of many scores",
        "",
        *made_on(loads, "numpy", "scipy"),
        "Half of the scores are target scores. Both classes are normal, with means 2 standard deviations",
        "apart.",
        "",
        f"Milliseconds by number of scores, medians of {args.rounds * args.runs} runs. Time and memory",
        "grow with",
        "that number to the power of the exponent, which is fitted to all sizes for the time and to the",
        "three largest for the memory.",
        "",
        *growth_table(times, SIZES, 1),
        "",
        "Peak memory above that of the process with its scores (8 bytes each, and 1 for the class), MiB:",
        "",
        *growth_table({key: median(one, "above") for key, one in found.items()}, SIZES[-3:], 1),
        "",
        "Made by `python benchmarks/bench_metrics.py`.",
    ]
    named = f"any metric of {SIZES[-1]:,} scores"
    write_page(args.page, lines, [Promise(named, f"{slowest:.2f} s", f"< {LIMIT_S:g} s", slowest < LIMIT_S)])


if __name__ == "__main__":
    main()
