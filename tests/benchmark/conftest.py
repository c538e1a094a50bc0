"""Synthetic speakers in two splits, a baseline system of two small programs, and a finished benchmark."""

import csv
import sys
from pathlib import Path

import pytest
from benchmark_helpers import BAD, EMBED, GOOD, RATE, RECIPE, TRAIN, Done, hum, write_plan

from separative import audio
from separative.benchmark import benchmark, load_plan
from separative.errors import SeparativeError


@pytest.fixture(scope="session")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six training speakers and five test speakers, with four recordings each."""
    folder = tmp_path_factory.mktemp("speech")
    with (folder / "speech.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["corpus", "speaker", "path", "split"])
        for speaker in range(11):
            for take in range(4):
                path = f"{speaker}/{take}.flac"
                audio.write(folder / path, hum(speaker, take), RATE)
                table.writerow(["hums", f"speaker{speaker}", path, "train" if speaker < 6 else "dev"])
    return folder / "speech.csv"


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> dict:
    """A plan without rows."""
    recipe = tmp_path_factory.mktemp("recipe") / "tiny.yaml"
    recipe.write_text(RECIPE)
    return {
        "name": "tiny",
        "base": {"recipe": str(recipe)},
        "mixture_seconds": 80,
        "grid": {"lr": [BAD, GOOD], "mixture_seconds": 40},
        "trials": {
            "conditions": ["clean", "overlap0", "overlap-5", "clean@0.6"],
            "seconds": 1.0,
            "enrolments": 2,
            "tests": 2,
            "resamples": 30,
        },
    }


@pytest.fixture(scope="session")
def baseline(tmp_path_factory: pytest.TempPathFactory) -> dict:
    """A row of two programs; its errors depend on the learning rate."""
    folder = tmp_path_factory.mktemp("baseline")
    (folder / "train.py").write_text(TRAIN)
    (folder / "embed.py").write_text(EMBED)
    return {
        "name": "Spectra, trained",
        "group": "system",
        "grid": True,
        "rate": RATE,
        "train": [sys.executable, str(folder / "train.py"), "{model}", "{lr}", "{mixture_seconds}"],
        "embed": [sys.executable, str(folder / "embed.py"), "{model}", "{list}", "{out}"],
    }


@pytest.fixture(scope="session")
def done(speech: Path, base: dict, baseline: dict, tmp_path_factory: pytest.TempPathFactory) -> Done:
    """A finished benchmark in which one row failed and one row could not be run."""
    folder = tmp_path_factory.mktemp("done")
    broken = [sys.executable, "-c", "import sys; print('...'); sys.exit('no microphone')"]
    rows = [
        {"name": "CSC", "group": "ours", "like": baseline["name"]},
        baseline,
        {"name": "broken", "group": "system", "train": broken, "embed": ["x", "{list}", "{out}"]},
        {"name": "far away", "group": "system", "embed": ["{peer_python}", "{list}", "{out}"]},
        {"name": "MFCC statistics", "group": "system", "builtin": "mfcc"},
    ]
    plan = write_plan(folder / "tiny.yaml", {**base, "rows": rows})
    lines: list[str] = []
    with pytest.raises(SeparativeError) as problem:
        benchmark(load_plan(plan), corpus=speech, out=folder / "out", report=lines.append)
    return Done(folder / "out", lines, str(problem.value), plan)
