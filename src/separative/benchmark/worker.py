"""A process of its own that lets one system hear a trial list; its argument is the folder of a stage."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from separative.benchmark.adapter import CommandSystem
from separative.benchmark.folder import RowFolder, read_json
from separative.corpora import load_corpus
from separative.errors import SeparativeError
from separative.evaluation import (
    EncoderSystem,
    MfccSystem,
    Sounds,
    System,
    TrialList,
    listen,
    untrained,
)

TOLD_SECONDS = 30.0
SIDES_AT_A_TIME = 16


def hear(stage: RowFolder) -> None:
    """Do the job that ``hear.json`` names; its answers are kept in the stage's folder."""
    job = read_json(stage.job)
    trials = TrialList.read(job["trials"])
    speech = load_corpus(job["corpus"], keep_damaged=True)
    corpus = speech.split(job["split"])
    cohort = speech.split("train") if job["cohort"] else None
    noise = None if job["noise"] is None else load_corpus(job["noise"]).split(job["split"])
    system, rate = _system(job, trials)
    sounds = Sounds(corpus, noise, rate, trials.seconds, job["cache"])
    command = isinstance(system, CommandSystem)
    batch = CommandSystem.batch if command else SIDES_AT_A_TIME
    started = time.monotonic()
    answers = listen(system, trials, sounds, batch=batch, cohort=cohort, progress=_teller())
    record: dict[str, Any] = {"seconds": round(time.monotonic() - started, 2)}
    if isinstance(system, CommandSystem):
        record["real_time_factor"] = system.real_time_factor
    stage.save_answers(answers, record)


def _system(job: dict[str, Any], trials: TrialList) -> tuple[System, int]:
    from separative.model import EncoderConfig, SeparativeEncoder, load_model

    name = job["row"]
    if "command" in job:
        return CommandSystem(name, job["command"], rate=job["rate"]), job["rate"]
    if "model" in job:
        model = load_model(job["model"])
        trials.refuse(model.training_speakers)
        return EncoderSystem(name, model, queries=job["queries"]), model.rate
    config = EncoderConfig.model_validate(job["architecture"])
    if job["builtin"] == "mfcc":
        return MfccSystem(config.rate, name), config.rate
    twin = untrained(SeparativeEncoder(config), job["seed"])
    return EncoderSystem(name, twin, queries=False), config.rate


def _teller() -> Callable[[int, int], None]:
    told = [time.monotonic()]

    def tell(done: int, total: int) -> None:
        if time.monotonic() - told[0] > TOLD_SECONDS:
            told[0] = time.monotonic()
            print(f"listening: {done}/{total}", flush=True)

    return tell


def main(folder: str) -> int:
    """Errors of the user are told in one sentence; the exit code is 2 then."""
    from separative.training import machine

    machine.prepare(int(os.environ.get("OMP_NUM_THREADS", "1")))
    try:
        hear(RowFolder(Path(folder)))
    except SeparativeError as error:
        print(f"separative: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
