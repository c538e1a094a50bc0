"""Documents with values of wrong types and extremes end in an error of the package, or are read."""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

from separative.benchmark.render import render
from separative.errors import RecipeError, SeparativeError
from separative.evaluation import Results, TrialList
from separative.report.figures import curves_figure, read_curves

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "fuzz_documents.py"
# The script tries 20,000 of each by hand.
DOCUMENTS = 250


def load_script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("fuzz_documents", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["fuzz_documents"] = module
    spec.loader.exec_module(module)
    return module


FUZZ = load_script()


# Parsing YAML is slow.
@pytest.mark.parametrize("name", FUZZ.FORMATS)
def test_a_document_with_wrong_values_is_read_or_refused(name: str, tmp_path: Path) -> None:
    count = DOCUMENTS // 5 if name in ("recipe", "plan") else DOCUMENTS
    read, refused = FUZZ.fuzz(name, count, 0, tmp_path / "scratch", keep=tmp_path / "kept")
    assert read + refused == count and refused > 0


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"rows: [", "is not YAML"),
        (b"\xff\xfe", "is not YAML"),
        (b"- name", "is not a plan"),
        (b"[" * 10**5, "is not YAML"),
        (b"name: x\nmixture_seconds: 1\nrows: []\n", "'rows'"),
        (b"name: x\nmixture_seconds: 1\nrow: []\n", "plan.yaml: "),
        (b"name: x\nmixture_second: 1\nrows: [{name: a, group: ours}]\n", "mixture_second"),
        (b"name: x\nmixture_seconds: .inf\nrows: [{name: a, group: ours}]\n", "'mixture_seconds'"),
        (
            b"name: x\nmixture_seconds: 1\nseed: 99999999999999999999\nrows: [{name: a, group: ours}]\n",
            "digits",
        ),
    ],
    ids=[
        "cut",
        "not UTF-8",
        "list",
        "deep",
        "no rows",
        "missing rows",
        "unknown key",
        "infinite",
        "long number",
    ],
)
def test_rendering_a_damaged_plan_is_an_error_that_names_it(
    tmp_path: Path, content: bytes, words: str
) -> None:
    (tmp_path / "plan.yaml").write_bytes(content)
    with pytest.raises(RecipeError, match=r"plan\.yaml") as caught:
        render(tmp_path)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'{"step": 1, "loss": 3}\n\xff\xfe\n', "line 2: not UTF-8"),
        (b'{"step": 1}\n[1]\n', "line 2: not a JSON object"),
        (b'{"step": 1}\n{"st\n{"step": 3}\n', "line 2: not JSON"),
        (b"[" * 10**5 + b"\n", "line 1: its JSON is nested too deeply"),
        (b'{"step": ' + b"9" * 5000 + b"}\n", "line 1: .*digits"),
        (b'{"step": "one", "loss": 3}\n', "line 1: 'step' must be a number"),
        (b'{"minutes": null, "loss": 3}\n', "line 1: 'minutes' must be a number"),
        (b'{"step": NaN, "loss": 3}\n', "line 1: 'step' must be a number"),
    ],
)
def test_a_damaged_log_is_an_error_that_names_its_line(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "log.jsonl").write_bytes(content)
    with pytest.raises(SeparativeError, match=rf"log\.jsonl, {words}"):
        read_curves(tmp_path / "log.jsonl")


def test_a_log_may_hold_numbers_and_names_that_a_figure_cannot_show(tmp_path: Path) -> None:
    values = {
        "loss": 3.0,
        "$x$_{": 1.0,
        "\udcff": 1.0,
        "_hidden": 2.0,
        "valid/eer": float("nan"),
        "spread": float("inf"),
    }
    records = [{"step": step, **values, "csc": 10**step} for step in (1, 2, 400)]
    path = tmp_path / "log.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records) + '{"step": 4, "lo')
    axis, curves = read_curves(path)
    assert axis == "step" and curves["csc"] == ([1.0, 2.0], [10.0, 100.0])
    assert curves["loss"] == ([1.0, 2.0, 400.0], [3.0, 3.0, 3.0]) and "valid/eer" not in curves
    curves_figure(axis, curves).savefig(tmp_path / "curves.png")


ROW = {"model": "csc", "condition": "clean", "metric": "EER", "value": 8.0, "low": 6.0, "high": 11.0}
ROW |= {"trials": 100, "corpus": "all", "seed": 0}


@pytest.mark.parametrize(
    "record",
    [
        [],
        {"rows": [], "settings": []},
        {"rows": {}, "settings": {}},
        {"rows": [1], "settings": {}},
        {"rows": [{**ROW, "value": "8"}], "settings": {}},
        {"rows": [{**ROW, "model": 3}], "settings": {}},
        {"rows": [{**ROW, "trials": True}], "settings": {}},
        {"rows": [{**ROW, "value": 10**400}], "settings": {}},
        {"rows": [{**ROW, "more": 1}], "settings": {}},
    ],
    ids=str,
)
def test_results_with_an_invalid_value_are_refused(tmp_path: Path, record: object) -> None:
    (tmp_path / "results.json").write_text(json.dumps(record))
    with pytest.raises(SeparativeError, match=r"results\.json: not a file of evaluation results"):
        Results.load(tmp_path)


def test_a_trial_list_without_settings_is_refused(tmp_path: Path) -> None:
    (tmp_path / "trials.txt").write_text("# separative trials, format 3\n")
    with pytest.raises(SeparativeError, match=r"trials\.txt: not a trial list; it has no line '# settings'"):
        TrialList.read(tmp_path / "trials.txt")
