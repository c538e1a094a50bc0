"""Kill a training of two processes at random moments, and compare it with an uninterrupted one.

    python benchmarks/soak_processes.py [--kills 20]

One of the two processes is killed, or both, at a random moment while training, during a save, or before the
first step. Then the run is resumed with ``--resume``. It is one part of benchmarks/soak.py.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import watch
from separative.corpora import synthesize_corpus
from separative.training import parse_recipe
from separative.training.checkpoint import NAME
from soak_training import CONTENT, differing, noise_clips

# The condition groups of a step, 8 or 4, are divided between two processes.
RECIPE = CONTENT | {"mixtures": CONTENT["mixtures"] | {"batch": 8}}
# Seconds after which a process counts as hung; far more than a busy machine needs.
HANG = 900.0
STEPS_PER_KILL = 20
MOMENTS = ("while training", "during a save", "before the first step")
TARGETS = ("the first process", "the second process", "both processes")


@dataclass
class Outcome:
    """What the kills did.

    Attributes:
        kills: number of kills by moment, and by process.
        failures: what was not as expected.
        waited: seconds until the last process had ended after each kill.
        shared: shared-memory files that killed processes left.
    """

    kills: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    waited: list[float] = field(default_factory=list)
    shared: set[str] = field(default_factory=set)


def second_process(first: int) -> int | None:
    """The training process that the first one has started, if it has started."""
    for pid in watch.family(first)[1:]:
        try:
            if b"LOCAL_RANK=1" in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
                if parent == first:
                    return pid
        except (OSError, ValueError):
            continue  # the process has just ended
    return None


def until(condition: object, child: subprocess.Popen[bytes], seconds: float = HANG) -> bool:
    """Wait until a function returns a true value; False if the process ended before or the time is over."""
    end = time.monotonic() + seconds
    while child.poll() is None and time.monotonic() < end:
        if condition():  # type: ignore[operator]
            return True
        time.sleep(0.002)
    return False


def wait_for_moment(moment: str, child: subprocess.Popen[bytes], out: Path, draw: random.Random) -> bool:
    """Wait until it is time for the kill; False if the run ended or hung before."""
    before = (out / NAME).stat().st_mtime_ns if (out / NAME).is_file() else 0
    if not until(lambda: second_process(child.pid), child):
        return False
    if moment == "before the first step":
        time.sleep(draw.uniform(0, 4))
        return child.poll() is None
    # Wait until the run has saved a checkpoint: only then has it resumed.
    if not until(lambda: (out / NAME).is_file() and (out / NAME).stat().st_mtime_ns > before, child):
        return False
    if moment == "during a save":
        return until(lambda: list(out.glob(f".{NAME}.*")), child)
    time.sleep(draw.uniform(0, 0.5))
    return child.poll() is None


def kill_once(
    words: list[str], out: Path, moment: str, target: str, draw: random.Random, log: IO[bytes]
) -> tuple[str, float]:
    """Start or resume the run and kill it; return what was wrong, and the seconds until all had ended."""
    resume = ["--resume"] if (out / NAME).is_file() else []
    begun = log.tell()
    child = subprocess.Popen([*words, "--out", str(out), *resume], stderr=log, stdout=log)
    ready = wait_for_moment(moment, child, out, draw)
    members = watch.family(child.pid)
    second = second_process(child.pid)
    killed = {TARGETS[0]: [child.pid], TARGETS[1]: [second], TARGETS[2]: [child.pid, second]}[target]
    for pid in killed:
        if pid is not None:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                ready = False
    started = time.monotonic()
    wrong = "" if ready else f"the run ended {moment}, before the kill"
    left: list[int] = []
    while time.monotonic() - started < HANG:
        child.poll()
        if not (left := [pid for pid in members if watch.alive(pid)]):
            break
        time.sleep(0.05)
    seconds = time.monotonic() - started
    if left:
        wrong = f"{len(left)} processes still ran {seconds:.0f} s after {target} had been killed {moment}"
        for pid in left:
            os.kill(pid, signal.SIGKILL)
    child.wait()
    if wrong:
        log.flush()
        text = Path(log.name).read_bytes()[begun:].decode(errors="replace").strip().splitlines()
        wrong += f" ({text[-1][:200]})" if text else ""
    return wrong, seconds


def orphans(folder: Path) -> list[int]:
    """Processes with this folder in their command."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                if bytes(folder) in (entry / "cmdline").read_bytes() and watch.alive(int(entry.name)):
                    found.append(int(entry.name))
            except OSError:
                continue  # the process has just ended
    return found


