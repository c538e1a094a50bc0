"""What a benchmark is made from: the same plan and data as before, and speakers that are kept apart."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import yaml

from separative.benchmark.commands import Commands
from separative.benchmark.folder import Folder, Record, RowFolder, read_json
from separative.benchmark.plan import Plan
from separative.corpora import Corpus
from separative.errors import CorpusError, SeparativeError
from separative.evaluation import TrialList, build_trials
from separative.files import replace_file
from separative.objectives import objective_class
from separative.training.recipe import parse_recipe

# What may differ when a benchmark goes on: the page and the intervals are made anew.
FREE = {"plan": ("name", "rows"), "trials": ("resamples",), "row": ("group", "candidates")}


def check_same(plan: Plan, folder: Folder) -> None:
    """The folder must be new, or that of the same plan; rows may have been added or left out.

    Raises:
        SeparativeError: it is not; names what differs.
    """
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


def check_recipes(commands: Commands) -> None:
    """Rows that have been trained must have been trained by what is their recipe today.

    Raises:
        SeparativeError: one was not; names the row and the key.
    """
    plan = commands.plan
    for row in (row for row in plan.rows if row.ours):
        path = commands.folder.full(row).recipe
        if path.is_file():
            before = parse_recipe(read_json(path), str(path)).model_dump(mode="json")
            now = commands.recipe(row, before["optimiser"]["lr"], plan.mixture_seconds).model_dump(
                mode="json"
            )
            differ = [key for key in now if now[key] != before[key]]
            if differ:
                raise SeparativeError(
                    f"row '{row.name}' was trained by a recipe with another '{differ[0]}'; name a new folder"
                )


def edited(commands: Commands) -> Iterator[tuple[str, Path]]:
    """Rows that have been trained by an objective whose file is another today, and their folders.

    Whether what changed there matters, only a reader can say.
    """
    for row in (row for row in commands.plan.rows if row.ours):
        stage = commands.folder.full(row)
        if stage.trained.is_file() and stage.recipe.is_file():
            before = read_json(stage.trained).get("objective_sha256")
            if before is not None and before != objective_digest(stage):
                yield row.name, stage.folder


def objective_digest(stage: RowFolder) -> str:
    """SHA-256 of the file that the objective of a stage's recipe is written in."""
    recipe = parse_recipe(read_json(stage.recipe), str(stage.recipe))
    source = Path(inspect.getfile(objective_class(recipe.loss)))
    return hashlib.sha256(source.read_bytes()).hexdigest()


def keep_plan(plan: Plan, folder: Folder) -> None:
    """The plan as it was used."""
    text = yaml.safe_dump(plan.model_dump(mode="json", exclude_defaults=True), sort_keys=False, width=110)
    replace_file(folder.plan, text.encode())


def trial_lists(plan: Plan, folder: Folder, speech: Corpus, clips: Corpus | None) -> dict[Path, TrialList]:
    """By path, the lists of the table and of the grid: as they are there, given by the plan, or drawn.

    Raises:
        CorpusError: see :func:`check_apart` and :func:`separative.evaluation.build_trials`.
    """
    trials = plan.trials
    draw = partial(
        build_trials,
        speech.split(plan.split),
        noise=None if clips is None else clips.split(plan.split),
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
    if any(row.trained for row in plan.rows):
        for trial_list in lists.values():
            check_apart(speech.split("train"), trial_list)
    return lists


def check_apart(trained_on: Corpus, trials: TrialList) -> None:
    """No speaker of the trials, interferers included, may have been trained on.

    Raises:
        CorpusError: one was; names the speaker.
    """
    if both := sorted(trials.speakers & set(trained_on.speakers)):
        raise CorpusError(
            f"the speaker '{both[0]}' is in training and in evaluation ({len(both)} are in all): "
            "splits must not share speakers"
        )


def describe_data(
    plan: Plan, folder: Folder, speech: Corpus, clips: Corpus | None, command: Sequence[str]
) -> Record:
    """What the page tells of the data, and a digest of them.

    Raises:
        CorpusError: the folder was made with other data.
    """
    digest = hashlib.sha256()
    for utterance in (*speech, *(clips or ())):
        digest.update(f"{utterance.id} {utterance.speaker} {utterance.split} {utterance.seconds}\n".encode())
    record: Record = {"sha256": digest.hexdigest(), "command": list(command)}
    for split in ("train", plan.split):
        part = speech.split(split)
        hours = sum(u.seconds for u in part) / 3600
        record[split] = {"speakers": len(part.speakers), "utterances": len(part), "hours": round(hours, 2)}
    if folder.data.is_file() and read_json(folder.data)["sha256"] != record["sha256"]:
        raise CorpusError(f"{folder.root} was made with another corpus or noise; name a new folder")
    return record
