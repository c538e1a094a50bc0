"""From a results folder to its page; nothing is trained or heard."""

from __future__ import annotations

import gzip
import hashlib
import json
import shlex
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from separative.benchmark.cost import cost
from separative.benchmark.folder import Folder, Record, RowFolder, read_json
from separative.benchmark.plan import Plan, RowPlan
from separative.benchmark.tasks import Tell
from separative.errors import SeparativeError
from separative.evaluation import CollectedOutputs, Results, TrialList, score, score_lines
from separative.evaluation.conditions import Condition, condition_named
from separative.evaluation.score import Candidates
from separative.files import atomic_path, write_json
from separative.model import EncoderConfig, SeparativeEncoder, load_model
from separative.report.benchmark_page import Entry, Table, write_table
from separative.training import machine
from separative.types import Floats


def heard_rows(plan: Plan, folder: Folder) -> list[RowPlan]:
    """Rows that have listened to all conditions."""
    return [row for row in plan.rows if folder.full(row).heard.is_file()]


def make_results(plan: Plan, folder: Folder, tell: Tell) -> Results:
    """Score all rows together, unless that is done: ``results.json``, and every score under ``scores``."""
    rows = heard_rows(plan, folder)
    path = folder.table / "results.json"
    state = {"resamples": plan.trials.resamples} | {row.name: _state(folder, row) for row in rows}
    if path.is_file() and read_json(path)["settings"].get("state") == state:
        return Results.load(path)
    trials = TrialList.read(folder.trials)
    answers: dict[str, CollectedOutputs] = {}
    candidates: dict[str, Candidates] = {}
    for row in rows:
        mine = folder.full(row).answers()
        tell(f"{row.name}: scores")
        _write_scores(folder.scores(row), mine, trials, row)
        answers |= mine
        candidates |= dict.fromkeys(mine, row.candidates)
    tell(f"figures of {len(rows)} rows with their intervals")
    first = next((row.name for row in rows if row.group == "ours"), rows[0].name)
    results = score(
        answers,
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
    results = Results(results.rows, settings)
    write_json(path, {"settings": settings, "rows": [asdict(row) for row in results.rows]})
    return results


def read_scores(
    folder: Folder, row: RowPlan, conditions: Sequence[str]
) -> dict[str, tuple[Floats, np.ndarray]]:
    """By condition, the scores of a row and which of them are of target trials."""
    scores: dict[str, list[tuple[float, bool]]] = {name: [] for name in conditions}
    with gzip.open(folder.scores(row), "rt", encoding="utf-8") as file:
        for line in file:
            record = json.loads(line)
            if record["model"] == row.name and record["condition"] in scores:
                scores[record["condition"]].append((record["score"], record["target"]))
    return {
        name: (np.array([s for s, _ in pairs]), np.array([t for _, t in pairs]))
        for name, pairs in scores.items()
        if pairs
    }


def row_settings(plan: Plan, folder: Folder, row: RowPlan, tell: Tell) -> Record:
    """All that is to be told of a row besides its figures; measures its cost once."""
    stage = folder.full(row)
    record: Record = {"row": row.model_dump(mode="json", exclude_defaults=True)}
    record["heard"] = {k: v for k, v in read_json(stage.heard).items() if k != "answers"}
    for name, path in (("choice", stage.folder / "choice.json"), ("trained", stage.trained)):
        if path.is_file():
            record[name] = read_json(path)
    if row.embed is None and row.builtin != "mfcc":
        path = stage.folder / "cost.json"
        if not path.is_file():
            tell(f"{row.name}: cost")
            write_json(path, asdict(cost(_model(row, stage))))
        record["cost"] = read_json(path)
    write_json(folder.settings(row), record)
    return record


def _model(row: RowPlan, stage: RowFolder) -> SeparativeEncoder:
    if row.builtin is None:
        return load_model(row.model or stage.model)
    return SeparativeEncoder(EncoderConfig.model_validate(read_json(stage.job)["architecture"])).eval()


def _state(folder: Folder, row: RowPlan) -> list[str]:
    """What scores of a row depend on."""
    stage = folder.full(row)
    files = read_json(stage.heard)["answers"]
    digests = [hashlib.sha256((stage.folder / file).read_bytes()).hexdigest()[:16] for file in files.values()]
    return [row.candidates, row.group, *digests]


def _write_scores(path: Path, answers: dict[str, CollectedOutputs], trials: TrialList, row: RowPlan) -> None:
    with (
        atomic_path(path) as beside,
        beside.open("wb") as file,
        gzip.GzipFile("", "wb", 6, file, mtime=0) as packed,
    ):
        for line in _rounded(score_lines(answers, trials, candidates=row.candidates)):
            packed.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")


def _rounded(lines: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    # Seven digits tell all float32 scores apart.
    for line in lines:
        yield line | {"score": float(f"{line['score']:.7g}")}


# In similarity histograms and the DET figure.
EASY, HARD = "clean", "overlap0"
MOST_SHOWN = {"ours": 1, "objective": 2, "system": 3}


def render(root: str | Path, *, tell: Tell = print) -> Path:
    """Make the table and its page anew from what rows have heard so far; returns the page.

    Raises:
        SeparativeError: no results folder, or no row has been heard yet.
    """
    folder = Folder(Path(root))
    if not folder.plan.is_file():
        raise SeparativeError(f"{folder.root}: no benchmark there, it has no {folder.plan.name}")
    plan = Plan.model_validate(yaml.safe_load(folder.plan.read_text(encoding="utf-8")))
    rows = heard_rows(plan, folder)
    if not rows:
        raise SeparativeError(f"{folder.root}: no row has been heard yet, so there is nothing to show")
    results = make_results(plan, folder, tell)
    settings = {row.name: row_settings(plan, folder, row, tell) for row in rows}
    entries = [_entry(row, settings.get(row.name), _absence(folder, row)) for row in plan.rows]
    shown = _shown(plan, results, rows)
    conditions = [condition_named(name) for name in results_conditions(results)]
    table = Table(
        heading=f"Who keeps recognising speakers when others talk over them? Plan “{plan.name}”",
        entries=entries,
        results=results,
        facts=_facts(plan, folder, results),
        columns=[c.name for c in conditions if "@" not in c.name],
        sirs=_sirs(conditions),
        lengths={name: _lengths(conditions, name, results.settings["seconds"]) for name in (EASY, HARD)},
        shown=[row.name for row in shown],
        scores={row.name: read_scores(folder, row, (EASY, HARD)) for row in shown},
    )
    return write_table(folder.table, table)


def results_conditions(results: Results) -> list[str]:
    return list(dict.fromkeys(row.condition for row in results.rows if row.metric == "EER"))


def _absence(folder: Folder, row: RowPlan) -> str:
    problems = read_json(folder.failed) if folder.failed.is_file() else {}
    return str(problems.get(row.name, "not run"))


def _entry(row: RowPlan, settings: Record | None, absence: str) -> Entry:
    if settings is None:
        return Entry(row.name, row.group, absence if absence.startswith("not run") else f"failed: {absence}")
    trained: Record = settings.get("trained", {})
    cost: Record = settings.get("cost", {})
    tried = settings.get("choice", {}).get("tried", [])
    return Entry(
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
        real_time_factor=cost.get("real_time_factor", settings["heard"].get("real_time_factor")),
        memory_mb=cost.get("peak_memory_mb"),
    )


def _shown(plan: Plan, results: Results, rows: list[RowPlan]) -> list[RowPlan]:
    """Rows for figures that cannot hold all: the first of ours, the best of other groups where it is hard."""
    conditions = results_conditions(results)
    where = HARD if HARD in conditions else conditions[0]
    shown = []
    for group, most in MOST_SHOWN.items():
        mine = [row for row in rows if row.group == group]
        if group != "ours":
            mine.sort(key=lambda row: results.find("EER", where, model=row.name).value)
        shown += mine[:most]
    return shown


def _sirs(conditions: list[Condition]) -> dict[str, float]:
    """Conditions that differ only in the ratio of one other speaker."""
    return {
        c.name: c.sir_db[0]
        for c in conditions
        if len(c.sir_db) == 1 and (c.snr_db, c.seconds, c.room, c.begins) == (None, None, False, 0.0)
    }


def _lengths(conditions: list[Condition], base: str, whole: float) -> dict[str, float]:
    """Conditions that differ from ``base`` only in length, by seconds."""
    like = condition_named(base)
    found = {
        c.name: whole if c.seconds is None else c.seconds
        for c in conditions
        if (c.sir_db, c.snr_db, c.room, c.begins) == (like.sir_db, like.snr_db, like.room, like.begins)
    }
    return dict(sorted(found.items(), key=lambda item: item[1]))


def _facts(plan: Plan, folder: Folder, results: Results) -> list[tuple[str, str]]:
    data = read_json(folder.data)
    settings: dict[str, Any] = results.settings
    sizes = {
        name: "{speakers} speakers, {utterances} utterances, {hours:g} h".format(**data[name])
        for name in ("train", plan.split)
    }
    facts = [
        ("made", f"{settings['made']} on {settings['machine']}"),
        ("command", shlex.join(["separative", *map(_shortened, data["command"])])),
        (
            "trained on",
            f"{sizes['train']}; rows that were trained for this table on {plan.mixture_seconds:g} s of "
            f"mixtures each, seed {plan.seed}",
        ),
        (
            "compared on",
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
                f"over {' and '.join(plan.grid.conditions)}, on other trials of the same speakers: "
                "all rows profit alike from that choice; ablations take that of the row they change",
            )
        )
    return facts


def _shortened(word: str) -> str:
    """A path of one machine tells others nothing: its last part does."""
    return f"…/{Path(word).name}" if word.startswith("/") else word
