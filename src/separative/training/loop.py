"""The training loop: mixtures in, a falling loss, a model out; stoppable and resumable at any step."""

from __future__ import annotations

import copy
import json
import math
import signal
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from separative.corpora.manifest import Corpus
from separative.errors import ModelError, RecipeError, SeparativeError
from separative.mixtures import Mixer, loader
from separative.model import SeparativeEncoder, save_model
from separative.model.files import replace_file
from separative.objectives import SeparativeObjective
from separative.training import checkpoint, machine
from separative.training.journal import Journal
from separative.training.recipe import OptimiserConfig, Recipe
from separative.training.start import hear_everyone, only_one_talker
from separative.training.validation import Validation

RECIPE = "recipe.json"


@dataclass(frozen=True)
class Status:
    """Where a run stands. ``share`` of it done (0 to 1); ``speed`` in seconds of mixture per second;
    ``remaining`` seconds expected; ``values`` the newest averages and validation figures."""

    step: int
    share: float
    minutes: float
    speed: float
    remaining: float
    values: dict[str, float]


Progress = Callable[[Status], None]


@dataclass
class Clock:
    """How much of a run is done, by steps or minutes, whichever limit is nearer; both go on over a resume."""

    steps: int | None
    minutes: float | None
    before: float = 0.0

    def __post_init__(self) -> None:
        self.started = time.monotonic()

    @property
    def elapsed(self) -> float:
        """Minutes, those before a resume included."""
        return self.before + (time.monotonic() - self.started) / 60

    def share(self, step: int) -> float:
        by_steps = step / self.steps if self.steps else 0.0
        by_minutes = self.elapsed / self.minutes if self.minutes else 0.0
        return min(1.0, max(by_steps, by_minutes))


