"""A plan, run: every row trained and heard, as far as that is not done yet; then the table."""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from separative.benchmark.checks import (
    check_recipes,
    check_same,
    describe_data,
    edited,
    keep_plan,
    objective_digest,
    trial_lists,
)
from separative.benchmark.commands import Commands
from separative.benchmark.folder import Folder, Record, RowFolder, read_json
from separative.benchmark.plan import Plan, RowPlan
from separative.benchmark.render import heard_rows, render
from separative.benchmark.tasks import Task, Tell, run_tasks
from separative.corpora import load_corpus
from separative.errors import SeparativeError, choose
from separative.evaluation import TrialList, eer, score_lines
from separative.files import write_json


def quick_eers(stage: RowFolder, row: RowPlan, trials: TrialList) -> dict[str, float]:
    """EER (%) of a stage's answers by condition, over all trials."""
    name, answers = next(iter(stage.answers().items()))
    scores: dict[str, list[tuple[float, bool]]] = defaultdict(list)
    for line in score_lines({name: answers}, trials, candidates=row.candidates):
        scores[line["condition"]].append((line["score"], line["target"]))
    return {
        condition: 100 * eer(np.array([s for s, _ in pairs]), np.array([t for _, t in pairs]))
        for condition, pairs in scores.items()
    }


def choose_rate(plan: Plan, folder: Folder, row: RowPlan) -> Record:
    """``{"lr": the chosen one, "tried": [{"lr", "eer", "mean"}]}`` of a row whose grid has been heard."""
    assert plan.grid is not None
    path = folder.full(row).folder / "choice.json"
    if not path.is_file():
        trials = TrialList.read(folder.grid_trials)
        tried: list[Record] = []
        for lr in plan.grid.lr:
            found = quick_eers(folder.on_grid(row, lr), row, trials)
            tried.append({"lr": lr, "eer": found, "mean": sum(found.values()) / len(found)})
        least = min(range(len(tried)), key=[one["mean"] for one in tried].__getitem__)
        write_json(path, {"lr": plan.grid.lr[least], "tried": tried})
    record: Record = read_json(path)
    return record


def benchmark(
    plan: Plan,
    *,
    corpus: str | Path,
    out: str | Path,
    noise: str | Path | None = None,
    peer_python: str | Path | None = None,
    only: Sequence[str] = (),
    jobs: int = 2,
    threads: int = 1,
    cache: str | Path | None = None,
    command: Sequence[str] = (),
    tell: Tell = print,
) -> Path:
    """Train or load every row of a plan, evaluate it and write the table; returns the page.

    Run again with the same folder, it goes on where it stopped: trainings from their last checkpoint.

    Args:
        plan: see :func:`load_plan`.
        corpus, noise: trained on their split ``train``, compared on the plan's split.
        out: the results folder.
        peer_python: the Python of an environment with the rival systems; rows that need it are left out
            without it, and the page says so.
        only: names of the rows to run, with those that they need.
        jobs: processes at a time.
        threads: of each process.
        cache: folder of decoded audio, ``.cache`` in the results folder by default.
        command: how the benchmark was called, for the page.
        tell: called with a line on whatever happens.

    Raises:
        CorpusError: a speaker is in training and in evaluation; too few speakers; no such split; no noise.
        RecipeError: a row's recipe, an unknown row.
        SeparativeError: the folder holds another benchmark; rows that failed, after the page is written.
        KeyboardInterrupt: stopped by SIGINT or SIGTERM; nothing done is lost.
    """
    folder = Folder(Path(out))
    commands = Commands(
        plan,
        folder,
        Path(corpus),
        None if noise is None else Path(noise),
        None if peer_python is None else Path(peer_python),
        folder.root / ".cache" if cache is None else Path(cache),
        threads,
    )
    for row in (row for row in plan.rows if row.ours):
        commands.recipe(row, None, plan.mixture_seconds)
    wanted = with_needs(plan, only)
    with folder.alone() as lock:
        check_same(plan, folder)
        check_recipes(commands)
        speech = load_corpus(corpus, keep_damaged=True)
        clips = None if noise is None else load_corpus(noise)
        lists = trial_lists(plan, folder, speech, clips)
        described = describe_data(plan, folder, speech, clips, command)
        # Nothing is written before all that can be wrong with plan and data has had its say.
        keep_plan(plan, folder)
        write_json(folder.data, described)
        for path in (path for path in lists if not path.is_file()):
            lists[path].write(path)
        for name, place in edited(commands):
            tell(f"{name}: its objective's file has changed since it was trained; without {place} it is anew")
        absent = {row.name: why for row in wanted if (why := commands.absent(row))}
        for name, why in absent.items():
            tell(f"{name}: not run, {why}")
        tasks = _tasks(commands, [row for row in wanted if row.name not in absent])
        failed = run_tasks(tasks, jobs=jobs, threads=threads, keep_open=lock, tell=tell)
        folder.keep_failed(failed | {name: f"not run: {why}" for name, why in absent.items()})
        page = render(folder.root, tell=tell) if heard_rows(plan, folder) else folder.root
    if failed:
        raise SeparativeError(
            f"{len(failed)} of {len(wanted)} rows failed: "
            + "; ".join(f"{name} ({why})" for name, why in failed.items())
        )
    return page


