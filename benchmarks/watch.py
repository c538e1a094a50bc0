"""Watch a command and its child processes: memory, open files, processes, shared memory.

    python benchmarks/watch.py --out watched.json -- separative train ...

It takes a sample every few seconds, and forwards signals to the command.
"""

from __future__ import annotations

import argparse
import json
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

Record = dict[str, Any]
SHARED = Path("/dev/shm")
# Growth is measured between these shares of the time, so that the warm-up does not count.
EARLY, LATE = (0.2, 0.4), (0.8, 1.0)


def family(pid: int) -> list[int]:
    """The process and all its descendants."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                # The name in brackets may contain any character, also spaces.
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, ValueError):
                continue
            parents.setdefault(parent, []).append(int(entry.name))
    found = [pid]
    for member in found:
        found += parents.get(member, [])
    return found


def sample(pid: int) -> Record:
    """Private memory (MiB, without mapped files, which the system may drop), open files and processes."""
    memory = files = processes = 0
    for member in family(pid):
        try:
            lines = Path(f"/proc/{member}/smaps_rollup").read_text().splitlines()
            memory += sum(int(x.split()[1]) for x in lines if x.startswith(("Pss_Anon:", "Pss_Shmem:")))
            files += len(list(Path(f"/proc/{member}/fd").iterdir()))
            processes += 1
        except OSError:
            continue  # the process has just ended
    return {"memory_mib": memory / 1024, "files": files, "processes": processes, "shared": shared()}


def alive(pid: int) -> bool:
    """True for a process that still runs. One that has ended and waits for its parent does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except OSError:
        return False


def shared_names() -> set[str]:
    """Names of the shared-memory files on this machine."""
    return {path.name for path in SHARED.iterdir()} if SHARED.is_dir() else set()


def shared() -> int:
    """Number of shared-memory files on this machine."""
    return len(shared_names())


def watch(command: Sequence[str], every: float = 5.0, **settings: Any) -> Record:
    """Run a command; return its exit code, the samples, and the processes and shared memory that it left."""
    before, samples, started = shared(), [], time.monotonic()
    child = subprocess.Popen(command, **settings)
    previous = {
        number: signal.signal(number, lambda number, _: child.send_signal(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    members: set[int] = set()
    try:
        while child.poll() is None:
            samples.append({"seconds": time.monotonic() - started} | sample(child.pid))
            members |= set(family(child.pid))
            try:
                child.wait(every)
            except subprocess.TimeoutExpired:
                continue
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    # Other processes of a distributed run may end a little later.
    until = time.monotonic() + 10.0
    while (left := [pid for pid in members if alive(pid)]) and time.monotonic() < until:
        time.sleep(0.1)
    return {
        "code": child.returncode,
        "samples": samples,
        "left": {"processes": len(left), "shared": shared() - before},
    }


def growth(samples: list[Record], name: str) -> tuple[float, float]:
    """Median of a quantity early and late in the run."""
    seconds = samples[-1]["seconds"]

    def during(span: tuple[float, float]) -> float:
        values = [s[name] for s in samples if span[0] * seconds <= s["seconds"] <= span[1] * seconds]
        # A short command may have no sample in this span.
        return statistics.median(values or [samples[-1][name]])

    return during(EARLY), during(LATE)


def summary(watched: Record) -> list[str]:
    """A line for each quantity."""
    samples = watched["samples"]
    lines = [f"{samples[-1]['seconds'] / 60:.1f} minutes, exit code {watched['code']}"]
    for name, unit in (("memory_mib", "MiB of memory"), ("files", "open files"), ("processes", "processes")):
        early, late = growth(samples, name)
        lines.append(f"{early:.0f} {unit} early, {late:.0f} late ({100 * (late / early - 1):+.1f} %)")
    left = watched["left"]
    lines.append(f"left behind: {left['processes']} processes, {left['shared']} shared-memory files")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="JSON file for all samples")
    parser.add_argument("--every", type=float, default=5.0, help="seconds between samples")
    parser.add_argument("command", nargs="+", help="command to run, after --")
    args = parser.parse_args()
    watched = watch(args.command, args.every)
    args.out.write_text(json.dumps(watched), encoding="utf-8")
    print("\n".join(summary(watched)))
    sys.exit(watched["code"])


if __name__ == "__main__":
    main()
