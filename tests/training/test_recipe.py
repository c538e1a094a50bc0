"""Recipes: errors are one sentence that names the key and the nearest valid key."""

import re
from pathlib import Path

import pytest
import yaml

from separative.errors import RecipeError
from separative.model import SeparativeEncoder
from separative.training import Recipe, load_recipe, recipe_names


def test_package_has_its_recipes() -> None:
    assert set(recipe_names()) >= {"demo", "small", "galr-8k"}


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_of_the_package_loads_and_builds_a_model(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.name == name
    model = SeparativeEncoder(recipe.model)
    assert model.rate == recipe.mixtures.rate and model.streams == recipe.mixtures.streams


def write_recipe(folder: Path, text: str) -> Path:
    path = folder / "own.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_recipe_with_only_a_name_has_default_values(tmp_path: Path) -> None:
    assert load_recipe(write_recipe(tmp_path, "name: own")) == Recipe(name="own")


@pytest.mark.parametrize(
    ("text", "key", "near"),
    [
        ("sead: 1", "'sead'", "'seed'"),
        ("mixture: {}", "'mixture'", "'mixtures'"),
        ("model: {widht: 8}", "'model.widht'", "'width'"),
        ("optimiser: {learning_rate: 1}", "'optimiser.learning_rate'", None),
        ("mixtures: {stages: [{step: 0}, {step: 5, veiws: 2}]}", "'mixtures.stages.1.veiws'", "'views'"),
        ("loss: {xyzzy: 2}", "'loss.xyzzy'", None),
    ],
)
def test_error_names_the_unknown_key_and_the_nearest_valid_key(
    tmp_path: Path, text: str, key: str, near: str | None
) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe(write_recipe(tmp_path, text))
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / 'own.yaml'}: unknown key {key}") and "valid: " in message
    assert near is None or f"did you mean {near}" in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("model: {width: wide}", "'model.width'"),
        ("model: {width: -1}", "'model.width'"),
        ("model: {trunk: spiral}", "'model.trunk'.*'conv' or 'recurrent'"),
        ("model: {kernel: 4}", "'model': kernel must be odd"),
        ("run: {precision: 8-bit}", "'run.precision'"),
        ("mixtures: {stages: 3}", "'mixtures.stages'"),
        ("mixtures: {stages: [{step: 0, speakers: [0.5]}]}", "must sum to 1"),
        ("loss: ", "'loss'"),
        ("mixtures: {rate: 8000}", "mixtures.rate is 8000 and model.rate is 16000"),
        ("model: {streams: 3}", "mixtures.streams is 2 and model.streams is 3"),
        ("- a\n- b", "has no keys"),
        ("a: [", "is not YAML"),
        ("a: \x00", "is not YAML"),
    ],
)
def test_error_names_the_key_of_an_invalid_value(tmp_path: Path, text: str, names: str) -> None:
    with pytest.raises(RecipeError, match=names) as caught:
        load_recipe(write_recipe(tmp_path, text))
    assert "own.yaml" in str(caught.value) and "\n" not in str(caught.value)


def test_error_names_a_file_that_is_missing_or_not_text(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"gone\.yaml cannot be read"):
        load_recipe(tmp_path / "gone.yaml")
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(RecipeError, match=r"bytes\.yaml is not YAML"):
        load_recipe(tmp_path / "bytes.yaml")


def test_duplicate_key_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="duplicate key 'lr'"):
        load_recipe(write_recipe(tmp_path, "optimiser: {lr: 0.1, lr: 0.2}"))


@pytest.mark.parametrize(
    "content",
    [
        "{!x [a, b]: 1}",
        "? [a]\n: 1",
        "seed: !!int x",
        "seed: !!bool x",
        "a: !!timestamp x",
        "a: 2026-13-45",
        "[" * 3000,
    ],
)
def test_any_yaml_problem_is_an_error_of_one_line(tmp_path: Path, content: str) -> None:
    with pytest.raises(RecipeError, match=r"own\.yaml is not YAML: [^\n]+$"):
        load_recipe(write_recipe(tmp_path, content))
    with pytest.raises(RecipeError, match=r"^[^\n]+$"):
        load_recipe("small", [f"seed={content}"])


