"""Small runs with the objective ``presence``: they resume exactly, and mix it with labels."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from separative.corpora.manifest import Corpus
from separative.errors import RecipeError
from separative.training import Recipe, Status, train

Make = Callable[..., Recipe]
STEPS = 5


@pytest.fixture(scope="module")
def plan(recipe: Make) -> Recipe:
    """Recordings without labels; a queue that wraps around, and groups of one, two and four views."""
    stages = [{"step": step, "views": v, "speakers": [0.2, 0.8]} for step, v in ((0, 2), (2, 1), (3, 4))]
    presence = {"queue": 6, "own_view": 0.3}
    return recipe(
        loss={"objective": "presence", "presence": presence},
        mixtures={"identity": "recording", "disjoint": True, "stages": stages},
        run={"log_every": 1, "steps": STEPS},
    )


def tensors(out: Path) -> dict[str, torch.Tensor]:
    return load_file(out / "checkpoint.safetensors")


def test_resumed_run_equals_uninterrupted_run(
    plan: Recipe, corpus: Corpus, cache: Path, tmp_path: Path
) -> None:
    """Including the queue, which is in the checkpoint; no inventory is."""

    def stop(status: Status) -> None:
        if status.step == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    settings: dict[str, Any] = {"corpus": corpus.split("train"), "cache": cache, "device": "cpu"}
    whole = train(plan, out=tmp_path / "whole", **settings)
    with pytest.raises(KeyboardInterrupt, match="stopped at step 3"):
        train(plan, out=tmp_path / "parts", progress=stop, **settings)
    torch.manual_seed(99)
    parts = train(plan, out=tmp_path / "parts", resume=True, **settings)
    ours, theirs = tensors(whole), tensors(parts)
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []
    assert (ours["objective/presence.identity_Q"] >= 0).all()
    assert not [name for name in ours if "inventory" in name]
    weight = ours["model/cross.out.weight"]
    assert torch.linalg.matrix_rank(weight) == len(weight)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"model": {"cross_attention": False}}, "needs model.cross_attention"),
        ({"mixtures": {"stages": [{"step": 0, "views": 1}]}}, "groups of several views"),
        ({"loss": {"objective": "presence", "presence": {"queu": 3}}}, "unknown key .*queu"),
        ({"loss": {"objective": "presence", "presence": {"queue": 1 << 30}}}, "queue"),
    ],
)
def test_recipes_that_cannot_learn_presence_are_errors(
    recipe: Make, changes: dict[str, Any], problem: str
) -> None:
    with pytest.raises(RecipeError, match=problem):
        recipe(**({"loss": {"objective": "presence"}} | changes))