def with_needs(plan: Plan, only: Sequence[str]) -> tuple[RowPlan, ...]:
    """The rows of these names (all if none), and those they need, in the plan's order.

    Raises:
        SeparativeError: no such row.
    """
    names = {choose(name, plan.by_name, "row") for name in only} or set(plan.by_name)
    while more := {n for name in names for n in needs(plan.by_name[name])} - names:
        names |= more
    return tuple(row for row in plan.rows if row.name in names)


def needs(row: RowPlan) -> tuple[str, ...]:
    """Names of the rows that this one needs: for their model, or their learning rate."""
    return (*row.rows, *([row.like] if row.like else []))


def _tasks(commands: Commands, rows: Sequence[RowPlan]) -> list[Task]:
    """What is to be done for the rows, in their order, each knowing what it needs."""
    plan, folder = commands.plan, commands.folder
    models: dict[str, Task] = {}
    rates: dict[str, list[Task]] = {}
    tasks: dict[str, list[Task]] = {row.name: [] for row in rows}
    # Rows first that others take their rate or model from.
    for row in sorted(rows, key=lambda r: _depth(plan, r)):
        mine = tasks[row.name]
        # Models of other rows are needed where the row's commands name them.
        to_train = [models[name] for name in row.rows_named(row.train) if name in models]
        to_hear = [models[name] for name in row.rows_named(row.embed) if name in models]
        missing = [name for name in needs(row) if name not in tasks]
        assert not missing or commands.absent(plan.by_name[missing[0]])
        if row.grid:
            assert plan.grid is not None
            rates[row.name] = []
            for lr in plan.grid.lr:
                stage = folder.on_grid(row, lr)
                words = f"learning rate {lr:g} on trial"
                first = _train(commands, row, stage, plan.grid.mixture_seconds, words, lambda lr=lr: lr)
                second = _hear(commands, row, stage, folder.grid_trials, words)
                first.needs, second.needs = to_train, [first, *to_hear]
                rates[row.name].append(second)
                mine += [first, second]
        stage = folder.full(row)
        heard = _hear(commands, row, stage, folder.trials, "")
        heard.needs = to_hear
        if row.trained:
            rate = partial(_rate, plan, folder, row)
            if row.grid and plan.grid and plan.grid.mixture_seconds == plan.mixture_seconds:
                full = _adopt(folder, row, stage, rate)
            else:
                full = _train(commands, row, stage, plan.mixture_seconds, "in full", rate)
            full.needs = [*to_train, *rates.get(row.like or row.name, [])]
            heard.needs = [full, *to_hear]
            models[row.name] = full
            mine.append(full)
        mine.append(heard)
    return [task for row in rows for task in tasks[row.name]]


def _depth(plan: Plan, row: RowPlan) -> int:
    return max((1 + _depth(plan, plan.by_name[name]) for name in needs(row)), default=0)


def _rate(plan: Plan, folder: Folder, row: RowPlan) -> float | None:
    source = plan.by_name[row.like] if row.like else row
    return choose_rate(plan, folder, source)["lr"] if source.grid else None


def _train(
    commands: Commands, row: RowPlan, stage: RowFolder, mixture_seconds: float, words: str, rate: Any
) -> Task:
    def finish(seconds: float) -> None:
        write_json(stage.trained, trained_record(row, stage, mixture_seconds, rate(), seconds))

    return Task(
        row.name,
        f"training, {words}",
        stage.trained.is_file,
        lambda: commands.train(row, stage, rate(), mixture_seconds),
        finish,
        stage.log,
    )


def _adopt(folder: Folder, row: RowPlan, stage: RowFolder, rate: Any) -> Task:
    """Runs on the grid as long as those of the table: the better of them is the row's own."""

    def chosen() -> RowFolder:
        return folder.on_grid(row, rate())

    def command() -> list[str]:
        copy = "import shutil, sys; shutil.copytree(sys.argv[1], sys.argv[2], dirs_exist_ok=True)"
        return [sys.executable, "-c", copy, str(chosen().model), str(stage.model)]

    def finish(_seconds: float) -> None:
        write_json(stage.trained, read_json(chosen().trained))

    return Task(row.name, "taking the better run", stage.trained.is_file, command, finish, stage.log)


def _hear(commands: Commands, row: RowPlan, stage: RowFolder, trials: Path, words: str) -> Task:
    return Task(
        row.name,
        f"listening, {words}" if words else "listening to all conditions",
        stage.heard.is_file,
        lambda: commands.hear(row, stage, trials),
        lambda seconds: None,
        stage.log,
    )


def trained_record(
    row: RowPlan, stage: RowFolder, mixture_seconds: float, lr: float | None, seconds: float
) -> Record:
    """What is to be told of a training: from the model's card, or from the command's last line of JSON."""
    record: Record = {"mixture_seconds": mixture_seconds, "lr": lr, "minutes": round(seconds / 60, 2)}
    if row.train is None:
        card = read_json(stage.model / "model" / "model.json")
        losses = [line["loss"] for line in _json_lines(stage.model / "log.jsonl") if "loss" in line]
        record |= {key: card["training"][key] for key in ("mixture_seconds", "minutes", "steps")}
        record["objective_sha256"] = objective_digest(stage)
        return record | {"parameters": card["parameters"], "loss": losses[-1] if losses else None}
    said = list(_json_lines(stage.log))
    return record | {k: v for k, v in (said[-1] if said else {}).items() if isinstance(v, int | float)}


def _json_lines(path: Path) -> list[Record]:
    found = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        if line.startswith("{"):
            try:
                found.append(json.loads(line))
            except json.JSONDecodeError:
                continue  # a line of a program's own that only looks like JSON
    return found
