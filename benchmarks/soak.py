"""Tests that take too long for the test suite: stops at every position, many kills, hours of use.

    python benchmarks/soak.py [--only PART ...] [--minutes 60] [--minutes-server 120] [--kills 50]
    python benchmarks/soak.py --collect FOLDER      # add the results of another run, and write the page

Parts: resume, kills, kills2, processes, audio, fuzz, documents, server, hours. Each part replaces its own
results in docs/benchmarks/soak, with its date. The page docs/benchmarks/soak.md is written from all of them.
The exit code is 1 if anything failed.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import fuzz
import fuzz_documents
import mutations_soak
import soak_processes
import soak_server
from common import PAGES, made_on, table
from separative.corpora import load_corpus, synthesize_corpus
from separative.files import write_json
from separative.training import parse_recipe
from soak_training import CONTENT, Line, hours, judge, kills, noise_clips, resume

PARTS = ("resume", "kills", "kills2", "processes", "audio", "fuzz", "documents", "server", "hours")
ROOT = Path(__file__).parents[1]


def tests(*paths: str) -> list[Line]:
    """Run test files of features that have no longer test here: several processes, shards, Ray."""
    lines = []
    for path in paths:
        words = [sys.executable, "-m", "pytest", "-q", str(ROOT / path)]
        done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
        lines.append((f"`{path}`", done.stdout.strip().splitlines()[-1], done.returncode == 0))
    return lines


def audio_in(count: int) -> list[Line]:
    """Read damaged audio files; a line per codec."""
    outcomes = mutations_soak.run(count)
    lines = []
    for kind in mutations_soak.KINDS:
        mine = {outcome: n for (name, outcome), n in outcomes.items() if name == kind}
        words = ", ".join(f"{n} {outcome}" for outcome, n in sorted(mine.items()))
        lines.append((f"damaged {kind}", words, set(mine) <= set(mutations_soak.EXPECTED)))
    return lines


def documents(formats: Sequence[str], count: int) -> list[Line]:
    """Fuzz the structure of documents, each format in a process of its own with limited memory."""
    lines = []
    for form in formats:
        words = [sys.executable, fuzz_documents.__file__, form, "--count", str(count)]
        done = subprocess.run(words, capture_output=True, text=True)
        found = done.stdout.strip().removeprefix(f"{form}: ") or done.stderr.strip()[-200:]
        lines.append((f"fuzzed the structure of: {form}", found, done.returncode == 0))
        print(f"  {form}: {found}", file=sys.stderr, flush=True)
    return lines


def save_results(folder: Path, part: str, rows: list[list[str | bool]], machine: str) -> None:
    """Save the rows of a part in place of its earlier ones. Formats of documents are replaced one by one."""
    path, kept = folder / f"{part}.json", []
    if part == "documents" and path.is_file():
        names = {row[1] for row in rows}
        earlier = json.loads(path.read_text(encoding="utf-8"))["rows"]
        kept = [row for row in earlier if row[1] not in names]
    folder.mkdir(parents=True, exist_ok=True)
    write_json(path, {"machine": machine, "rows": [*kept, *rows]})


def write_page(page: Path, folder: Path) -> list[str]:
    """Write the page of all saved results; returns the table."""
    rows, machines = [], {}
    for part in PARTS:
        path = folder / f"{part}.json"
        if path.is_file():
            record = json.loads(path.read_text(encoding="utf-8"))
            machines[record["machine"]] = None
            for date, what, found, fine in record["rows"]:
                rows.append([part, date, what, found.replace("|", "\\|"), "yes" if fine else "**no**"])
    lines = table(["part", "date", "test", "result", "as expected"], rows)
    head = [
        "# Soak tests",
        "",
        "Tests that take too long for the test suite (`make soak`). Each part has its own date.",
    ]
    page.write_text("\n".join([*head, "", *machines, "", *lines]) + "\n", encoding="utf-8")
    return lines


def run_part(part: str, args: argparse.Namespace, folder: Path, speech: Path, noise: Path) -> list[Line]:
    """Run one part."""
    recipe = parse_recipe(CONTENT, "soak")
    if part == "resume":
        return resume(recipe, load_corpus(speech), load_corpus(noise), folder)
    if part == "kills":
        folder.mkdir()
        return kills(recipe, args.kills, speech, noise, folder)
    if part == "kills2":
        return soak_processes.run(args.kills_two, speech, noise, folder)
    if part == "processes":
        return tests(
            "tests/training/test_distributed.py",
            "tests/objectives/test_sharded.py",
            "tests/corpora/test_shards.py",
            "tests/inference/test_bulk.py",
        )
    if part == "audio":
        return audio_in(args.mutations)
    if part == "fuzz":
        each = args.fuzz_minutes / len(fuzz.TARGETS)
        return [(f"fuzzed {target}", *fuzz.run(target, each)) for target in fuzz.TARGETS]
    if part == "documents":
        return documents(args.formats, args.documents)
    if part == "server":
        return soak_server.run(args.minutes_server, folder)
    if args.watched:
        content = json.loads(args.watched.read_text(encoding="utf-8"))
        return judge(content, round(content["samples"][-1]["seconds"] / 60))
    return hours(args.minutes, speech, noise, folder)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=60.0, help="minutes of training in 'hours'")
    parser.add_argument("--minutes-server", type=float, default=120.0, help="minutes of requests in 'server'")
    parser.add_argument("--kills", type=int, default=50, help="number of kills of one process")
    parser.add_argument("--kills-two", type=int, default=20, help="number of kills of two processes")
    parser.add_argument("--mutations", type=int, default=10_000, help="number of damaged audio files")
    parser.add_argument("--fuzz-minutes", type=float, default=10.0, help="minutes of fuzzing in total")
    parser.add_argument(
        "--documents",
        type=int,
        default=fuzz_documents.COUNT,
        help="documents of each format with wrong values",
    )
    formats = list(fuzz_documents.FORMATS)
    parser.add_argument(
        "--formats", nargs="+", choices=formats, default=formats, help="formats of 'documents'"
    )
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="parts to run")
    parser.add_argument("--watched", type=Path, help="JSON of watch.py to judge instead of running 'hours'")
    parser.add_argument(
        "--results", type=Path, default=PAGES / "soak", help="folder of the results of all parts"
    )
    parser.add_argument("--collect", type=Path, help="run nothing; add the results in this folder")
    parser.add_argument("--page", type=Path, default=PAGES / "soak.md")
    args = parser.parse_args()
    if args.collect is not None:
        for path in sorted(args.collect.glob("*.json")):
            record = json.loads(path.read_text(encoding="utf-8"))
            save_results(args.results, path.stem, record["rows"], record["machine"])
        print("\n".join(write_page(args.page, args.results)))
        return
    fine = True
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        synthesize_corpus(folder / "speech", speakers=15, utterances=4, dev_speakers=3, seed=0)
        noise = noise_clips(folder / "noise")
        for part in args.only:
            print(f"{part} …", file=sys.stderr, flush=True)
            # The date of the page is in its rows.
            machine = " ".join(made_on([os.getloadavg()[0]], "torch")).partition(" on ")[2]
            machine = f"Measured on {machine.partition(';')[0]}."
            started = time.monotonic()
            found = run_part(part, args, folder / part, folder / "speech", noise)
            today = datetime.date.today().isoformat()
            save_results(args.results, part, [[today, *line] for line in found], machine)
            fine &= all(line[2] for line in found)
            print(f"  {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
            rows = write_page(args.page, args.results)
    print("\n".join(rows))
    sys.exit(not fine)


if __name__ == "__main__":
    main()
