"""Recipes: one YAML file holds everything a run depends on besides the data; unknown keys are errors."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    create_model,
    model_validator,
)

from separative.errors import RecipeError, SeparativeError, choose, key_of, sentence
from separative.mixtures import MixtureConfig
from separative.model import EncoderConfig
from separative.objectives import LossConfig, ObjectiveConfig, objective_class, objective_config

Precision = Literal["32-true", "bf16-mixed"]


class OptimiserConfig(BaseModel):
    """Linear warm-up, cosine decay to a twentieth, clipping, a running average of the weights."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    lr: float = Field(default=1.5e-3, gt=0)
    muon: bool = Field(default=True, description="Muon for hidden matrices, AdamW for the rest; or AdamW")
    inventory_lr: float = Field(default=1.0, gt=0, description="times lr, for the rows of the inventory")
    inventory_by: Literal["number", "row"] = Field(
        default="number",
        description="AdamW's moments for each number of the inventory, or one second moment a row (millions)",
    )
    inventory_crops: int = Field(
        default=2,
        ge=0,
        description="crops of every identity that its row starts as the mean of; random rows if 0",
    )
    weight_decay: float = Field(default=0.01, ge=0, description="of weight matrices; never of the inventory")
    warmup: int = Field(default=100, ge=0, description="steps")
    clip: float = Field(default=5.0, gt=0, description="norm of the whole gradient")
    ema: float = Field(
        default=0.999, ge=0, lt=1, description="decay of the running average that is validated and saved"
    )


class RunConfig(BaseModel):
    """How long and how often."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: int = Field(default=10_000, ge=1)
    precision: Precision = "32-true"
    threads: int | None = Field(
        default=None, ge=1, description="of the processor; as many as there are if null"
    )
    workers: int = Field(default=1, ge=0, description="processes that draw mixtures")
    compile: bool = Field(
        default=False,
        description="blocks, by torch.compile: slow to start, then quicker; needs a C++ compiler",
    )
    log_every: int = Field(default=50, ge=1, description="steps")
    validate_minutes: float = Field(default=5.0, gt=0)
    checkpoint_minutes: float = Field(default=5.0, gt=0)


class Recipe(BaseModel):
    """A whole run. The parts must agree: the rate is the model's and the mixtures' alike, and so are the
    streams, unless the objective wants one embedding for a mixture."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = "recipe"
    seed: int = Field(default=0, ge=0)
    mixtures: MixtureConfig = MixtureConfig()
    model: EncoderConfig = EncoderConfig()
    # Where the recipe names another objective, parse_recipe puts that one's configuration in this place.
    loss: LossConfig = LossConfig()
    optimiser: OptimiserConfig = OptimiserConfig()
    run: RunConfig = RunConfig()

    @model_validator(mode="after")
    def _agree(self) -> Recipe:
        objective = objective_class(self.loss)
        if objective.streams and self.model.streams != objective.streams:
            raise ValueError(
                f"model.streams is {self.model.streams} and must be {objective.streams}: "
                f"the objective '{self.loss.objective}' gives one embedding for a mixture"
            )
        for key in ("rate",) if objective.streams else ("rate", "streams"):
            ours, theirs = getattr(self.mixtures, key), getattr(self.model, key)
            if ours != theirs:
                raise ValueError(
                    f"mixtures.{key} is {ours} and model.{key} is {theirs}: they must be the same"
                )
        for number, stage in enumerate(self.mixtures.stages):
            if stage.views < objective.views:
                raise ValueError(
                    f"mixtures.stages.{number}.views is {stage.views}: the objective '{self.loss.objective}' "
                    f"compares at least {objective.views} views of a speaker"
                )
        return self


def recipe_folder() -> Path:
    """Where the package's recipes lie: inside it when installed, at the top of a checkout."""
    installed = Path(__file__).parents[1] / "recipes"
    return installed if installed.is_dir() else Path(__file__).parents[3] / "recipes"


