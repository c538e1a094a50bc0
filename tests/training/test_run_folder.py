"""The folder of a run: one run at a time, the same data when it resumes, and damaged files."""

import dataclasses
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from separative.corpora.manifest import Corpus
from separative.errors import ModelError, RecipeError
from separative.model import load_model
from separative.training import Recipe, load_recipe, train
from separative.training.checkpoint import NAME, PREVIOUS, load_checkpoint, save_checkpoint
from separative.training.folder import check_folder, load_replay
from separative.training.run_log import RunLog

Make = Callable[..., Recipe]
# Seconds after which a child process counts as hung; far more than a busy machine needs.
HANG = 600
# A checkpoint after every step.
SAVE_OFTEN: dict[str, Any] = {"run": {"checkpoint_minutes": 1e-9, "log_every": 1}}


@pytest.fixture
def run(corpus: Corpus, cache: Path, tmp_path: Path) -> Callable[..., Path]:
    """Train in the folder ``run`` of the test, or resume there."""

    def run_training(recipe: Recipe, speech: Corpus = corpus, steps: int = 3, **settings: Any) -> Path:
        settings = {"out": tmp_path / "run", "cache": cache, "device": "cpu", "steps": steps} | settings
        return train(recipe, corpus=speech, **settings)

    return run_training


# What a run resumes with.


def renamed(corpus: Corpus, change: Callable[[str], str]) -> Corpus:
    return Corpus(tuple(dataclasses.replace(u, speaker=change(str(u.speaker))) for u in corpus))


def test_a_run_does_not_resume_with_other_speakers_of_the_same_number(
    recipe: Make, run: Callable[..., Path], corpus: Corpus
) -> None:
    out = run(recipe())
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    others = renamed(corpus, lambda name: f"other {name}")
    with pytest.raises(
        ModelError, match=r"training speakers differ \(8 then, 8 now; 't0' is missing; 'other t0'"
    ):
        run(recipe(), others, steps=4, resume=True)
    # The card still holds all speakers that the model was trained on, and no file has changed.
    assert load_model(out).training_speakers == {f"t{i}" for i in range(8)}
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


def test_a_run_does_not_resume_with_other_utterances_or_noise(
    recipe: Make, run: Callable[..., Path], corpus: Corpus
) -> None:
    noisy = recipe(mixtures={"stages": [{"step": 0, "views": 2, "speakers": [0.5, 0.5], "noise": 0.5}]})
    run(noisy, noise=corpus)
    swapped = {"t0": "t1", "t1": "t0"}
    for speech, noise, what in (
        (
            corpus.filter(lambda u: u.id != "t3-1"),
            corpus,
            r"utterances of the split train differ \(16 then, 15 now",
        ),
        (
            renamed(corpus, lambda name: swapped.get(name, name)),
            corpus,
            "utterances of the split train differ",
        ),
        (corpus, corpus.filter(lambda u: u.id != "t3-1"), r"noise clips differ \(16 then, 15 now"),
    ):
        with pytest.raises(ModelError, match=rf"{NAME} belongs to another .*: the {what}"):
            run(noisy, speech, steps=4, noise=noise, resume=True)
    run(noisy, noise=corpus, steps=4, resume=True)


def test_a_run_resumes_from_a_moved_corpus(
    recipe: Make, run: Callable[..., Path], corpus: Corpus, tmp_path: Path
) -> None:
    run(recipe())
    (tmp_path / "moved").symlink_to(next(iter(corpus)).path.parent)
    moved = Corpus(tuple(dataclasses.replace(u, path=tmp_path / "moved" / u.path.name) for u in corpus))
    assert load_model(run(recipe(), moved, steps=4, resume=True)).card["training"]["steps"] == 4


def test_a_changed_recipe_is_noticed_even_if_its_file_agrees(recipe: Make, run: Callable[..., Path]) -> None:
    out, other = run(recipe()), recipe(optimiser={"lr": 1.0})
    with pytest.raises(
        RecipeError, match=r"recipe\.json in 'optimiser', key 'lr' \(0.005 there, 1.0 given\)"
    ):
        run(other, resume=True)
    (out / "recipe.json").write_text(json.dumps(other.model_dump(mode="json")))
    with pytest.raises(RecipeError, match=rf"{NAME} in 'optimiser', key 'lr' \(0.005 there, 1.0 given\)"):
        run(other, steps=4, resume=True)
    # The checkpoint has the recipe, so the file is not needed.
    (out / "recipe.json").unlink()
    run(recipe(), steps=4, resume=True)
    assert Recipe.model_validate_json((out / "recipe.json").read_text()) == recipe()


@pytest.mark.parametrize(
    "text",
    [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"seed": "' + b"9" * 5000 + b'"}', b"[" * 10**5, b"9" * 5000],
    ids=["empty", "cut", "list", "null", "not UTF-8", "long text", "deep", "long number"],
)
def test_a_damaged_recipe_of_a_run_is_an_error_that_names_it(
    recipe: Make, run: Callable[..., Path], text: bytes
) -> None:
    out = run(recipe())
    (out / "recipe.json").write_bytes(text)
    with pytest.raises(RecipeError, match=r"run/recipe\.json"):
        run(recipe(), resume=True)
    (out / "replay.json").write_text('{"items": [1]}')
    for path in (out / "recipe.json", out / "replay.json"):
        with pytest.raises(RecipeError, match=r"recipe\.json"):
            load_recipe(path) if path.name == "recipe.json" else load_replay(path)


