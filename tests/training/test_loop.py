"""Small training runs: loss, files, stopping and resuming, limits, and errors."""

import dataclasses
import json
import math
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from separative.corpora.manifest import Corpus
from separative.errors import CorpusError, ModelError, RecipeError, SeparativeError
from separative.mixtures import Mixer
from separative.model import SeparativeEncoder, load_model
from separative.objectives import SeparativeObjective
from separative.training import Recipe, Status, run_log, train
from separative.training.learner import init_inventory, single_speaker_config
from separative.training.run_log import Clock

Make = Callable[..., Recipe]
Run = Callable[..., Path]


@pytest.fixture(scope="session")
def run(corpus: Corpus, cache: Path) -> Run:
    """``train`` on the synthetic speakers, which are decoded once for all tests."""

    def run_training(recipe: Recipe, out: Path, speech: Corpus = corpus, **settings: Any) -> Path:
        return train(recipe, corpus=speech, out=out, cache=cache, device="cpu", **settings)

    return run_training


@pytest.fixture(scope="session")
def finished(recipe: Make, run: Run, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Status]]:
    """A run of 60 steps, and its statuses."""
    statuses: list[Status] = []
    out = run(recipe(), tmp_path_factory.mktemp("runs") / "whole", steps=60, progress=statuses.append)
    return out, statuses


