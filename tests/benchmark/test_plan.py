"""Plans are read and checked; errors are one sentence."""

import pytest
import yaml
from benchmark_helpers import GOOD, write_plan

from separative.benchmark import load_plan, plan_names
from separative.benchmark.commands import fit_recipe
from separative.benchmark.plan import systems_folder
from separative.benchmark.run import select_rows
from separative.errors import RecipeError, SeparativeError
from separative.training import load_recipe

OURS = {"name": "CSC", "group": "ours", "grid": True}
EMBED = ["x", "{list}", "{out}"]
SYSTEM = {"name": "E", "group": "system"}


def test_plans_of_the_package_are_valid() -> None:
    assert {"quick", "small", "full"} <= set(plan_names())
    small = load_plan("small")
    assert [row.name for row in load_plan("full").rows] == [row.name for row in small.rows]
    groups = [row.group for row in small.rows]
    assert groups.count("ablation") >= 5 and groups.count("objective") >= 6 and groups.count("system") >= 4
    scripts = {w for row in small.rows for w in (*(row.train or ()), *(row.embed or ())) if w.endswith(".py")}
    assert all((systems_folder() / script.removeprefix("{systems}/")).is_file() for script in scripts)
    # All baselines choose their learning rate from the same grid.
    assert all(row.grid for row in small.rows if row.group == "objective" or row.train)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"row": []}, "unknown key 'row' (did you mean 'rows'?)"),
        ({"rows": [OURS | {"groop": 1}]}, "unknown key 'rows.0.groop' (did you mean 'group'?)"),
        ({"rows": [OURS, OURS]}, "duplicate row 'CSC'"),
        ({"rows": [OURS, OURS | {"name": "csc!"}]}, "duplicate row 'csc!': its folder is that of row 'CSC'"),
        ({"rows": [OURS, {"name": "B", "group": "ablation", "like": "CSD"}]}, "did you mean 'CSC'?"),
        ({"rows": [OURS], "grid": None}, "row 'CSC' has 'grid: true', but the plan has no 'grid'"),
        ({"rows": [OURS | {"builtin": "mfcc"}]}, "is not trained; remove 'grid'"),
        ({"rows": [SYSTEM | {"train": ["x"]}]}, "it also needs a command 'embed'"),
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
            "rows require one another in a cycle: A → B → A",
        ),
        ({"rows": [OURS], "trials": {"conditions": ["overlap1"]}}, "unknown condition 'overlap1'"),
    ],
)
def test_invalid_plan_is_refused_with_one_sentence(base, tmp_path, change, message) -> None:
    path = write_plan(tmp_path / "plan.yaml", {**base, "rows": [OURS], **change})
    with pytest.raises(RecipeError) as error:
        load_plan(path)
    assert message in str(error.value) and "\n" not in str(error.value) and str(path) in str(error.value)


def test_unknown_plan_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(RecipeError, match=r"unknown plan 'smal' \(did you mean 'small'\?\)"):
        load_plan("smal")


def test_a_plan_extends_another(base, tmp_path) -> None:
    first = write_plan(tmp_path / "first.yaml", {**base, "rows": [OURS]})
    second = write_plan(tmp_path / "second.yaml", {"extends": str(first), "seed": 7})
    assert load_plan(second) == load_plan(first).model_copy(update={"seed": 7})


def test_selected_rows_include_the_rows_they_require(base, baseline, tmp_path) -> None:
    rows = [
        {"name": "CSC", "group": "ours", "like": baseline["name"]},
        {"name": "D", "group": "system", "embed": [*EMBED, "{row:CSC}"]},
        baseline,
        {"name": "MFCC", "group": "system", "builtin": "mfcc"},
    ]
    plan = load_plan(write_plan(tmp_path / "plan.yaml", {**base, "rows": rows}))
    assert [row.name for row in select_rows(plan, ["D"])] == ["CSC", "D", baseline["name"]]
    assert select_rows(plan, []) == plan.rows
    with pytest.raises(SeparativeError, match="did you mean 'MFCC'"):
        select_rows(plan, ["MFC"])


def test_recipe_is_fitted_to_the_seconds_of_mixtures(base) -> None:
    recipe = load_recipe(base["base"]["recipe"])
    twice = fit_recipe(recipe, 80)
    # Each step has 4 mixtures of 1 s. The stages begin at 0, 1/2 and 6/10 of the run.
    assert twice.run.steps == 20
    assert [stage.step for stage in twice.mixtures.stages] == [0, 10, 12]
    assert [s.speakers for s in twice.mixtures.stages] == [s.speakers for s in recipe.mixtures.stages]
    assert twice.optimiser.warmup == 2
    # If stages begin at the same step, the last one counts, except at step 0.
    short = fit_recipe(recipe, 8)
    assert [stage.step for stage in short.mixtures.stages] == [0, 1]
    assert [s.speakers for s in short.mixtures.stages] == [(0.5, 0.5), (0.1, 0.9)]


def test_results_folder_has_the_plan_that_was_run(done) -> None:
    kept = yaml.safe_load((done.folder / "plan.yaml").read_text())
    assert load_plan(done.folder / "plan.yaml") == load_plan(done.plan)
    assert GOOD in kept["grid"]["lr"]


def test_rows_of_the_label_free_plan_have_equal_seconds_and_only_some_have_labels() -> None:
    plan = load_plan("label-free")
    labelled = []
    for row in (row for row in plan.rows if row.has_recipe):
        recipe = fit_recipe(load_recipe(plan.base.recipe, [*plan.base.set, *row.set]), plan.mixture_seconds)
        seconds = recipe.run.steps * recipe.mixtures.batch * recipe.mixtures.seconds
        assert abs(seconds - plan.mixture_seconds) < recipe.mixtures.batch * recipe.mixtures.seconds
        labelled += [row.name] if recipe.mixtures.identity == "speaker" else []
    assert labelled and all("labels" in name for name in labelled)
    assert {row.name for row in plan.rows if "seed=1" in row.set} == {
        f"{row.name}, seed 1" for row in plan.rows[:3]
    }
