"""Training with a teacher's vectors: targets, space, first rows of the inventory, resuming, errors."""

import json
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from separative.corpora.manifest import Corpus
from separative.errors import CorpusError, ModelError, RecipeError
from separative.mixtures import Mixer
from separative.model import load_model
from separative.model.teacher import Teacher, TeacherVectors
from separative.names import name_at_speed
from separative.training import Recipe, Status, machine, train
from separative.training.learner import Learner
from separative.training.teaching import TeacherTargets, prepare_targets, teach_inventory

Make = Callable[..., Recipe]
TEACHER = Teacher(name="mine", licence="MIT", sha256="5f" * 32)
SIZE = 20
CLOSE = 1e-5  # float32


@pytest.fixture(scope="session")
def vectors(corpus: Corpus) -> TeacherVectors:
    """A direction for each speaker, and a little noise for each utterance."""
    rng = np.random.default_rng(0)
    centre = {name: rng.normal(size=SIZE) for name in corpus.speakers}
    rows = [centre[u.speaker] + 0.2 * rng.normal(size=SIZE) for u in corpus]
    return TeacherVectors.from_rows(TEACHER, [u.id for u in corpus], np.array(rows))


@pytest.fixture(scope="session")
def plan(recipe: Make) -> Recipe:
    return recipe(loss={"objective": "teach", "separation": 0.2, "csc": 0.1, "teach": 1.0})


@pytest.fixture(scope="session")
def run(corpus: Corpus, cache: Path, vectors: TeacherVectors) -> Callable[..., Path]:
    def run_training(plan: Recipe, out: Path, **settings: Any) -> Path:
        given: dict[str, Any] = {"corpus": corpus, "teacher": vectors, "cache": cache, "device": "cpu"}
        return train(plan, out=out, **(given | settings))

    return run_training


