"""Commands that train a row of a plan and collect its outputs."""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from separative.benchmark.folder import ResultsFolder, RowFolder
from separative.benchmark.plan import PEER_PYTHON, ROW, Plan, RowPlan, systems_folder
from separative.errors import RecipeError
from separative.files import write_json
from separative.training import Recipe, load_recipe
from separative.training.checkpoint import has_checkpoint
from separative.training.recipe import parse_recipe


@dataclass(frozen=True)
class Commands:
    """Makes the commands of a plan's rows.

    Attributes:
        plan: the plan.
        folder: the results folder.
        corpus: speech to train on and to compare on.
        noise: noise clips, if there are any.
        peer_python: Python of an environment with the baseline systems, if there is one.
        cache: folder of decoded audio.
        threads: threads per process.

    >>> from separative.benchmark.plan import load_plan
    >>> plan = load_plan("quick")
    >>> folder = ResultsFolder(Path("results"))
    >>> commands = Commands(plan, folder, Path("speech"), None, None, Path("cache"), threads=1)
    >>> commands.recipe(plan.rows[0], lr=1e-3, mixture_seconds=480).optimiser.lr
    0.001
    """

    plan: Plan
    folder: ResultsFolder
    corpus: Path
    noise: Path | None
    peer_python: Path | None
    cache: Path
    threads: int

    def missing_option(self, row: RowPlan) -> str:
        """Why a row cannot be run with the given options; empty if it can."""
        if PEER_PYTHON in row.placeholders and self.peer_python is None:
            return "needs --peer-python, the Python of an environment with the baseline systems"
        if "noise" in row.placeholders and self.noise is None:
            return "needs --noise"
        return ""

    def recipe(self, row: RowPlan, lr: float | None, mixture_seconds: float) -> Recipe:
        """The base recipe with a row's overrides, fitted to a number of seconds of mixtures.

        Raises:
            RecipeError: an override is invalid; the message names the row.
        """
        plan = self.plan
        overrides = [*plan.base.set, f"seed={plan.seed}", *row.set]
        overrides += [] if lr is None else [f"optimiser.lr={lr!r}"]
        try:
            return fit_recipe(load_recipe(plan.base.recipe, overrides), mixture_seconds)
        except RecipeError as error:
            raise RecipeError(f"row '{row.name}': {error}") from error

    def train(
        self, row: RowPlan, row_folder: RowFolder, lr: float | None, mixture_seconds: float
    ) -> list[str]:
        """The command that trains a row into its folder, or resumes that training."""
        recipe = self.recipe(row, lr, mixture_seconds)
        write_json(row_folder.recipe, recipe.model_dump(mode="json"))
        if row.train is not None:
            row_folder.model.mkdir(parents=True, exist_ok=True)
            values = self._values(row, row_folder) | {
                "recipe": row_folder.recipe,
                "lr": lr,
                "mixture_seconds": f"{mixture_seconds:g}",
            }
            return _fill(row.train, values)
        words: list[object] = [sys.executable, "-m", "separative", "train"]
        words += ["--recipe", row_folder.recipe, "--out", row_folder.model]
        words += ["--corpus", self.corpus, *(["--noise", self.noise] if self.noise else [])]
        words += ["--threads", self.threads, "--cache", self.cache]
        if has_checkpoint(row_folder.model):
            words.append("--resume")
        else:
            # Without a checkpoint, an earlier attempt cannot be resumed.
            shutil.rmtree(row_folder.model, ignore_errors=True)
        return [str(word) for word in words]

    def collect(self, row: RowPlan, row_folder: RowFolder, trials: Path) -> list[str]:
        """The command that collects a row's outputs for every side of a trial list.

        The scores of our rows and of baseline systems are also normalised, with a cohort of training
        speakers.
        """
        job: dict[str, Any] = {
            "row": row.name,
            "queries": row.group == "ours",
            "cohort": trials == self.folder.trials and row.group in ("ours", "system"),
            "seed": self.plan.seed,
            "split": self.plan.split,
            "corpus": str(self.corpus),
            "noise": None if self.noise is None else str(self.noise),
            "trials": str(trials),
            "cache": str(self.cache),
        }
        if row.embed is not None:
            job |= {"command": _fill(row.embed, self._values(row, row_folder)), "rate": row.rate}
        elif row.builtin is not None:
            recipe = self.recipe(row, None, self.plan.mixture_seconds)
            job |= {"builtin": row.builtin, "architecture": recipe.model.model_dump(mode="json")}
        else:
            job["model"] = row.model or str(row_folder.model)
        write_json(row_folder.job, job)
        return [sys.executable, "-m", "separative.benchmark.worker", str(row_folder.folder)]

    def _values(self, row: RowPlan, row_folder: RowFolder) -> dict[str, object]:
        """Values of placeholders."""
        models = {
            f"{ROW}{name}": self.folder.full(self.plan.by_name[name]).model.resolve()
            for name in row.model_rows
        }
        return models | {
            "model": row_folder.model.resolve(),
            "corpus": self.corpus.resolve(),
            "noise": "" if self.noise is None else self.noise.resolve(),
            "cache": self.cache.resolve(),
            "systems": systems_folder(),
            "seed": self.plan.seed,
            "threads": self.threads,
            PEER_PYTHON: self.peer_python,
        }


def fit_recipe(recipe: Recipe, mixture_seconds: float) -> Recipe:
    """Fit a recipe to a number of seconds of mixtures.

    Stages of the curriculum keep their share of the run. The warm-up is at most a tenth of it.

    >>> recipe = load_recipe("demo")
    >>> fit_recipe(recipe, 10 * recipe.mixtures.batch * recipe.mixtures.seconds).run.steps
    10
    """
    steps = max(1, round(mixture_seconds / (recipe.mixtures.batch * recipe.mixtures.seconds)))
    content = recipe.model_dump(mode="json")
    stages = content["mixtures"]["stages"]
    by_step = {round(stage["step"] * steps / recipe.run.steps): stage for stage in stages}
    # If stages fall on the same step, the last one is used, but step 0 always has the first stage.
    by_step[0] = stages[0]
    content["mixtures"]["stages"] = [stage | {"step": step} for step, stage in sorted(by_step.items())]
    content["run"]["steps"] = steps
    content["optimiser"]["warmup"] = min(recipe.optimiser.warmup, steps // 10)
    return parse_recipe(content, "the fitted recipe")


def _fill(command: tuple[str, ...], values: dict[str, object]) -> list[str]:
    """Fill in the placeholders that have a value; {list} and {out} remain for each batch of recordings."""
    filled = []
    for word in command:
        for name, value in values.items():
            word = word.replace(f"{{{name}}}", str(value))
        filled.append(word)
    return filled
