"""A plan says exactly what it means, or one sentence says what is wrong with it."""

import pytest
import yaml
from benchmark_helpers import GOOD, write_plan

from separative.benchmark import load_plan, plan_names
from separative.benchmark.commands import fitted
from separative.benchmark.plan import systems_folder
from separative.benchmark.run import with_needs
from separative.errors import RecipeError, SeparativeError
from separative.training import load_recipe

OURS = {"name": "CSC", "group": "ours", "grid": True}
EMBED = ["x", "{list}", "{out}"]
SYSTEM = {"name": "E", "group": "system"}


def test_the_packages_own_plans_are_sound() -> None:
    assert {"quick", "small", "full"} <= set(plan_names())
    small = load_plan("small")
    assert [row.name for row in load_plan("full").rows] == [row.name for row in small.rows]
    groups = [row.group for row in small.rows]
    assert groups.count("ablation") >= 5 and groups.count("objective") >= 6 and groups.count("system") >= 4
    scripts = {w for row in small.rows for w in (*(row.train or ()), *(row.embed or ())) if w.endswith(".py")}
    assert all((systems_folder() / script.removeprefix("{systems}/")).is_file() for script in scripts)
    # Every rival is trained for the same seconds, at a rate from the same grid.
    assert all(row.grid for row in small.rows if row.group == "objective" or row.train)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"row": []}, "unknown key 'row' (did you mean 'rows'?)"),
        ({"rows": [OURS | {"groop": 1}]}, "unknown key 'rows.0.groop' (did you mean 'group'?)"),
        ({"rows": [OURS, OURS]}, "two rows are named 'CSC'"),
        ({"rows": [OURS, OURS | {"name": "csc!"}]}, "two rows are named 'csc!' (or nearly: 'CSC')"),
        ({"rows": [OURS, {"name": "B", "group": "ablation", "like": "CSD"}]}, "did you mean 'CSC'?"),
        ({"rows": [OURS], "grid": None}, "row 'CSC' has 'grid: true', but the plan has no 'grid'"),
        ({"rows": [OURS | {"builtin": "mfcc"}]}, "is not trained, so 'grid' means nothing"),
        ({"rows": [SYSTEM | {"train": ["x"]}]}, "none to 'embed'"),
        (
            {"rows": [{"name": "E", "group": "system", "embed": EMBED, "model": "m"}]},
            "both 'model' and 'embed'",
        ),
        (
            {"rows": [SYSTEM | {"embed": [*EMBED, "{modell}"]}]},
            "did you mean 'model'?",
        ),
        (
            {"rows": [SYSTEM | {"train": ["{lr}"], "embed": EMBED}]},
            "it needs 'grid: true' or 'like'",
        ),
        (
            {"rows": [OURS, SYSTEM | {"embed": [*EMBED, "{row:CSD}"]}]},
            "did you mean 'CSC'?",
        ),
        (
            {
                "rows": [
                    {"name": "A", "group": "system", "train": ["{row:B}"], "embed": EMBED},
                    {"name": "B", "group": "system", "train": ["t"], "embed": [*EMBED, "{row:A}"]},
                ]
            },
            "rows need each other in a circle: A → B → A",
        ),
        ({"rows": [OURS], "trials": {"conditions": ["overlap1"]}}, "unknown condition 'overlap1'"),
    ],
)
def test_a_wrong_plan_is_refused_in_one_sentence(base, tmp_path, change, said) -> None:
    path = write_plan(tmp_path / "plan.yaml", {**base, "rows": [OURS], **change})
    with pytest.raises(RecipeError) as error:
        load_plan(path)
    assert said in str(error.value) and "\n" not in str(error.value) and str(path) in str(error.value)


def test_a_plan_that_is_not_there_is_named_with_those_that_are() -> None:
    with pytest.raises(RecipeError, match=r"unknown plan 'smal' \(did you mean 'small'\?\)"):
        load_plan("smal")


def test_a_plan_extends_another(base, tmp_path) -> None:
    first = write_plan(tmp_path / "first.yaml", {**base, "rows": [OURS]})
    second = write_plan(tmp_path / "second.yaml", {"extends": str(first), "seed": 7})
    assert load_plan(second) == load_plan(first).model_copy(update={"seed": 7})


def test_rows_bring_the_rows_they_need(base, rival, tmp_path) -> None:
    rows = [
        {"name": "CSC", "group": "ours", "like": rival["name"]},
        {"name": "D", "group": "system", "embed": [*EMBED, "{row:CSC}"]},
        rival,
        {"name": "MFCC", "group": "system", "builtin": "mfcc"},
    ]
    plan = load_plan(write_plan(tmp_path / "plan.yaml", {**base, "rows": rows}))
    assert [row.name for row in with_needs(plan, ["D"])] == ["CSC", "D", rival["name"]]
    assert with_needs(plan, []) == plan.rows
    with pytest.raises(SeparativeError, match="did you mean 'MFCC'"):
        with_needs(plan, ["MFC"])


def test_a_recipe_is_fitted_to_its_seconds_of_mixtures(base) -> None:
    recipe = load_recipe(base["base"]["recipe"])
    twice = fitted(recipe, 80)
    # 4 mixtures of 1 s a step; the curriculum's points at 0, 1/2 and 6/10 of the run.
    assert twice.run.steps == 20
    assert [stage.step for stage in twice.mixtures.stages] == [0, 10, 12]
    assert [s.speakers for s in twice.mixtures.stages] == [s.speakers for s in recipe.mixtures.stages]
    assert twice.optimiser.warmup == 2
    # Of points that fall together the later one counts, but training starts as it did.
    short = fitted(recipe, 8)
    assert [stage.step for stage in short.mixtures.stages] == [0, 1]
    assert [s.speakers for s in short.mixtures.stages] == [(0.5, 0.5), (0.1, 0.9)]


def test_the_plan_of_a_folder_is_the_plan_that_was_run(done) -> None:
    kept = yaml.safe_load((done.folder / "plan.yaml").read_text())
    assert load_plan(done.folder / "plan.yaml") == load_plan(done.plan)
    assert GOOD in kept["grid"]["lr"]
