"""Benchmark plans: a YAML file lists the rows of a table and how they are trained and compared."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from separative.errors import RecipeError, choose, validation_message
from separative.evaluation import CONDITIONS
from separative.evaluation.conditions import parse_condition
from separative.training.recipe import MAX_SEED, read_yaml

# Three thousand years: a limit against damaged files.
MAX_SECONDS = 1e11
PEER_PYTHON = "peer_python"
# Placeholders allowed in the commands of a row. {list} and {out} are filled in for each batch of recordings,
# the others once.
PLACEHOLDERS = {
    "train": (
        *("cache", "corpus", "lr", "mixture_seconds", "model", "noise", "recipe", "seed", "systems"),
        "threads",
    ),
    "embed": ("list", "model", "out", "systems", "threads"),
}
# {row:NAME} stands for the model folder of another row.
ROW = "row:"


class BaseRecipe(BaseModel):
    """The recipe from which all rows trained by the package start, with overrides in ``set``.

    >>> BaseRecipe().recipe
    'small'
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    recipe: str = "small"
    set: tuple[str, ...] = ()


class RateGrid(BaseModel):
    """A grid of learning rates; the rate with the lowest mean EER is chosen.

    The trials are drawn from the same split as those of the table, with another random seed.

    Attributes:
        lr: the learning rates.
        mixture_seconds: seconds of mixtures that each rate is trained on.
        conditions: the EER is averaged over these.

    >>> RateGrid(lr=(1e-3, 3e-3), mixture_seconds=120).conditions
    ('clean', 'overlap0')
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    lr: tuple[Annotated[float, Field(gt=0)], ...] = Field(min_length=1, max_length=100)
    mixture_seconds: float = Field(gt=0, le=MAX_SECONDS)
    conditions: tuple[str, ...] = Field(default=("clean", "overlap0"), min_length=1, max_length=1000)


class TrialPlan(BaseModel):
    """The trials of the table: drawn by :func:`separative.evaluation.build_trials`, or a ``list`` of trials.

    >>> TrialPlan(conditions=["clean", "overlap0"]).enrol
    'clean'
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    conditions: tuple[str, ...] = Field(default=tuple(CONDITIONS), min_length=1, max_length=1000)
    enrol: str = "clean"
    seconds: float = Field(default=4.0, ge=0.5, le=600)
    enrolments: int = Field(default=2, ge=1, le=1000)
    tests: int = Field(default=3, ge=1, le=1000)
    resamples: int = Field(default=500, ge=10, le=1_000_000)
    list: Path | None = None


