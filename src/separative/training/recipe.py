"""Recipes: one YAML file with everything that a run depends on except the data; unknown keys are errors."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model, model_validator

from separative.errors import RecipeError, SeparativeError, choose, validation_key, validation_message
from separative.mixtures import MixtureConfig
from separative.model import EncoderConfig
from separative.objectives import LossConfig, ObjectiveConfig, objective_class, objective_config

Precision = Literal["32-true", "bf16-mixed"]

# Limits, so that a damaged or hostile file cannot take all memory.
MAX_STEPS = 10**9
MAX_SEED = 2**62
MAX_YAML_BYTES = 1 << 20
MAX_YAML_DEPTH = 50
# Values in a file, with those of an alias counted wherever it is used: aliases of aliases grow exponentially.
MAX_YAML_VALUES = 100_000


class OptimiserConfig(BaseModel):
    """The section ``optimiser``: linear warm-up, cosine decay to a twentieth, clipping, running average.

    >>> OptimiserConfig(lr=1e-3).warmup
    100
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    lr: float = Field(default=1.5e-3, gt=0)
    muon: bool = Field(
        default=True,
        description="Muon for hidden matrices and AdamW for the rest; AdamW for all weights if false",
    )
    inventory_lr: float = Field(
        default=1.0, gt=0, description="learning rate of the inventory, relative to lr"
    )
    inventory_by: Literal["number", "row"] = Field(
        default="number",
        description="AdamW per weight of the inventory, or one second moment per row (for millions of rows)",
    )
    inventory_crops: int = Field(
        default=2,
        ge=0,
        le=10_000,
        description="crops per identity; their mean embedding initialises its row (random rows if 0)",
    )
    weight_decay: float = Field(
        default=0.01, ge=0, description="weight decay of matrices, except the inventory"
    )
    warmup: int = Field(default=100, ge=0, le=MAX_STEPS, description="warm-up in steps")
    clip: float = Field(default=5.0, gt=0, description="largest norm of the whole gradient")
    ema: float = Field(
        default=0.999,
        ge=0,
        lt=1,
        description="decay of the running average of the weights, which is validated and saved",
    )


class RunConfig(BaseModel):
    """The section ``run``: duration, resources and intervals.

    >>> RunConfig(steps=200).log_every
    50
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    steps: int = Field(default=10_000, ge=1, le=MAX_STEPS)
    precision: Precision = "32-true"
    threads: int | None = Field(default=None, ge=1, le=1024, description="number of CPU threads; all if null")
    workers: int = Field(default=1, ge=0, le=256, description="number of processes that draw mixtures")
    compile: bool = Field(
        default=False,
        description="compile the blocks (torch.compile): slow start, faster steps; needs a C++ compiler",
    )
    log_every: int = Field(default=50, ge=1, le=MAX_STEPS, description="steps between lines of the log")
    validate_minutes: float = Field(default=5.0, gt=0, description="minutes between validations")
    checkpoint_minutes: float = Field(default=5.0, gt=0, description="minutes between checkpoints")


class Recipe(BaseModel):
    """Everything that a run depends on except the data.

    The sample rate of model and mixtures must be the same. So must be the number of streams, unless the
    objective has one embedding per mixture.

    >>> Recipe(name="mine", run={"steps": 200}).run.steps
    200
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str = "recipe"
    seed: int = Field(default=0, ge=0, le=MAX_SEED)
    mixtures: MixtureConfig = MixtureConfig()
    model: EncoderConfig = EncoderConfig()
    # parse_recipe replaces this type if the recipe selects another objective.
    loss: LossConfig = LossConfig()
    optimiser: OptimiserConfig = OptimiserConfig()
    run: RunConfig = RunConfig()

    @model_validator(mode="after")
    def _agree(self) -> Recipe:
        objective = objective_class(self.loss)
        if objective.streams and self.model.streams != objective.streams:
            raise ValueError(
                f"model.streams is {self.model.streams} and must be {objective.streams}: "
                f"the objective '{self.loss.objective}' has one embedding per mixture"
            )
        for key in ("rate",) if objective.streams else ("rate", "streams"):
            ours, theirs = getattr(self.mixtures, key), getattr(self.model, key)
            if ours != theirs:
                raise ValueError(
                    f"mixtures.{key} is {ours} and model.{key} is {theirs}: they must be the same"
                )
        if any(stage.alone for stage in self.mixtures.stages):
            if not self.model.speaker_mels:
                raise ValueError(
                    "a stage of mixtures.stages is alone, but the speaker head gets no log-mel energies: set"
                    " model.speaker_mels to true, or remove alone"
                )
            if not objective.learns_alone:
                raise ValueError(
                    f"the objective '{self.loss.objective}' has no stages in which the speaker head learns"
                    " alone: remove alone from mixtures.stages"
                )
        if self.model.teacher:
            raise ValueError("model.teacher is set by the teacher's vectors of a run: remove it")
        if objective.streams and self.mixtures.empty > 0:
            raise ValueError(
                f"mixtures.empty is {self.mixtures.empty:g} and must be 0: the objective "
                f"'{self.loss.objective}' needs a speaker in every mixture"
            )
        presence = getattr(self.loss, "presence", None)
        if presence is None and self.mixtures.unlabelled == "presence":
            raise ValueError("mixtures.unlabelled is presence and needs an objective with loss.presence")
        if presence is not None:
            if (presence.attention or presence.attended) and not self.model.cross_attention:
                raise ValueError("loss.presence needs model.cross_attention: set it to true")
            if all(stage.views == 1 for stage in self.mixtures.stages):
                raise ValueError(
                    "loss.presence needs groups of several views: set 'views' to 2 or more in a stage of"
                    " mixtures.stages"
                )
        for number, stage in enumerate(self.mixtures.stages):
            if stage.views < objective.min_views:
                raise ValueError(
                    f"mixtures.stages.{number}.views is {stage.views}: the objective '{self.loss.objective}' "
                    f"needs at least {objective.min_views} views of a speaker"
                )
        return self