def train(
    recipe: Recipe,
    *,
    corpus: Corpus,
    noise: Corpus | None = None,
    out: str | Path,
    minutes: float | None = None,
    steps: int | None = None,
    resume: bool = False,
    cache: str | Path | None = None,
    threads: int | None = None,
    workers: int | None = None,
    device: str = "auto",
    progress: Progress | None = None,
    decoding: Callable[[int, int], None] | None = None,
    hearing: Callable[[int, int], None] | None = None,
) -> Path:
    """Train a model on the ``train`` split and watch it on the ``dev`` split; returns the run's folder.

    The folder gets ``recipe.json``, ``log.jsonl``, TensorBoard events, a checkpoint, and the model (its
    running average), which :func:`separative.model.load_model` finds there.

    Args:
        recipe: see :func:`load_recipe`.
        corpus: speech with talkers; without splits, everything is trained on and nothing validated.
        noise: clips, if the recipe asks for noise.
        out: the run's folder; new or empty, or that of the run to ``resume``.
        minutes, steps: stop after either; the recipe's steps if neither is given.
        cache: folder of decoded audio; by default ``.cache`` beside the run's folder.
        threads, workers: in place of the recipe's.
        device: ``auto``, ``cpu`` or ``cuda``.
        progress: called after every step.
        decoding: called with (done, total) files while a new corpus is decoded.
        hearing: called with (done, total) batches while rows of the inventory get their start.

    Raises:
        RecipeError: a recipe that differs from the one of the run to resume.
        CorpusError: a corpus unfit for the recipe.
        ModelError: nothing to resume, or a folder that holds something already.
        SeparativeError: no such device; or a loss that is not finite: nothing of that step is kept.
        KeyboardInterrupt: stopped by SIGINT or SIGTERM, after saving.
    """
    out = Path(out)
    _check_folder(out, recipe, resume)
    if device == "cuda" and not torch.cuda.is_available():
        raise SeparativeError("device 'cuda': torch finds no GPU here; valid: auto, cpu")
    machine.prepare(threads or recipe.run.threads)
    cache = Path(cache) if cache is not None else out.parent / ".cache"
    torch.manual_seed(recipe.seed)
    splits = {u.split for u in corpus}
    speech = corpus.split("train")
    mixer = Mixer(
        speech,
        recipe.mixtures,
        seed=recipe.seed,
        noise=None if noise is None else noise.split("train"),
        cache=cache,
        progress=decoding,
    )
    validation = Validation(corpus.split("dev"), recipe.mixtures, cache=cache) if "dev" in splits else None

    fabric = Fabric(accelerator=device, devices=1, precision=recipe.run.precision)
    model = SeparativeEncoder(recipe.model)
    objective = SeparativeObjective(recipe.loss, len(mixer.identities), recipe.model.embedding)
    optimiser = _optimiser(recipe.optimiser, model, objective)
    average = copy.deepcopy(model).requires_grad_(False).to(fabric.device)
    objective.to(fabric.device)
    wrapped, optimiser = fabric.setup(model, optimiser)
    modules = {"model": model, "average": average, "objective": objective}

    first, before = 0, 0.0
    if resume:
        state = checkpoint.load_checkpoint(out / checkpoint.NAME, modules, optimiser)
        first, before = state["step"], state["minutes"]
    if minutes is None and steps is None:
        steps = recipe.run.steps
    clock = Clock(steps, minutes, before)
    workers = recipe.run.workers if workers is None else workers
    if not resume and recipe.optimiser.inventory_crops:
        crops = recipe.optimiser.inventory_crops
        alone = Mixer(speech, only_one_talker(recipe.mixtures), seed=recipe.seed + 1, cache=cache)
        hear_everyone(model, objective, alone, crops=crops, workers=workers, progress=hearing)
    # Nothing is written before all that can be wrong with recipe, corpus and checkpoint has had its say.
    out.mkdir(parents=True, exist_ok=True)
    replace_file(out / RECIPE, json.dumps(recipe.model_dump(mode="json"), indent=2).encode())
    journal = Journal(out, first)
    batches = iter(
        loader(
            mixer,
            first_step=first,
            steps=max(0, steps - first) if steps is not None else 2**31,
            workers=workers,
        )
    )
    metrics: dict[str, float] = {}

    def validate(step: int) -> None:
        if validation is not None:
            metrics.update(validation(average))
            journal.write(step, {"minutes": clock.elapsed, **metrics})

    def save(step: int) -> None:
        state = {"step": step, "minutes": clock.elapsed}
        checkpoint.save_checkpoint(out / checkpoint.NAME, modules, optimiser, state)
        save_model(average, out / "model", **_card(recipe, speech, mixer, step, clock.elapsed, metrics))

    step, waited, told = first, 0.0, time.monotonic()
    validated = saved = clock.elapsed
    with _Stop() as stop, closing(journal):
        while clock.share(step) < 1 and not stop.asked:
            asked = time.monotonic()
            batch = next(batches)
            waited += time.monotonic() - asked
            rate = _learning_rate(recipe.optimiser, step, clock.share(step))
            for group in optimiser.param_groups:
                group["lr"] = rate * group["scale"]
            mix_BN, source_BCN, identity_BC, group_B = (
                x.to(fabric.device)
                for x in (batch.mix_BN, batch.source_BCN, batch.identity_BC, batch.group_B)
            )
            out_B = wrapped(
                mix_BN, group_B=group_B, own_drop=recipe.loss.own_drop, separate=recipe.loss.separation > 0
            )
            losses = objective(model, out_B, mix_BN, source_BCN, identity_BC)
            optimiser.zero_grad()
            fabric.backward(losses.total)
            weights = [p for group in optimiser.param_groups for p in group["params"]]
            norm = nn.utils.clip_grad_norm_(weights, recipe.optimiser.clip)
            if not math.isfinite(float(losses.total.detach())) or not math.isfinite(float(norm)):
                items = ", ".join(str(info["index"]) for info in batch.info)
                raise SeparativeError(f"the loss of step {step} is not finite; its mixtures are {items}")
            optimiser.step()
            step += 1
            _follow(average, model, min(recipe.optimiser.ema, step / (step + 10)))
            parts = {name: float(value) for name, value in losses.parts.items()}
            journal.add({**parts, "gradient": float(norm)})
            if step % recipe.run.log_every == 0:
                now = time.monotonic()
                means = journal.averages()
                heard = recipe.run.log_every * recipe.mixtures.batch * recipe.mixtures.seconds
                means["speed"] = heard / (now - told)
                means["waiting"] = waited / (now - told)
                means["alpha"] = float(objective.inventory.alpha.detach())
                # On the talkers trained on, in fresh mixtures; targets are uniform over the inventory.
                means["mi_train"] = max(0.0, math.log(len(mixer.identities)) - means["csc_answer"])
                journal.write(step, {"minutes": clock.elapsed, "lr": rate, **means})
                metrics |= {
                    k: means[k] for k in ("loss", "csc_answer", "separation_db", "speed") if k in means
                }
                waited, told = 0.0, now
            if progress is not None:
                progress(_status(step, clock, recipe, metrics))
            if clock.elapsed - validated >= recipe.run.validate_minutes:
                validate(step)
                validated, told = clock.elapsed, time.monotonic()
            if clock.elapsed - saved >= recipe.run.checkpoint_minutes:
                save(step)
                saved = clock.elapsed
        if not stop.asked:
            validate(step)
        save(step)
        if stop.asked:
            raise KeyboardInterrupt(f"stopped at step {step} and saved; resume goes on from there")
    return out


