"""Measure a model again: every table and page that shows its figures, one after another.

    python benchmarks/model_figures.py --data DATA [--model base] [--peer-python PEERS/bin/python]

Takes hours on two cores. Finished steps are not repeated for the same weights: run the command again after an
interruption. DATA has speech.csv, noise.csv and meetings.csv. Figures inside the text of docs are edited by
hand; the test of claims compares them with these results.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
import time
from pathlib import Path

from common import PAGES
from separative.model import load_model

RESULTS = PAGES.parent / "results"
# The command of each step. Short steps and those that others are compared with come first.
STEPS = {
    "real": "{separative} evaluate-recordings {model} --recordings {data}/meetings.csv --out {results}",
    "three": "{meetings} --speakers 3 --overlaps 0.2 --count 10 --out {work}/three-speakers",
    "three again": "{meetings} --speakers 3 --overlaps 0.2 --count 10 --seed 7 --out {work}/other-three",
    "numbers": "{meetings} --speakers 2,4,5,6 --overlaps 0.2 --count 6 --out {work}/by-number",
    "overlaps": "{meetings} --speakers 3 --overlaps 0,0.4,0.6 --count 6 --out {work}/by-overlap",
    "dev": "{separative} benchmark base --corpus {data}/speech.csv --noise {data}/noise.csv --out {work}/dev"
    " --only {model} --only Resemblyzer --only CAM++ {peers} --cache {work}/cache",
    "listen": "{python} bench_listen.py --data {data} --model {model}",
    "transcript": "{python} bench_transcript.py --corpus {data}/speech.csv --model {model}",
    "robustness": "{python} bench_robustness.py --data {data}",
    "calibration": "{python} bench_calibration.py --data {data}",
    "recording": "{python} bench_recording.py --corpus {data}/speech.csv --model {model}",
    "simulation": "{python} bench_simulation.py --data {data} --work {work}/simulation",
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True, type=Path, help="folder of the real data")
    parser.add_argument("--model", default="base", help="name of a shipped model")
    parser.add_argument("--peer-python", help="Python of an environment with the peers")
    parser.add_argument("--only", nargs="*", choices=STEPS, default=list(STEPS), help="steps to take")
    parser.add_argument("--work", type=Path, default=Path("runs/figures"), help="folder for results and logs")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    data, work, here = args.data.resolve(), args.work.resolve(), Path(__file__).resolve().parent
    speech = shlex.quote(str(data / "speech.csv"))
    separative = f"{shlex.quote(sys.executable)} -m separative"
    words = {
        "separative": separative,
        "python": shlex.quote(sys.executable),
        "meetings": f"{separative} evaluate-meetings {args.model} --corpus {speech}",
        "model": args.model,
        "data": shlex.quote(str(data)),
        "work": shlex.quote(str(work)),
        "results": shlex.quote(str(RESULTS / f"{args.model}-real")),
        "peers": f"--peer-python {shlex.quote(args.peer_python)}" if args.peer_python else "",
    }
    weights, stamps = load_model(args.model).card["sha256"], work / "done.json"
    done = json.loads(stamps.read_text(encoding="utf-8")) if stamps.is_file() else {}
    failed = []
    for name in args.only:
        if done.get(name) == weights:
            print(f"{name}: done before", flush=True)
            continue
        started, path = time.monotonic(), work / f"{name.replace(' ', '-')}.log"
        with path.open("w", encoding="utf-8") as log:
            command = shlex.split(STEPS[name].format(**words))
            result = subprocess.run(command, cwd=here, stdout=log, stderr=subprocess.STDOUT)
        minutes = (time.monotonic() - started) / 60
        print(
            f"{name}: {'failed' if result.returncode else 'done'} after {minutes:.1f} minutes, {path}",
            flush=True,
        )
        if result.returncode:
            failed.append(name)
        else:
            done[name] = weights
            stamps.write_text(json.dumps(done, indent=1), encoding="utf-8")
    sys.exit(f"failed: {', '.join(failed)}" if failed else 0)


if __name__ == "__main__":
    main()