def recipe_folder() -> Path:
    """Return the folder of the package's recipes: inside an installed package, at the top of a checkout.

    >>> (recipe_folder() / "demo.yaml").is_file()
    True
    """
    installed = Path(__file__).parents[1] / "recipes"
    return installed if installed.is_dir() else Path(__file__).parents[3] / "recipes"


def recipe_names() -> tuple[str, ...]:
    """Return the names of the package's recipes, for :func:`load_recipe`.

    >>> "demo" in recipe_names()
    True
    """
    return tuple(sorted(path.stem for path in recipe_folder().glob("*.yaml")))


class _Loader(yaml.SafeLoader):
    """Rejects duplicate keys, of which YAML would silently use the last, long numbers and deep nesting."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        self.depth += 1
        if self.depth > MAX_YAML_DEPTH:
            raise yaml.composer.ComposerError(None, None, "nested too deeply")
        node: yaml.Node | None = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            if key.value in seen:
                problem = f"duplicate key '{key.value}' in one section"
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        # Python does not write integers of more than 4300 digits, and an error message would.
        number = super().construct_yaml_int(node)
        if abs(number) >= 2**64:
            raise yaml.constructor.ConstructorError(
                None, None, "a number with too many digits", node.start_mark
            )
        return number


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)


def _parse_yaml(text: str) -> Any:
    """Parse YAML; any problem is a ValueError with a message of one line."""
    try:
        loader = _Loader(text)  # a SafeLoader
        node = loader.get_single_node()
        if node is None:
            return None
        if _count_values(node, {}) > MAX_YAML_VALUES:
            raise ValueError(f"more than {MAX_YAML_VALUES} values")
        return loader.construct_document(node)
    except Exception as error:  # a value that does not fit its tag can raise any exception
        raise ValueError(" ".join(str(error).split()) or type(error).__name__) from error


def _count_values(node: yaml.Node, counts: dict[int, int]) -> int:
    """Number of values in a node, with those of an alias counted wherever it is used.

    Args:
        node: the node.
        counts: the counts of nodes by their id, which the function adds to.

    Raises:
        ValueError: a node contains itself.
    """
    if id(node) not in counts:
        counts[id(node)] = -1
        children = node.value if isinstance(node, yaml.CollectionNode) else ()
        pairs = isinstance(node, yaml.MappingNode)
        inner = (child for entry in children for child in (entry if pairs else (entry,)))
        counts[id(node)] = 1 + sum(_count_values(child, counts) for child in inner)
    elif counts[id(node)] < 0:
        raise ValueError("an alias that contains itself")
    return counts[id(node)]


def load_recipe(name: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe by name or from a YAML file and apply overrides.

    Args:
        name: name of a recipe of the package, or path of a YAML file.
        overrides: strings ``key.key=value``, with values in YAML.

    Raises:
        RecipeError: there is no such recipe, it is not YAML, or it has an unknown key or an invalid value.

    >>> load_recipe("demo", ["run.steps=200", "mixtures.stages.2.views=4"]).run.steps
    200
    """
    path = Path(name)
    if not path.suffix:
        path = recipe_folder() / f"{choose(str(name), recipe_names(), 'recipe', RecipeError)}.yaml"
    content = read_yaml(path, "recipe")
    for override in overrides:
        _apply(content, override)
    return parse_recipe(content, str(path), overrides)


