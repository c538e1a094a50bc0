"""Checks before a benchmark runs: same plan and data as before, no training speakers in the trials."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import yaml

from separative.benchmark.commands import Commands
from separative.benchmark.folder import DataFile, Record, ResultsFolder, read_record
from separative.benchmark.plan import Plan, parse_plan
from separative.corpora import Corpus
from separative.errors import CorpusError, SeparativeError
from separative.evaluation import TrialList, build_trials
from separative.files import read_json, replace_file
from separative.training.recipe import parse_recipe, read_yaml

# Keys that may change between runs in one results folder: they affect only the page and the intervals.
FREE = {"plan": ("name", "rows"), "trials": ("resamples",), "row": ("group", "candidates")}


def check_plan(plan: Plan, folder: ResultsFolder) -> None:
    """Check that the folder is new or belongs to the same plan; rows may have been added or removed.

    Raises:
        SeparativeError: the folder has other content or another plan; the message names what differs.

    >>> from separative.benchmark.plan import load_plan
    >>> plan, folder = load_plan("quick"), ResultsFolder(Path("results"))
    >>> write_plan(plan, folder)
    >>> check_plan(plan.model_copy(update={"seed": 7}), folder)
    Traceback (most recent call last):
    separative.errors.SeparativeError: results was made with another 'seed'; name a new folder
    """
    if not folder.plan.is_file():
        others = [path.name for path in folder.root.iterdir() if not path.name.startswith(".")]
        if others:
            raise SeparativeError(f"{folder.root} holds '{others[0]}' but no benchmark; name a new folder")
        return
    before = read_plan(folder)
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


def check_recipes(commands: Commands) -> None:
    """Check that rows trained earlier were trained by their current recipe.

    Raises:
        SeparativeError: a recipe differs; the message names the row and the key.

    >>> from separative.benchmark.plan import load_plan
    >>> folder = ResultsFolder(Path("results"))
    >>> commands = Commands(load_plan("quick"), folder, Path("speech"), None, None, Path("cache"), threads=1)
    >>> row = commands.plan.rows[0]
    >>> _ = commands.train(row, folder.full(row), 1e-3, mixture_seconds=240)
    >>> check_recipes(commands)
    Traceback (most recent call last):
    separative.errors.SeparativeError: row 'CSC' was trained by a recipe with another ...
    """
    plan = commands.plan
    for row in (row for row in plan.rows if row.has_recipe):
        path = commands.folder.full(row).recipe
        if path.is_file():
            before = parse_recipe(read_json(path), str(path)).model_dump(mode="json")
            recipe = commands.recipe(row, before["optimiser"]["lr"], plan.mixture_seconds)
            now = recipe.model_dump(mode="json")
            differ = [key for key in now if now[key] != before[key]]
            if differ:
                raise SeparativeError(
                    f"row '{row.name}' was trained by a recipe with another '{differ[0]}'; name a new folder"
                )


def write_plan(plan: Plan, folder: ResultsFolder) -> None:
    """Write the plan into the results folder, as it was used.

    >>> from separative.benchmark.plan import load_plan
    >>> write_plan(load_plan("quick"), ResultsFolder(Path("results")))
    >>> read_plan(ResultsFolder(Path("results"))) == load_plan("quick")
    True
    """
    text = yaml.safe_dump(plan.model_dump(mode="json", exclude_defaults=True), sort_keys=False, width=110)
    replace_file(folder.plan, text.encode())


def read_plan(folder: ResultsFolder) -> Plan:
    """Read the plan of a results folder.

    Raises:
        RecipeError: the file is not YAML, or has an unknown key or an invalid value.

    >>> from separative.benchmark.plan import load_plan
    >>> write_plan(load_plan("quick"), ResultsFolder(Path("results")))
    >>> read_plan(ResultsFolder(Path("results"))).name
    'quick'
    """
    return parse_plan(read_yaml(folder.plan, "plan"), str(folder.plan))


def load_trials(
    plan: Plan, folder: ResultsFolder, speech: Corpus, noise: Corpus | None
) -> dict[Path, TrialList]:
    """Load or draw the trial lists of the table and of the grid, by their path in the results folder.

    Lists that are already there are read. Otherwise, the table has the list of the plan, if it names one.

    Raises:
        CorpusError: a list contains a training speaker; see also
            :func:`separative.evaluation.build_trials`.

    >>> from separative.corpora import load_corpus
    >>> row = {"name": "base", "group": "ours", "model": "base"}
    >>> trials = {"conditions": ["clean"], "seconds": 2.0, "enrolments": 1, "tests": 1}
    >>> plan = Plan(name="p", mixture_seconds=1, trials=trials, rows=[row])
    >>> lists = load_trials(plan, ResultsFolder(Path("results")), load_corpus("speech"), None)
    >>> {path.name: len(trial_list.tests) for path, trial_list in lists.items()}
    {'trials.txt': 2}
    """
    trials = plan.trials
    draw = partial(
        build_trials,
        speech.split(plan.split),
        noise=None if noise is None else noise.split(plan.split),
        seconds=trials.seconds,
        enrolments=trials.enrolments,
        tests=trials.tests,
    )
    lists = {}
    for path, given, settings in (
        (folder.trials, trials.list, (trials.conditions, trials.enrol, plan.seed)),
        (folder.grid_trials, None, (plan.grid.conditions, "clean", plan.seed + 1) if plan.grid else None),
    ):
        source = path if path.is_file() else given
        if source is not None:
            lists[path] = TrialList.read(source)
        elif settings is not None:
            conditions, enrol, seed = settings
            lists[path] = draw(conditions=conditions, enrol=enrol, seed=seed)
    if any(row.is_trained for row in plan.rows):
        for trial_list in lists.values():
            trial_list.check_speakers(speech.split("train").speakers)
    return lists


def describe_data(
    plan: Plan, folder: ResultsFolder, speech: Corpus, noise: Corpus | None, command: Sequence[str]
) -> Record:
    """Facts about the data for the page, and a digest of the data.

    Raises:
        CorpusError: the folder was made with other data.

    >>> from separative.benchmark.plan import load_plan
    >>> from separative.corpora import load_corpus
    >>> plan, folder = load_plan("quick"), ResultsFolder(Path("results"))
    >>> describe_data(plan, folder, load_corpus("speech"), None, ["benchmark", "quick"])["train"]["speakers"]
    2
    """
    digest = hashlib.sha256()
    for utterance in (*speech, *(noise or ())):
        digest.update(f"{utterance.id} {utterance.speaker} {utterance.split} {utterance.seconds}\n".encode())
    record: Record = {"sha256": digest.hexdigest(), "command": list(command)}
    for split in ("train", plan.split):
        part = speech.split(split)
        hours = sum(u.seconds for u in part) / 3600
        record[split] = {"speakers": len(part.speakers), "utterances": len(part), "hours": round(hours, 2)}
    if folder.data.is_file() and read_record(folder.data, DataFile)["sha256"] != record["sha256"]:
        raise CorpusError(f"{folder.root} was made with another corpus or noise; name a new folder")
    return record
