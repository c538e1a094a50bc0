"""Run a plan: train every row, collect its outputs and write the table; finished steps are skipped."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from separative.benchmark.checks import check_plan, check_recipes, describe_data, load_trials, write_plan
from separative.benchmark.commands import Commands
from separative.benchmark.folder import ChoiceFile, Record, ResultsFolder, RowFolder, read_record
from separative.benchmark.plan import Plan, RowPlan
from separative.benchmark.render import collected_rows, render
from separative.benchmark.tasks import ReportLine, Task, run_tasks
from separative.corpora import load_corpus
from separative.errors import SeparativeError, choose
from separative.evaluation import TrialList, eer, trial_scores
from separative.files import parse_json, write_json
from separative.model.card import read_card


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
    report: ReportLine = print,
) -> Path:
    """Train or load every row of a plan, evaluate it and write the table; return the page.

    Called again with the same folder, it resumes: finished steps are not repeated, and trainings continue
    from their last checkpoint.

    Args:
        plan: from :func:`load_plan`.
        corpus: speech. Rows are trained on its split ``train`` and compared on the plan's split.
        out: the results folder.
        noise: noise clips with the same splits.
        peer_python: Python of an environment with the baseline systems. Without it, the rows that need it are
            left out, and the page says so.
        only: names of the rows to run; the rows that they require are run too. By default all rows.
        jobs: number of processes at a time.
        threads: number of threads of each process.
        cache: folder of decoded audio; by default ``.cache`` in the results folder.
        command: the command line that started the benchmark, for the page.
        report: called with a line of progress.

    Raises:
        CorpusError: a speaker is in training and in evaluation, there are too few speakers, or a split or
            the noise is missing.
        RecipeError: the recipe of a row is invalid, or there is no such row.
        SeparativeError: the folder holds another benchmark, or rows failed (raised after the page is
            written).
        KeyboardInterrupt: SIGINT or SIGTERM was received; finished work is kept.

    >>> trials = {"conditions": ["clean"], "seconds": 2.0, "enrolments": 1, "tests": 1, "resamples": 10}
    >>> rows = [{"name": "MFCC statistics", "group": "ablation", "builtin": "mfcc"}]
    >>> plan = Plan(name="tiny", mixture_seconds=1, trials=trials, rows=rows)
    >>> benchmark(plan, corpus="speech", out="results", report=lambda line: None).as_posix()
    'results/table/index.html'
    """
    folder = ResultsFolder(Path(out))
    commands = Commands(
        plan,
        folder,
        Path(corpus),
        None if noise is None else Path(noise),
        None if peer_python is None else Path(peer_python),
        folder.root / ".cache" if cache is None else Path(cache),
        threads,
    )
    for row in (row for row in plan.rows if row.has_recipe):
        commands.recipe(row, None, plan.mixture_seconds)
    selected = select_rows(plan, only)
    with folder.lock() as lock:
        # Everything that can be wrong with plan and data is checked before anything is written.
        check_plan(plan, folder)
        check_recipes(commands)
        speech = load_corpus(corpus, keep_damaged=True)
        clips = None if noise is None else load_corpus(noise)
        trials = load_trials(plan, folder, speech, clips)
        described = describe_data(plan, folder, speech, clips, command)
        write_plan(plan, folder)
        write_json(folder.data, described)
        for path in (path for path in trials if not path.is_file()):
            trials[path].write(path)
        absent = {row.name: why for row in selected if (why := commands.missing_option(row))}
        for name, why in absent.items():
            report(f"{name}: not run, {why}")
        tasks = _make_tasks(commands, [row for row in selected if row.name not in absent])
        failed = run_tasks(tasks, jobs=jobs, threads=threads, keep_open=lock, report=report)
        folder.write_failures(failed | {name: f"not run: {why}" for name, why in absent.items()})
        page = render(folder.root, report=report) if collected_rows(plan, folder) else folder.root
    if failed:
        raise SeparativeError(
            f"{len(failed)} of {len(selected)} rows failed: "
            + "; ".join(f"{name} ({why})" for name, why in failed.items())
        )
    return page


def select_rows(plan: Plan, only: Sequence[str]) -> tuple[RowPlan, ...]:
    """The rows with these names and the rows that they require, in the order of the plan.

    Without names, all rows.

    Raises:
        SeparativeError: there is no such row.

    >>> from separative.benchmark.plan import load_plan
    >>> [row.name for row in select_rows(load_plan("quick"), ["softmax"])]
    ['CSC', 'softmax']
    """
    names = {choose(name, plan.by_name, "row") for name in only} or set(plan.by_name)
    while more := {other for name in names for other in plan.by_name[name].required_rows} - names:
        names |= more
    return tuple(row for row in plan.rows if row.name in names)


def choose_learning_rate(plan: Plan, folder: ResultsFolder, row: RowPlan) -> Record:
    """Choose the learning rate of a row with ``grid: true``: the one with the lowest mean EER.

    The outputs of the row must have been collected for every rate.

    Returns:
        ``{"lr": the chosen rate, "tried": [{"lr", "eer", "mean"}, ...]}`` with EERs in %.

    >>> from separative.benchmark.plan import load_plan
    >>> plan, folder = load_plan("quick"), ResultsFolder(Path("results"))
    >>> write_json(folder.full(plan.rows[0]).choice, {"lr": 0.003, "tried": []})
    >>> choose_learning_rate(plan, folder, plan.rows[0])["lr"]
    0.003
    """
    path = folder.full(row).choice
    if not path.is_file():
        assert plan.grid is not None
        trials = TrialList.read(folder.grid_trials)
        tried: list[Record] = []
        for lr in plan.grid.lr:
            found = _eer_by_condition(folder.on_grid(row, lr), row, trials)
            tried.append({"lr": lr, "eer": found, "mean": sum(found.values()) / len(found)})
        best = min(tried, key=lambda one: float(one["mean"]))
        write_json(path, {"lr": best["lr"], "tried": tried})
    return read_record(path, ChoiceFile)


def _eer_by_condition(row_folder: RowFolder, row: RowPlan, trials: TrialList) -> dict[str, float]:
    """EER in % by condition, over the trials of all corpora."""
    name, outputs = next(iter(row_folder.load_outputs().items()))
    scores: dict[str, list[tuple[float, bool]]] = defaultdict(list)
    for line in trial_scores({name: outputs}, trials, candidates=row.candidates):
        scores[line["condition"]].append((line["score"], line["target"]))
    return {
        condition: 100 * eer(np.array([s for s, _ in pairs]), np.array([t for _, t in pairs]))
        for condition, pairs in scores.items()
    }


def _make_tasks(commands: Commands, rows: Sequence[RowPlan]) -> list[Task]:
    """The tasks of the rows, in the order of the rows, each with the tasks it requires."""
    plan, folder = commands.plan, commands.folder
    trainings: dict[str, Task] = {}
    on_grid: dict[str, list[Task]] = {}
    tasks: dict[str, list[Task]] = {}
    # Rows that others take their model or learning rate from come first.
    for row in sorted(rows, key=lambda row: _depth(plan, row)):
        mine = tasks[row.name] = []
        to_train = [trainings[name] for name in row.rows_in(row.train) if name in trainings]
        to_collect = [trainings[name] for name in row.rows_in(row.embed) if name in trainings]
        if row.grid:
            assert plan.grid is not None
            for lr in plan.grid.lr:
                row_folder, where = folder.on_grid(row, lr), f"learning rate {lr:g}"
                seconds, rate = plan.grid.mixture_seconds, partial(float, lr)
                training = _training(commands, row, row_folder, seconds, where, rate)
                collecting = _collecting(commands, row, row_folder, folder.grid_trials, where)
                training.requires, collecting.requires = to_train, [training, *to_collect]
                mine += [training, collecting]
            on_grid[row.name] = mine[1::2]
        row_folder = folder.full(row)
        collecting = _collecting(commands, row, row_folder, folder.trials, "all conditions")
        collecting.requires = to_collect
        if row.is_trained:
            chosen = partial(_learning_rate, plan, folder, row)
            training = _training(commands, row, row_folder, plan.mixture_seconds, "full length", chosen)
            training.requires = [*to_train, *on_grid.get(row.like or row.name, [])]
            collecting.requires = [training, *to_collect]
            trainings[row.name] = training
            mine.append(training)
        mine.append(collecting)
    return [task for row in rows for task in tasks[row.name]]


def _depth(plan: Plan, row: RowPlan) -> int:
    """Length of the longest chain of rows that a row requires."""
    return max((1 + _depth(plan, plan.by_name[name]) for name in row.required_rows), default=0)


def _learning_rate(plan: Plan, folder: ResultsFolder, row: RowPlan) -> float | None:
    """The learning rate chosen for a row; None if its recipe or command sets the rate."""
    source = plan.by_name[row.like] if row.like else row
    return choose_learning_rate(plan, folder, source)["lr"] if source.grid else None


def _training(
    commands: Commands,
    row: RowPlan,
    row_folder: RowFolder,
    mixture_seconds: float,
    where: str,
    rate: Callable[[], float | None],
) -> Task:
    def finish(seconds: float) -> None:
        write_json(row_folder.trained, _describe_training(row, row_folder, mixture_seconds, rate(), seconds))

    return Task(
        row.name,
        f"training, {where}",
        row_folder.trained.is_file,
        lambda: commands.train(row, row_folder, rate(), mixture_seconds),
        finish,
        row_folder.log,
    )


def _collecting(commands: Commands, row: RowPlan, row_folder: RowFolder, trials: Path, where: str) -> Task:
    return Task(
        row.name,
        f"collecting outputs, {where}",
        row_folder.collected.is_file,
        lambda: commands.collect(row, row_folder, trials),
        lambda seconds: None,
        row_folder.log,
    )


def _describe_training(
    row: RowPlan, row_folder: RowFolder, mixture_seconds: float, lr: float | None, seconds: float
) -> Record:
    """Facts about a training: from the model card, or from the last line of JSON that the command printed."""
    record: Record = {"mixture_seconds": mixture_seconds, "lr": lr, "minutes": round(seconds / 60, 2)}
    if row.train is None:
        card, _ = read_card(row_folder.model / "model" / "model.json")
        losses = [line["loss"] for line in _json_lines(row_folder.model / "log.jsonl") if "loss" in line]
        record |= {key: card["training"][key] for key in ("mixture_seconds", "minutes", "steps")}
        return record | {"parameters": card["parameters"], "loss": losses[-1] if losses else None}
    printed = _json_lines(row_folder.log)
    numbers = {k: v for k, v in printed[-1].items() if isinstance(v, int | float)} if printed else {}
    return record | numbers


def _json_lines(path: Path) -> list[Record]:
    """The lines of a text file that are JSON objects."""
    found = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        if line.startswith("{"):
            try:
                found.append(parse_json(line, path))
            except SeparativeError:
                continue  # another line of the program that starts with a brace
    return found
