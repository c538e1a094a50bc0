"""Tests that take too long for the test suite: stops at every position, many kills, hours of training.

    python benchmarks/soak.py [--minutes 60] [--kills 50] [--only PART ...]

Parts: resume, kills, processes, audio, fuzz, documents, hours.

It synthesises a corpus (extra ``voices``) and rewrites docs/benchmarks/soak.md. The exit code is 1 if
anything failed.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file

import fuzz
import fuzz_documents
import mutations_soak
import watch
from common import PAGES, made_on, table
from separative.corpora import Corpus, load_corpus, synthesize_corpus
from separative.training import Recipe, Status, parse_recipe, train
from separative.training.checkpoint import NAME

# All random operations are on. The model is small, so that a step takes a twentieth of a second. There are 24
# identities in groups of 6 and then of 3, so an epoch has 4 steps and then 8.
CONTENT = {
    "name": "soak",
    "mixtures": {
        "rate": 8000,
        "seconds": 1.0,
        "batch": 6,
        "speeds": [0.9, 1.0],
        "channel": 0.5,
        "rooms": 0.5,
        "room_count": 4,
        "turns": 0.3,
        "stages": [
            {"step": 0, "views": 1, "speakers": [0.0, 1.0], "noise": 0.2},
            {"step": 4, "views": 1, "speakers": [0.2, 0.8], "noise": 0.2},
            {"step": 9, "views": 2, "speakers": [0.4, 0.6], "noise": 0.5},
        ],
    },
    "model": {
        "rate": 8000,
        "mels": 16,
        "width": 16,
        "heads": 2,
        "shared_blocks": 1,
        "stream_blocks": 1,
        "speaker_width": 16,
        "speaker_blocks": 1,
        "embedding": 16,
        "dropout": 0.1,
    },
    "optimiser": {"lr": 3e-3, "warmup": 2},
    "run": {"steps": 14, "threads": 1, "log_every": 1, "checkpoint_minutes": 1e-9, "validate_minutes": 60},
}
# After the first step, at the end of an epoch, within a stage, at and after a change of views, near the end.
STOPS = (1, 4, 6, 9, 11, 13)
Line = tuple[str, str, bool]
"""What was tested, the outcome, and whether it is as expected."""


def differing(ours: Path, theirs: Path) -> list[str]:
    """Names of tensors that differ in the checkpoints of two runs."""
    one, other = (load_file(run / NAME) for run in (ours, theirs))
    return sorted(one.keys() ^ other.keys()) + [
        n for n in one.keys() & other.keys() if not torch.equal(one[n], other[n])
    ]


def resume(recipe: Recipe, corpus: Corpus, noise: Corpus, folder: Path) -> list[Line]:
    """Stop at every position with 0 and with 2 workers, and resume with the other number."""
    settings = {"corpus": corpus, "noise": noise, "cache": folder / "cache", "device": "cpu", "steps": 14}

    def stop_at(step: int) -> Callable[[Status], None]:
        return lambda status: os.kill(os.getpid(), signal.SIGTERM) if status.step == step else None

    whole = train(recipe, out=folder / "whole", workers=0, **settings)
    lines = []
    for workers in (0, 2):
        wrong = []
        for step in STOPS:
            out = folder / f"stopped-{workers}-{step}"
            try:
                train(recipe, out=out, workers=workers, progress=stop_at(step), **settings)
            except KeyboardInterrupt:
                torch.manual_seed(step)
            train(recipe, out=out, workers=2 - workers, resume=True, **settings)
            wrong += [f"step {step}: {', '.join(names[:3])}"] if (names := differing(whole, out)) else []
        found = "; ".join(wrong) or f"{len(STOPS)} of {len(STOPS)} equal bit for bit"
        lines.append((f"stopped with {workers} workers, resumed with {2 - workers}", found, not wrong))
    return lines


def kills(recipe: Recipe, wanted: int, speech: Path, noise: Path, folder: Path) -> list[Line]:
    """Kill a run at random moments, every second time during a save; compare it with an uninterrupted run."""
    steps, draw = 20 * wanted, random.Random(0)
    plan = folder / "plan.yaml"
    plan.write_text(json.dumps(recipe.model_dump(mode="json")), encoding="utf-8")
    words = ["train", "--recipe", str(plan), "--corpus", str(speech), "--noise", str(noise)]
    words += ["--cache", str(folder / "cache"), "--steps", str(steps), "--device", "cpu", "--workers", "1"]
    words = [sys.executable, "-m", "separative", *words]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    subprocess.run([*words, "--out", str(folder / "uninterrupted")], check=True, **quiet)
    out, survived, while_saving, failures = folder / "killed", 0, 0, []
    for number in range(wanted):
        resume_option = ["--resume"] if (out / NAME).is_file() else []
        before = (out / NAME).stat().st_mtime_ns if resume_option else 0
        child = subprocess.Popen([*words, "--out", str(out), *resume_option], **quiet)
        # Wait until this process has saved a checkpoint: only then has it resumed.
        while child.poll() is None and not (
            (out / NAME).is_file() and (out / NAME).stat().st_mtime_ns > before
        ):
            time.sleep(0.002)
        if number % 2:
            until = time.monotonic() + 5
            while time.monotonic() < until and not list(out.glob(f".{NAME}.*")):
                pass
            while_saving += bool(list(out.glob(f".{NAME}.*")))
        else:
            time.sleep(draw.uniform(0, 0.3))
        ended = child.poll() is not None
        child.kill()
        errors = child.communicate()[1]
        survived += not ended
        if ended:
            failures.append(errors.strip().splitlines()[-1] if errors.strip() else "ended without an error")
            break
    done = subprocess.run([*words, "--out", str(out), "--resume"], **quiet)
    wrong = differing(folder / "uninterrupted", out) if done.returncode == 0 else [done.stderr[-200:]]
    stale = [p.name for p in out.rglob(".*")]
    found = f"{survived} of {wanted}, {while_saving} of them during a save" + "".join(
        f"; {x}" for x in failures
    )
    return [
        ("kills after which the run resumes", found, survived == wanted),
        (
            "the run after all kills, compared with an uninterrupted run",
            "equal bit for bit" if not wrong else f"differs: {', '.join(wrong[:3])}",
            not wrong,
        ),
        ("unfinished files left in the run folder", str(len(stale)), not stale),
    ]


def tests(*paths: str) -> list[Line]:
    """Run test files of features that have no longer test here: several processes, shards, Ray."""
    root = Path(__file__).parents[1]
    lines = []
    for path in paths:
        words = [sys.executable, "-m", "pytest", "-q", str(root / path)]
        done = subprocess.run(words, cwd=root, capture_output=True, text=True)
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


def hours(minutes: float, speech: Path, noise: Path, folder: Path) -> list[Line]:
    """Train with workers and all random operations for a long time, and watch the process."""
    out = folder / "long"
    words = [sys.executable, "-m", "separative", "train", "--recipe", "small", "--corpus", str(speech)]
    words += ["--noise", str(noise), "--out", str(out), "--minutes", str(minutes), "--workers", "2"]
    words += ["--cache", str(folder / "cache"), "--set", "mixtures.rooms=0.2"]
    watched = watch.watch(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return judge(watched, minutes)


def judge(watched: watch.Record, minutes: float) -> list[Line]:
    """Judge the growth from the second fifth of the time to the last."""
    lines = [(f"{minutes:g} minutes of training", f"exit code {watched['code']}", watched["code"] == 0)]
    for name, what, most in (
        ("memory_mib", "memory, MiB", 0.02),
        ("files", "open files", 0.0),
        ("processes", "processes", 0.0),
    ):
        early, late = watch.growth(watched["samples"], name)
        change = late / early - 1
        lines.append((what, f"{early:.0f} → {late:.0f} ({change:+.1%})", change <= most))
    left = watched["left"]
    found = f"{left['processes']} processes, {left['shared']} shared-memory files"
    return [*lines, ("left behind", found, left["processes"] == 0 and left["shared"] <= 0)]


def main() -> None:
    parts = ("resume", "kills", "processes", "audio", "fuzz", "documents", "hours")
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=60.0, help="minutes of training in 'hours'")
    parser.add_argument("--kills", type=int, default=50, help="number of kills")
    parser.add_argument("--mutations", type=int, default=10_000, help="number of damaged audio files")
    parser.add_argument("--fuzz-minutes", type=float, default=10.0, help="minutes of fuzzing in total")
    parser.add_argument(
        "--documents",
        type=int,
        default=fuzz_documents.COUNT,
        help="documents of each format with wrong values",
    )
    parser.add_argument("--only", nargs="+", choices=parts, default=parts, help="parts to run")
    parser.add_argument("--watched", type=Path, help="JSON of watch.py to judge instead of running 'hours'")
    parser.add_argument("--page", type=Path, default=PAGES / "soak.md")
    args = parser.parse_args()
    recipe, lines = parse_recipe(CONTENT, "soak"), []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        synthesize_corpus(folder / "speech", speakers=15, utterances=4, dev_speakers=3, seed=0)
        noise = noise_clips(folder / "noise")
        corpus, clips = load_corpus(folder / "speech"), load_corpus(noise)
        for part in args.only:
            print(f"{part} …", file=sys.stderr, flush=True)
            started = time.monotonic()
            if part == "resume":
                found = resume(recipe, corpus, clips, folder / part)
            elif part == "kills":
                (folder / part).mkdir()
                found = kills(recipe, args.kills, folder / "speech", noise, folder / part)
            elif part == "processes":
                found = tests(
                    "tests/training/test_distributed.py",
                    "tests/objectives/test_sharded.py",
                    "tests/corpora/test_shards.py",
                    "tests/inference/test_bulk.py",
                )
            elif part == "audio":
                found = audio_in(args.mutations)
            elif part == "fuzz":
                each = args.fuzz_minutes / len(fuzz.TARGETS)
                found = [(f"fuzzed {target}", *fuzz.run(target, each)) for target in fuzz.TARGETS]
            elif part == "documents":
                found = [
                    (f"fuzzed the structure of: {form}", *fuzz_documents.run(form, args.documents))
                    for form in fuzz_documents.FORMATS
                ]
            elif args.watched:
                content = json.loads(args.watched.read_text(encoding="utf-8"))
                found = judge(content, round(content["samples"][-1]["seconds"] / 60))
            else:
                found = hours(args.minutes, folder / "speech", noise, folder / part)
            lines += [(part, *line) for line in found]
            print(f"  {time.monotonic() - started:.0f} s", file=sys.stderr)
    results = [[part, what, found, "yes" if fine else "**no**"] for part, what, found, fine in lines]
    rows = table(["part", "test", "result", "as expected"], results)
    page = ["# Soak tests", "", "Tests that take too long for the test suite (`make soak`).", ""]
    page += [*made_on([os.getloadavg()[0]], "torch"), ""]
    args.page.write_text("\n".join([*page, *rows]) + "\n", encoding="utf-8")
    print("\n".join(rows))
    sys.exit(not all(fine for *_, fine in lines))


def noise_clips(folder: Path) -> Path:
    """Write six noise clips of a few seconds, white and brown."""
    import numpy as np

    from separative import audio

    rng = np.random.default_rng(0)
    for number in range(6):
        wave = np.cumsum(rng.standard_normal(32000)) if number % 2 else rng.standard_normal(32000)
        audio.write(
            folder / "clips" / f"{number}.wav", (0.3 * wave / np.abs(wave).max()).astype(np.float32), 16000
        )
    return folder


if __name__ == "__main__":
    main()
