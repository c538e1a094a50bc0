"""One training run: prepare its parts, take steps, validate, save."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from separative.corpora.manifest import Corpus
from separative.distributed import ProcessGroup, current_process_group, is_connection_error
from separative.errors import LossError, RecipeError, SeparativeError
from separative.files import remove_stale_files, write_json
from separative.metrics import information_bound
from separative.mixtures import Mixer, loader
from separative.model import Card, SeparativeEncoder, save_model
from separative.model.teacher import TeacherVectors, space_record
from separative.training import checkpoint, machine
from separative.training.folder import (
    RECIPE,
    REPLAY,
    RunState,
    check_data,
    check_recipe,
    describe_data,
)
from separative.training.learner import Learner, init_inventory, single_speaker_config
from separative.training.recipe import Recipe
from separative.training.run_log import Clock, NullLog, RunLog, StatusCallback, StopSignal
from separative.training.teaching import TeacherTargets, prepare_targets, teach_inventory
from separative.training.validation import Validation
from separative.types import Progress

if TYPE_CHECKING:
    from lightning_fabric import Fabric

log = logging.getLogger(__name__)

# Steps after which the log has a line although `log_every` is higher, so that a new run soon has figures.
FIRST_LINES = (1, 10)
# Averages over training steps that the progress bar may show.
SHOWN = ("loss", "csc_attended", "separation_db", "speed")


class TrainingRun:
    """A training run.

    Call :meth:`prepare_data`, :meth:`prepare_learner`, :meth:`start_clock`, :meth:`prepare_inventory` (for a
    new run only) and :meth:`prepare_folder` in this order, then :meth:`run`.

    Args:
        recipe: see :func:`separative.training.load_recipe`.
        corpus: speech; the split ``train`` is for training, the split ``dev``, if any, for validation.
        out: folder of the run.
        cache: folder for decoded audio.
        origin: card entries about the model that the run starts from, if any.
        teacher: vectors of the teacher, for objectives that need them.

    Attributes:
        step: number of finished steps.
        first_step: number of steps that were finished when the run was resumed; 0 for a new run.
        minutes_before: minutes of training before the run was resumed; 0 for a new run.
        metrics: newest averages and validation figures by name. The progress bar shows them; the card has the
            validation figures.

    >>> from separative import load_corpus
    >>> run = TrainingRun(Recipe(), load_corpus("speech"), Path("run"), cache=Path("cache"))
    >>> run.step, len(run.speech.speakers)
    (0, 2)
    """

    mixer: Mixer
    validation: Validation | None
    learner: Learner
    clock: Clock
    run_log: RunLog

    def __init__(
        self,
        recipe: Recipe,
        corpus: Corpus,
        out: Path,
        cache: Path,
        origin: Card | None = None,
        teacher: TeacherVectors | None = None,
    ) -> None:
        self.recipe, self.corpus, self.out, self.cache, self.origin = recipe, corpus, out, cache, origin
        self.teacher = teacher
        self.targets: TeacherTargets | None = None
        self.processes = current_process_group()
        self.speech = corpus.split("train")
        self.step = self.first_step = 0
        self.minutes_before = 0.0
        self.metrics: dict[str, float] = {}
        self._reference_loss: float | None = None

    # Prepare.

    def prepare_data(self, noise: Corpus | None, progress: Progress | None) -> None:
        """Decode the corpus and set up mixtures and validation."""
        is_first = self.processes.rank == 0
        if not is_first:
            # The first process decodes the corpus; the others wait until the files exist.
            self.processes.barrier()
        clips = None if noise is None else noise.split("train")
        self.mixer = Mixer(
            self.speech,
            self.recipe.mixtures,
            seed=self.recipe.seed,
            noise=clips,
            cache=self.cache,
            progress=progress,
        )
        if self.recipe.mixtures.similar > 0:
            if self.teacher is None:
                raise RecipeError(
                    "mixtures.similar needs a teacher's vectors: pass --vectors, or set it to 0"
                )
            vectors = dict(zip(self.teacher.ids, self.teacher.vectors, strict=True))
            self.mixer.pool = self.mixer.pool.with_vectors(vectors)
        self.data = describe_data(self.mixer, self.speech, clips, self.teacher)
        for reason in self.mixer.store.bad.values():
            log.warning("skipped: %s", reason)
        self.validation = None
        if any(u.split == "dev" for u in self.corpus):
            self.validation = Validation(self.corpus.split("dev"), self.recipe.mixtures, cache=self.cache)
        if is_first:
            self.processes.barrier()

    def prepare_learner(self, fabric: Fabric, start: SeparativeEncoder | None, resume: bool) -> None:
        """Build the learner. Load the checkpoint if the run resumes, else the model to start from, if any."""
        dimension = self.teacher.dimension if self.teacher is not None else 0
        self.learner = Learner(self.recipe, self.mixer.pool.known, fabric, teacher=dimension)
        if resume:
            state = checkpoint.load_checkpoint(
                self.out / checkpoint.NAME,
                self.learner.modules,
                self.learner.optimiser,
                self.learner.objective.inventory,
                check=self._check_state,
            )
            parsed = RunState.parse(state, self.out / checkpoint.NAME)
            self.step = self.first_step = parsed.step
            self.minutes_before, self.origin = parsed.minutes, parsed.origin
        elif start is not None:
            self.learner.start_from(start)
        if self.teacher is not None:
            # A checkpoint and a model that was taught by the same teacher have a space already.
            fit = not resume and (start is None or start.space is None)
            self.targets = prepare_targets(self.learner, self.mixer, self.teacher, fit=fit)
            self.learner.targets = self.targets

    def _check_state(self, state: dict[str, Any]) -> None:
        """Check that the state of a checkpoint has the recipe and the data of this run."""
        path = self.out / checkpoint.NAME
        parsed = RunState.parse(state, path)
        check_recipe(self.recipe, parsed.recipe, path)
        check_data(parsed.data, self.data, path)

    def start_clock(self, steps: int | None, minutes: float | None) -> None:
        """Start the clock. ``steps`` and ``minutes`` limit the run; by default the recipe's steps do."""
        if minutes is None and steps is None:
            steps = self.recipe.run.steps
        self.clock = Clock(steps, minutes, self.first_step, self.minutes_before)

    def prepare_inventory(self, workers: int, progress: Progress | None) -> None:
        """Initialise the inventory from the teacher's vectors, or else from crops of single speakers.

        It keeps its random rows if ``inventory_crops`` is 0.
        """
        inventory, crops = self.learner.objective.inventory, self.recipe.optimiser.inventory_crops
        if inventory is not None and self.targets is not None:
            teach_inventory(inventory, self.mixer, self.targets)
        elif inventory is not None and crops:
            config = single_speaker_config(self.recipe.mixtures)
            mixer = Mixer(self.speech, config, seed=self.recipe.seed + 1, cache=self.cache)
            init_inventory(
                self.learner.model, inventory, mixer, crops=crops, workers=workers, progress=progress
            )

    def prepare_folder(self) -> None:
        """Create the folder and the log. Call it last, so that an invalid run leaves no files."""
        if self.processes.rank:
            self.run_log = NullLog()
            return
        self.out.mkdir(parents=True, exist_ok=True)
        remove_stale_files(self.out)
        write_json(self.out / RECIPE, self.recipe.model_dump(mode="json"))
        self.run_log = RunLog(self.out, self.first_step)

    # Train.

    def run(self, workers: int, progress: StatusCallback | None) -> None:
        """Take training steps until a limit is reached or a signal stops the run, and save.

        Raises:
            KeyboardInterrupt: a signal stopped the run.
        """
        steps, processes = self.clock.steps, self.processes
        # Without a limit in steps, the loader gets a number that is never reached.
        steps_left = 2**31 if steps is None else max(0, steps - self.first_step)
        batches = iter(
            loader(
                self.mixer,
                first_step=self.first_step,
                steps=steps_left,
                workers=workers,
                processes=processes,
            )
        )
        with StopSignal() as stop, closing(self.run_log), _report_failures(processes, self.out):
            self._restart_speed_measurement()
            # All processes use the clock of the first one. A signal to any process stops all of them.
            (elapsed,), _ = processes.agree([self.clock.elapsed], False)
            self.validated_at = self.saved_at = elapsed
            while True:
                own_clock = [self.clock.fraction(self.step), self.clock.elapsed]
                (fraction, elapsed), stopped = processes.agree(own_clock, stop.requested)
                if fraction >= 1 or stopped:
                    break
                self.validate_or_save_if_due(elapsed)
                wait_start = time.monotonic()
                batch = next(batches)
                self.waited += time.monotonic() - wait_start
                self.run_log.add(self.learner.step(batch, self.step, fraction))
                self.step += 1
                if self.step % self.recipe.run.log_every == 0:
                    self.log_averages()
                elif self.step in FIRST_LINES:
                    self.run_log.write(self.step, {"minutes": self.clock.elapsed, **self.run_log.means()})
                if progress is not None:
                    progress(self.clock.status(self.step, self.metrics))
            # Save before the validation, so that nothing of the run is lost if it fails.
            self.save()
            if not stopped:
                self.validate()
                self.save_model()
            # At the end of the program the workers would get a signal to end, and work for a while.
            del batches
            if stopped:
                raise KeyboardInterrupt(f"stopped at step {self.step} and saved; resume the run to continue")

    def validate_or_save_if_due(self, elapsed: float) -> None:
        """Validate, save or both, if the recipe's interval for it has passed; never before the first step."""
        if self.step == self.first_step:
            return
        if elapsed - self.validated_at >= self.recipe.run.validate_minutes:
            self.validate()
            # The interval to the next validation starts after this one. Otherwise, if a validation took as
            # long as the interval, every step would be followed by a validation. The speed excludes it too.
            (self.validated_at,), _ = self.processes.agree([self.clock.elapsed], False)
            self._restart_speed_measurement()
        if elapsed - self.saved_at >= self.recipe.run.checkpoint_minutes:
            self.save()
            self.saved_at = elapsed

    def _restart_speed_measurement(self) -> None:
        """Measure speed and waiting time from now on."""
        self.waited, self.speed_start, self.speed_first_step = 0.0, time.monotonic(), self.step

    def log_averages(self) -> None:
        """Write the averages since the last call to the log, and warn if the loss has grown a lot."""
        means = self.run_log.averages()
        seconds = time.monotonic() - self.speed_start
        mixtures = (self.step - self.speed_first_step) * self.recipe.mixtures.batch
        means |= {
            "speed": mixtures * self.recipe.mixtures.seconds / seconds,
            "waiting": self.waited / seconds,
        }
        inventory = self.learner.objective.inventory
        if inventory is not None:
            means["alpha"] = float(inventory.alpha.detach())
        if "csc_attended" in means:
            # Lower bound on the mutual information between embedding and identity: on training speakers, in
            # mixtures that are new to the model. All identities are equally frequent as targets.
            entropy = math.log(self.mixer.pool.known)
            means["mi_train"] = information_bound(means["csc_attended"], entropy)
        self.run_log.write(self.step, {"minutes": self.clock.elapsed, **means})
        # The reference is the first average or, after a warning, the one that caused it.
        loss, reference = means["loss"], self._reference_loss
        if reference is None or loss > reference + max(1.0, abs(reference)):
            if reference is not None:
                log.warning(
                    "step %d: the loss has grown from %.3g to %.3g; optimiser.lr may be too high",
                    self.step,
                    reference,
                    loss,
                )
            self._reference_loss = loss
        self.metrics |= {name: means[name] for name in SHOWN if name in means}
        self._restart_speed_measurement()

    # Validate and save.

    def validate(self) -> None:
        """Validate the model with averaged weights in the first process, and log the figures."""
        if self.validation is not None and not self.processes.rank:
            figures = self.validation(self.learner.average)
            self.metrics.update(figures)
            self.run_log.write(self.step, {"minutes": self.clock.elapsed, **figures})
            if self.run_log.events is not None:
                view = self.validation.view(self.learner.average)
                self.run_log.events.add_validation(self.step, view)

    def save(self) -> None:
        """Save the checkpoint, and the model with averaged weights."""
        state = {
            "step": self.step,
            "minutes": self.clock.elapsed,
            "origin": self.origin,
            "recipe": self.recipe.model_dump(mode="json"),
            "data": self.data,
        }
        learner = self.learner
        checkpoint.save_checkpoint(
            self.out / checkpoint.NAME, learner.modules, learner.optimiser, state, learner.objective.inventory
        )
        self.save_model()

    def save_model(self) -> None:
        """Save the model with averaged weights, with the newest figures in its card."""
        if not self.processes.rank:
            save_model(self.learner.average, self.out / "model", **self._card())

    def _card(self) -> Card:
        """Entries of the model card about the run."""
        recipe, speech = self.recipe, self.speech
        origin = dict(self.origin or {})
        earlier_speakers = origin.pop("speakers", [])
        return {
            "recipe": recipe.model_dump(mode="json"),
            "identity": recipe.mixtures.identity,
            **self._space(),
            "identities": len(self.mixer.identities),
            "data": {
                "corpora": sorted({u.corpus for u in speech}),
                "speaker_count": len(speech.speakers),
                # Names, so that an evaluation can refuse training speakers.
                "speakers": sorted({*speech.speakers, *earlier_speakers}),
                "hours": round(sum(u.seconds for u in speech) / 3600, 3),
            },
            "training": {
                "steps": self.step,
                "minutes": round(self.clock.elapsed, 2),
                "mixture_seconds": self.step * recipe.mixtures.batch * recipe.mixtures.seconds,
                "machine": machine.describe(),
                **({"from": origin} if origin else {}),
            },
            "metrics": {k: round(v, 4) for k, v in self.metrics.items() if k.startswith("valid/")},
        }

    def _space(self) -> Card:
        """The card's entry about the teacher and its space; nothing without a teacher."""
        space = self.learner.average.space
        return (
            {}
            if self.teacher is None or space is None
            else {"space": space_record(self.teacher.teacher, space)}
        )


@contextmanager
def _report_failures(processes: ProcessGroup, out: Path) -> Iterator[None]:
    """Write ``replay.json`` if a loss is not finite; raise a clear error if other processes have ended."""
    try:
        yield
    except LossError as error:
        # With several processes, each has its own mixtures and writes its own file.
        name = REPLAY if processes.world_size == 1 else f"{processes.rank}-{REPLAY}"
        write_json(out / name, {"step": error.step, "items": error.items})
        raise
    except RuntimeError as error:
        if processes.world_size == 1 or not is_connection_error(error):
            raise
        message = (
            f"process {processes.rank} of {processes.world_size} lost the connection to the others "
            f"({str(error).splitlines()[0]}); the last checkpoint is intact: resume the run in {out}"
        )
        # Log it at once, because a launcher may kill this process before the error is shown.
        log.error(message)
        raise SeparativeError(message) from error