def test_error_names_the_nearest_recipe() -> None:
    message = r"unknown recipe 'smal' \(did you mean 'small'\?\); valid: base, base-continued, base-grown, "
    message += "base-longer, demo"
    with pytest.raises(RecipeError, match=message):
        load_recipe("smal")


def test_overrides_set_keys_at_any_depth(tmp_path: Path) -> None:
    path = write_recipe(tmp_path, "mixtures: {stages: [{step: 0, views: 1}, {step: 9, views: 2}]}\nseed: 1")
    overrides = ["seed=7", "loss.separation=0", "mixtures.stages.1.views=4", "run.threads=null"]
    recipe = load_recipe(path, [*overrides, "model.dilations=[1, 3]", "optimiser.lr=1.0e-4"])
    assert (recipe.seed, recipe.loss.separation, recipe.run.threads) == (7, 0.0, None)
    assert [stage.views for stage in recipe.mixtures.stages] == [1, 4]
    assert recipe.model.dilations == (1, 3) and recipe.optimiser.lr == 1e-4


@pytest.mark.parametrize(
    ("override", "names"),
    [
        ("seed", "not of the form key.key=value"),
        ("=3", "not of the form key.key=value"),
        ("seed.deep=1", "'seed' is a value"),
        ("loss.sep=1", r"unknown key 'loss.sep' \(did you mean 'separation'"),
        ("model.width=wide", "'model.width'"),
        ("seed=[", "the value is not YAML"),
        ("mixtures.stages.2.views=2", "'2' is not an index of the list of 2 entries"),
        ("mixtures.stages.last.views=2", "'last' is not an index of the list of 2 entries"),
        ("mixtures.stages.-1={}", "'-1' is not an index of the list of 2 entries"),
    ],
)
def test_error_names_an_invalid_override(tmp_path: Path, override: str, names: str) -> None:
    path = write_recipe(tmp_path, "mixtures: {stages: [{step: 0}, {step: 9}]}\nseed: 1")
    with pytest.raises(RecipeError, match=names):
        load_recipe(path, [override])


def test_error_names_the_override_that_sets_the_key_or_the_file(tmp_path: Path) -> None:
    path = write_recipe(tmp_path, "seed: -1")
    for overrides, start in (
        (["name=other"], f"{path}: 'seed': "),
        (["seed=1", "model.width=wide", "run.steps=5"], "override 'model.width=wide': 'model.width': "),
        (["seed=1", "loss={objective: csk}"], "override 'loss={objective: csk}': 'loss.objective': "),
        (["seed=1", "run={stepz: 5}"], "override 'run={stepz: 5}': unknown key 'run.stepz'"),
    ):
        with pytest.raises(RecipeError, match="^" + re.escape(start)):
            load_recipe(path, overrides)


def test_dumped_recipe_loads_equal(tmp_path: Path) -> None:
    recipe = load_recipe("small")
    path = write_recipe(tmp_path, yaml.safe_dump(recipe.model_dump(mode="json")))
    assert load_recipe(path) == recipe


def test_section_loss_is_validated_for_its_objective(tmp_path: Path) -> None:
    one = "model: {streams: 1}\nloss: {objective: "
    assert load_recipe(write_recipe(tmp_path, one + "aam, margin: 0.3}")).loss.margin == 0.3
    for text, names in [
        (one + "aam, margn: 0.3}", r"unknown key 'loss.margn' \(did you mean 'margin'\?\)"),
        (one + "amm}", r"'loss.objective'.*'amm'.*aam"),
        (one + "ge2e}", r"mixtures.stages.0.views is 1.*'ge2e' needs at least 2"),
        ("loss: {objective: aam}", r"model.streams is 2 and must be 1.*'aam' has one embedding"),
        (one + "aam}\nmixtures: {empty: 0.1}", r"mixtures.empty is 0.1 and must be 0.*'aam' needs a speaker"),
    ]:
        with pytest.raises(RecipeError, match=names):
            load_recipe(write_recipe(tmp_path, text))
