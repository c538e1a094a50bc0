"""From a results folder to its page; nothing is trained or heard."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import yaml

from separative.benchmark.figures import heard_rows, make_results, read_scores, row_settings
from separative.benchmark.folder import Folder, Record, read_json
from separative.benchmark.plan import Plan, RowPlan
from separative.benchmark.tasks import Tell
from separative.errors import SeparativeError
from separative.evaluation import Results
from separative.evaluation.conditions import Condition, condition_named
from separative.report.table import Entry, Table, write_table

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
        heading=f"Who keeps recognising talkers when others talk over them? Plan “{plan.name}”",
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
    """Conditions that differ only in the ratio of one other talker."""
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
        name: "{talkers} talkers, {utterances} utterances, {hours:g} h".format(**data[name])
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
            f"{settings['talkers']} talkers never trained on (split {plan.split}: {sizes[plan.split]}); "
            f"sides of {settings['seconds']:g} s, enrolment {settings['enrol']}, trials within one corpus",
        ),
        ("intervals", f"95 %, {settings['resamples']} bootstrap resamples of talkers, the same for all rows"),
    ]
    if plan.grid is not None:
        rates = ", ".join(f"{lr:g}" for lr in plan.grid.lr)
        facts.append(
            (
                "learning rates",
                f"the best of {rates} after {plan.grid.mixture_seconds:g} s of mixtures, by the mean EER "
                f"over {' and '.join(plan.grid.conditions)}, on other trials of the same talkers: "
                "all rows profit alike from that choice; ablations take that of the row they change",
            )
        )
    return facts


def _shortened(word: str) -> str:
    """A path of one machine tells others nothing: its last part does."""
    return f"…/{Path(word).name}" if word.startswith("/") else word
