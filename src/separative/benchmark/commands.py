"""From a row of a plan to the commands that train it and let it listen."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from separative.benchmark.folder import Folder, RowFolder, clear
from separative.benchmark.plan import PEER_PYTHON, ROW, Plan, RowPlan, systems_folder
from separative.errors import RecipeError
from separative.files import write_json
from separative.training import Recipe, load_recipe
from separative.training.checkpoint import NAME as CHECKPOINT
from separative.training.recipe import parse_recipe


@dataclass(frozen=True)
class Commands:
    """Everything the commands of a plan's rows depend on besides the plan."""

    plan: Plan
    folder: Folder
    corpus: Path
    noise: Path | None
    peer_python: Path | None
    cache: Path
    threads: int

    def absent(self, row: RowPlan) -> str:
        """Why a row cannot be run here; empty if it can."""
        if PEER_PYTHON in row.places and self.peer_python is None:
            return "needs --peer-python, the Python of an environment with the rival systems"
        if "noise" in row.places and self.noise is None:
            return "needs --noise"
        return ""

    def recipe(self, row: RowPlan, lr: float | None, mixture_seconds: float) -> Recipe:
        """The base recipe with a row's overrides, fitted to a number of seconds of mixtures."""
        plan = self.plan
        overrides = [*plan.base.set, *row.set, f"seed={plan.seed}"]
        overrides += [] if lr is None else [f"optimiser.lr={lr!r}"]
        try:
            return fitted(load_recipe(plan.base.recipe, overrides), mixture_seconds)
        except RecipeError as error:
            raise RecipeError(f"row '{row.name}': {error}") from error

    def train(self, row: RowPlan, stage: RowFolder, lr: float | None, mixture_seconds: float) -> list[str]:
        """The command that trains a row into a stage's folder, or goes on with it."""
        recipe = self.recipe(row, lr, mixture_seconds)
        write_json(stage.recipe, recipe.model_dump(mode="json"))
        if row.train is not None:
            stage.model.mkdir(parents=True, exist_ok=True)
            values = self._values(row, stage) | {
                "recipe": stage.recipe,
                "lr": lr,
                "mixture_seconds": f"{mixture_seconds:g}",
            }
            return _filled(row.train, values)
        words = [sys.executable, "-m", "separative", "train", "--recipe", stage.recipe, "--out", stage.model]
        words += ["--corpus", self.corpus, *(["--noise", self.noise] if self.noise else [])]
        words += ["--threads", self.threads, "--cache", self.cache]
        if (stage.model / CHECKPOINT).is_file():
            words.append("--resume")
        else:
            clear(stage.model)
        return [str(word) for word in words]

    def hear(self, row: RowPlan, stage: RowFolder, trials: Path) -> list[str]:
        """The command that lets a row listen to every side of a trial list.

        Scores of ours and of rival systems are also normalised, by a cohort of training speakers.
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
            job |= {"command": _filled(row.embed, self._values(row, stage)), "rate": row.rate}
        elif row.builtin is not None:
            recipe = self.recipe(row, None, self.plan.mixture_seconds)
            job |= {"builtin": row.builtin, "architecture": recipe.model.model_dump(mode="json")}
        else:
            job["model"] = row.model or str(stage.model)
        write_json(stage.job, job)
        return [sys.executable, "-m", "separative.benchmark.worker", str(stage.folder)]

    def _values(self, row: RowPlan, stage: RowFolder) -> dict[str, object]:
        models = {
            f"{ROW}{name}": self.folder.full(self.plan.by_name[name]).model.resolve() for name in row.rows
        }
        return models | {
            "model": stage.model.resolve(),
            "corpus": self.corpus.resolve(),
            "noise": "" if self.noise is None else self.noise.resolve(),
            "cache": self.cache.resolve(),
            "systems": systems_folder(),
            "seed": self.plan.seed,
            "threads": self.threads,
            PEER_PYTHON: self.peer_python,
        }


def fitted(recipe: Recipe, mixture_seconds: float) -> Recipe:
    """The recipe for a run of so many seconds of mixtures.

    Stages of the curriculum keep their share of the run; the warm-up is at most a tenth of it.
    """
    steps = max(1, round(mixture_seconds / (recipe.mixtures.batch * recipe.mixtures.seconds)))
    content = recipe.model_dump(mode="json")
    stages = {
        round(stage["step"] * steps / recipe.run.steps): stage for stage in content["mixtures"]["stages"]
    }
    # The first stage stays the first; of others that fall together, the last stays.
    first = content["mixtures"]["stages"][0]
    content["mixtures"]["stages"] = [
        stage | {"step": step} for step, stage in sorted((stages | {0: first}).items())
    ]
    content["run"]["steps"] = steps
    content["optimiser"]["warmup"] = min(recipe.optimiser.warmup, steps // 10)
    return parse_recipe(content, "the fitted recipe")


def _filled(words: tuple[str, ...], values: dict[str, object]) -> list[str]:
    """Braces with a known name are filled in; {list} and {out} stay for each batch of recordings."""
    filled = []
    for word in words:
        for name, value in values.items():
            word = word.replace(f"{{{name}}}", str(value))
        filled.append(word)
    return filled
