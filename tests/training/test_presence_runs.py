"""Small runs with the objective ``presence``: they resume exactly, and mix it with labels."""

import json
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from separative.corpora.manifest import Corpus
from separative.errors import RecipeError
from separative.mixtures import Mixer
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


def test_unlabelled_recordings_are_targets_without_a_row(
    recipe: Make, corpus: Corpus, cache: Path, tmp_path: Path
) -> None:
    """Labelled speakers have the inventory; the recordings of the last three have only presence."""
    speech = Corpus(
        tuple(
            replace(u, speaker=None) if u.speaker in ("t5", "t6", "t7") else u for u in corpus.split("train")
        )
    )
    plan = recipe(
        loss={"objective": "presence", "csc": 0.5},
        mixtures={"unlabelled": "presence", "speeds": [1.0, 1.1]},
        run={"log_every": 1, "steps": 4},
    )
    mixer = Mixer(speech, plan.mixtures, seed=0, cache=cache)
    assert len(mixer.identities) == 2 * (5 + 6) and mixer.pool.known == 2 * 5
    targets = [int(target) for step in range(4) for target in mixer.targets(step)]
    assert {target >= 10 for target in targets} == {True, False}
    out = train(plan, corpus=speech, out=tmp_path / "run", cache=cache, device="cpu")
    assert len(tensors(out)["objective/inventory.row_PE"]) == 10
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert all(line["csc_query"] > 0 and line["presence_query"] > 0 for line in lines if "loss" in line)


def test_share_of_a_corpus_is_nested_and_about_as_large(corpus: Corpus, recipe: Make, cache: Path) -> None:
    names = {}
    for share in (0.4, 0.7, 1.0):
        mixtures = recipe(
            mixtures={"identity": "recording", "share": share, "batch": 2, "streams": 2}
        ).mixtures
        names[share] = set(Mixer(corpus, mixtures, seed=0, cache=cache).identities)
    assert names[0.4] < names[0.7] < names[1.0]
    assert 0.1 < len(names[0.4]) / len(names[1.0]) < 0.7


def test_labels_and_recordings_without_labels_need_presence(recipe: Make) -> None:
    with pytest.raises(RecipeError, match=r"needs an objective with loss\.presence"):
        recipe(mixtures={"unlabelled": "presence"})