class RowPlan(BaseModel):
    """One row of the table.

    Attributes:
        name: name of the row in the table.
        group: group of the row in the table.
        set: overrides of the base recipe, for rows that the package trains.
        grid: whether its learning rate is chosen on the plan's grid.
        like: name of the row from which it takes its learning rate.
        model: folder or registered name of a trained model, instead of training one.
        builtin: ``mfcc`` for MFCC statistics, or ``untrained`` for the untrained network of the base recipe.
        train: command that trains a model into the folder ``{model}``. If it was stopped and is
            run again, it must resume.
        embed: command that writes the embeddings of the audio files in ``{list}`` to ``{out}``.
        rate: sampling rate of these audio files in hertz.
        candidates: which embeddings of a recording may match in a trial.

    >>> RowPlan(name="ECAPA-TDNN, clean", group="system", embed=["embed", "{list}", "{out}"]).slug
    'ecapa-tdnn-clean'
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str = Field(min_length=1, max_length=200)
    group: Literal["ours", "ablation", "objective", "system"]
    set: tuple[str, ...] = ()
    grid: bool = False
    like: str | None = None
    model: str | None = None
    builtin: Literal["mfcc", "untrained"] | None = None
    train: tuple[str, ...] | None = None
    embed: tuple[str, ...] | None = None
    rate: int = Field(default=16000, ge=4000, le=96000)
    candidates: Literal["active", "all"] = "active"

    @property
    def slug(self) -> str:
        """Folder name of the row: its name in lower case, with hyphens."""
        return re.sub(r"[^a-z0-9]+", "-", self.name.lower()).strip("-")

    @property
    def has_recipe(self) -> bool:
        """Whether the package trains the row, from a recipe."""
        return self.model is None and self.builtin is None and self.embed is None

    @property
    def is_trained(self) -> bool:
        """Whether the benchmark trains the row, by the package or by a command."""
        return self.has_recipe or self.train is not None

    @property
    def placeholders(self) -> frozenset[str]:
        """Placeholders in its commands."""
        words = (*(self.train or ()), *(self.embed or ()))
        return frozenset(name for word in words for name in _placeholders(word))

    @property
    def model_rows(self) -> tuple[str, ...]:
        """Names of the rows that must be trained because its commands use their models."""
        return tuple(sorted({*self.rows_in(self.train), *self.rows_in(self.embed)}))

    @property
    def required_rows(self) -> tuple[str, ...]:
        """Names of the rows that must be trained first: it uses their model or their learning rate."""
        return (*self.model_rows, *([self.like] if self.like else []))

    @staticmethod
    def rows_in(command: tuple[str, ...] | None) -> tuple[str, ...]:
        """Names of the rows that a command uses the models of."""
        names = {name for word in command or () for name in _placeholders(word)}
        return tuple(sorted(name.removeprefix(ROW) for name in names if name.startswith(ROW)))

    @model_validator(mode="after")
    def _check_keys(self) -> Self:
        if not self.slug:
            raise ValueError(f"row '{self.name}' needs letters or digits in its name")
        kinds = [key for key in ("model", "builtin", "embed") if getattr(self, key) is not None]
        if len(kinds) > 1:
            raise ValueError(f"row '{self.name}' has both '{kinds[0]}' and '{kinds[1]}'; remove one")
        if self.train is not None and self.embed is None:
            raise ValueError(f"row '{self.name}' has a command 'train'; it also needs a command 'embed'")
        for key in ("set", "grid", "like"):
            if getattr(self, key) and not (self.has_recipe if key == "set" else self.is_trained):
                raise ValueError(f"row '{self.name}' is not trained; remove '{key}'")
        if self.grid and self.like:
            raise ValueError(f"row '{self.name}' has both 'grid' and 'like'; remove one")
        for key, valid in PLACEHOLDERS.items():
            for name in (name for word in getattr(self, key) or () for name in _placeholders(word)):
                if not name.startswith(ROW):
                    choose(name, (*valid, PEER_PYTHON), f"placeholder in '{key}' of row '{self.name}'")
        if "lr" in self.placeholders and not (self.grid or self.like):
            raise ValueError(f"row '{self.name}' uses {{lr}}; it needs 'grid: true' or 'like'")
        return self


class Plan(BaseModel):
    """A benchmark plan: which rows are trained, for how long, and on which trials they are compared.

    Attributes:
        name: shown in the heading of the page.
        seed: random seed of training and trials.
        split: split of the corpora on which the rows are compared.
        base: recipe from which all rows trained by the package start.
        mixture_seconds: seconds of mixtures that each row is trained on.
        grid: learning rates to choose from, for rows with ``grid: true``.
        trials: the trials of the table.
        rows: the rows, in the order of the table.

    >>> plan = load_plan("quick")
    >>> [row.name for row in plan.rows][:2]
    ['CSC', 'no cross-attention']
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str
    seed: int = Field(default=0, ge=0, le=MAX_SEED)
    split: str = "dev"
    base: BaseRecipe = BaseRecipe()
    mixture_seconds: float = Field(gt=0, le=MAX_SECONDS)
    grid: RateGrid | None = None
    trials: TrialPlan = TrialPlan()
    rows: tuple[RowPlan, ...] = Field(min_length=1, max_length=200)

    @property
    def by_name(self) -> dict[str, RowPlan]:
        """The rows by name."""
        return {row.name: row for row in self.rows}

    @model_validator(mode="after")
    def _check_rows(self) -> Self:
        seen: dict[str, str] = {}
        for row in self.rows:
            if row.slug in seen:
                raise ValueError(f"duplicate row '{row.name}': its folder is that of row '{seen[row.slug]}'")
            seen[row.slug] = row.name
            if row.grid and self.grid is None:
                raise ValueError(f"row '{row.name}' has 'grid: true', but the plan has no 'grid'")
        for row in self.rows:
            if row.like is not None:
                rows = [other.name for other in self.rows if other.grid]
                choose(row.like, rows, f"row with 'grid: true' in 'like' of row '{row.name}'")
            for name in row.model_rows:
                trained = [other.name for other in self.rows if other.is_trained]
                choose(name, trained, f"trained row in a command of row '{row.name}'")
        checked: set[str] = set()
        for row in self.rows:
            self._check_acyclic(row, (), checked)
        on_grid = self.grid.conditions if self.grid else ()
        for name in (*self.trials.conditions, self.trials.enrol, *on_grid):
            parse_condition(name)
        return self

    def _check_acyclic(self, row: RowPlan, before: tuple[str, ...], checked: set[str]) -> None:
        if row.name in before:
            raise ValueError(f"rows require one another in a cycle: {' → '.join((*before, row.name))}")
        for name in row.model_rows:
            if name not in checked:
                self._check_acyclic(self.by_name[name], (*before, row.name), checked)
        checked.add(row.name)


