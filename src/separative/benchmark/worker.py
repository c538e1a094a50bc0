"""A worker process that collects the outputs of one system for a trial list.

It is started by ``python -m separative.benchmark.worker FOLDER``, with the folder of a row.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

from separative.benchmark.adapter import CommandSystem
from separative.benchmark.folder import RowFolder
from separative.corpora import load_corpus
from separative.errors import SeparativeError
from separative.evaluation import (
    EncoderSystem,
    MfccSystem,
    System,
    TrialList,
    TrialRecordings,
    collect_outputs,
    untrained_copy,
)
from separative.files import read_json
from separative.plugins import load_plugins
from separative.types import Progress

PROGRESS_SECONDS = 30.0
# Recordings given at a time to a system that runs in this process.
BATCH = 16


def run_job(row_folder: RowFolder) -> None:
    """Collect the outputs described in ``job.json`` of a row's folder, and save them there.

    >>> from separative.evaluation import build_trials
    >>> from separative.files import write_json
    >>> corpus = load_corpus("speech").split("dev")
    >>> build_trials(corpus, seconds=2.0, conditions=["clean"], tests=1).write("trials.txt")
    >>> job = {"row": "MFCC", "builtin": "mfcc", "architecture": {}, "trials": "trials.txt"}
    >>> job |= {"corpus": "speech", "split": "dev", "cohort": False, "noise": None, "cache": "cache"}
    >>> write_json("row/job.json", job)
    >>> run_job(RowFolder(Path("row")))
    >>> list(RowFolder(Path("row")).load_outputs())
    ['MFCC']
    """
    job = read_json(row_folder.job)
    trials = TrialList.read(job["trials"])
    speech = load_corpus(job["corpus"], keep_damaged=True)
    corpus = speech.split(job["split"])
    cohort = speech.split("train") if job["cohort"] else None
    noise = None if job["noise"] is None else load_corpus(job["noise"]).split(job["split"])
    system, rate = _make_system(job, trials)
    recordings = TrialRecordings(corpus, noise, rate, trials.seconds, job["cache"])
    batch = CommandSystem.batch if isinstance(system, CommandSystem) else BATCH
    started = time.monotonic()
    outputs = collect_outputs(
        system, trials, recordings, batch=batch, cohort=cohort, progress=_print_progress()
    )
    record: dict[str, Any] = {"seconds": round(time.monotonic() - started, 2)}
    if isinstance(system, CommandSystem):
        record["real_time_factor"] = system.real_time_factor
    row_folder.save_outputs(outputs, record)


def _make_system(job: dict[str, Any], trials: TrialList) -> tuple[System, int]:
    """The system of a job, and the sampling rate of its recordings in hertz."""
    from separative.model import EncoderConfig, SeparativeEncoder, load_model

    name = job["row"]
    if "command" in job:
        return CommandSystem(name, job["command"], rate=job["rate"]), job["rate"]
    if "model" in job:
        model = load_model(job["model"])
        trials.check_speakers(model.training_speakers)
        return EncoderSystem(name, model, queries=job["queries"]), model.rate
    config = EncoderConfig.model_validate(job["architecture"])
    if job["builtin"] == "mfcc":
        return MfccSystem(config.rate, name), config.rate
    untrained = untrained_copy(SeparativeEncoder(config), job["seed"])
    return EncoderSystem(name, untrained, queries=False), config.rate


def _print_progress() -> Progress:
    """A progress callback that prints at most every ``PROGRESS_SECONDS``."""
    printed = time.monotonic()

    def progress(done: int, total: int) -> None:
        nonlocal printed
        if time.monotonic() - printed > PROGRESS_SECONDS:
            printed = time.monotonic()
            print(f"collecting outputs: {done}/{total}", flush=True)

    return progress


def _main(folder: str) -> int:
    """Run the job of a row's folder; return 2 after printing the error of a user as one sentence, else 0."""
    from separative.training import machine

    machine.prepare(int(os.environ.get("OMP_NUM_THREADS", "1")))
    try:
        load_plugins()
        run_job(RowFolder(Path(folder)))
    except SeparativeError as error:
        print(f"separative: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1]))
