"""Runs in processes of their own: told to end, they save; killed at any moment, they leave what loads."""

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

SCRIPT = """
import json, sys
from pathlib import Path
from separative.corpora.manifest import Corpus, Utterance
from separative.training import load_recipe, train

told = json.loads(sys.argv[1])
speech = Corpus(tuple(Utterance(id, Path(path), 2.0, speaker=who) for id, path, who in told.pop("speech")))
train(load_recipe(told.pop("recipe")), corpus=speech, steps=10**6, device="cpu", **told)
"""


Start = Callable[[float], tuple[subprocess.Popen[str], Path, Recipe, Corpus]]


@pytest.fixture
def start(recipe: Callable[..., Recipe], corpus: Corpus, cache: Path, tmp_path: Path) -> Start:
    """An endless run in a process of its own that saves so often; with its folder, recipe and speech."""

    def go(checkpoint_minutes: float) -> tuple[subprocess.Popen[str], Path, Recipe, Corpus]:
        plan = recipe(run={"checkpoint_minutes": checkpoint_minutes, "log_every": 1})
        speech, out = corpus.split("train"), tmp_path / "run"
        (tmp_path / "plan.yaml").write_text(json.dumps(plan.model_dump(mode="json")))
        told = {
            "recipe": str(tmp_path / "plan.yaml"),
            "out": str(out),
            "cache": str(cache),
            "speech": [(u.id, str(u.path), u.speaker) for u in speech],
        }
        words = [sys.executable, "-c", SCRIPT, json.dumps(told)]
        return subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env=os.environ), out, plan, speech

    return go


def wait_for_steps(child: subprocess.Popen[str], out: Path, steps: int) -> None:
    log, patience = out / "log.jsonl", time.monotonic() + 60
    while not (log.exists() and log.read_text().count("\n") >= steps) and child.poll() is None:
        assert time.monotonic() < patience, "no step was logged in a minute"
        time.sleep(0.02)


def saved_step(out: Path) -> int:
    with safe_open(out / "checkpoint.safetensors", framework="pt") as file:
        return int(json.loads(file.metadata()["state"])["step"])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_process_that_is_ended_leaves_a_run_that_goes_on(start: Start, cache: Path, number: int) -> None:
    # Saving after every step: a kill is more likely during a save than not.
    child, out, plan, speech = start(1e-9 if number == signal.SIGKILL else 60.0)
    wait_for_steps(child, out, 4)
    child.send_signal(number)
    _, said = child.communicate(timeout=30)
    if number == signal.SIGTERM:
        assert "KeyboardInterrupt: stopped at step" in said and "resume goes on from there" in said
    assert child.returncode != 0
    step = saved_step(out)
    assert step >= 3
    resumed = train(plan, corpus=speech, out=out, cache=cache, steps=step + 1, resume=True, device="cpu")
    assert load_model(resumed).card["training"]["steps"] == step + 1
    steps = [json.loads(line)["step"] for line in (out / "log.jsonl").read_text().splitlines()]
    assert steps == list(range(1, step + 2))
    assert torch.get_num_threads() == 1


def test_a_disk_that_fills_up_ends_a_run_and_leaves_its_last_checkpoint(start: Start, cache: Path) -> None:
    child, out, plan, speech = start(1e-9)
    wait_for_steps(child, out, 3)
    # No file may grow beyond this from now on, which the log does not reach and a checkpoint does.
    resource.prlimit(child.pid, resource.RLIMIT_FSIZE, (50_000, 50_000))
    _, said = child.communicate(timeout=30)
    assert "File too large" in said.splitlines()[-1]
    step = saved_step(out)
    resumed = train(plan, corpus=speech, out=out, cache=cache, steps=step + 1, resume=True, device="cpu")
    assert load_model(resumed).card["training"]["steps"] == step + 1
    assert not list(out.rglob(".*"))
