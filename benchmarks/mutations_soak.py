"""Read thousands of damaged audio files in a child process, and watch it for crashes, hangs and memory.

    python benchmarks/mutations_soak.py [--count 10000] [--media]

--media damages files that FFmpeg decodes (extra ``media``) instead of those that libsndfile decodes.

It prints the outcomes by codec. Samples and AudioError are expected. Another error, a crash, more than 2 s or
more than 200 MB are not, and make the exit code 1.
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

from common import memory_mib, reset_peak, table

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "audio"))
from mutations import KINDS, mutants

MOST_SECONDS, MOST_MIB, HANGS = 2.0, 200.0, 20.0
EXPECTED = ("samples", "AudioError")


def child(first: int, count: int, media: bool) -> None:
    """Read the files one after another, and print the outcome of each."""
    import warnings

    import numpy as np

    from separative import audio
    from separative.errors import AudioError

    warnings.simplefilter("error")
    with tempfile.TemporaryDirectory() as folder:
        files = None
        if media:
            from media_files import media_originals

            files = media_originals(Path(folder))
        for number, (kind, path) in enumerate(mutants(Path(folder), count, first, files), first):
            if number % 50 == 0:
                reset_peak()
            before, started = memory_mib("VmRSS"), time.perf_counter()
            try:
                wave_N, _ = audio.read(path, 16000)
                outcome = "samples" if len(wave_N) and np.isfinite(wave_N).all() else "no valid samples"
            except AudioError:
                outcome = "AudioError"
            except Exception as error:
                outcome = type(error).__name__
            if time.perf_counter() - started > MOST_SECONDS:
                outcome = "slow"
            elif memory_mib("VmHWM") - before > MOST_MIB:
                outcome = "large"
                reset_peak()
            print(number, kind.replace(" ", "_"), outcome.replace(" ", "_"), flush=True)


def kinds(media: bool) -> list[str]:
    """Names of the kinds of files."""
    if not media:
        return list(KINDS)
    from media_files import FORMATS

    return list(FORMATS)


def run(count: int, media: bool = False) -> Counter[tuple[str, str]]:
    """Count outcomes by codec. After a crash or a hang, a new process continues with the next file."""
    names, outcomes, done = kinds(media), Counter[tuple[str, str]](), 0
    while done < count:
        words = [sys.executable, __file__, "--child", str(done), "--count", str(count - done)]
        words += ["--media"] if media else []
        process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert process.stdout is not None
        ended = "crash"
        while True:
            ready, _, _ = select.select([process.stdout], [], [], HANGS)
            line = process.stdout.readline() if ready else b""
            if not line:
                ended = "crash" if ready else "hang"
                break
            _, kind, outcome = line.decode().split()
            outcomes[kind.replace("_", " "), outcome.replace("_", " ")] += 1
            done += 1
        process.kill()
        process.wait()
        process.stdout.close()
        if done < count:
            outcomes[names[done % len(names)], ended] += 1
            done += 1
    return outcomes


def outcome_table(outcomes: Counter[tuple[str, str]], media: bool = False) -> list[str]:
    """A row per codec, a column per outcome."""
    found = sorted(
        {outcome for _, outcome in outcomes}, key=lambda outcome: (outcome not in EXPECTED, outcome)
    )
    rows = [[name, *(str(outcomes[name, outcome]) for outcome in found)] for name in kinds(media)]
    return table(["codec", *found], rows)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=10_000, help="number of files")
    parser.add_argument("--media", action="store_true", help="files that FFmpeg decodes")
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child is not None:
        child(args.child, args.count, args.media)
        return
    outcomes = run(args.count, args.media)
    print("\n".join(outcome_table(outcomes, args.media)))
    sys.exit(any(outcome not in EXPECTED for _, outcome in outcomes))


if __name__ == "__main__":
    main()
