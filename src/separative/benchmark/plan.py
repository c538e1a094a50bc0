"""Plans: one YAML file holds what a table is made of; unknown keys are errors."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from separative.errors import RecipeError, choose, sentence
from separative.evaluation import CONDITIONS
from separative.evaluation.conditions import condition_named
from separative.training.recipe import read_keys

GROUPS = ("ours", "ablation", "objective", "system")
PEER_PYTHON = "peer_python"
# What commands of a row may say; {list} and {out} are filled in for every batch of recordings.
PLACES = {
    "train": (
        *("cache", "corpus", "lr", "mixture_seconds", "model", "noise", "recipe", "seed", "systems"),
        "threads",
    ),
    "embed": ("list", "model", "out", "systems", "threads"),
}
ROW = "row:"


class Base(BaseModel):
    """What all rows that the package trains start from: a recipe and overrides of it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    recipe: str = "small"
    set: tuple[str, ...] = ()


class RateGrid(BaseModel):
    """How a learning rate is chosen: the least mean EER over ``conditions`` after ``mixture_seconds``.

    The trials are drawn from the same split with another seed than those of the table.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    lr: tuple[float, ...] = Field(min_length=1)
    mixture_seconds: float = Field(gt=0)
    conditions: tuple[str, ...] = Field(default=("clean", "overlap0"), min_length=1)


class Trials(BaseModel):
    """Which trials, as :func:`separative.evaluation.build_trials` draws them; or a ``list`` of trials."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    conditions: tuple[str, ...] = Field(default=tuple(CONDITIONS), min_length=1)
    enrol: str = "clean"
    seconds: float = Field(default=4.0, ge=0.5)
    enrolments: int = Field(default=2, ge=1)
    tests: int = Field(default=3, ge=1)
    resamples: int = Field(default=500, ge=10)
    list: Path | None = None


class RowPlan(BaseModel):
    """One row of the table.

    Attributes:
        name, group: as the table shows them.
        set: overrides of the base recipe; such a row is trained by the package.
        grid: choose its learning rate on the plan's grid.
        like: take the learning rate chosen for that row.
        model: a trained model, instead of training one: its folder or registered name.
        builtin: ``mfcc`` statistics, or the ``untrained`` network of the base recipe.
        train: a command that trains a model into the folder ``{model}``; run again after a stop, it goes on.
        embed: a command from the sound files of ``{list}`` to the embeddings ``{out}``.
        rate: hertz of those sound files.
        candidates: which candidates of a recording may match.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1)
    group: Literal["ours", "ablation", "objective", "system"]
    set: tuple[str, ...] = ()
    grid: bool = False
    like: str | None = None
    model: str | None = None
    builtin: Literal["mfcc", "untrained"] | None = None
    train: tuple[str, ...] | None = None
    embed: tuple[str, ...] | None = None
    rate: int = Field(default=16000, ge=4000)
    candidates: Literal["active", "all"] = "active"

    @property
    def slug(self) -> str:
        """The name as a folder's."""
        return re.sub(r"[^a-z0-9]+", "-", self.name.lower()).strip("-")

    @property
    def ours(self) -> bool:
        """Trained by the package?"""
        return self.model is None and self.builtin is None and self.embed is None

    @property
    def trained(self) -> bool:
        """Trained here at all?"""
        return self.ours or self.train is not None

    @property
    def places(self) -> frozenset[str]:
        """Names in braces in its commands."""
        words = (*(self.train or ()), *(self.embed or ()))
        return frozenset(name for word in words for name in _places(word))

    @property
    def rows(self) -> tuple[str, ...]:
        """Rows whose models its commands name."""
        return tuple(sorted({*self.rows_named(self.train), *self.rows_named(self.embed)}))

    @staticmethod
    def rows_named(command: tuple[str, ...] | None) -> tuple[str, ...]:
        """Rows whose models a command names."""
        names = {name for word in command or () for name in _places(word)}
        return tuple(sorted(name.removeprefix(ROW) for name in names if name.startswith(ROW)))

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        kinds = [key for key in ("model", "builtin", "embed") if getattr(self, key) is not None]
        if len(kinds) > 1:
            raise ValueError(f"row '{self.name}' has both '{kinds[0]}' and '{kinds[1]}'")
        if self.train is not None and self.embed is None:
            raise ValueError(f"row '{self.name}' has a command to train but none to 'embed'")
        for key in ("set", "grid", "like"):
            if getattr(self, key) and not (self.ours if key == "set" else self.trained):
                raise ValueError(f"row '{self.name}' is not trained, so '{key}' means nothing there")
        if self.grid and self.like:
            raise ValueError(f"row '{self.name}' has both 'grid' and 'like'")
        if not self.slug:
            raise ValueError(f"row '{self.name}' needs letters or digits in its name")
        for key, valid in PLACES.items():
            for word in getattr(self, key) or ():
                for name in _places(word):
                    if not name.startswith(ROW):
                        choose(name, (*valid, PEER_PYTHON), f"name in braces in '{key}' of row '{self.name}'")
        if "lr" in self.places and not (self.grid or self.like):
            raise ValueError(f"row '{self.name}' names {{lr}}: it needs 'grid: true' or 'like'")
        return self