def read_yaml(path: Path, what: str) -> dict[str, Any]:
    """Read a YAML file with keys.

    Args:
        path: the file.
        what: what the file should be, for error messages.

    Raises:
        RecipeError: the file cannot be read, is not YAML, has duplicate keys or no keys.

    >>> _ = Path("mine.yaml").write_text("seed: 3")
    >>> read_yaml(Path("mine.yaml"), "recipe")
    {'seed': 3}
    """
    try:
        with path.open("rb") as file:
            text = file.read(MAX_YAML_BYTES + 1)
        if len(text) > MAX_YAML_BYTES:
            raise RecipeError(f"{path} is not a {what}: it is larger than {MAX_YAML_BYTES >> 20} MiB")
        content = _parse_yaml(text.decode("utf-8-sig"))
    except OSError as error:
        raise RecipeError(f"{path} cannot be read: {error.strerror}") from error
    except RecipeError:
        raise
    except ValueError as error:
        raise RecipeError(f"{path} is not YAML: {error}") from error
    if not isinstance(content, dict):
        raise RecipeError(f"{path} is not a {what}: it has no keys")
    return content


def parse_recipe(content: dict[str, Any], where: str, overrides: Sequence[str] = ()) -> Recipe:
    """Validate the content of a recipe.

    Args:
        content: sections and keys.
        where: name of the source, for error messages.
        overrides: overrides that are already applied to ``content``, for error messages.

    Raises:
        RecipeError: an unknown key or an invalid value; the message names the key and its source.

    >>> parse_recipe({"sead": 1}, "mine.yaml")
    Traceback (most recent call last):
    separative.errors.RecipeError: mine.yaml: unknown key 'sead' (did you mean 'seed'?); valid: ...
    """
    if not isinstance(content, dict):
        raise RecipeError(f"{where} is not a recipe: it has no keys")
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
        origin = _origin(validation_key(error), where, overrides)
        raise RecipeError(f"{origin}: {validation_message(error, kind)}") from error


def without_noise(recipe: Recipe) -> Recipe:
    """Return the recipe with the noise of every stage of the mixtures set to 0.

    >>> max(stage.noise for stage in without_noise(load_recipe("small")).mixtures.stages)
    0.0
    """
    stages = tuple(stage.model_copy(update={"noise": 0.0}) for stage in recipe.mixtures.stages)
    return recipe.model_copy(update={"mixtures": recipe.mixtures.model_copy(update={"stages": stages})})


def _origin(key: str, where: str, overrides: Sequence[str]) -> str:
    """The last override that sets the key or its section; ``where`` if there is none."""
    for override in reversed(overrides):
        if f"{key}.".startswith(f"{override.partition('=')[0]}."):
            return f"override '{override}'"
    return where


@functools.cache
def _recipe_class(loss: type[ObjectiveConfig]) -> type[Recipe]:
    """The class of recipes with the section ``loss`` of one objective, so that its keys are validated."""
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
            place = place[_list_index(place, parent, override)]
        if not isinstance(place, dict | list):
            raise RecipeError(
                f"override '{override}': '{'.'.join(parents[: index + 1])}' is a value, not a section"
            )
    try:
        parsed = _parse_yaml(value)
    except ValueError as error:
        raise RecipeError(f"override '{override[:200]}': the value is not YAML: {error}") from error
    place[last if isinstance(place, dict) else _list_index(place, last, override)] = parsed


def _list_index(entries: list[Any], key: str, override: str) -> int:
    if not key.isdecimal() or int(key) >= len(entries):
        raise RecipeError(
            f"override '{override}': '{key}' is not an index of the list of {len(entries)} entries (from 0)"
        )
    return int(key)
