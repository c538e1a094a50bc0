"""What every benchmark shares: cases in processes of their own, medians, growth, and a dated page."""

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
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

PAGES = Path(__file__).parents[1] / "docs" / "benchmarks"
Record = dict[str, Any]
# Freed memory stays with the process, as the trainer has it: for every case alike. A threshold alone would
# not do, the C library takes none above 32 MiB.
ALLOCATOR = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**40)}


class Promise(NamedTuple):
    """A line of the promise table: what was measured, what was promised, and whether it was kept."""

    what: str
    measured: str
    target: str
    kept: bool


def held_mib(line: str) -> float:
    """Memory of this process: ``VmRSS`` now, or ``VmHWM``, the most since the mark was last put down."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return next(int(words.split()[1]) for words in status.splitlines() if words.startswith(line)) / 1024


def forget_peak() -> None:
    """Give freed memory back and put the mark down, so that what was made before does not hide a peak."""
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")


def timed(work: Callable[[], object], runs: int, warm: int = 1) -> Record:
    """Wall and CPU seconds of each run after ``warm`` that are not counted; memory they took on top, MiB."""
    forget_peak()
    before, wall_s, cpu_s = held_mib("VmRSS"), [], []
    for run in range(runs + warm):
        wall, cpu = time.perf_counter(), time.process_time()
        work()
        if run >= warm:
            wall_s.append(time.perf_counter() - wall)
            cpu_s.append(time.process_time() - cpu)
    return {"wall_s": wall_s, "cpu_s": cpu_s, "peak": held_mib("VmHWM"), "above": held_mib("VmHWM") - before}


def run_child(script: str, case: Record, python: str = sys.executable) -> Record:
    """A case in a process of its own; what it prints last is its result.

    ``keep_freed: false`` in the case leaves the allocator as it is, to see memory in use alone.
    """
    words = [python, "-W", "ignore", script, "--case", json.dumps(case)]
    env = os.environ | (ALLOCATOR if case.get("keep_freed", True) else {})
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True, env=env)
    return json.loads(done.stdout.splitlines()[-1])


def take_turns(
    script: str, cases: list[tuple[str, Record]], rounds: int
) -> tuple[list[list[Record]], list[float]]:
    """Every case (with its Python) once a round, so that a drift of the machine reaches all alike.

    Returns the results of each case, and the load before each round.
    """
    results: list[list[Record]] = [[] for _ in cases]
    loads = []
    for _ in range(rounds):
        loads.append(os.getloadavg()[0])
        if loads[-1] > 1 and len(loads) == 1:
            print(
                f"load {loads[-1]:.1f}: other work on this machine makes these times wrong", file=sys.stderr
            )
        for found, (python, case) in zip(results, cases, strict=True):
            found.append(run_child(script, case, python))
    return results, loads


def over_rounds(rounds: list[Record], key: str) -> list[float]:
    """All figures of a case, over the runs of all its rounds."""
    return [figure for one in rounds for figure in one[key]]


def median(rounds: list[Record], key: str) -> float:
    """Of a list of figures a round, or of one figure a round."""
    listed = isinstance(rounds[0][key], list)
    return statistics.median(over_rounds(rounds, key) if listed else [one[key] for one in rounds])


def spread(rounds: list[Record], key: str, unit: float = 1.0, digits: int = 3) -> str:
    """Median, lowest and highest of all runs, times ``unit``."""
    figures = [unit * figure for figure in over_rounds(rounds, key)]
    return f"{statistics.median(figures):.{digits}f} ({min(figures):.{digits}f}–{max(figures):.{digits}f})"


def exponent(sizes: list[float], values: list[float]) -> float:
    """Slope of the straight line through the logarithms: 1 is linear growth."""
    import numpy as np

    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


def made_on(loads: list[float], *packages: str) -> list[str]:
    """Date, machine, versions and load, as lines of a page."""
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
    """Options of every benchmark."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=runs, help="timed runs in a process")
    parser.add_argument("--rounds", type=int, default=rounds, help="processes of each case")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--page", default=str(PAGES / page), help="file to write, - to print")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    return parser


def parsed(
    parser: argparse.ArgumentParser, measure: Callable[[Record], Record], *, needed: Sequence[str] = ()
) -> argparse.Namespace:
    """What a benchmark was asked for; a process that is one case of it measures that, prints it and ends."""
    args = parser.parse_args()
    if args.case:
        print(json.dumps(measure(json.loads(args.case))))
        parser.exit()
    for name in needed:
        if not getattr(args, name):
            parser.error(f"--{name} is needed")
    return args


def training_arguments(parser: argparse.ArgumentParser, *, minutes: float) -> None:
    """Options of those that train on real speech."""
    parser.add_argument("--corpus", help="speech with the splits train and dev")
    parser.add_argument("--noise", help="noise clips")
    parser.add_argument("--cache", default=".cache", help="folder of decoded audio")
    parser.add_argument("--minutes", type=float, default=minutes, help="of training, each")


def promise_lines(promises: Sequence[Promise]) -> list[str]:
    """The promise table."""
    rows = [
        f"| {p.what} | {p.measured} | {p.target} | {'kept' if p.kept else '**missed**'} |" for p in promises
    ]
    return ["| promise | measured | target | |", "|---" * 4 + "|", *rows]


def put(page: str, lines: list[str], promises: Sequence[Promise]) -> None:
    """Write the page, its promises below, or print it; the promises also lie beside it for run.py."""
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
