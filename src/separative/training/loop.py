"""The training loop: mixtures in, a falling loss, a model out; stoppable and resumable at any step."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import torch

from separative.corpora.manifest import Corpus
from separative.distributed import Processes, current
from separative.errors import CorpusError, LossError, ModelError, RecipeError, SeparativeError
from separative.files import sweep, write_json
from separative.mixtures import Mixer, loader
from separative.model import Card, SeparativeEncoder, save_model
from separative.training import checkpoint, machine
from separative.training.learner import Learner, compile_blocks, init_inventory, only_one_speaker
from separative.training.recipe import Recipe, parse_recipe
from separative.training.run_log import Clock, Journal, Progress, Silent, Stop
from separative.training.validation import Validation

log = logging.getLogger(__name__)

RECIPE, REPLAY = "recipe.json", "replay.json"
# Averages that the progress bar and the card's reader may want between two lines of the log.
SHOWN = ("loss", "csc_answer", "separation_db", "speed")


def train(
    recipe: Recipe,
    *,
    corpus: Corpus,
    noise: Corpus | None = None,
    out: str | Path,
    minutes: float | None = None,
    steps: int | None = None,
    start: SeparativeEncoder | None = None,
    resume: bool = False,
    cache: str | Path | None = None,
    threads: int | None = None,
    workers: int | None = None,
    device: str = "auto",
    devices: int = 1,
    nodes: int = 1,
    progress: Progress | None = None,
    decoding: Callable[[int, int], None] | None = None,
    hearing: Callable[[int, int], None] | None = None,
) -> Path:
    """Train a model on the ``train`` split and watch it on the ``dev`` split; returns the run's folder.

    Files that cannot be read are skipped and named in a warning. The folder gets ``recipe.json``,
    ``log.jsonl``, TensorBoard events, a checkpoint, and the model (its running average), which
    :func:`separative.model.load_model` finds there.

    Args:
        recipe: see :func:`load_recipe`.
        corpus: speech with speakers; without splits, everything is trained on and nothing validated.
        noise: clips, if the recipe asks for noise.
        out: the run's folder; new or empty, or that of the run to ``resume``.
        minutes, steps: stop after either; the recipe's steps if neither is given.
        start: a trained model to start from, of the recipe's architecture or with parts of it missing.
        cache: folder of decoded audio; by default ``.cache`` beside the run's folder.
        threads, workers: in place of the recipe's.
        device: ``auto``, ``cpu`` or ``cuda``.
        devices, nodes: processes on each machine, and machines; or started by torchrun, which says so. They
            divide every step's condition groups and the inventory's rows, and do together what one would.
        progress: called after every step, in the first process alone.
        decoding: called with (done, total) files while a new corpus is decoded.
        hearing: called with (done, total) batches while rows of the inventory get their start.

    Raises:
        RecipeError: a recipe that differs from the one of the run to resume.
        CorpusError: a corpus unfit for the recipe, or ``dev`` speakers that ``start`` was trained on.
        ModelError: nothing to resume, a folder that holds something already, ``start`` of another shape.
        LossError: a loss that is not finite: nothing of that step is kept, and ``replay.json`` in the folder
            says how to draw its mixtures again.
        SeparativeError: no such device; both ``start`` and ``resume``; no minutes or no steps at all.
        KeyboardInterrupt: stopped by SIGINT or SIGTERM, after saving.
    """
    out = Path(out)
    if (minutes is not None and minutes <= 0) or (steps is not None and steps < 1):
        raise SeparativeError("a training takes minutes, more than 0, or steps, 1 or more")
    _check_folder(out, recipe, resume)
    if resume and start is not None:
        raise SeparativeError("a run resumes from its own checkpoint: leave out the model to start from")
    origin = None if start is None else _origin(start, corpus)
    machine.prepare(threads or recipe.run.threads)
    cache = Path(cache) if cache is not None else out.parent / ".cache"
    fabric = machine.launch(device, devices=devices, nodes=nodes, precision=recipe.run.precision)
    processes = current()
    _check_ranks(recipe, processes)
    torch.manual_seed(recipe.seed)
    speech = corpus.split("train")
    if processes.rank:
        # The first process decodes the corpus, the others find it decoded.
        processes.wait()
        progress = decoding = hearing = None
    mixer = Mixer(
        speech,
        recipe.mixtures,
        seed=recipe.seed,
        noise=None if noise is None else noise.split("train"),
        cache=cache,
        progress=decoding,
    )
    for reason in mixer.store.bad.values():
        log.warning("skipped: %s", reason)
    watched = "dev" in {u.split for u in corpus}
    validation = Validation(corpus.split("dev"), recipe.mixtures, cache=cache) if watched else None
    if not processes.rank:
        processes.wait()
    learner = Learner(recipe, len(mixer.identities), fabric)
    inventory = learner.objective.inventory

    first, before = 0, 0.0
    if resume:
        state = checkpoint.load_checkpoint(
            out / checkpoint.NAME, learner.modules, learner.optimiser, inventory
        )
        first, before, origin = state["step"], state["minutes"], state.get("origin")
    elif start is not None:
        learner.start_from(start)
    if minutes is None and steps is None:
        steps = recipe.run.steps
    clock = Clock(steps, minutes, first, before)
    workers = recipe.run.workers if workers is None else workers
    if not resume and inventory is not None and recipe.optimiser.inventory_crops:
        crops = recipe.optimiser.inventory_crops
        alone = Mixer(speech, only_one_speaker(recipe.mixtures), seed=recipe.seed + 1, cache=cache)
        init_inventory(learner.model, inventory, alone, crops=crops, workers=workers, progress=hearing)
    if recipe.run.compile:
        # Not before: batches of other sizes would be compiled too.
        compile_blocks(learner.model)
    # Nothing is written before all that can be wrong with recipe, corpus and checkpoint has had its say.
    if not processes.rank:
        out.mkdir(parents=True, exist_ok=True)
        sweep(out)
        write_json(out / RECIPE, recipe.model_dump(mode="json"))
    journal = Silent() if processes.rank else Journal(out, first)
    left = max(0, steps - first) if steps is not None else 2**31
    batches = iter(loader(mixer, first_step=first, steps=left, workers=workers, processes=processes))
    metrics: dict[str, float] = {}

    def validate(step: int) -> None:
        if validation is not None and not processes.rank:
            figures = validation(learner.average)
            metrics.update(figures)
            journal.write(step, {"minutes": clock.elapsed, **figures})

    def save(step: int) -> None:
        state = {"step": step, "minutes": clock.elapsed, "origin": origin}
        checkpoint.save_checkpoint(
            out / checkpoint.NAME, learner.modules, learner.optimiser, state, inventory
        )
        if processes.rank:
            return
        card = _card(recipe, speech, origin, len(mixer.identities), step, clock.elapsed, metrics)
        save_model(learner.average, out / "model", **card)

    step = told_step = first
    waited, told = 0.0, time.monotonic()
    usual: float | None = None
    with Stop() as stop, closing(journal), _together(processes, out):
        # The first process's clock is everybody's, and whoever is asked to stop stops all.
        (validated,), _ = processes.agree([clock.elapsed], False)
        saved = validated
        while True:
            (share, elapsed), asked_to_stop = processes.agree([clock.share(step), clock.elapsed], stop.asked)
            if share >= 1 or asked_to_stop:
                break
            if step > first and elapsed - validated >= recipe.run.validate_minutes:
                validate(step)
                # Validation is no part of the speed of training, nor of the time to the next one: on a busy
                # machine it may take as long.
                (validated,), _ = processes.agree([clock.elapsed], False)
                waited, told, told_step = 0.0, time.monotonic(), step
            if step > first and elapsed - saved >= recipe.run.checkpoint_minutes:
                save(step)
                saved = elapsed
            asked = time.monotonic()
            batch = next(batches)
            waited += time.monotonic() - asked
            journal.add(learner.learn(batch, step, share))
            step += 1
            if step % recipe.run.log_every == 0:
                means = journal.averages()
                seconds = time.monotonic() - told
                heard = (step - told_step) * recipe.mixtures.batch * recipe.mixtures.seconds
                means |= {"speed": heard / seconds, "waiting": waited / seconds}
                if inventory is not None:
                    means["alpha"] = float(inventory.alpha.detach())
                if "csc_answer" in means:
                    # On the speakers trained on, in fresh mixtures; targets are uniform over the inventory.
                    means["mi_train"] = max(0.0, math.log(len(mixer.identities)) - means["csc_answer"])
                journal.write(step, {"minutes": clock.elapsed, **means})
                if usual is None or means["loss"] > usual + max(1.0, abs(usual)):
                    if usual is not None:
                        log.warning(
                            "step %d: the loss has grown to %.3g, from %.3g: optimiser.lr may be too high",
                            step,
                            means["loss"],
                            usual,
                        )
                    usual = means["loss"]
                metrics |= {name: means[name] for name in SHOWN if name in means}
                waited, told, told_step = 0.0, time.monotonic(), step
            if progress is not None:
                progress(clock.status(step, metrics))
        if not asked_to_stop:
            validate(step)
        save(step)
        if asked_to_stop:
            raise KeyboardInterrupt(f"stopped at step {step} and saved; resume goes on from there")
    return out


def load_replay(path: str | Path) -> tuple[Recipe, list[int]]:
    """The recipe of the run that wrote ``replay.json``, and the mixtures whose loss was not finite.

    Raises:
        RecipeError: no such file, or none of a run.
    """
    path = Path(path)
    try:
        items = [int(item) for item in json.loads(path.read_text(encoding="utf-8"))["items"]]
        content = json.loads((path.parent / RECIPE).read_text(encoding="utf-8"))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RecipeError(f"{path} is no {REPLAY} beside the {RECIPE} of a run: {error}") from error
    return parse_recipe(content, str(path.parent / RECIPE)), items


def _check_ranks(recipe: Recipe, processes: Processes) -> None:
    for number, stage in enumerate(recipe.mixtures.stages):
        groups = recipe.mixtures.batch // stage.views
        if groups % processes.world:
            raise RecipeError(
                f"mixtures.stages.{number} has {groups} condition groups a step, which {processes.world}"
                " processes cannot divide evenly: change mixtures.batch or the number of processes"
            )


@contextmanager
def _together(processes: Processes, out: Path) -> Iterator[None]:
    """A process that cannot reach the others ends with a sentence; the last checkpoint stands. What a loss
    that is not finite was made of is written down."""
    try:
        yield
    except LossError as error:
        # One file a process: each has its own mixtures.
        name = REPLAY if processes.world == 1 else f"{processes.rank}-{REPLAY}"
        write_json(out / name, {"step": error.step, "items": error.items})
        raise
    except RuntimeError as error:
        if processes.world == 1:
            raise
        lost = (
            f"process {processes.rank} of {processes.world} lost the others ({str(error).splitlines()[0]});"
            f" the run goes on from its last checkpoint: train with resume on {out}"
        )
        # Said at once too: a launcher may end this process before whoever catches the error can show it.
        log.error(lost)
        raise SeparativeError(lost) from error


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


def _origin(start: SeparativeEncoder, corpus: Corpus) -> Card:
    """What the card of a model must say of the one it started from; nobody is watched whom that one knows."""
    if known := sorted(start.training_speakers.intersection(u.speaker for u in corpus if u.split == "dev")):
        raise CorpusError(
            f"speaker '{known[0]}' of split dev was heard in training by the model to start from"
            f" ({len(known)} such in all)"
        )
    return {
        "sha256": start.card.get("sha256"),
        "recipe": start.card.get("recipe", {}).get("name"),
        "training": start.card.get("training"),
        "speakers": sorted(start.training_speakers),
    }


def _card(
    recipe: Recipe,
    speech: Corpus,
    origin: Card | None,
    identities: int,
    step: int,
    minutes: float,
    metrics: dict[str, float],
) -> Card:
    before = dict(origin or {})
    known = before.pop("speakers", [])
    return {
        "recipe": recipe.model_dump(mode="json"),
        "identity": recipe.mixtures.identity,
        "identities": identities,
        "data": {
            "corpora": sorted({u.corpus for u in speech}),
            "speaker_count": len(speech.speakers),
            # By name, so that nobody judges the model on them.
            "speakers": sorted({*speech.speakers, *known}),
            "hours": round(sum(u.seconds for u in speech) / 3600, 3),
        },
        "training": {
            "steps": step,
            "minutes": round(minutes, 2),
            "mixture_seconds": step * recipe.mixtures.batch * recipe.mixtures.seconds,
            "machine": machine.describe(),
            **({"from": before} if before else {}),
        },
        "metrics": {k: round(v, 4) for k, v in metrics.items() if k.startswith("valid/")},
    }