def recipe_names() -> tuple[str, ...]:
    """Names that :func:`load_recipe` knows besides files."""
    return tuple(sorted(path.stem for path in recipe_folder().glob("*.yaml")))


class _Loader(yaml.SafeLoader):
    """Refuses a key that stands twice: YAML would silently take the last one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            if key.value in seen:
                problem = f"the key '{key.value}' stands twice in one section"
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def _parsed(text: str) -> Any:
    """The content of YAML; a ValueError of one line says what is wrong with it."""
    try:
        return yaml.load(text, Loader=_Loader)  # a SafeLoader
    except Exception as error:  # values with a tag that is not theirs raise whatever their conversion does
        raise ValueError(" ".join(str(error).split()) or type(error).__name__) from error


def load_recipe(name: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe by name or from a YAML file and apply ``a.b=value`` overrides (values are YAML too).

    Raises:
        RecipeError: no such recipe, not YAML, an unknown key (the nearest is named) or an invalid value.
    """
    path = Path(name)
    if not path.suffix:
        path = recipe_folder() / f"{choose(str(name), recipe_names(), 'recipe', RecipeError)}.yaml"
    content = read_keys(path, "recipe")
    for override in overrides:
        _apply(content, override)
    return parse_recipe(content, str(path), overrides)


def read_keys(path: Path, what: str) -> dict[str, Any]:
    """The content of a YAML file of keys; ``what`` it should be is named in errors.

    Raises:
        RecipeError: unreadable, not YAML, a key that stands twice, no keys.
    """
    try:
        content = _parsed(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RecipeError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise RecipeError(f"{path} is not YAML: {error}") from error
    if not isinstance(content, dict):
        raise RecipeError(f"{path} is not a {what}: it holds no keys")
    return content


def parse_recipe(content: dict[str, Any], where: str, overrides: Sequence[str] = ()) -> Recipe:
    """Validate the content of a recipe; errors name the key, and ``where`` or in which override it stands."""
    section = content.get("loss", {})
    try:
        kind = _recipe_class(objective_config(section if isinstance(section, dict) else {}))
    except SeparativeError as error:
        raise RecipeError(
            f"{_origin('loss.objective', where, overrides)}: 'loss.objective': {error}"
        ) from error
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        origin = _origin(key_of(error), where, overrides)
        raise RecipeError(f"{origin}: {sentence(error, kind)}") from error


def _origin(key: str, where: str, overrides: Sequence[str]) -> str:
    """The last override that sets the key or its section, or else ``where``."""
    for override in reversed(overrides):
        if f"{key}.".startswith(f"{override.partition('=')[0]}."):
            return f"override '{override}'"
    return where


@functools.cache
def _recipe_class(loss: type[ObjectiveConfig]) -> type[Recipe]:
    """Recipes whose section ``loss`` is one objective's, so that its keys are checked like all others."""
    if loss is LossConfig:
        return Recipe
    return create_model("Recipe", __base__=Recipe, loss=(loss, ...))


def _apply(content: dict[str, Any], override: str) -> None:
    key, equals, value = override.partition("=")
    if not equals or not key:
        raise RecipeError(f"override '{override}' is not of the form key.key=value")
    *parents, last = key.split(".")
    place: Any = content
    for index, parent in enumerate(parents):
        if isinstance(place, dict):
            place = place.setdefault(parent, {})
        else:
            place = place[_entry(place, parent, override)]
        if not isinstance(place, dict | list):
            raise RecipeError(
                f"override '{override}': '{'.'.join(parents[: index + 1])}' is a value, not a section"
            )
    try:
        parsed = _parsed(value)
    except ValueError as error:
        raise RecipeError(f"override '{override}': its value is not YAML") from error
    place[last if isinstance(place, dict) else _entry(place, last, override)] = parsed


def _entry(entries: list[Any], key: str, override: str) -> int:
    if not key.isdecimal() or int(key) >= len(entries):
        raise RecipeError(
            f"override '{override}': '{key}' is none of the {len(entries)} entries, counted from 0"
        )
    return int(key)
