"""From a results folder to its page: score all rows, measure their cost, and write the table."""

from __future__ import annotations

import hashlib
import shlex
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from separative.benchmark.checks import read_plan
from separative.benchmark.cost import cost
from separative.benchmark.folder import (
    ChoiceFile,
    CollectedFile,
    CostFile,
    DataFile,
    FileRecord,
    JobFile,
    Record,
    ResultsFolder,
    RowFolder,
    SplitFacts,
    TrainedFile,
    read_record,
)
from separative.benchmark.plan import Plan, RowPlan
from separative.benchmark.tasks import ReportLine
from separative.errors import SeparativeError, validation_message
from separative.evaluation import CollectedOutputs, Results, TrialList, score, trial_scores
from separative.evaluation.conditions import Condition, parse_condition
from separative.evaluation.score import Candidates
from separative.files import write_json
from separative.model import EncoderConfig, SeparativeEncoder, load_model
from separative.report.benchmark_figures import Scores
from separative.report.benchmark_page import BenchmarkTable, TableRow, write_table
from separative.training import machine

# Conditions in the figures of scores.
EASY, HARD = "clean", "overlap0"
# How many rows of each group are in figures that cannot hold all rows.
MOST_SHOWN = {"ours": 1, "objective": 2, "system": 3}


def render(root: str | Path, *, report: ReportLine = print) -> Path:
    """Write the table and the page of a results folder again, from the outputs collected so far.

    Args:
        root: the results folder.
        report: called with a line of progress.

    Returns:
        The HTML page.

    Raises:
        SeparativeError: ``root`` is not a results folder, or no outputs have been collected yet.

    >>> render("speech")
    Traceback (most recent call last):
    separative.errors.SeparativeError: speech: not a results folder of a benchmark (it has no plan.yaml)
    """
    folder = ResultsFolder(Path(root))
    if not folder.plan.is_file():
        raise SeparativeError(
            f"{folder.root}: not a results folder of a benchmark (it has no {folder.plan.name})"
        )
    plan = read_plan(folder)
    rows = collected_rows(plan, folder)
    if not rows:
        raise SeparativeError(f"{folder.root}: no row has outputs yet; run the benchmark first")
    trials = TrialList.read(folder.trials)
    results = _score_rows(plan, folder, rows, trials, report)
    settings = {row.name: _describe_row(folder, row, report) for row in rows}
    shown = _select_shown(results, rows)
    conditions = [parse_condition(name) for name in _condition_names(results)]
    table = BenchmarkTable(
        heading=f"Which systems recognise speakers in overlapped speech? Plan “{plan.name}”",
        rows=[_table_row(row, settings.get(row.name), _failure(folder, row)) for row in plan.rows],
        results=results,
        facts=_facts(plan, folder, results),
        columns=[c.name for c in conditions if "@" not in c.name],
        sirs=_sirs(conditions),
        lengths={name: _lengths(conditions, name, results.settings["seconds"]) for name in (EASY, HARD)},
        shown=[row.name for row in shown],
        scores={row.name: _scores(folder, row, trials) for row in shown},
    )
    return write_table(folder.table, table)


def collected_rows(plan: Plan, folder: ResultsFolder) -> list[RowPlan]:
    """Rows with outputs for all conditions.

    >>> from separative.benchmark.plan import load_plan
    >>> collected_rows(load_plan("quick"), ResultsFolder(Path("results")))
    []
    """
    return [row for row in plan.rows if folder.full(row).collected.is_file()]


