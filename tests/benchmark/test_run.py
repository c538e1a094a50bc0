"""A complete benchmark: learning rates are chosen, rows are trained and compared, finished work is kept."""

import json
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import yaml
from benchmark_helpers import BAD, GOOD, write_plan

from separative.benchmark import benchmark, load_plan, render
from separative.benchmark.folder import ResultsFolder
from separative.cli import main
from separative.corpora import load_corpus
from separative.errors import CorpusError, RecipeError, SeparativeError
from separative.evaluation import CollectedOutputs, Results, TrialList, eer, trial_scores

TOLERANCE = 1e-9
OURS = {"name": "CSC", "group": "ours"}


def files(folder):
    return {path: path.stat().st_mtime_ns for path in (folder / "rows").rglob("*") if path.is_file()}


def test_learning_rate_with_the_lowest_error_is_chosen_and_used(done) -> None:
    choice = json.loads((done.folder / "rows/spectra-trained/choice.json").read_text())
    means = {one["lr"]: one["mean"] for one in choice["tried"]}
    assert choice["lr"] == GOOD and means[GOOD] < means[BAD]
    assert all(abs(one["mean"] - np.mean(list(one["eer"].values()))) < TOLERANCE for one in choice["tried"])
    recipe = json.loads((done.folder / "rows/csc/recipe.json").read_text())
    assert recipe["optimiser"]["lr"] == GOOD
    assert (done.folder / "rows/spectra-trained/model/rate.txt").read_text() == str(GOOD)


def test_learning_rates_are_chosen_on_separate_trials(done) -> None:
    table, grid = (TrialList.read(done.folder / name) for name in ("trials.txt", "grid-trials.txt"))
    assert (table.seed, grid.seed) == (0, 1) and grid.conditions == ("clean", "overlap0")
    assert {s.utterances for s in table.tests} != {s.utterances for s in grid.tests}


def test_every_row_is_trained_on_the_same_seconds_of_mixtures(done) -> None:
    for row in ("csc", "spectra-trained"):
        record = json.loads((done.folder / f"rows/{row}/settings.json").read_text())
        assert record["trained"]["mixture_seconds"] == 80
    assert (
        json.loads((done.folder / "rows/spectra-trained/settings.json").read_text())["trained"]["loss"] == 0.5
    )


def test_every_row_has_every_condition_with_an_interval(done) -> None:
    results = Results.load(done.folder / "table")
    trials = TrialList.read(done.folder / "trials.txt")
    for model in ("CSC", "Spectra, trained", "MFCC statistics"):
        for condition in trials.conditions:
            row = results.find("EER", condition, model=model)
            assert row.low <= row.high and row.trials > 0
    difference = results.find("EER difference", "overlap0", model="MFCC statistics")
    ours, other = (results.find("EER", "overlap0", model=m).value for m in ("CSC", "MFCC statistics"))
    assert abs(difference.value - (other - ours)) < TOLERANCE
    assert results.settings["against"] == "CSC"


def test_results_can_be_recomputed_from_the_collected_outputs(done) -> None:
    results = Results.load(done.folder / "table")
    outputs = CollectedOutputs.load(done.folder / "rows/mfcc-statistics/outputs-0.npz")
    trials = TrialList.read(done.folder / "trials.txt")
    lines = [x for x in trial_scores({"MFCC": outputs}, trials) if x["condition"] == "overlap0"]
    again = 100 * eer(np.array([x["score"] for x in lines]), np.array([x["target"] for x in lines]))
    assert abs(again - results.find("EER", "overlap0", model="MFCC statistics").value) < TOLERANCE


def test_failed_and_missing_rows_are_reported(done) -> None:
    assert done.problem == "1 of 5 rows failed: broken (no microphone (exit code 1))"
    assert any(line.startswith("far away: not run, needs --peer-python") for line in done.lines)
    page = (done.folder / "table/index.html").read_text()
    assert "failed: no microphone" in page and "not run: needs --peer-python" in page
    for words in ("Detection error", "EER by signal", "EER by length", "Similarity", "Baselines"):
        assert words in page


def test_table_has_no_path_of_this_machine(done) -> None:
    shown = [p for p in (done.folder / "table").iterdir() if p.suffix in (".html", ".md", ".json")]
    assert len(shown) == 3
    assert not any(str(done.folder.parent) in path.read_text() for path in shown)


def test_page_is_rendered_again_from_collected_outputs(done, capfd) -> None:
    before = files(done.folder)
    (done.folder / "table/index.html").unlink()
    assert main(["benchmark", "--render", str(done.folder)]) == 0
    assert capfd.readouterr().out.strip() == str(done.folder / "table/index.html")
    changed = {path.name for path, stamp in files(done.folder).items() if before.get(path) != stamp}
    assert changed <= {"settings.json"}


