"""Processes that train together do what one would, on any number of them, and none is left waiting."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from safetensors.torch import load_file

from separative.corpora.manifest import Corpus
from separative.distributed import Processes, share_of
from separative.errors import RecipeError
from separative.model import load_model
from separative.training import Recipe, train
from separative.training.loop import _check_ranks

PER_STEP = 1e-4
STEPS = 50
SCRIPT = """
import atexit, json, os, signal, sys
from pathlib import Path
from torch import distributed
from separative.corpora.manifest import Corpus, Utterance
from separative.errors import SeparativeError
from separative.training import load_recipe, train

# Last of all that is done before the interpreter ends: threads of the group must not outlive it.
atexit.register(lambda: os._exit(3) if distributed.is_initialized() else None)
told = json.loads(sys.argv[1])
speech = Corpus(tuple(Utterance(id, Path(path), 2.0, speaker=who) for id, path, who in told.pop("speech")))
try:
    train(load_recipe(told.pop("recipe")), corpus=speech, device="cpu", **told)
except SeparativeError:
    os.kill(os.getpid(), signal.SIGKILL)  # as a launcher may, before a traceback is written
"""


@pytest.fixture(scope="module")
def plan(recipe: Callable[..., Recipe]) -> Recipe:
    # Dropout is the one thing that processes draw each for themselves; curriculum, views and noise-free mixes
    # are as in a real run.
    stages = [
        {"step": 0, "views": 1, "speakers": [0.5, 0.5]},
        {"step": 20, "views": 2, "speakers": [0.2, 0.8]},
    ]
    return recipe(
        model={"dropout": 0.0},
        mixtures={"stages": stages, "speeds": [0.9, 1.0, 1.1]},
        run={"log_every": 1, "steps": STEPS, "checkpoint_minutes": 60.0},
    )


def command(plan: Recipe, speech: Corpus, folder: Path, **told: object) -> list[str]:
    (folder / "plan.yaml").write_text(json.dumps(plan.model_dump(mode="json")))
    (folder / "script.py").write_text(SCRIPT)
    told |= {
        "recipe": str(folder / "plan.yaml"),
        "cache": str(folder / "cache"),
        "speech": [(u.id, str(u.path), u.speaker) for u in speech],
    }
    return [str(folder / "script.py"), json.dumps(told, default=str)]


Start = Callable[[int, list[str]], "subprocess.Popen[str]"]


@pytest.fixture
def together() -> Iterator[Start]:
    """Starts so many processes; none outlives the test, however it ends."""
    children: list[subprocess.Popen[str]] = []

    def start(count: int, words: list[str]) -> subprocess.Popen[str]:
        launcher = ["-m", "torch.distributed.run", "--nproc-per-node", str(count), "--master-port", "0"]
        children.append(
            subprocess.Popen(
                [sys.executable, *launcher, "--standalone", *words],
                stderr=subprocess.PIPE,
                text=True,
                env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"},
                start_new_session=True,
            )
        )
        return children[-1]

    yield start
    for child in children:
        # The launcher passes it on to those it has started, and waits for them.
        child.terminate()
        child.communicate(timeout=60)


def losses(folder: Path) -> dict[int, dict[str, float]]:
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return {line["step"]: line for line in lines}


def test_two_processes_are_one(plan: Recipe, corpus: Corpus, together: Start, tmp_path: Path) -> None:
    speech = corpus.split("train")
    child = together(2, command(plan, speech, tmp_path, out=tmp_path / "two", steps=STEPS))
    whole = train(plan, corpus=speech, out=tmp_path / "one", cache=tmp_path / "cache", device="cpu")
    _, said = child.communicate(timeout=120)
    assert child.returncode == 0, said
    one, two = losses(whole), losses(tmp_path / "two")
    assert one.keys() == two.keys() == set(range(1, STEPS + 1))
    for step in one:
        for name in ("loss", "csc_query", "csc_answer", "separation_db", "activity", "gradient", "alpha"):
            assert two[step][name] == pytest.approx(one[step][name], rel=PER_STEP, abs=PER_STEP), (step, name)
    # The joined checkpoint is one process's, row by row of the inventory and of the optimiser.
    mine, theirs = (load_file(tmp_path / run / "checkpoint.safetensors") for run in ("one", "two"))
    assert mine.keys() == theirs.keys()
    for name, tensor in mine.items():
        assert theirs[name].shape == tensor.shape, name
        # Keys' biases have no gradient but rounding, which AdamW blows up: they are nobody's to compare.
        if tensor.is_floating_point() and "inventory" in name:
            assert (theirs[name] - tensor).abs().max() < 100 * PER_STEP, name

    # One process goes on from what two have saved, and the reverse.
    more = STEPS + 4
    child = together(2, command(plan, speech, tmp_path, out=tmp_path / "one", steps=more, resume=True))
    train(
        plan,
        corpus=speech,
        out=tmp_path / "two",
        cache=tmp_path / "cache",
        steps=more,
        resume=True,
        device="cpu",
    )
    _, said = child.communicate(timeout=120)
    assert child.returncode == 0, said
    one, two = losses(tmp_path / "one"), losses(tmp_path / "two")
    for step in range(STEPS + 1, more + 1):
        assert two[step]["loss"] == pytest.approx(one[step]["loss"], rel=100 * PER_STEP)
    assert load_model(tmp_path / "one").card["training"]["steps"] == more


def test_a_process_that_dies_ends_the_others_with_a_sentence(
    plan: Recipe, corpus: Corpus, together: Start, tmp_path: Path
) -> None:
    speech, out = corpus.split("train"), tmp_path / "run"
    quick = plan.model_copy(update={"run": plan.run.model_copy(update={"checkpoint_minutes": 1e-9})})
    child = together(2, command(quick, speech, tmp_path, out=out, steps=10**6))
    patience = time.monotonic() + 90
    while not (out / "checkpoint.safetensors").exists() or len(losses(out)) < 5:
        assert child.poll() is None and time.monotonic() < patience
        time.sleep(0.05)
    workers = subprocess.run(
        ["pgrep", "-P", str(child.pid)], capture_output=True, text=True, check=True
    ).stdout.split()
    assert len(workers) == 2
    os.kill(int(workers[-1]), signal.SIGKILL)
    _, said = child.communicate(timeout=60)
    assert child.returncode != 0
    assert "lost the others" in said and "goes on from its last checkpoint" in said
    step = max(losses(out))
    train(quick, corpus=speech, out=out, cache=tmp_path / "cache", steps=step + 3, resume=True, device="cpu")
    assert max(losses(out)) == step + 3


def test_what_processes_cannot_share_is_said(plan: Recipe) -> None:
    three = Processes()
    three.world = 3
    with pytest.raises(RecipeError, match="8 condition groups a step, which 3 processes cannot divide"):
        _check_ranks(plan, three)
    assert [len(share_of(10, three))] == [3]