def lines(out: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def tensors(out: Path) -> dict[str, torch.Tensor]:
    return load_file(out / "checkpoint.safetensors")


def stop_at(step: int, number: int) -> Callable[[Status], None]:
    """Send a signal to this process after that step."""
    return lambda status: os.kill(os.getpid(), number) if status.step == step else None


def test_loss_falls(finished: tuple[Path, list[Status]]) -> None:
    log = [line for line in lines(finished[0]) if "lr" in line]
    first, last = log[0], log[-1]
    assert first["csc_attended"] > math.log(8) - 0.3
    assert last["csc_attended"] < 0.8 * first["csc_attended"] and last["loss"] < 0.8 * first["loss"]
    assert last["mi_train"] == pytest.approx(math.log(8) - last["csc_attended"], abs=1e-4)


def test_run_writes_recipe_log_checkpoint_model_and_events(
    finished: tuple[Path, list[Status]], recipe: Make
) -> None:
    out, _ = finished
    names = {"recipe.json", "log.jsonl", "checkpoint.safetensors", "model", "tensorboard"}
    assert {path.name for path in out.iterdir()} == names
    assert Recipe.model_validate_json((out / "recipe.json").read_text()) == recipe()
    model = load_model(out)
    assert model.config == recipe().model
    assert model.card["identity"] == "speaker" and model.card["identities"] == 8
    assert model.card["training"]["steps"] == 60 and model.card["training"]["mixture_seconds"] == 480
    assert model.card["data"]["speaker_count"] == 8 and model.card["data"]["corpora"] == ["buzz"]
    # Only those of the split train; three other speakers validate.
    assert model.card["data"]["speakers"] == [f"t{i}" for i in range(8)]
    assert {"valid/eer_clean", "valid/eer_mixed", "valid/mi_mixed", "valid/si_sdri_db"} <= model.card[
        "metrics"
    ].keys()
    saved = tensors(out)
    for name, value in model.state_dict().items():
        assert torch.equal(value, saved[f"average/{name}"])


def test_progress_reports_step_fraction_and_speed(finished: tuple[Path, list[Status]]) -> None:
    _, statuses = finished
    assert [status.step for status in statuses] == list(range(1, 61))
    assert statuses[29].fraction == pytest.approx(0.5) and statuses[-1].remaining == 0
    logged = lines(finished[0])[-2]
    assert statuses[-1].values["loss"] == pytest.approx(logged["loss"], rel=1e-5)
    assert statuses[-1].speed == pytest.approx(logged["speed"], rel=1e-5)


def test_remaining_time_is_estimated_from_the_pace_since_the_resume() -> None:
    clock = Clock(steps=100, minutes=None, first=90, before=30.0)
    clock.started -= 6  # two steps took 6 s
    status = clock.status(92, {})
    assert status.remaining == pytest.approx(4 * 60 * (status.minutes - 30))
    clock = Clock(steps=None, minutes=40.0, first=90, before=30.0)
    clock.started -= 6
    status = clock.status(92, {})
    assert status.remaining == pytest.approx(60 * (40 - status.minutes), rel=1e-3)


def test_learning_rate_has_linear_warm_up_and_cosine_decay(recipe: Make, run: Run, tmp_path: Path) -> None:
    plan = recipe(run={"log_every": 1}, optimiser={"warmup": 3, "lr": 1e-3})
    rates = [line["lr"] for line in lines(run(plan, tmp_path / "run", steps=6)) if "lr" in line]
    cosine = [1e-3 * (0.05 + 0.95 * (1 + math.cos(math.pi * step / 6)) / 2) for step in range(6)]
    warm = [1 / 3, 2 / 3, 1, 1, 1, 1]
    assert rates == pytest.approx([w * c for w, c in zip(warm, cosine, strict=True)], rel=1e-4)


@pytest.fixture(scope="session")
def whole(recipe: Make, run: Run, corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six steps without interruption, with all random parts switched on.

    Every identity is the target once in two steps, later once in four.
    """
    plan = recipe(**ALL_RANDOM_PARTS)
    return run(plan, tmp_path_factory.mktemp("runs") / "six", steps=6, noise=corpus)


ALL_RANDOM_PARTS: dict[str, Any] = {
    "mixtures": {
        "batch": 4,
        "channel": 0.5,
        "rooms": 0.5,
        "room_count": 2,
        "turns": 0.5,
        "stages": [
            {"step": 0, "speakers": [0.0, 1.0], "noise": 0.0},
            {"step": 2, "speakers": [0.0, 1.0], "noise": 0.0},
            {"step": 4, "views": 2, "speakers": [0.5, 0.5], "noise": 0.5},
        ],
    }
}


@pytest.mark.parametrize(
    ("stop", "number", "workers"),
    [(1, signal.SIGTERM, 0), (2, signal.SIGINT, 2), (3, signal.SIGTERM, 0), (5, signal.SIGINT, 2)],
    ids=["inside an epoch", "at the end of an epoch", "inside the curriculum", "after the curriculum"],
)
def test_resumed_run_equals_uninterrupted_run(
    recipe: Make,
    run: Run,
    corpus: Corpus,
    whole: Path,
    tmp_path: Path,
    stop: int,
    number: int,
    workers: int,
) -> None:
    """Weights, running average, inventory, optimiser and random state are equal bit for bit."""
    plan = recipe(**ALL_RANDOM_PARTS)
    handler = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt, match=f"stopped at step {stop}"):
        run(plan, tmp_path / "parts", steps=6, noise=corpus, progress=stop_at(stop, number))
    assert signal.getsignal(number) is handler
    load_model(tmp_path / "parts")
    torch.manual_seed(99)
    parts = run(plan, tmp_path / "parts", steps=6, noise=corpus, resume=True, workers=workers)
    ours, theirs = tensors(whole), tensors(parts)
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []


def test_same_seed_gives_the_same_run(recipe: Make, run: Run, tmp_path: Path) -> None:
    outs = [run(recipe(seed=seed), tmp_path / name, steps=2) for name, seed in (("a", 1), ("b", 1), ("c", 2))]
    first, second, other = (tensors(out)["model/enter.weight"] for out in outs)
    assert torch.equal(first, second) and not torch.equal(first, other)


def test_folder_must_be_new_or_hold_the_run_to_resume(
    recipe: Make, run: Run, finished: tuple[Path, list[Status]], tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match=r"whole exists and is not an empty folder"):
        run(recipe(), finished[0], steps=1)
    (tmp_path / "file").write_text("")
    with pytest.raises(ModelError, match=r"file exists and is not an empty folder"):
        run(recipe(), tmp_path / "file", steps=1)
    with pytest.raises(ModelError, match="no checkpoint to resume"):
        run(recipe(), tmp_path / "none", steps=1, resume=True)
    assert not (tmp_path / "none").exists()


def test_run_resumes_only_with_its_own_recipe_and_corpus(
    recipe: Make, run: Run, corpus: Corpus, finished: tuple[Path, list[Status]]
) -> None:
    before = (finished[0] / "log.jsonl").read_bytes()
    with pytest.raises(RecipeError, match=r"recipe differs from .*recipe\.json in 'optimiser'"):
        run(recipe(optimiser={"lr": 1.0}), finished[0], resume=True)
    fewer = corpus.filter(lambda u: u.speaker != "t0")
    with pytest.raises(
        ModelError, match=r"checkpoint\.safetensors belongs to another architecture or corpus"
    ):
        run(recipe(), finished[0], fewer, resume=True)
    assert (finished[0] / "log.jsonl").read_bytes() == before


@pytest.mark.parametrize("problem", ["one speaker", "one validation speaker"])
def test_unsuitable_corpus_is_an_error_before_anything_is_written(
    recipe: Make, run: Run, corpus: Corpus, tmp_path: Path, problem: str
) -> None:
    if problem == "one speaker":
        speech = corpus.filter(lambda u: u.speaker == "t0")
    else:
        speech = corpus.filter(lambda u: u.split == "train" or u.speaker == "t9")
    with pytest.raises(CorpusError):
        run(recipe(), tmp_path / "run", speech, steps=1)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "sections",
    [
        {"model": {"cross_attention": False}},
        {"loss": {"separation": 0.0}},
        {"mixtures": {"stages": [{"step": 0, "views": 1, "speakers": [0.0, 1.0]}]}},
        {"mixtures": {"identity": "recording"}},
        {"loss": {"csc": 0.0}},
        {"loss": {"margin": 0.2, "smoothing": 0.1, "spread": 0.1}},
        {"model": {"trunk": "recurrent", "front_end": "conv", "window_ms": 8, "hop_ms": 4, "stack": 1}},
        {"mixtures": {"streams": 3}, "model": {"streams": 3, "consistency": False}},
        {"run": {"precision": "bf16-mixed"}},
    ],
    ids=lambda sections: json.dumps(sections).replace('"', "")[:60],
)
def test_every_option_trains(
    recipe: Make, run: Run, corpus: Corpus, tmp_path: Path, sections: dict[str, Any]
) -> None:
    speech = corpus.split("train") if "loss" in sections else corpus
    plan = recipe(**sections)
    out = run(plan, tmp_path / "run", speech, steps=2)
    line, card = lines(out)[0], load_model(out).card
    assert ("separation_db" in line) == (plan.loss.separation > 0)
    assert card["identity"] == plan.mixtures.identity
    assert card["identities"] == (16 if plan.mixtures.identity == "recording" else 8)
    saved = tensors(out)
    assert any(name.startswith("model/cross.") for name in saved) == plan.model.cross_attention


def test_loss_that_is_not_finite_stops_the_run_and_keeps_the_checkpoint_before(
    recipe: Make, run: Run, tmp_path: Path
) -> None:
    """A learning rate of 10^30 makes the loss of the second step overflow."""
    plan = recipe(optimiser={"lr": 1e30, "warmup": 0}, run={"checkpoint_minutes": 1e-9})
    with pytest.raises(SeparativeError, match=r"step 1 is not finite; its mixtures are 8, 9, .*15"):
        run(plan, tmp_path / "run", steps=5)
    assert json.loads((tmp_path / "run" / "replay.json").read_text()) == {"step": 1, "items": [*range(8, 16)]}
    saved = tensors(tmp_path / "run")
    assert all(torch.isfinite(value).all() for value in saved.values() if value.is_floating_point())
    assert saved["optimiser/0/step"] == 1


def test_growing_loss_is_a_warning(
    recipe: Make, run: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    plan = recipe(optimiser={"lr": 3.0, "warmup": 0}, run={"log_every": 1})
    run(plan, tmp_path / "run", steps=6)
    assert "the loss has grown from" in caplog.text
    caplog.clear()
    run(recipe(run={"log_every": 1}), tmp_path / "calm", steps=6)
    assert "the loss has grown from" not in caplog.text


def test_minutes_limit_a_run_and_include_those_before_a_resume(
    recipe: Make, run: Run, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a clock on which every step takes 6 s."""
    now = [0.0]
    monkeypatch.setattr(run_log, "time", SimpleNamespace(monotonic=lambda: now[0]))

    def take_six_seconds(_: Status) -> None:
        now[0] += 6

    settings = {"speech": corpus.split("train"), "minutes": 0.5, "progress": take_six_seconds}
    plan = recipe(run={"log_every": 1})
    out = run(plan, tmp_path / "run", **settings)
    log = lines(out)
    assert [line["step"] for line in log] == [1, 2, 3, 4, 5]
    assert lines(run(plan, out, resume=True, **settings)) == log


def test_without_averaging_the_saved_model_is_the_trained_model(
    recipe: Make, run: Run, tmp_path: Path
) -> None:
    for ema in (0.0, 0.9):
        saved = tensors(run(recipe(optimiser={"ema": ema}), tmp_path / f"{ema}", steps=2))
        same = torch.equal(saved["model/enter.weight"], saved["average/enter.weight"])
        assert same == (ema == 0.0)
        # Running statistics are copied, never averaged.
        statistics = [name for name in saved if name.startswith("model/") and "running" in name]
        assert len(statistics) == 2
        assert all(
            torch.equal(saved[name], saved[name.replace("model", "average", 1)]) for name in statistics
        )


def test_rows_of_the_inventory_have_no_weight_decay(recipe: Make, run: Run, tmp_path: Path) -> None:
    """Without an identity loss, only weight decay could move them."""
    plan = recipe(loss={"csc": 0.0}, optimiser={"weight_decay": 0.5})
    rows = [
        tensors(run(plan, tmp_path / f"{steps}", steps=steps))["objective/inventory.row_PE"]
        for steps in (1, 3)
    ]
    assert torch.equal(*rows)


def test_rows_are_initialised_with_the_mean_embedding_of_their_identity(
    recipe: Make, corpus: Corpus, cache: Path
) -> None:
    plan = recipe(model={"dropout": 0.0})
    torch.manual_seed(0)
    model, objective = SeparativeEncoder(plan.model).eval(), SeparativeObjective(plan.loss, 8, 16)
    length = objective.inventory.row_PE.norm(dim=1).mean()
    mixer = Mixer(corpus.split("train"), single_speaker_config(plan.mixtures), seed=1, cache=cache)
    init_inventory(model, objective.inventory, mixer, crops=2)
    queries: dict[int, list[torch.Tensor]] = {}
    for index in range(16):
        mixture = mixer.mixture(index)
        assert mixture.identities[1:] == (-1,)
        with torch.no_grad():
            query_CE = model(torch.from_numpy(mixture.waveform).unsqueeze(0)).query_BCE[0]
        queries.setdefault(mixture.identities[0], []).append(query_CE.mean(0))
    assert sorted(queries) == list(range(8))
    for identity, query_E in queries.items():
        mean_E = torch.stack(query_E).mean(0)
        expected_E = mean_E / mean_E.norm() * length
        assert torch.allclose(objective.inventory.row_PE[identity], expected_E, atol=1e-5)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("c++") is None, reason="torch.compile needs a C++ compiler")
@pytest.mark.filterwarnings("ignore")
def test_compiled_blocks_give_the_same_losses(recipe: Make, run: Run, tmp_path: Path) -> None:
    fixed = {"dropout": 0.0, "speaker_blocks": 1}
    plain, compiled = (
        run(recipe(model=fixed, run={"compile": on, "log_every": 1}), tmp_path / str(on), steps=3)
        for on in (False, True)
    )
    for ours, theirs in zip(lines(plain), lines(compiled), strict=True):
        if "loss" in ours:
            assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-3)
    assert tensors(plain).keys() == tensors(compiled).keys()
    assert load_model(compiled).card["training"]["steps"] == 3