class Plan(BaseModel):
    """A whole table: what is trained, for how long, on which trials it is compared."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    seed: int = Field(default=0, ge=0)
    split: str = "dev"
    base: Base = Base()
    mixture_seconds: float = Field(gt=0)
    grid: RateGrid | None = None
    trials: Trials = Trials()
    rows: tuple[RowPlan, ...] = Field(min_length=1)

    @property
    def by_name(self) -> dict[str, RowPlan]:
        return {row.name: row for row in self.rows}

    @model_validator(mode="after")
    def _rows_agree(self) -> Self:
        seen: dict[str, str] = {}
        for row in self.rows:
            if row.slug in seen:
                raise ValueError(f"two rows are named '{row.name}' (or nearly: '{seen[row.slug]}')")
            seen[row.slug] = row.name
            if row.grid and self.grid is None:
                raise ValueError(f"row '{row.name}' has 'grid: true', but the plan has no 'grid'")
        for row in self.rows:
            if row.like is not None:
                chosen = [other.name for other in self.rows if other.grid]
                choose(row.like, chosen, f"row with a grid in 'like' of row '{row.name}'")
            for name in row.rows:
                trained = [other.name for other in self.rows if other.trained]
                choose(name, trained, f"trained row in braces in row '{row.name}'")
        for row in self.rows:
            self._walk(row, ())
        tried = self.grid.conditions if self.grid else ()
        for name in (*self.trials.conditions, self.trials.enrol, *tried):
            condition_named(name)
        return self

    def _walk(self, row: RowPlan, before: tuple[str, ...]) -> None:
        if row.name in before:
            raise ValueError(f"rows need each other in a circle: {' → '.join((*before, row.name))}")
        for name in row.rows:
            self._walk(self.by_name[name], (*before, row.name))


def plan_folder() -> Path:
    """Where the package's plans lie: inside it when installed, at the top of a checkout."""
    return _beside("plans")


def systems_folder() -> Path:
    """Where the scripts of rival systems lie."""
    return _beside("systems")


def plan_names() -> tuple[str, ...]:
    """Names that :func:`load_plan` knows besides files."""
    return tuple(sorted(path.stem for path in plan_folder().glob("*.yaml")))


def load_plan(name: str | Path) -> Plan:
    """Read a plan by name or from a YAML file; its key ``extends`` names one whose keys it takes over.

    Raises:
        RecipeError: no such plan, not YAML, an unknown key (the nearest is named) or an invalid value; rows
            that have the same name, or name rows that there are not.
    """
    content = _content(name)
    if "extends" in content:
        content = _content(content.pop("extends")) | content
    try:
        return Plan.model_validate(content)
    except ValidationError as error:
        raise RecipeError(f"plan '{name}': {sentence(error, Plan)}") from error


def _content(name: str | Path) -> dict[str, Any]:
    path = Path(name)
    if not path.suffix:
        path = plan_folder() / f"{choose(str(name), plan_names(), 'plan', RecipeError)}.yaml"
    return read_keys(path, "plan")


def _beside(name: str) -> Path:
    installed = Path(__file__).parents[1] / name
    return installed if installed.is_dir() else Path(__file__).parents[3] / name


def _places(word: str) -> Iterator[str]:
    yield from re.findall(r"\{([^{}]*)\}", word)
