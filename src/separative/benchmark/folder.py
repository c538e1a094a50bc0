"""The results folder: what lies where, what is done, and that only one benchmark works in it."""

from __future__ import annotations

import fcntl
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from separative.benchmark.plan import RowPlan
from separative.errors import SeparativeError
from separative.evaluation import CollectedOutputs
from separative.files import write_json

Record = dict[str, Any]


@dataclass(frozen=True)
class RowFolder:
    """One training of a row (on the grid, or in full) and what was heard with it, in a folder of its own.

    ``trained.json`` and ``heard.json`` are written when that part is done, so that it is not done again.
    """

    folder: Path

    @property
    def model(self) -> Path:
        return self.folder / "model"

    @property
    def recipe(self) -> Path:
        return self.folder / "recipe.json"

    @property
    def job(self) -> Path:
        return self.folder / "hear.json"

    @property
    def trained(self) -> Path:
        return self.folder / "trained.json"

    @property
    def heard(self) -> Path:
        return self.folder / "heard.json"

    @property
    def log(self) -> Path:
        return self.folder / "log.txt"

    def save_answers(self, answers: dict[str, CollectedOutputs], record: Record) -> None:
        """Keep the answers of every row name of a system; ``record`` says how they were come by."""
        files = {name: f"answers-{number}.npz" for number, name in enumerate(answers)}
        for name, answer in answers.items():
            answer.save(self.folder / files[name])
        write_json(self.heard, record | {"answers": files})

    def answers(self) -> dict[str, CollectedOutputs]:
        """By row name, what :meth:`save_answers` kept."""
        files = read_json(self.heard)["answers"]
        return {name: CollectedOutputs.load(self.folder / file) for name, file in files.items()}


@dataclass(frozen=True)
class Folder:
    """Paths in a results folder."""

    root: Path

    @property
    def plan(self) -> Path:
        return self.root / "plan.yaml"

    @property
    def data(self) -> Path:
        """What the corpora held, and how the benchmark was called."""
        return self.root / "data.json"

    @property
    def trials(self) -> Path:
        return self.root / "trials.txt"

    @property
    def grid_trials(self) -> Path:
        return self.root / "grid-trials.txt"

    @property
    def table(self) -> Path:
        """What is to be shown: the page, its pictures, the results. It names no place on this machine."""
        return self.root / "table"

    def full(self, row: RowPlan) -> RowFolder:
        return RowFolder(self.root / "rows" / row.slug)

    def on_grid(self, row: RowPlan, lr: float) -> RowFolder:
        return RowFolder(self.root / "rows" / row.slug / "grid" / f"{lr:g}")

    def settings(self, row: RowPlan) -> Path:
        """All that is to be told of a finished row."""
        return self.root / "rows" / row.slug / "settings.json"

    def scores(self, row: RowPlan) -> Path:
        return self.root / "scores" / f"{row.slug}.jsonl.gz"

    @property
    def failed(self) -> Path:
        """Why rows are missing; absent if none is."""
        return self.root / "failed.json"

    def keep_failed(self, why: dict[str, str]) -> None:
        """Say why rows, by name, are missing."""
        if why:
            write_json(self.failed, why)
        else:
            self.failed.unlink(missing_ok=True)

    @contextmanager
    def alone(self) -> Iterator[int]:
        """Hold the folder's lock; children that inherit the descriptor hold it too, should this process die.

        Raises:
            SeparativeError: another benchmark, or what one has left running, holds it.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        with (self.root / ".lock").open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise SeparativeError(
                    f"{self.root}: another benchmark, or a training that one left behind, still works there"
                ) from error
            yield file.fileno()


def read_json(path: Path) -> Any:
    """Read what :func:`separative.files.write_json` wrote.

    Raises:
        SeparativeError: missing or damaged; names the file.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SeparativeError(f"{path}: cannot be read ({error})") from error


def clear(folder: Path) -> None:
    """Take away what an attempt has left that cannot be gone on with."""
    shutil.rmtree(folder, ignore_errors=True)