def run(wanted: int, speech: Path, noise: Path, folder: Path) -> list[tuple[str, str, bool]]:
    """Kill a run of two processes ``wanted`` times; return tests, outcomes, and if they are right."""
    draw, outcome = random.Random(0), Outcome()
    folder.mkdir(parents=True, exist_ok=True)
    plan = folder / "plan.yaml"
    content = parse_recipe(RECIPE, "soak").model_dump(mode="json")
    plan.write_text(json.dumps(content), encoding="utf-8")
    words = ["train", "--recipe", str(plan), "--corpus", str(speech), "--noise", str(noise)]
    words += ["--cache", str(folder / "cache"), "--steps", str(STEPS_PER_KILL * wanted)]
    words = [sys.executable, "-m", "separative", *words, "--device", "cpu", "--devices", "2"]
    words += ["--workers", "1"]
    shared = watch.shared_names()
    out, whole = folder / "killed", folder / "uninterrupted"
    with (folder / "output.txt").open("wb") as log:
        subprocess.run([*words, "--out", str(whole)], check=True, stdout=log, stderr=log, timeout=8 * HANG)
        for number in range(wanted):
            # The first kill comes after a checkpoint, so that each of the others is followed by a resume.
            moment = MOMENTS[number % 3] if number % 6 != 5 else MOMENTS[draw.randrange(2)]
            target = TARGETS[draw.randrange(3)] if number > 2 else TARGETS[number]
            wrong, seconds = kill_once(words, out, moment, target, draw, log)
            outcome.kills.update((moment, target))
            outcome.waited.append(seconds)
            outcome.failures += [f"kill {number + 1}: {wrong}"] if wrong else []
            print(f"  {number + 1}: {target}, {moment}, {seconds:.1f} s {wrong}", file=sys.stderr, flush=True)
        end = [*words, "--out", str(out), "--resume"]
        done = subprocess.run(end, stdout=log, stderr=log, timeout=8 * HANG)
    outcome.shared = {name for name in watch.shared_names() - shared if not _in_use(name)}
    wrong = differing(whole, out) if done.returncode == 0 else [f"exit code {done.returncode}"]
    stale = [p.name for p in out.rglob(".*")]
    left = orphans(folder)
    remains = f"{len(stale)} unfinished files, {len(left)} processes"
    counts = ", ".join(f"{outcome.kills[name]} {name}" for name in (*MOMENTS, *TARGETS))
    fine = not outcome.failures
    return [
        (
            f"{wanted} kills of a training of two processes",
            counts + "".join(f"; {x}" for x in outcome.failures[:3]),
            fine and sum(outcome.kills.values()) == 2 * wanted,
        ),
        (
            "the other process ends after a kill",
            f"{wanted - len(outcome.failures)} of {wanted}, at most {max(outcome.waited):.1f} s later",
            fine,
        ),
        (
            "checkpoint after all kills, compared with an uninterrupted run of two processes",
            "equal bit for bit" if not wrong else f"differs: {', '.join(wrong[:3])}",
            not wrong,
        ),
        (
            "left behind",
            f"{remains}, {len(outcome.shared)} shared-memory files",
            not stale and not left and not outcome.shared,
        ),
    ]


def _in_use(name: str) -> bool:
    """True if the name of a shared-memory file holds the number of a process that still runs."""
    return any(watch.alive(int(number)) for number in re.findall(r"\d+", name) if len(number) < 9)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=20, help="number of kills")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        synthesize_corpus(folder / "speech", speakers=15, utterances=4, dev_speakers=3, seed=0)
        noise = noise_clips(folder / "noise")
        lines = run(args.kills, folder / "speech", noise, folder / "two processes")
    for what, found, fine in lines:
        print(f"{'as expected' if fine else 'NOT AS EXPECTED'}: {what}: {found}")
    sys.exit(not all(fine for *_, fine in lines))


if __name__ == "__main__":
    main()
