"""Training that is stopped, killed and watched for hours; parts of benchmarks/soak.py."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

import watch
from separative import audio
from separative.corpora import Corpus
from separative.training import Recipe, Status, train
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


def noise_clips(folder: Path) -> Path:
    """Write six noise clips of a few seconds, white and brown."""
    rng = np.random.default_rng(0)
    for number in range(6):
        wave = np.cumsum(rng.standard_normal(32000)) if number % 2 else rng.standard_normal(32000)
        audio.write(
            folder / "clips" / f"{number}.wav", (0.3 * wave / np.abs(wave).max()).astype(np.float32), 16000
        )
    return folder
