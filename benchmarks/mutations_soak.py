"""Thousands of damaged sound files, read in a process that may die, hang or swell, and is watched for it.

    python benchmarks/mutations_soak.py [--count 10000]

What each came to, by codec: samples, an AudioError, or what must not be: another error, a crash, over 2 s,
over 200 MB. The exit code is 1 if there was any of these.
"""

from __future__ import annotations

import argparse
import select
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from common import forget_peak, held_mib

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "audio"))
from mutations import KINDS, mutants

MOST_SECONDS, MOST_MIB, HANGS = 2.0, 200.0, 20.0
FINE = ("samples", "AudioError")


def child(first: int, count: int) -> None:
    """Read one after the other, and say what became of each."""
    import warnings

    import numpy as np

    from separative import audio
    from separative.errors import AudioError

    warnings.simplefilter("error")
    with tempfile.TemporaryDirectory() as folder:
        for number, (kind, path) in enumerate(mutants(Path(folder), count, first), first):
            if number % 50 == 0:
                forget_peak()
            before, started = held_mib("VmRSS"), time.perf_counter()
            try:
                wave_N, _ = audio.read(path, 16000)
                said = "samples" if len(wave_N) and np.isfinite(wave_N).all() else "no valid samples"
            except AudioError:
                said = "AudioError"
            except Exception as error:
                said = type(error).__name__
            if time.perf_counter() - started > MOST_SECONDS:
                said = "slow"
            elif held_mib("VmHWM") - before > MOST_MIB:
                said = "large"
                forget_peak()
            print(number, kind, said.replace(" ", "_"), flush=True)


def run(count: int) -> Counter[tuple[str, str]]:
    """Outcomes by codec; whatever kills the process is an outcome, and the next mutant is gone on with."""
    names, outcomes, done = list(KINDS), Counter[tuple[str, str]](), 0
    while done < count:
        words = [sys.executable, __file__, "--child", str(done), "--count", str(count - done)]
        process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert process.stdout is not None
        ended = "crash"
        while True:
            ready, _, _ = select.select([process.stdout], [], [], HANGS)
            line = process.stdout.readline() if ready else b""
            if not line:
                ended = "crash" if ready else "hang"
                break
            _, kind, said = line.decode().split()
            outcomes[kind, said.replace("_", " ")] += 1
            done += 1
        process.kill()
        process.wait()
        process.stdout.close()
        if done < count:
            outcomes[names[done % len(names)], ended] += 1
            done += 1
    return outcomes


def table(outcomes: Counter[tuple[str, str]]) -> list[str]:
    """Codecs by outcomes."""
    kinds = sorted({said for _, said in outcomes}, key=lambda said: (said not in FINE, said))
    lines = [f"| codec | {' | '.join(kinds)} |", "|---" * (len(kinds) + 1) + "|"]
    lines += [f"| {name} | {' | '.join(str(outcomes[name, said]) for said in kinds)} |" for name in KINDS]
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child is not None:
        child(args.child, args.count)
        return
    outcomes = run(args.count)
    print("\n".join(table(outcomes)))
    sys.exit(any(said not in FINE for _, said in outcomes))


if __name__ == "__main__":
    main()