def _score_rows(
    plan: Plan, folder: ResultsFolder, rows: Sequence[RowPlan], trials: TrialList, report: ReportLine
) -> Results:
    """Score all rows together; read ``results.json`` instead if the outputs have not changed since."""
    path = folder.table / "results.json"
    state = {"resamples": plan.trials.resamples} | {row.name: _state(folder, row) for row in rows}
    if path.is_file():
        earlier = Results.load(path)
        if earlier.settings.get("state") == state:
            return earlier
    outputs: dict[str, CollectedOutputs] = {}
    candidates: dict[str, Candidates] = {}
    for row in rows:
        mine = folder.full(row).load_outputs()
        outputs |= mine
        candidates |= dict.fromkeys(mine, row.candidates)
    report(f"scoring {len(rows)} rows")
    first = next((row.name for row in rows if row.group == "ours"), rows[0].name)
    results = score(
        outputs,
        trials,
        candidates=candidates,
        resamples=plan.trials.resamples,
        against=first,
        oracle=True,
    )
    settings = results.settings | {
        "split": plan.split,
        "against": first,
        "made": time.strftime("%Y-%m-%d"),
        "machine": machine.describe(),
        "state": state,
    }
    write_json(path, {"settings": settings, "rows": [asdict(row) for row in results.rows]})
    return Results(results.rows, settings)


def _state(folder: ResultsFolder, row: RowPlan) -> list[str]:
    """What the scores of a row depend on: its settings, and digests of its outputs."""
    paths = folder.full(row).output_files().values()
    return [
        row.candidates,
        row.group,
        *(hashlib.sha256(path.read_bytes()).hexdigest()[:16] for path in paths),
    ]


def _scores(folder: ResultsFolder, row: RowPlan, trials: TrialList) -> Scores:
    """By condition, the scores of a row and which of them are of target trials."""
    outputs = folder.full(row).load_outputs()[row.name]
    pairs: dict[str, list[tuple[float, bool]]] = defaultdict(list)
    for line in trial_scores({row.name: outputs}, trials, candidates=row.candidates):
        if line["condition"] in (EASY, HARD):
            pairs[line["condition"]].append((line["score"], line["target"]))
    return {
        condition: (np.array([s for s, _ in pairs[condition]]), np.array([t for _, t in pairs[condition]]))
        for condition in (EASY, HARD)
        if condition in pairs
    }


def _describe_row(folder: ResultsFolder, row: RowPlan, report: ReportLine) -> Record:
    """Everything about a row except its results; its cost is measured once. Also written to its folder."""
    row_folder = folder.full(row)
    record: Record = {"row": row.model_dump(mode="json", exclude_defaults=True)}
    record["collected"] = {
        key: value
        for key, value in read_record(row_folder.collected, CollectedFile).items()
        if key != "outputs"
    }
    files: tuple[tuple[str, Path, type[FileRecord]], ...] = (
        ("choice", row_folder.choice, ChoiceFile),
        ("trained", row_folder.trained, TrainedFile),
    )
    for name, path, kind in files:
        if path.is_file():
            record[name] = read_record(path, kind)
    if row.embed is None and row.builtin != "mfcc":
        if not row_folder.cost.is_file():
            report(f"{row.name}: measuring cost")
            write_json(row_folder.cost, asdict(cost(_load_row_model(row, row_folder))))
        record["cost"] = read_record(row_folder.cost, CostFile)
    write_json(folder.settings(row), record)
    return record


def _load_row_model(row: RowPlan, row_folder: RowFolder) -> SeparativeEncoder:
    if row.builtin is None:
        return load_model(row.model or row_folder.model)
    job = read_record(row_folder.job, JobFile)
    try:
        return SeparativeEncoder(EncoderConfig.model_validate(job.get("architecture"))).eval()
    except ValidationError as error:
        message = validation_message(error, EncoderConfig)
        raise SeparativeError(f"{row_folder.job} is damaged: 'architecture': {message}") from error


def _condition_names(results: Results) -> list[str]:
    return list(dict.fromkeys(row.condition for row in results.rows if row.metric == "EER"))


def _failure(folder: ResultsFolder, row: RowPlan) -> str:
    """Why a row has no results."""
    failures = read_record(folder.failed, FileRecord) if folder.failed.is_file() else {}
    reason = str(failures.get(row.name, "not run"))
    return reason if reason.startswith("not run") else f"failed: {reason}"


