"""From what rows have heard to figures: every trial's score, result rows, what each row cost."""

from __future__ import annotations

import gzip
import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from separative.benchmark.folder import Folder, Record, Stage, read_json
from separative.benchmark.plan import Plan, RowPlan
from separative.benchmark.tasks import Tell
from separative.evaluation import Answers, Results, TrialList, score, score_lines
from separative.evaluation.cost import cost
from separative.evaluation.score import Candidates
from separative.files import replacing, write_json
from separative.metrics import Floats
from separative.model import EncoderConfig, SeparativeEncoder, load_model
from separative.training import machine


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
    answers: dict[str, Answers] = {}
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


def _model(row: RowPlan, stage: Stage) -> SeparativeEncoder:
    if row.builtin is None:
        return load_model(row.model or stage.model)
    return SeparativeEncoder(EncoderConfig.model_validate(read_json(stage.job)["architecture"])).eval()


def _state(folder: Folder, row: RowPlan) -> list[str]:
    """What scores of a row depend on."""
    stage = folder.full(row)
    files = read_json(stage.heard)["answers"]
    digests = [hashlib.sha256((stage.folder / file).read_bytes()).hexdigest()[:16] for file in files.values()]
    return [row.candidates, row.group, *digests]


def _write_scores(path: Path, answers: dict[str, Answers], trials: TrialList, row: RowPlan) -> None:
    with (
        replacing(path) as beside,
        beside.open("wb") as file,
        gzip.GzipFile("", "wb", 6, file, mtime=0) as packed,
    ):
        for line in _rounded(score_lines(answers, trials, candidates=row.candidates)):
            packed.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")


def _rounded(lines: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    # Seven digits tell all float32 scores apart.
    for line in lines:
        yield line | {"score": float(f"{line['score']:.7g}")}
