"""Training from a recipe and a corpus to the folder of a run, which can stop and resume at any step."""

from __future__ import annotations

import logging
from pathlib import Path

import torch

from separative.corpora.manifest import Corpus
from separative.distributed import ProcessGroup, current_process_group
from separative.errors import CorpusError, RecipeError, SeparativeError
from separative.model import Card, SeparativeEncoder
from separative.model.teacher import TeacherVectors
from separative.training import machine
from separative.training.folder import RECIPE, check_folder, lock_folder
from separative.training.recipe import Recipe, load_recipe, without_noise
from separative.training.run import TrainingRun
from separative.training.run_log import StatusCallback
from separative.training.teaching import check_space, check_teacher
from separative.types import Progress

log = logging.getLogger(__name__)


def train(
    recipe: Recipe,
    *,
    corpus: Corpus,
    noise: Corpus | None = None,
    teacher: TeacherVectors | None = None,
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
    progress: StatusCallback | None = None,
    decoding_progress: Progress | None = None,
    inventory_progress: Progress | None = None,
) -> Path:
    """Train a model on the split ``train``, validate it on the split ``dev``, and return the run's folder.

    The folder gets ``recipe.json``, ``log.jsonl``, a checkpoint, and the model (the running average of the
    weights), which :func:`separative.load_model` loads. With the extra ``tensorboard`` it also gets
    TensorBoard events. Files that cannot be read are skipped with a warning.

    Args:
        recipe: see :func:`load_recipe`.
        corpus: speech with speaker labels. Without splits, all of it is trained on and nothing is validated.
        noise: noise clips. Without them, the noise of the recipe is set to 0, unless the run to resume was
            trained with noise.
        teacher: vectors of the utterances of the split ``train``, for the objective ``teach``.
        out: folder of the run: new, empty, or the folder of the run to ``resume``.
        minutes, steps: stop after either. By default, stop after the steps of the recipe.
        start: trained model to start from. It must have the recipe's architecture, or lack parts of it.
        resume: continue the run in ``out`` from its checkpoint.
        cache: folder for decoded audio; by default ``.cache`` next to the run's folder.
        threads, workers: override those of the recipe.
        device: ``auto``, ``cpu`` or ``cuda``.
        devices, nodes: number of processes per machine, and number of machines. torchrun sets both. The
            processes divide the condition groups of each step and the rows of the inventory, and compute
            together what one process would.
        progress: called with the status after every step, in the first process.
        decoding_progress: called with (done, total) files while a new corpus is decoded.
        inventory_progress: called with (done, total) batches while the inventory is initialised.

    Raises:
        RecipeError: the recipe differs from that of the run to resume, or needs a teacher.
        CorpusError: the corpus does not fit the recipe, or ``start`` was trained on speakers of ``dev``.
        ModelError: there is nothing to resume, the run to resume has other data, the folder is not empty or
            in use by another training, or ``start`` has another shape.
        LossError: the loss is not finite. Nothing of that step is saved; ``replay.json`` in the folder says
            how to draw its mixtures again.
        SeparativeError: the device does not exist, both ``start`` and ``resume`` are given, or ``minutes`` or
            ``steps`` is not positive.
        KeyboardInterrupt: stopped by SIGINT or SIGTERM, after saving.

    >>> from separative import load_corpus
    >>> from separative.training import load_recipe
    >>> small = ["mixtures.batch=2", "mixtures.seconds=1", "model.width=16", "model.speaker_width=16"]
    >>> recipe = load_recipe("demo", [*small, "run.workers=0"])
    >>> speech = load_corpus("speech").split("train")
    >>> run = train(recipe, corpus=speech, out="run", steps=2, device="cpu")
    >>> sorted(path.name for path in run.iterdir())
    ['checkpoint.safetensors', 'log.jsonl', 'model', 'recipe.json', 'tensorboard']
    """
    if (minutes is not None and minutes <= 0) or (steps is not None and steps < 1):
        raise SeparativeError("training needs a positive number of minutes, or at least 1 step")
    out = Path(out)
    if noise is None and not (resume and _has_noise(out)):
        if any(stage.noise > 0 for stage in recipe.mixtures.stages):
            log.info("training without noise clips, because no corpus of noise is given")
        recipe = without_noise(recipe)
    check_teacher(recipe, teacher)
    check_folder(out, recipe, resume)
    if resume and start is not None:
        raise SeparativeError("a run resumes from its own checkpoint: remove the model to start from")
    if start is not None:
        check_space(start.card, teacher)
    origin = None if start is None else _origin(start, corpus)
    machine.prepare(threads or recipe.run.threads)
    fabric = machine.launch(device, devices=devices, nodes=nodes, precision=recipe.run.precision)
    processes = current_process_group()
    check_groups(recipe, processes)
    torch.manual_seed(recipe.seed)
    if processes.rank:
        progress = decoding_progress = inventory_progress = None
    cache = out.parent / ".cache" if cache is None else Path(cache)
    workers = recipe.run.workers if workers is None else workers
    run = TrainingRun(recipe, corpus, out, cache, origin, teacher)
    with lock_folder(out, processes):
        if not processes.rank:
            # Again, because another run may have used the folder since the first check.
            check_folder(out, recipe, resume)
        run.prepare_data(noise, decoding_progress)
        run.prepare_learner(fabric, start, resume)
        run.start_clock(steps, minutes)
        if not resume:
            run.prepare_inventory(workers, inventory_progress)
        if recipe.run.compile:
            # After the inventory, otherwise the sizes of its batches would be compiled too.
            run.learner.compile_blocks()
        run.prepare_folder()
        run.run(workers, progress)
    return out


def check_groups(recipe: Recipe, processes: ProcessGroup) -> None:
    """Check that the processes can divide the condition groups of every stage evenly.

    Raises:
        RecipeError: they cannot.

    >>> check_groups(Recipe(), current_process_group())
    """
    for number, stage in enumerate(recipe.mixtures.stages):
        groups = recipe.mixtures.batch // stage.views
        if groups % processes.world_size:
            raise RecipeError(
                f"mixtures.stages.{number} has {groups} condition groups per step, which "
                f"{processes.world_size} processes cannot divide evenly: change mixtures.batch or the number "
                "of processes"
            )


def _has_noise(run: Path) -> bool:
    """Whether the recipe in the folder of a run adds noise clips; False if there is no such file."""
    if not (run / RECIPE).is_file():
        return False
    return any(stage.noise > 0 for stage in load_recipe(run / RECIPE).mixtures.stages)


def _origin(start: SeparativeEncoder, corpus: Corpus) -> Card:
    """What the card of a model says about the model it started from.

    Raises:
        CorpusError: that model was trained on validation speakers.
    """
    known = sorted(start.training_speakers.intersection(u.speaker for u in corpus if u.split == "dev"))
    if known:
        raise CorpusError(
            f"the model to start from was trained on speaker '{known[0]}' of the split dev "
            f"({len(known)} such speakers): use another validation split"
        )
    return {
        "sha256": start.card.get("sha256"),
        "recipe": start.card.get("recipe", {}).get("name"),
        "training": start.card.get("training"),
        "speakers": sorted(start.training_speakers),
    }