def test_training_can_start_from_a_trained_model_that_lacks_parts(
    recipe: Make, run: Run, corpus: Corpus, finished: tuple[Path, list[Status]], tmp_path: Path
) -> None:
    start = load_model(finished[0])
    # One more block as well, which is initialised as an identity.
    parts = {"mask_hidden": 8, "stream_blocks": start.config.stream_blocks + 1}
    plan = recipe(model=parts, optimiser={"lr": 1e-12, "weight_decay": 0.0})
    out = run(plan, tmp_path / "run", steps=1, start=start)
    continued = load_model(out)
    mix_BN = torch.randn(2, 4000, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert (start(mix_BN).estimate_BCN - continued(mix_BN).estimate_BCN).abs().max() < 1e-5
    assert continued.card["training"]["from"]["sha256"] == start.card["sha256"]
    run(plan, out, steps=2, resume=True)
    assert load_model(out).card["training"]["from"]["training"]["steps"] == 60

    others = corpus.filter(lambda u: u.speaker not in ("t0", "t1"))
    card = load_model(
        run(recipe(mixtures={"batch": 4}), tmp_path / "others", others, steps=1, start=start)
    ).card
    assert {"t0", "t1"} <= set(card["data"]["speakers"]) and card["data"]["speaker_count"] == 6


def test_start_model_must_fit_and_must_not_know_validation_speakers(
    recipe: Make, run: Run, corpus: Corpus, finished: tuple[Path, list[Status]], tmp_path: Path
) -> None:
    start = load_model(finished[0])
    with pytest.raises(ModelError, match=r"they differ at 'enter\.weight'"):
        run(recipe(model={"width": 16}), tmp_path / "run", steps=1, start=start)
    swapped = Corpus(
        tuple(
            dataclasses.replace(u, split="train" if u.split == "dev" else "dev")
            for u in corpus
            if u.speaker != "t0"
        )
    )
    with pytest.raises(CorpusError, match="was trained on speaker 't1' of the split dev"):
        run(recipe(mixtures={"batch": 4}), tmp_path / "run", swapped, steps=1, start=start)
    with pytest.raises(SeparativeError, match="a run resumes from its own checkpoint"):
        run(recipe(), finished[0], steps=1, start=start, resume=True)
    assert not (tmp_path / "run").exists()
