"""Runs in child processes: SIGTERM saves, and after SIGKILL the last checkpoint can be loaded."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from separative.corpora.manifest import Corpus
from separative.model import load_model
from separative.training import Recipe, train

# Seconds after which a child process counts as hung; far more than a busy machine needs.
HANG = 600
SCRIPT = """
import json, sys
from pathlib import Path
from separative.corpora.manifest import Corpus, Utterance
from separative.training import load_recipe, train

settings = json.loads(sys.argv[1])
utterances = [Utterance(id, Path(path), 2.0, speaker=name) for id, path, name in settings.pop("speech")]
speech = Corpus(tuple(utterances))
train(load_recipe(settings.pop("recipe")), corpus=speech, steps=10**6, device="cpu", **settings)
"""


Start = Callable[[float], tuple[subprocess.Popen[str], Path, Recipe, Corpus]]


@pytest.fixture
def start(recipe: Callable[..., Recipe], corpus: Corpus, cache: Path, tmp_path: Path) -> Start:
    """Start an endless run that saves at an interval; returns its process, folder, recipe and speech."""

    def start_run(checkpoint_minutes: float) -> tuple[subprocess.Popen[str], Path, Recipe, Corpus]:
        plan = recipe(run={"checkpoint_minutes": checkpoint_minutes, "log_every": 1})
        speech, out = corpus.split("train"), tmp_path / "run"
        (tmp_path / "plan.yaml").write_text(json.dumps(plan.model_dump(mode="json")))
        settings = {
            "recipe": str(tmp_path / "plan.yaml"),
            "out": str(out),
            "cache": str(cache),
            "speech": [(u.id, str(u.path), u.speaker) for u in speech],
            "workers": 1,
        }
        words = [sys.executable, "-c", SCRIPT, json.dumps(settings)]
        child = subprocess.Popen(words, stderr=subprocess.PIPE, text=True, start_new_session=True)
        return child, out, plan, speech

    return start_run


def wait_for_steps(child: subprocess.Popen[str], out: Path, steps: int) -> None:
    log, deadline = out / "log.jsonl", time.monotonic() + HANG
    while not (log.exists() and log.read_text().count("\n") >= steps) and child.poll() is None:
        assert time.monotonic() < deadline, "the run does not log its steps"
        time.sleep(0.02)


def saved_step(out: Path) -> int:
    with safe_open(out / "checkpoint.safetensors", framework="pt") as file:
        return int(json.loads(file.metadata()["state"])["step"])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_run_can_resume_after_its_process_is_stopped_or_killed(
    start: Start, cache: Path, number: int
) -> None:
    # With a checkpoint after every step, a kill is likely to happen while one is written.
    child, out, plan, speech = start(1e-9 if number == signal.SIGKILL else 60.0)
    wait_for_steps(child, out, 4)
    # A batch system signals all processes of a job: the run and those that draw its mixtures.
    os.killpg(child.pid, number)
    _, err = child.communicate(timeout=HANG)
    if number == signal.SIGTERM:
        assert "KeyboardInterrupt: stopped at step" in err and "resume the run to continue" in err
    assert child.returncode != 0
    step = saved_step(out)
    assert step >= 3
    resumed = train(plan, corpus=speech, out=out, cache=cache, steps=step + 1, resume=True, device="cpu")
    assert load_model(resumed).card["training"]["steps"] == step + 1
    steps = [json.loads(line)["step"] for line in (out / "log.jsonl").read_text().splitlines()]
    assert steps == list(range(1, step + 2))
    assert torch.get_num_threads() == 1


def test_full_disk_ends_the_run_and_keeps_the_last_checkpoint(start: Start, cache: Path) -> None:
    child, out, plan, speech = start(1e-9)
    wait_for_steps(child, out, 3)
    # From now on no file may exceed this size; checkpoints do, the log does not.
    resource.prlimit(child.pid, resource.RLIMIT_FSIZE, (50_000, 50_000))
    _, err = child.communicate(timeout=HANG)
    assert "File too large" in err.splitlines()[-1]
    step = saved_step(out)
    resumed = train(plan, corpus=speech, out=out, cache=cache, steps=step + 1, resume=True, device="cpu")
    assert load_model(resumed).card["training"]["steps"] == step + 1
    assert not list(out.rglob(".*"))
