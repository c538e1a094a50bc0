"""Shared code of the benchmarks: cases in separate processes, medians, growth rates, and pages."""

from __future__ import annotations

import argparse
import ctypes
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

PAGES = Path(__file__).parents[1] / "docs" / "benchmarks"
Record = dict[str, Any]
# Freed memory stays with the process in all cases, as in training. A threshold alone is not enough: the C
# library accepts none above 32 MiB.
ALLOCATOR = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**40)}


class Promise(NamedTuple):
    """A line of the promise table: quantity, measured value, promised value, and whether it is kept."""

    what: str
    measured: str
    target: str
    kept: bool


def memory_mib(line: str) -> float:
    """Memory of this process in MiB: the current value ``VmRSS``, or ``VmHWM``, the peak since the reset."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return next(int(words.split()[1]) for words in status.splitlines() if words.startswith(line)) / 1024


def reset_peak() -> None:
    """Release freed memory and reset the peak, so that earlier allocations do not hide a later peak."""
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")


def timed(work: Callable[[], object], runs: int, warm: int = 1) -> Record:
    """Wall and CPU seconds of each run, and memory in MiB: the peak, and the peak above the memory before.

    The first ``warm`` runs are not counted.
    """
    reset_peak()
    before, wall_s, cpu_s = memory_mib("VmRSS"), [], []
    for run in range(runs + warm):
        wall, cpu = time.perf_counter(), time.process_time()
        work()
        if run >= warm:
            wall_s.append(time.perf_counter() - wall)
            cpu_s.append(time.process_time() - cpu)
    return {
        "wall_s": wall_s,
        "cpu_s": cpu_s,
        "peak": memory_mib("VmHWM"),
        "above": memory_mib("VmHWM") - before,
    }


def run_child(script: str, case: Record, python: str = sys.executable) -> Record:
    """Run a case in a separate process; the last line that it prints is its result as JSON.

    ``keep_freed: false`` in the case keeps the default allocator, to measure only memory in use.
    """
    words = [python, "-W", "ignore", script, "--case", json.dumps(case)]
    env = os.environ | (ALLOCATOR if case.get("keep_freed", True) else {})
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True, env=env)
    return json.loads(done.stdout.splitlines()[-1])


def take_turns(
    script: str, cases: list[tuple[str, Record]], rounds: int
) -> tuple[list[list[Record]], list[float]]:
    """Run every case (with its Python) once per round, so that slow changes of the machine affect all cases.

    Returns the results of each case, and the machine's load before each round.
    """
    results: list[list[Record]] = [[] for _ in cases]
    loads = []
    for _ in range(rounds):
        loads.append(os.getloadavg()[0])
        if loads[-1] > 1 and len(loads) == 1:
            print(
                f"load {loads[-1]:.1f}: other processes use this machine, so times will be wrong",
                file=sys.stderr,
            )
        for found, (python, case) in zip(results, cases, strict=True):
            found.append(run_child(script, case, python))
    return results, loads


def over_rounds(rounds: list[Record], key: str) -> list[float]:
    """All values of a case, over the runs of all rounds."""
    return [figure for one in rounds for figure in one[key]]


def median(rounds: list[Record], key: str) -> float:
    """Median over all rounds, each with a list of values or with one value."""
    listed = isinstance(rounds[0][key], list)
    return statistics.median(over_rounds(rounds, key) if listed else [one[key] for one in rounds])


def spread(rounds: list[Record], key: str, unit: float = 1.0, digits: int = 3) -> str:
    """Median, lowest and highest value of all runs, multiplied by ``unit``."""
    figures = [unit * figure for figure in over_rounds(rounds, key)]
    return f"{statistics.median(figures):.{digits}f} ({min(figures):.{digits}f}–{max(figures):.{digits}f})"


def exponent(sizes: list[float], values: list[float]) -> float:
    """Slope of a line fitted to the logarithms: 1 is linear growth."""
    import numpy as np

    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


def made_on(loads: list[float], *packages: str) -> list[str]:
    """Date, machine, package versions and load, as lines of a page."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    named = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    flags = next((line for line in lines if line.startswith("flags")), "").split()
    wide = next((f for f in ("avx512f", "avx2") if f in flags), "no avx2")
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    return [
        f"Measured {datetime.date.today().isoformat()} on"
        f" {named[0] if named else platform.machine()} ({wide}),",
        f"{os.cpu_count()} cores, Python {platform.python_version()}, {versions};",
        f"load before each round {', '.join(f'{load:.2f}' for load in loads)}.",
    ]


def arguments(description: str | None, page: str, *, runs: int, rounds: int) -> argparse.ArgumentParser:
    """The options that all benchmarks share."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=runs, help="number of timed runs in each process")
    parser.add_argument("--rounds", type=int, default=rounds, help="number of processes of each case")
    parser.add_argument("--threads", type=int, default=2, help="number of threads")
    parser.add_argument("--page", default=str(PAGES / page), help="page to write; - prints it")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    return parser


def parsed(
    parser: argparse.ArgumentParser, measure: Callable[[Record], Record], *, needed: Sequence[str] = ()
) -> argparse.Namespace:
    """Parse the options. A child process of :func:`run_child` measures its case, prints it and exits."""
    args = parser.parse_args()
    if args.case:
        print(json.dumps(measure(json.loads(args.case))))
        parser.exit()
    for name in needed:
        if not getattr(args, name):
            parser.error(f"--{name} is required")
    return args


def training_arguments(parser: argparse.ArgumentParser, *, minutes: float) -> None:
    """The options of benchmarks that train on real speech."""
    parser.add_argument("--corpus", help="speech with the splits train and dev")
    parser.add_argument("--noise", help="noise clips")
    parser.add_argument("--cache", default=".cache", help="folder of decoded audio")
    parser.add_argument("--minutes", type=float, default=minutes, help="minutes of training per network")


def promise_lines(promises: Sequence[Promise]) -> list[str]:
    """The promise table as lines of Markdown."""
    rows = [[p.what, p.measured, p.target, "kept" if p.kept else "**missed**"] for p in promises]
    return table(["promise", "measured", "target", ""], rows)


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A table as lines of Markdown."""
    # Imported here: this module is also used in environments of peers, which may lack the package.
    from separative.report.tables import markdown_table

    return markdown_table(header, rows).splitlines()


def write_page(page: str, lines: list[str], promises: Sequence[Promise]) -> None:
    """Write or print the page, with its promises at the end; also write the promises as JSON, for run.py."""
    text = "\n".join([*lines, *(["", *promise_lines(promises)] if promises else [])]) + "\n"
    if page == "-":
        print(text)
        return
    path = Path(page)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    if not promises:
        return
    path.with_suffix(".json").write_text(
        json.dumps([p._asdict() for p in promises], indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
    )