def _table_row(row: RowPlan, settings: Record | None, failure: str) -> TableRow:
    if settings is None:
        return TableRow(row.name, row.group, failure)
    trained: Record = settings.get("trained", {})
    cost: Record = settings.get("cost", {})
    tried = settings.get("choice", {}).get("tried", [])
    return TableRow(
        row.name,
        row.group,
        mixture_seconds=trained.get("mixture_seconds"),
        minutes=trained.get("minutes"),
        lr=trained.get("lr"),
        lr_from=row.like or "",
        tried=tuple((one["lr"], one["mean"]) for one in tried),
        loss=trained.get("loss"),
        parameters=cost.get("parameters", trained.get("parameters")),
        multiply_adds=cost.get("multiply_adds_per_second"),
        real_time_factor=cost.get("real_time_factor", settings["collected"].get("real_time_factor")),
        memory_mb=cost.get("peak_memory_mb"),
    )


def _select_shown(results: Results, rows: Sequence[RowPlan]) -> list[RowPlan]:
    """Rows for figures that cannot hold all: the first of ours, and the best of other groups with overlap."""
    conditions = _condition_names(results)
    where = HARD if HARD in conditions else conditions[0]
    shown: list[RowPlan] = []
    for group, most in MOST_SHOWN.items():
        mine = [row for row in rows if row.group == group]
        if group != "ours":
            mine.sort(key=lambda row: results.find("EER", where, model=row.name).value)
        shown += mine[:most]
    return shown


def _sirs(conditions: Sequence[Condition]) -> dict[str, float]:
    """Signal-to-interference ratio in dB of the conditions that have one interferer and nothing else."""
    return {
        c.name: c.sir_db[0]
        for c in conditions
        if len(c.sir_db) == 1 and (c.snr_db, c.seconds, c.room, c.onset) == (None, None, False, 0.0)
    }


def _lengths(conditions: Sequence[Condition], base: str, full_seconds: float) -> dict[str, float]:
    """Seconds of the conditions that differ from ``base`` only in length, shortest first."""
    like = parse_condition(base)
    found = {
        c.name: full_seconds if c.seconds is None else c.seconds
        for c in conditions
        if (c.sir_db, c.snr_db, c.room, c.onset) == (like.sir_db, like.snr_db, like.room, like.onset)
    }
    return dict(sorted(found.items(), key=lambda item: item[1]))


def _facts(plan: Plan, folder: ResultsFolder, results: Results) -> list[tuple[str, str]]:
    """Names and texts of the facts at the top of the page."""
    data = read_record(folder.data, DataFile)
    if not isinstance(data.get(plan.split), dict) or SplitFacts.model_fields.keys() - data[plan.split].keys():
        raise SeparativeError(f"{folder.data} is damaged: it has no facts about the split '{plan.split}'")
    settings: dict[str, Any] = results.settings
    sizes = {
        name: "{speakers} speakers, {utterances} utterances, {hours:g} h".format(**data[name])
        for name in ("train", plan.split)
    }
    trained = f"rows trained for this table: {plan.mixture_seconds:g} s of mixtures each, seed {plan.seed}"
    if not any(row.is_trained for row in plan.rows):
        trained = "no row was trained for this table"
    facts = [
        ("made", f"{settings['made']} on {settings['machine']}"),
        ("command", shlex.join(["separative", *map(_without_folders, data["command"])])),
        ("training data", f"{sizes['train']}; {trained}"),
        (
            "test data",
            f"{settings['speakers']} speakers never trained on (split {plan.split}: {sizes[plan.split]}); "
            f"sides of {settings['seconds']:g} s, enrolment {settings['enrol']}, trials within one corpus",
        ),
        (
            "intervals",
            f"95 %, {settings['resamples']} bootstrap resamples of speakers, the same for all rows",
        ),
    ]
    if plan.grid is not None:
        rates = ", ".join(f"{lr:g}" for lr in plan.grid.lr)
        facts.append(
            (
                "learning rates",
                f"the best of {rates} after {plan.grid.mixture_seconds:g} s of mixtures, by the mean EER "
                f"over {' and '.join(plan.grid.conditions)} on other trials of the same speakers, which "
                "favours all rows equally; ablations take the rate of the row they change",
            )
        )
    return facts


def _without_folders(word: str) -> str:
    """The file name of an absolute path: its folders say nothing to readers on another machine."""
    return f"…/{Path(word).name}" if word.startswith("/") else word