def systems_folder() -> Path:
    """Folder of the scripts of baseline systems: inside an installed package, or in the source checkout.

    >>> (systems_folder() / "ecapa_train.py").is_file()
    True
    """
    return _data_folder("systems")


def plan_names() -> tuple[str, ...]:
    """Names of the plans that come with the package.

    >>> "quick" in plan_names()
    True
    """
    return tuple(sorted(path.stem for path in _data_folder("plans").glob("*.yaml")))


def load_plan(name: str | Path) -> Plan:
    """Load a plan by name or from a YAML file.

    The key ``extends`` names another plan; its keys are used where the file does not set them.

    Raises:
        RecipeError: the plan does not exist, is not YAML, or has an unknown key or an invalid value.

    >>> load_plan("quick").mixture_seconds
    480.0
    """
    content = _read(name)
    if "extends" in content:
        extended = content.pop("extends")
        if not isinstance(extended, str):
            raise RecipeError(f"plan '{name}': 'extends' must be the name or the file of another plan")
        content = _read(extended) | content
    return parse_plan(content, f"plan '{name}'")


def parse_plan(content: dict[str, Any], where: str) -> Plan:
    """Validate the content of a plan.

    Args:
        content: sections and keys.
        where: name of the source, for error messages.

    Raises:
        RecipeError: an unknown key or an invalid value; the message names the key and its source.

    >>> parse_plan({"name": "mine", "row": []}, "mine.yaml")
    Traceback (most recent call last):
    separative.errors.RecipeError: mine.yaml: ...
    """
    try:
        return Plan.model_validate(content)
    except ValidationError as error:
        raise RecipeError(f"{where}: {validation_message(error, Plan)}") from error


def _read(name: str | Path) -> dict[str, Any]:
    path = Path(name)
    if not path.suffix:
        known = choose(str(name), plan_names(), "plan", RecipeError)
        path = _data_folder("plans") / f"{known}.yaml"
    return read_yaml(path, "plan")


def _data_folder(name: str) -> Path:
    installed = Path(__file__).parents[1] / name
    return installed if installed.is_dir() else Path(__file__).parents[3] / name


def _placeholders(word: str) -> Iterator[str]:
    yield from re.findall(r"\{([^{}]*)\}", word)