@pytest.mark.parametrize(
    "record", ["[]", "{", '{"items": 3}', '{"items": ["1"]}', '{"items": [-1]}', '{"items": [true]}']
)
def test_a_damaged_replay_is_an_error_that_names_it(recipe: Make, tmp_path: Path, record: str) -> None:
    (tmp_path / "recipe.json").write_text(json.dumps(recipe().model_dump(mode="json")))
    (tmp_path / "replay.json").write_text(record)
    with pytest.raises(RecipeError, match=r"replay\.json is not a replay\.json"):
        load_replay(tmp_path / "replay.json")


# Damaged checkpoints.


@pytest.fixture
def saved(tmp_path: Path) -> Iterator[tuple[Path, dict[str, torch.nn.Module], torch.optim.Optimizer]]:
    module = torch.nn.Linear(2, 2)
    optimiser = torch.optim.AdamW(module.parameters())
    module(torch.ones(1, 2)).sum().backward()
    optimiser.step()
    save_checkpoint(tmp_path / NAME, {"model": module}, optimiser, {"step": 4, "minutes": 0.5})
    yield tmp_path / NAME, {"model": module}, optimiser


def test_any_flipped_bit_of_a_checkpoint_is_refused_by_its_name(
    saved: tuple[Path, dict[str, torch.nn.Module], torch.optim.Optimizer],
) -> None:
    path, modules, optimiser = saved
    whole, rng = path.read_bytes(), random.Random(0)
    header = 8 + int.from_bytes(whole[:8], "little")
    # Every bit of the header, which holds the state, and some of the tensors.
    for bit in (*range(8 * header), *rng.sample(range(8 * header, 8 * len(whole)), 200)):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        with pytest.raises(ModelError, match=NAME):
            load_checkpoint(path, modules, optimiser)


def test_a_state_changed_by_hand_is_refused(
    saved: tuple[Path, dict[str, torch.nn.Module], torch.optim.Optimizer],
) -> None:
    path, modules, optimiser = saved
    path.write_bytes(path.read_bytes().replace(rb"\"step\": 4", rb"\"step\": 0"))
    with pytest.raises(ModelError, match=rf"{NAME} is damaged: checksum mismatch"):
        load_checkpoint(path, modules, optimiser)


def test_weights_that_are_not_finite_do_not_replace_a_checkpoint(
    saved: tuple[Path, dict[str, torch.nn.Module], torch.optim.Optimizer],
) -> None:
    path, modules, optimiser = saved
    before = path.read_bytes()
    with torch.no_grad():
        modules["model"].bias[0] = float("nan")
    with pytest.raises(ModelError, match=r"not saved: the weights 'model/bias' are not all finite"):
        save_checkpoint(path, modules, optimiser, {"step": 5})
    assert path.read_bytes() == before and [p.name for p in path.parent.iterdir()] == [NAME]


