"""The results folder of a benchmark: its files, what is finished, and a lock."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from separative.benchmark.plan import RowPlan
from separative.errors import SeparativeError, validation_message
from separative.evaluation import CollectedOutputs
from separative.files import lock_file, read_json, write_json

log = logging.getLogger(__name__)

Record = dict[str, Any]
"""Content of a JSON file."""


class FileRecord(BaseModel):
    """Content of a file of a results folder; subclasses declare the keys that the package reads.

    Missing numbers are allowed: not every row has them all.

    >>> FileRecord.model_validate({"seconds": 3}).seconds
    3
    """

    model_config = ConfigDict(extra="allow", strict=True)


class CollectedFile(FileRecord):
    """``collected.json``, see :attr:`RowFolder.collected`.

    >>> CollectedFile(outputs={"base": "outputs-0.npz"}).outputs
    {'base': 'outputs-0.npz'}
    """

    outputs: dict[str, str]
    real_time_factor: float | None = None


class TrainedFile(FileRecord):
    """``trained.json``, see :attr:`RowFolder.trained`.

    >>> TrainedFile(minutes=5.0).loss is None
    True
    """

    mixture_seconds: float | None = None
    minutes: float | None = None
    lr: float | None = None
    loss: float | None = None
    parameters: int | None = None


class TriedRate(FileRecord):
    """One learning rate in ``choice.json``.

    >>> TriedRate(lr=0.001, mean=12.5).mean
    12.5
    """

    lr: float
    mean: float


class ChoiceFile(FileRecord):
    """``choice.json``, see :attr:`RowFolder.choice`.

    >>> ChoiceFile(lr=0.001, tried=[TriedRate(lr=0.001, mean=12.5)]).tried[0].lr
    0.001
    """

    lr: float
    tried: list[TriedRate] = []


class CostFile(FileRecord):
    """``cost.json``, see :attr:`RowFolder.cost`.

    >>> CostFile(parameters=4953961).parameters
    4953961
    """

    parameters: int | None = None
    multiply_adds_per_second: float | None = None
    real_time_factor: float | None = None
    peak_memory_mb: float | None = None


class JobFile(FileRecord):
    """``job.json``, see :attr:`RowFolder.job`.

    >>> JobFile(architecture={"width": 128}).architecture
    {'width': 128}
    """

    architecture: dict[str, Any] = {}


class SplitFacts(FileRecord):
    """Size of a split in ``data.json``.

    >>> SplitFacts(speakers=2, utterances=8, hours=0.1).speakers
    2
    """

    speakers: int
    utterances: int
    hours: float


class DataFile(FileRecord):
    """``data.json``, see :attr:`ResultsFolder.data`.

    >>> size = SplitFacts(speakers=2, utterances=8, hours=0.1)
    >>> DataFile(sha256="0", command=["benchmark"], train=size).train.hours
    0.1
    """

    sha256: str
    command: list[str]
    train: SplitFacts


def read_record(path: Path, kind: type[FileRecord]) -> Record:
    """Read a JSON file of a results folder and check the keys that the package reads.

    Raises:
        SeparativeError: the file is missing or damaged, or a key has an invalid value.

    >>> write_json("choice.json", {"lr": "high"})
    >>> read_record(Path("choice.json"), ChoiceFile)
    Traceback (most recent call last):
    separative.errors.SeparativeError: choice.json is damaged: 'lr': Input should be a valid number; ...
    """
    record: Record = read_json(path)
    try:
        kind.model_validate(record)
    except ValidationError as error:
        raise SeparativeError(
            f"{path} is damaged: {validation_message(error, kind)}; delete it and run the benchmark again"
        ) from error
    return record


@dataclass(frozen=True)
class RowFolder:
    """The folder of one training of a row, and of the outputs that were collected with the trained model.

    A row has a folder for its full training and one for each learning rate of the grid. ``trained.json`` and
    ``collected.json`` are written when that step is finished; a finished step is not repeated.

    >>> RowFolder(Path("rows/csc")).trained.as_posix()
    'rows/csc/trained.json'
    """

    folder: Path

    @property
    def model(self) -> Path:
        """Folder of the run or of the trained model."""
        return self.folder / "model"

    @property
    def recipe(self) -> Path:
        """The recipe that the package trains by."""
        return self.folder / "recipe.json"

    @property
    def job(self) -> Path:
        """What the worker process is to collect."""
        return self.folder / "job.json"

    @property
    def trained(self) -> Path:
        """Facts about the training; written when it is finished."""
        return self.folder / "trained.json"

    @property
    def collected(self) -> Path:
        """Facts about the outputs and their files; written when all are collected."""
        return self.folder / "collected.json"

    @property
    def choice(self) -> Path:
        """The learning rate chosen on the grid."""
        return self.folder / "choice.json"

    @property
    def cost(self) -> Path:
        """Measured cost of the model."""
        return self.folder / "cost.json"

    @property
    def log(self) -> Path:
        """Output of all commands."""
        return self.folder / "log.txt"

    def save_outputs(self, outputs: dict[str, CollectedOutputs], record: Record) -> None:
        """Save the outputs of a system by row name, and ``record`` with facts about them."""
        files = {name: f"outputs-{number}.npz" for number, name in enumerate(outputs)}
        for name, collected in outputs.items():
            collected.save(self.folder / files[name])
        write_json(self.collected, record | {"outputs": files})

    def output_files(self) -> dict[str, Path]:
        """Files of the collected outputs by row name."""
        outputs = read_record(self.collected, CollectedFile)["outputs"]
        return {name: self.folder / file for name, file in outputs.items()}

    def load_outputs(self) -> dict[str, CollectedOutputs]:
        """Load what :meth:`save_outputs` saved."""
        return {name: CollectedOutputs.load(path) for name, path in self.output_files().items()}


@dataclass(frozen=True)
class ResultsFolder:
    """Paths in the results folder of a benchmark.

    >>> ResultsFolder(Path("results")).table.as_posix()
    'results/table'
    """

    root: Path

    @property
    def plan(self) -> Path:
        """The plan as it was used."""
        return self.root / "plan.yaml"

    @property
    def data(self) -> Path:
        """Facts about the corpora, and the command that started the benchmark."""
        return self.root / "data.json"

    @property
    def trials(self) -> Path:
        """Trials of the table."""
        return self.root / "trials.txt"

    @property
    def grid_trials(self) -> Path:
        """Trials by which learning rates are chosen."""
        return self.root / "grid-trials.txt"

    @property
    def table(self) -> Path:
        """The page, its figures and the results. They contain no path of this machine."""
        return self.root / "table"

    @property
    def failed(self) -> Path:
        """Reasons for missing rows; absent if no row is missing."""
        return self.root / "failed.json"

    def full(self, row: RowPlan) -> RowFolder:
        """Folder of the full training of a row."""
        return RowFolder(self.root / "rows" / row.slug)

    def on_grid(self, row: RowPlan, lr: float) -> RowFolder:
        """Folder of the training of a row with one learning rate of the grid."""
        return RowFolder(self.root / "rows" / row.slug / "grid" / f"{lr:g}")

    def settings(self, row: RowPlan) -> Path:
        """Everything the page shows about a row except its results."""
        return self.root / "rows" / row.slug / "settings.json"

    def write_failures(self, reasons: dict[str, str]) -> None:
        """Write the reasons for missing rows by row name."""
        if reasons:
            write_json(self.failed, reasons)
        else:
            self.failed.unlink(missing_ok=True)

    @contextmanager
    def lock(self) -> Iterator[int]:
        """Lock the folder and yield the descriptor of the lock file.

        Child processes that inherit the descriptor keep the lock if this process is killed.

        Raises:
            SeparativeError: another benchmark, or a process started by one, has the lock.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        with (self.root / ".lock").open("a", encoding="utf-8") as file:
            try:
                lock_file(file, inherited=True)
            except BlockingIOError as error:
                raise SeparativeError(
                    f"{self.root} is in use by another benchmark or by a training that one started; "
                    "wait until it ends, or stop it"
                ) from error
            except OSError:
                log.warning("%s: no locks here; start only one benchmark in this folder", self.root)
            yield file.fileno()