def read_log(out: Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [line for line in lines if "loss" in line]


def test_embeddings_approach_the_vectors_and_the_card_names_the_teacher(
    plan: Recipe, run: Callable[..., Path], vectors: TeacherVectors, tmp_path: Path
) -> None:
    out = run(plan, tmp_path / "run", steps=60)
    log = read_log(out)
    for name in ("teach_cos_query", "teach_cos_attended"):
        assert log[-1][name] > log[0][name] + 0.1
    model = load_model(out)
    space = model.card["space"]
    assert (space["name"], space["licence"], space["sha256"]) == ("mine", "MIT", "5f" * 32)
    assert (space["dimension"], space["projection"]) == (SIZE, model.space.sha256)
    # A file of the teacher's vectors can be compared with the student's embeddings: equal sizes, unit norm.
    projected = model.space(torch.from_numpy(vectors.vectors))
    assert projected.shape == (len(vectors.ids), model.config.embedding)
    assert torch.allclose(projected.norm(dim=-1), torch.ones(()), atol=CLOSE)


def test_resumed_run_equals_uninterrupted_run(
    plan: Recipe, run: Callable[..., Path], vectors: TeacherVectors, tmp_path: Path
) -> None:
    """Bit for bit: weights, space, running average, inventory, optimiser and random state."""

    def stop(status: Status) -> None:
        if status.step == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    whole, parts = run(plan, tmp_path / "whole", steps=6), tmp_path / "parts"
    with pytest.raises(KeyboardInterrupt, match="stopped at step 3"):
        run(plan, parts, steps=6, progress=stop)
    run(plan, parts, steps=6, resume=True)
    ours, theirs = (load_file(out / "checkpoint.safetensors") for out in (parts, whole))
    assert "model/space.axis_TE" in ours
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []
    changed = replace(vectors, vectors=-vectors.vectors)
    with pytest.raises(ModelError, match="the vectors of the teacher differ"):
        run(plan, parts, steps=8, resume=True, teacher=changed)


@pytest.fixture(scope="session")
def mixer(plan: Recipe, corpus: Corpus, cache: Path) -> Mixer:
    return Mixer(corpus.split("train"), plan.mixtures, seed=0, cache=cache)


@pytest.fixture
def learner(plan: Recipe, mixer: Mixer) -> Learner:
    torch.manual_seed(0)
    return Learner(plan, len(mixer.identities), machine.launch("cpu"), teacher=SIZE)


def test_rows_of_the_divergence_are_the_training_utterances(
    learner: Learner, mixer: Mixer, corpus: Corpus, vectors: TeacherVectors
) -> None:
    targets = prepare_targets(learner, mixer, vectors)
    # The file also has vectors of validation speakers. They are not used, and do not move the centre.
    assert len(learner.objective.teacher_RE) == len(corpus.split("train"))
    assert all(u.id in targets for u in corpus.split("train"))
    assert not any(u.id in targets for u in corpus.split("dev"))
    train_RT = np.array([v for name, v in zip(vectors.ids, vectors.vectors, strict=True) if name in targets])
    assert np.allclose(learner.model.space.mean_T.numpy(), train_RT.mean(0), atol=CLOSE)


def test_target_is_the_mean_of_the_crops_weighted_by_length(
    learner: Learner, mixer: Mixer, vectors: TeacherVectors
) -> None:
    targets = prepare_targets(learner, mixer, vectors)
    batch = mixer.batch(0)
    target = targets(batch)
    known = batch.identities >= 0
    assert torch.allclose(target[known].norm(dim=-1), torch.ones(()), atol=CLOSE)
    assert not target[~known].any()
    place = {name: row for row, name in enumerate(vectors.ids)}
    for row, info in enumerate(batch.info):
        for column, source in enumerate(info["sources"]):
            mean = sum(
                crop["samples"]
                * learner.model.space(torch.from_numpy(vectors.vectors[place[crop["utterance"]]]))
                for crop in source["crops"]
            )
            assert torch.allclose(target[row, column], mean / mean.norm(), atol=CLOSE)
            source["speed"] = 0.9
    # Speech at another speed is another voice, which has no vector here.
    assert not targets(batch).any()


def test_speech_at_another_speed_has_a_target_of_its_own(
    plan: Recipe, corpus: Corpus, cache: Path, learner: Learner
) -> None:
    speech = corpus.split("train")
    fast = Mixer(speech, plan.mixtures.model_copy(update={"speeds": (1.0, 1.1)}), seed=0, cache=cache)
    names = [name_at_speed(u.id, speed) for u in speech for speed in (1.0, 1.1)]
    rows = np.random.default_rng(0).normal(size=(len(names), SIZE))
    given = TeacherVectors.from_rows(TEACHER, names, rows)
    targets = prepare_targets(learner, fast, given)
    seen = set()
    for step in range(4):
        batch = fast.batch(step)
        target = targets(batch)
        for row, info in enumerate(batch.info):
            for column, source in enumerate(info["sources"]):
                crops = source["crops"]
                weights = {name_at_speed(crop["utterance"], source["speed"]): 1.0 for crop in crops}
                if len(weights) == 1:
                    assert torch.allclose(target[row, column], targets.mean(weights), atol=CLOSE)
                    seen.add(source["speed"])
    assert seen == {1.0, 1.1}


def test_utterance_without_a_vector_has_no_target(
    learner: Learner, mixer: Mixer, vectors: TeacherVectors, caplog: pytest.LogCaptureFixture
) -> None:
    some = TeacherVectors(TEACHER, vectors.ids[:3], vectors.vectors[:3])
    targets = prepare_targets(learner, mixer, some)
    assert "13 of 16 training utterances have no vector" in caplog.text
    batch = mixer.batch(0)
    target = targets(batch)
    for row, info in enumerate(batch.info):
        for column, source in enumerate(info["sources"]):
            has = all(crop["utterance"] in some.ids for crop in source["crops"])
            assert bool(target[row, column].any()) == has


def test_inventory_starts_with_the_mean_of_the_vectors_of_each_speaker(
    learner: Learner, mixer: Mixer, vectors: TeacherVectors
) -> None:
    targets = prepare_targets(learner, mixer, vectors)
    inventory = learner.objective.inventory
    before = inventory.row_PE.norm(dim=1)
    teach_inventory(inventory, mixer, targets)
    assert torch.allclose(inventory.row_PE.norm(dim=1), before, atol=CLOSE)
    for row, utterances in zip(inventory.unit_rows, mixer.pool.utterances, strict=True):
        mean = targets.mean({u.id: u.seconds for u in utterances})
        assert torch.allclose(row, mean, atol=CLOSE)


def test_unlabelled_recordings_are_targets_too(
    plan: Recipe, corpus: Corpus, cache: Path, learner: Learner
) -> None:
    speech = corpus.split("train")
    hidden = Corpus(
        tuple(replace(u, speaker=None) if u.speaker in ("t6", "t7") else u for u in speech.utterances)
    )
    mixer = Mixer(hidden, plan.mixtures.model_copy(update={"batch": 6}), seed=0, cache=cache)
    rows = np.random.default_rng(0).normal(size=(len(speech), SIZE))
    targets = prepare_targets(learner, mixer, TeacherVectors.from_rows(TEACHER, [u.id for u in speech], rows))
    unlabelled = 0
    for step in range(20):
        batch = mixer.batch(step)
        target = targets(batch)
        for row, info in enumerate(batch.info):
            for column, source in enumerate(info["sources"]):
                if source["identity"] < 0:
                    unlabelled += 1
                    assert target[row, column].norm() == pytest.approx(1, abs=CLOSE)
    assert unlabelled > 0


def test_vectors_are_needed_and_must_fit(
    plan: Recipe, recipe: Make, run: Callable[..., Path], vectors: TeacherVectors, tmp_path: Path
) -> None:
    with pytest.raises(RecipeError, match="needs a teacher's vectors"):
        run(plan, tmp_path / "run", teacher=None)
    with pytest.raises(RecipeError, match="have no effect on the objective 'csc'"):
        run(recipe(), tmp_path / "run")
    other = replace(vectors, ids=tuple(f"x{name}" for name in vectors.ids))
    with pytest.raises(CorpusError, match="none of the 16 training utterances has a vector"):
        run(plan, tmp_path / "run", teacher=other, steps=1)
    with pytest.raises(RecipeError, match="is set by the teacher's vectors"):
        recipe(model={"teacher": SIZE})
    assert not (tmp_path / "run").exists()


def test_student_keeps_its_space_when_training_goes_on(
    plan: Recipe,
    recipe: Make,
    run: Callable[..., Path],
    corpus: Corpus,
    vectors: TeacherVectors,
    tmp_path: Path,
) -> None:
    first = load_model(run(plan, tmp_path / "first", steps=1))
    fewer = Corpus(tuple(u for u in corpus if u.speaker not in ("t6", "t7")))
    eight = recipe(loss={"objective": "teach"}, mixtures={"batch": 6})
    second = load_model(run(eight, tmp_path / "second", steps=1, start=first, corpus=fewer))
    assert second.space.sha256 == first.space.sha256
    theirs = replace(vectors, teacher=TEACHER.model_copy(update={"sha256": "6a" * 32}))
    with pytest.raises(ModelError, match="space of the teacher 'mine'"):
        run(plan, tmp_path / "third", steps=1, start=first, teacher=theirs)
    with pytest.raises(ModelError, match="space of the teacher 'mine'"):
        run(recipe(), tmp_path / "third", steps=1, start=first, teacher=None)


def test_mean_of_vectors_does_not_depend_on_their_order() -> None:
    targets = TeacherTargets(["a", "b"], torch.eye(2))
    assert torch.equal(targets.mean({"a": 1.0, "b": 2.0}), targets.mean({"b": 2.0, "a": 1.0}))
    assert targets.mean({}) is None


def test_a_stage_alone_teaches_the_speaker_head_only(
    recipe: Make, run: Callable[..., Path], tmp_path: Path
) -> None:
    stages = [
        {"step": 0, "views": 2, "speakers": [1.0], "alone": True},
        {"step": 30, "views": 2, "speakers": [0.5, 0.5]},
    ]
    loss = {"objective": "teach", "separation": 0.2, "csc": 0.1, "teach": 1.0}
    plan = recipe(loss=loss, mixtures={"stages": stages}, model={"speaker_mels": True})
    first, second, third = (
        load_file(run(plan, tmp_path / str(steps), steps=steps) / "checkpoint.safetensors")
        for steps in (1, 30, 31)
    )
    trunk = [name for name in first if name.startswith("model/shared.")]
    assert trunk and all(torch.equal(first[name], second[name]) for name in trunk)
    assert any(not torch.equal(second[name], third[name]) for name in trunk)
    log = read_log(tmp_path / "30")
    assert log[-1]["teach_cos_query"] > log[0]["teach_cos_query"] + 0.1
    assert "separation_db" not in log[-1]


def test_a_stage_alone_must_fit(recipe: Make) -> None:
    alone = [{"step": 0, "views": 2, "speakers": [1.0], "alone": True}]
    with pytest.raises(RecipeError, match=r"set model\.speaker_mels to true"):
        recipe(mixtures={"stages": alone})
    with pytest.raises(RecipeError, match="'supcon' has no stages in which"):
        recipe(
            mixtures={"stages": alone},
            model={"speaker_mels": True, "streams": 1},
            loss={"objective": "supcon"},
        )
    with pytest.raises(RecipeError, match="but has mixtures of several speakers"):
        recipe(mixtures={"stages": [alone[0] | {"speakers": [0.5, 0.5]}]}, model={"speaker_mels": True})