def _check_folder(out: Path, recipe: Recipe, resume: bool) -> None:
    """``out`` must be new or empty, or the folder of the run to resume."""
    wanted = recipe.model_dump(mode="json")
    path = out / RECIPE
    if resume:
        if not (out / checkpoint.NAME).is_file():
            raise ModelError(f"{out} holds no checkpoint to resume from")
        there = json.loads(path.read_text(encoding="utf-8"))
        if there != wanted:
            keys = sorted(k for k in wanted.keys() | there.keys() if there.get(k) != wanted.get(k))
            raise RecipeError(
                f"{path} differs from the given recipe in '{keys[0]}': a run resumes with its own recipe"
            )
        return
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ModelError(f"{out} is not empty: name a new folder, or resume the run in it")


def _optimiser(
    config: OptimiserConfig, model: nn.Module, objective: SeparativeObjective
) -> torch.optim.AdamW:
    matrices = [p for p in model.parameters() if p.dim() > 1]
    vectors = [p for p in model.parameters() if p.dim() <= 1]
    groups: list[dict[str, Any]] = [
        {"params": matrices, "weight_decay": config.weight_decay, "scale": 1.0},
        {"params": [*vectors, objective.inventory.a], "scale": 1.0},
        # A row's talker is heard once in many steps. A second moment with a long memory keeps those gradients
        # in view, so that the small ones in between are not blown up into a random walk.
        {"params": [objective.inventory.row_PE], "scale": config.inventory_lr, "betas": (0.9, 0.999)},
    ]
    return torch.optim.AdamW(groups, lr=config.lr, betas=(0.9, 0.98), weight_decay=0.0)


def _learning_rate(config: OptimiserConfig, step: int, share: float) -> float:
    """Linear warm-up in steps, cosine decay to a twentieth over the run."""
    warm = min(1.0, (step + 1) / config.warmup) if config.warmup else 1.0
    return config.lr * warm * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * share)))


@torch.no_grad()
def _follow(average: nn.Module, model: nn.Module, decay: float) -> None:
    """Move the running average towards the model; buffers (running statistics) are taken over."""
    ours: list[Tensor] = list(average.parameters())
    theirs: list[Tensor] = list(model.parameters())
    torch._foreach_lerp_(ours, theirs, 1 - decay)
    for own, other in zip(average.buffers(), model.buffers(), strict=True):
        own.copy_(other)


def _status(step: int, clock: Clock, recipe: Recipe, values: dict[str, float]) -> Status:
    share = clock.share(step)
    remaining = 60 * (clock.elapsed - clock.before) * (1 - share) / max(share, 1e-9)
    speed = values.get("speed", 0.0)
    return Status(step, share, clock.elapsed, speed, remaining, dict(values))


def _card(
    recipe: Recipe, speech: Corpus, mixer: Mixer, step: int, minutes: float, metrics: dict[str, float]
) -> dict[str, Any]:
    return {
        "recipe": recipe.model_dump(mode="json"),
        "identity": recipe.mixtures.identity,
        "identities": len(mixer.identities),
        "data": {
            "corpora": sorted({u.corpus for u in speech}),
            "talkers": len(speech.speakers),
            "hours": round(sum(u.seconds for u in speech) / 3600, 3),
        },
        "training": {
            "steps": step,
            "minutes": round(minutes, 2),
            "mixture_seconds": step * recipe.mixtures.batch * recipe.mixtures.seconds,
            "machine": machine.describe(),
        },
        "metrics": {k: round(v, 4) for k, v in metrics.items() if k.startswith("valid/")},
    }


class _Stop:
    """While open, SIGINT and SIGTERM set ``asked`` instead of ending the process (main thread only)."""

    def __init__(self) -> None:
        self.asked = False
        self.old: dict[int, Any] = {}

    def _ask(self, _number: int, _frame: FrameType | None) -> None:
        self.asked = True

    def __enter__(self) -> _Stop:
        for number in (signal.SIGINT, signal.SIGTERM):
            try:
                self.old[number] = signal.signal(number, self._ask)
            except ValueError:
                break  # not the main thread: its owner handles signals
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self.old.items():
            signal.signal(number, handler)
