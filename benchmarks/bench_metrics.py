"""Error rates, costs and calibration of many scores: time, memory and how both grow.

    python benchmarks/bench_metrics.py              # rewrites docs/benchmarks/metrics.md
    python benchmarks/bench_metrics.py --page -     # prints the page

Every metric and size runs in a child process of its own, so that its peak memory is its own.
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
from importlib.metadata import version
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[1] / "docs" / "benchmarks" / "metrics.md"
METRICS = ("eer", "min_dcf", "cllr", "min_cllr", "fit_calibration")
SIZES = (10_000, 31_623, 100_000, 316_228, 1_000_000)
LIMIT_S = 2.0
MIB = 2**20


def measure(metric: str, size: int, runs: int) -> dict[str, Any]:
    """Seconds of every run, and the process's peak above what it held with the scores made, in MiB."""
    import numpy as np

    # Loaded when first used; no part of any metric's time.
    import scipy.optimize
    import scipy.special  # noqa: F401

    from separative import metrics

    target_N = np.arange(size) % 2 == 0
    score_N = np.random.default_rng(0).standard_normal(size) + 2.0 * target_N
    function = getattr(metrics, metric)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    seconds = []
    for _ in range(runs):
        start = time.perf_counter()
        function(score_N, target_N)
        seconds.append(time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - before
    return {"seconds": seconds, "peak": peak}


def run_child(metric: str, size: int, runs: int) -> dict[str, Any]:
    words = [sys.executable, __file__, "--case", json.dumps([metric, size, runs])]
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


def exponent(sizes: list[int], values: list[float]) -> float:
    """Slope of the straight line through the logarithms: 1 is linear growth."""
    import numpy as np

    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


def page(found: dict[tuple[str, int], dict[str, Any]], load: float, runs: int) -> str:
    cpu = next(
        (
            line.split(":")[1].strip()
            for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    head = " | ".join(f"{size:,}" for size in SIZES)
    lines = [
        "# Metrics of many scores",
        "",
        f"Measured {datetime.date.today().isoformat()} on {cpu}, {os.cpu_count()} cores,",
        f"Python {platform.python_version()}, numpy {version('numpy')}, scipy {version('scipy')};",
        f"load before {load:.2f}. Half of the scores are targets, two normal distributions 2 apart.",
        "",
        f"Milliseconds, medians of {runs} runs, by number of scores. Time and memory grow as that",
        "number to the exponent, fitted over all sizes for the time, over the three largest for the memory.",
        "",
        f"| metric | {head} | exponent |",
        "|---" * (len(SIZES) + 2) + "|",
    ]
    for metric in METRICS:
        times = [statistics.median(found[metric, size]["seconds"]) for size in SIZES]
        cells = " | ".join(f"{1000 * seconds:.1f}" for seconds in times)
        lines.append(f"| `{metric}` | {cells} | {exponent(list(SIZES), times):.2f} |")
    lines += [
        "",
        "Peak memory above that of the process with its scores (8 bytes each, and 1 for the class), MiB:",
        "",
        f"| metric | {head} | exponent |",
        "|---" * (len(SIZES) + 2) + "|",
    ]
    for metric in METRICS:
        peaks = [found[metric, size]["peak"] for size in SIZES]
        cells = " | ".join(f"{peak:.1f}" for peak in peaks)
        lines.append(f"| `{metric}` | {cells} | {exponent(list(SIZES)[-3:], peaks[-3:]):.2f} |")
    slowest = max(statistics.median(found[metric, SIZES[-1]]["seconds"]) for metric in METRICS)
    lines += [
        "",
        f"The slowest takes **{slowest:.2f} s** for {SIZES[-1]:,} scores; {LIMIT_S:g} s are promised.",
        "",
        "Made by `python benchmarks/bench_metrics.py`.",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=5, help="timed runs in a process")
    parser.add_argument("--page", default=str(PAGE), help="file to write, - to print")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.case:
        print(json.dumps(measure(*json.loads(args.case))))
        return
    load = os.getloadavg()[0]
    found = {(metric, size): run_child(metric, size, args.runs) for metric in METRICS for size in SIZES}
    text = page(found, load, args.runs)
    if args.page == "-":
        print(text)
    else:
        Path(args.page).parent.mkdir(parents=True, exist_ok=True)
        Path(args.page).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