def test_changed_rows_are_refused(done, speech, tmp_path) -> None:
    content = yaml.safe_load(done.plan.read_text())
    content["rows"][0]["set"] = ["loss.activity=0.2"]
    for change, message in (
        ({}, "row 'CSC' was made with another 'set'"),
        ({"mixture_seconds": 160}, "made with another 'mixture_seconds'"),
    ):
        plan = load_plan(write_plan(tmp_path / "other.yaml", content | change))
        with pytest.raises(SeparativeError, match=message):
            benchmark(plan, corpus=speech, out=done.folder, report=lambda line: None)


def test_other_corpus_is_refused(done, speech, tmp_path) -> None:
    fewer = speech.with_name("fewer.csv")
    fewer.write_text("\n".join(speech.read_text().splitlines()[:-1]) + "\n")
    with pytest.raises(CorpusError, match="another corpus"):
        benchmark(load_plan(done.plan), corpus=fewer, out=done.folder, report=lambda line: None)


def test_speaker_in_training_and_evaluation_is_refused(done, base, speech, tmp_path) -> None:
    plan = load_plan(write_plan(tmp_path / "plan.yaml", {**base, "rows": [OURS]}))
    both = speech.with_name("both.csv")
    both.write_text(speech.read_text().replace("speaker2", "speaker7"))
    with pytest.raises(CorpusError, match="speaker 'speaker7' is in training and in evaluation"):
        benchmark(plan, corpus=both, out=tmp_path / "out", report=lambda line: None)
    # A given list of trials is checked too.
    listed = {**base["trials"], "list": str(done.folder / "trials.txt")}
    plan = load_plan(write_plan(tmp_path / "plan.yaml", {**base, "trials": listed, "rows": [OURS]}))
    swapped = speech.with_name("swapped.csv")
    swap = {"train": "dev", "dev": "train"}
    lines = [line.rsplit(",", 1) for line in speech.read_text().splitlines()[1:]]
    swapped.write_text("corpus,speaker,path,split\n" + "\n".join(f"{a},{swap[b]}" for a, b in lines))
    with pytest.raises(CorpusError, match="is in training and in evaluation"):
        benchmark(plan, corpus=swapped, out=tmp_path / "out2", report=lambda line: None)


def test_row_with_an_invalid_recipe_is_refused_before_anything_is_written(base, speech, tmp_path) -> None:
    rows = [OURS, {"name": "bad", "group": "ablation", "set": ["loss.activty=0"]}]
    plan = load_plan(write_plan(tmp_path / "plan.yaml", {**base, "rows": rows}))
    with pytest.raises(RecipeError, match=r"row 'bad'.*did you mean 'activity'"):
        benchmark(plan, corpus=speech, out=tmp_path / "out", report=lambda line: None)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "benchmark needs a plan"),
        (["quick"], "benchmark needs --corpus"),
        (["--render", "nowhere"], "nowhere: not a results folder"),
        (["quik", "--corpus", "c", "--out", "o"], "did you mean 'quick'?"),
    ],
)
def test_command_reports_missing_arguments(arguments, message, capfd) -> None:
    assert main(["benchmark", *arguments]) == 2
    assert message in capfd.readouterr().err


def test_folder_with_other_content_is_refused(base, speech, tmp_path) -> None:
    (tmp_path / "letters.txt").write_text("dear")
    plan = load_plan(write_plan(tmp_path.parent / "p.yaml", {**base, "rows": [OURS]}))
    with pytest.raises(SeparativeError, match=r"holds 'letters.txt' but no benchmark"):
        benchmark(plan, corpus=speech, out=tmp_path, report=lambda line: None)
    with pytest.raises(SeparativeError, match="not a results folder"):
        render(tmp_path)


@pytest.mark.slow
def test_stopped_benchmark_resumes(base, speech, tmp_path) -> None:
    long = {**base, "mixture_seconds": 4 * 300, "rows": [OURS], "grid": None}
    plan = write_plan(tmp_path / "plan.yaml", long)
    words = [sys.executable, "-m", "separative", "benchmark", plan]
    words += ["--corpus", speech, "--out", tmp_path / "out"]
    process = subprocess.Popen([str(word) for word in words], stderr=subprocess.PIPE, text=True)
    log = tmp_path / "out/rows/csc/model/log.jsonl"
    deadline = time.monotonic() + 300
    while not (log.is_file() and log.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    printed = process.communicate(timeout=300)[1]
    assert process.returncode == 130 and "the same command resumes" in printed
    row_folder = ResultsFolder(tmp_path / "out").full(load_plan(plan).rows[0])
    assert (row_folder.model / "checkpoint.safetensors").is_file() and not row_folder.trained.is_file()
    before = len(log.read_text().splitlines())
    assert 0 < before < 300
    page = benchmark(load_plan(plan), corpus=speech, out=tmp_path / "out", report=lambda line: None)
    assert page.is_file() and "--resume" in row_folder.log.read_text()
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    steps = [line["step"] for line in lines if "loss" in line]
    assert steps[-1] == 300 and steps == sorted(set(steps))
    # The model was trained on the training speakers only.
    card = json.loads((row_folder.model / "model/model.json").read_text())
    assert card["data"]["speaker_count"] == len(load_corpus(speech).split("train").speakers)