@pytest.mark.parametrize("problem", ["missing", "empty", "cut", "flipped"])
def test_a_run_resumes_from_the_checkpoint_before_if_the_newest_is_lost(
    recipe: Make, run: Callable[..., Path], problem: str, caplog: pytest.LogCaptureFixture
) -> None:
    plan = recipe(**SAVE_OFTEN)
    out = run(plan, steps=4)
    newest, previous = out / NAME, out / PREVIOUS
    assert previous.is_file()
    content = bytearray(newest.read_bytes())
    if problem == "missing":
        newest.unlink()
    else:
        content[-9] ^= 1
        size = {"empty": 0, "cut": len(content) // 2, "flipped": len(content)}[problem]
        newest.write_bytes(content[:size])
    resumed = run(plan, steps=5, resume=True)
    assert f"using {previous} of step 3 instead" in caplog.text
    assert load_model(resumed).card["training"]["steps"] == 5
    load_file(previous)
    steps = [json.loads(line)["step"] for line in (out / "log.jsonl").read_text().splitlines()]
    assert list(dict.fromkeys(steps)) == [1, 2, 3, 4, 5]


def test_a_damaged_checkpoint_does_not_replace_the_one_before_it(
    saved: tuple[Path, dict[str, torch.nn.Module], torch.optim.Optimizer],
) -> None:
    path, modules, optimiser = saved
    save_checkpoint(path, modules, optimiser, {"step": 5})
    path.write_bytes(path.read_bytes()[:100])
    good = path.with_name(PREVIOUS).read_bytes()
    assert load_checkpoint(path, modules, optimiser)["step"] == 4
    save_checkpoint(path, modules, optimiser, {"step": 6})
    assert path.with_name(PREVIOUS).read_bytes() == good
    assert load_checkpoint(path, modules, optimiser)["step"] == 6
    save_checkpoint(path, modules, optimiser, {"step": 7})
    assert load_checkpoint(path.with_name(PREVIOUS), modules, optimiser)["step"] == 6


def test_a_log_that_is_not_text_does_not_stop_a_resumed_run(tmp_path: Path) -> None:
    lines = [
        b'{"step": 1}',
        b"\xff\xfe",
        b"[]",
        b"5",
        b'{"step": "2"}',
        b'{"loss": 1}',
        b"[" * 10**5,
        b'{"step": 3}',
    ]
    (tmp_path / "log.jsonl").write_bytes(b"\n".join(lines))
    RunLog(tmp_path, first_step=2).close()
    assert (tmp_path / "log.jsonl").read_bytes() == b'{"step": 1}\n'


# Two runs in one folder.


@contextmanager
def child(
    recipe: Recipe, corpus: Corpus, out: Path, cache: Path, folder: Path, **settings: Any
) -> Iterator[Any]:
    """A training in another process, which ends with the block."""
    script = """
import json, sys
from pathlib import Path
from separative.corpora.manifest import Corpus, Utterance
from separative.errors import SeparativeError
from separative.training import load_recipe, train

settings = json.loads(sys.argv[1])
speech = Corpus(tuple(Utterance(i, Path(p), 2.0, speaker=s) for i, p, s in settings.pop("speech")))
try:
    train(load_recipe(settings.pop("recipe")), corpus=speech, device="cpu", **settings)
except SeparativeError as error:
    sys.exit(f"refused: {error}")
"""
    (folder / "recipe.yaml").write_text(json.dumps(recipe.model_dump(mode="json")))
    speech = [(u.id, str(u.path), u.speaker) for u in corpus]
    settings |= {
        "recipe": str(folder / "recipe.yaml"),
        "speech": speech,
        "out": str(out),
        "cache": str(cache),
    }
    words = [sys.executable, "-c", script, json.dumps(settings)]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env=os.environ)
    try:
        yield process
    finally:
        process.kill()
        process.communicate(timeout=HANG)


def wait_until(condition: Callable[[], bool], process: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + HANG
    while not condition():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)


def test_a_folder_is_used_by_one_training_at_a_time(
    recipe: Make, run: Callable[..., Path], corpus: Corpus, cache: Path, tmp_path: Path
) -> None:
    plan, speech, out = recipe(**SAVE_OFTEN), corpus.split("train"), tmp_path / "run"
    with child(plan, speech, out, cache, tmp_path, steps=10**6) as first:
        # Before the first checkpoint, and while it trains.
        wait_until((out / ".lock").exists, first)
        with pytest.raises(
            ModelError, match=r"run (is in use by another training|exists and is not an empty)"
        ):
            run(plan, speech)
        wait_until((out / NAME).exists, first)
        with pytest.raises(ModelError, match=r"run is in use by another training: wait until it ends"):
            run(plan, speech, resume=True)
        assert first.poll() is None
        # The lock ends with its process, however that ends.
        first.send_signal(signal.SIGKILL)
        first.wait(timeout=HANG)
    step = json.loads((out / "log.jsonl").read_text().splitlines()[-1])["step"]
    run(plan, speech, steps=step + 2, resume=True)
    assert not list(out.rglob(".*"))


def test_of_two_trainings_that_start_at_once_in_a_new_folder_one_is_refused(
    recipe: Make, corpus: Corpus, cache: Path, tmp_path: Path
) -> None:
    plan, speech, out = recipe(), corpus.split("train"), tmp_path / "run"
    folders = [tmp_path / name for name in ("a", "b")]
    for folder in folders:
        folder.mkdir()
    with (
        child(plan, speech, out, cache, folders[0], steps=300) as one,
        child(plan, speech, out, cache, folders[1], steps=300) as two,
    ):
        errors = [process.communicate(timeout=HANG)[1] for process in (one, two)]
        codes = sorted(process.returncode for process in (one, two))
    assert codes == [0, 1], errors
    assert sum("refused: " in error for error in errors) == 1
    assert load_model(out).card["training"]["steps"] == 300
    steps = [json.loads(line)["step"] for line in (out / "log.jsonl").read_text().splitlines()]
    assert steps == sorted(set(steps))


def test_a_run_of_the_same_process_has_the_lock_too(recipe: Make, run: Callable[..., Path]) -> None:
    seen = []

    def nested(status: Any) -> None:
        with pytest.raises(ModelError, match="in use by another training"):
            run(recipe(**SAVE_OFTEN), steps=9, resume=True)
        seen.append(status.step)

    run(recipe(**SAVE_OFTEN), steps=3, progress=lambda status: nested(status) if status.step == 2 else None)
    assert seen == [2]


def test_a_killed_run_without_a_checkpoint_leaves_a_folder_that_counts_as_new(
    recipe: Make, run: Callable[..., Path], tmp_path: Path
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".lock").touch()
    with pytest.raises(ModelError, match="no checkpoint to resume"):
        check_folder(tmp_path / "run", recipe(), resume=True)
    run(recipe())
    assert not (tmp_path / "run" / ".lock").exists()
