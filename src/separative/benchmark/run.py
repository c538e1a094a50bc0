"""A plan, run: every row trained and heard, as far as that is not done yet; then the table."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from separative.benchmark.choose import choose_rate
from separative.benchmark.commands import Commands
from separative.benchmark.figures import heard_rows
from separative.benchmark.folder import Folder, Record, Stage, read_json, write_json
from separative.benchmark.plan import Plan, RowPlan
from separative.benchmark.render import render
from separative.benchmark.tasks import Task, Tell, run_tasks
from separative.corpora import Corpus, load_corpus
from separative.errors import CorpusError, SeparativeError, choose
from separative.evaluation import TrialList, build_trials

# What may differ when a benchmark goes on: the page and the intervals are made anew.
FREE = {"plan": ("name", "rows"), "trials": ("resamples",), "row": ("group", "candidates")}


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
        CorpusError: a talker is in training and in evaluation; too few talkers; no such split; no noise.
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
        _check_same(plan, folder)
        speech = load_corpus(corpus, keep_damaged=True)
        clips = None if noise is None else load_corpus(noise)
        _write_trials(plan, folder, speech, clips)
        _write_data(plan, folder, speech, clips, command)
        _keep_plan(plan, folder)
        absent = {row.name: why for row in wanted if (why := commands.absent(row))}
        for name, why in absent.items():
            tell(f"{name}: not run, {why}")
        tasks = _tasks(commands, [row for row in wanted if row.name not in absent])
        failed = run_tasks(tasks, jobs=jobs, threads=threads, keep_open=lock, tell=tell)
        write_json(
            folder.root / "failed.json", failed | {name: f"not run: {why}" for name, why in absent.items()}
        )
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
        others = [models[name] for name in row.rows if name in models]
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
                first.needs, second.needs = others, [first]
                rates[row.name].append(second)
                mine += [first, second]
        stage = folder.full(row)
        heard = _hear(commands, row, stage, folder.trials, "")
        heard.needs = list(others)
        if row.trained:
            rate = partial(_rate, plan, folder, row)
            full = _train(commands, row, stage, plan.mixture_seconds, "in full", rate)
            full.needs = [*others, *rates.get(row.like or row.name, [])]
            heard.needs = [full]
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
    commands: Commands, row: RowPlan, stage: Stage, mixture_seconds: float, words: str, rate: Any
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


def _hear(commands: Commands, row: RowPlan, stage: Stage, trials: Path, words: str) -> Task:
    return Task(
        row.name,
        f"listening, {words}" if words else "listening to all conditions",
        stage.heard.is_file,
        lambda: commands.hear(row, stage, trials),
        lambda seconds: None,
        stage.log,
    )


def trained_record(
    row: RowPlan, stage: Stage, mixture_seconds: float, lr: float | None, seconds: float
) -> Record:
    """What is to be told of a training: from the model's card, or from the command's last line of JSON."""
    record: Record = {"mixture_seconds": mixture_seconds, "lr": lr, "minutes": round(seconds / 60, 2)}
    if row.train is None:
        card = read_json(stage.model / "model" / "model.json")
        losses = [line["loss"] for line in _json_lines(stage.model / "log.jsonl") if "loss" in line]
        record |= {key: card["training"][key] for key in ("mixture_seconds", "minutes", "steps")}
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


def _check_same(plan: Plan, folder: Folder) -> None:
    """The folder must be new, or that of the same plan; rows may have been added or left out."""
    if not folder.plan.is_file():
        strangers = [path.name for path in folder.root.iterdir() if not path.name.startswith(".")]
        if strangers:
            raise SeparativeError(f"{folder.root} holds '{strangers[0]}' but no benchmark; name a new folder")
        return
    before = Plan.model_validate(yaml.safe_load(folder.plan.read_text(encoding="utf-8")))
    old, new = before.model_dump(mode="json"), plan.model_dump(mode="json")
    for content in (old, new):
        for key in FREE["trials"]:
            del content["trials"][key]
    for key in (key for key in new if key not in FREE["plan"]):
        if old[key] != new[key]:
            raise SeparativeError(f"{folder.root} was made with another '{key}'; name a new folder")
    for row in plan.rows:
        other = before.by_name.get(row.name)
        if other is not None:
            ours, theirs = row.model_dump(mode="json"), other.model_dump(mode="json")
            differ = [key for key in ours if ours[key] != theirs[key] and key not in FREE["row"]]
            if differ:
                raise SeparativeError(
                    f"row '{row.name}' was made with another '{differ[0]}'; name a new folder, or delete "
                    f"{folder.full(row).folder} and the row in {folder.plan}"
                )


def _keep_plan(plan: Plan, folder: Folder) -> None:
    text = yaml.safe_dump(plan.model_dump(mode="json", exclude_defaults=True), sort_keys=False, width=110)
    folder.plan.write_text(text, encoding="utf-8")


def _write_trials(plan: Plan, folder: Folder, speech: Corpus, clips: Corpus | None) -> None:
    """The lists of the table and of the grid, unless they are there; no talker is trained on and tested."""
    corpus = speech.split(plan.split)
    noise = None if clips is None else clips.split(plan.split)
    draw = partial(
        build_trials,
        corpus,
        noise=noise,
        seconds=plan.trials.seconds,
        enrolments=plan.trials.enrolments,
        tests=plan.trials.tests,
    )
    if not folder.trials.is_file():
        if plan.trials.list is not None:
            TrialList.read(plan.trials.list)
            shutil.copyfile(plan.trials.list, folder.trials)
        else:
            draw(conditions=plan.trials.conditions, enrol=plan.trials.enrol, seed=plan.seed).write(
                folder.trials
            )
    if plan.grid is not None and not folder.grid_trials.is_file():
        draw(conditions=plan.grid.conditions, seed=plan.seed + 1).write(folder.grid_trials)
    if any(row.trained for row in plan.rows):
        check_apart(speech.split("train"), TrialList.read(folder.trials))


def check_apart(trained_on: Corpus, trials: TrialList) -> None:
    """No talker of the trials, interferers included, may have been trained on.

    Raises:
        CorpusError: one was; names the talker.
    """
    sides = (*trials.enrolments, *trials.tests)
    heard = {side.talker for side in sides} | {rival.talker for side in sides for rival in side.rivals}
    both = sorted(heard & set(trained_on.speakers))
    if both:
        raise CorpusError(
            f"the talker '{both[0]}' is in training and in evaluation ({len(both)} are in all): "
            "splits must not share talkers"
        )


def _write_data(
    plan: Plan, folder: Folder, speech: Corpus, clips: Corpus | None, command: Sequence[str]
) -> None:
    """Refuse other data than those of the folder; keep what the page tells of them."""
    digest = hashlib.sha256()
    for utterance in (*speech, *(clips or ())):
        digest.update(f"{utterance.id} {utterance.speaker} {utterance.split} {utterance.seconds}\n".encode())
    record: Record = {"sha256": digest.hexdigest(), "command": list(command)}
    for split in ("train", plan.split):
        part = speech.split(split)
        hours = sum(u.seconds for u in part) / 3600
        record[split] = {"talkers": len(part.speakers), "utterances": len(part), "hours": round(hours, 2)}
    if folder.data.is_file() and read_json(folder.data)["sha256"] != record["sha256"]:
        raise CorpusError(f"{folder.root} was made with another corpus or noise; name a new folder")
    write_json(folder.data, record)
