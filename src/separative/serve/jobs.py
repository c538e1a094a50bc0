"""One job after another: a bounded queue, a worker thread, progress, cancelling, results that expire."""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Condition, Thread
from typing import Literal

from pydantic import BaseModel

from separative.errors import SeparativeError
from separative.gallery import Gallery
from separative.inference import Diarization
from separative.serve.guard import RefusedError, sentence_of, status_of
from separative.serve.limits import Limits
from separative.serve.uploads import Held, Recordings, Scratch

log = logging.getLogger(__name__)

State = Literal["waiting", "running", "done", "failed", "cancelled"]
OVER = ("done", "failed", "cancelled")
# What a job takes, until some are done.
GUESS_SECONDS = 5.0


class _Cancelled(Exception):  # noqa: N818 (not an error)
    """Nobody waits for the job any more."""


class Job:
    """A piece of work on recordings, with a folder for what it writes.

    ``sources`` are links to the recordings, in its own folder: these may go meanwhile · ``meeting`` what
    enrolling a lane needs, kept while the job is.
    """

    def __init__(self, kind: str, folder: Path, held: Sequence[Held], seconds: float) -> None:
        self.id, self.kind, self.seconds = folder.name, kind, seconds
        self.folder, self.labels = folder, [one.name for one in held]
        self.state: State = "waiting"
        self.stage, self.progress = "", 0.0
        self.detail: str | None = None
        self.status: int | None = None
        self.result: BaseModel | None = None
        self.meeting: Diarization | None = None
        self.used = time.monotonic()
        self.cancelled = False
        self.deadline = float("inf")
        folder.mkdir()
        self.sources = [folder / f"source{number:03}" for number in range(len(held))]
        for one, link in zip(held, self.sources, strict=True):
            os.link(one.path, link)

    @property
    def over(self) -> bool:
        return self.state in OVER

    def report(self, stage: str, first: float = 0.0, last: float = 1.0) -> Callable[[int, int], None]:
        """For work that says (done, total); moves the progress from ``first`` to ``last``, and ends the work
        by an exception if it was cancelled or takes too long."""
        self.stage = stage
        self.check()

        def update(done: int, total: int) -> None:
            self.progress = first + (last - first) * min(1.0, done / max(total, 1))
            self.check()

        return update

    def check(self) -> None:
        if self.cancelled:
            raise _Cancelled
        if time.monotonic() > self.deadline:
            raise RefusedError(503, f"the job was ended: it took over {self.seconds / 60:g} minutes")

    def plain(self, sentence: str) -> str:
        """A sentence with the recordings' names in place of the server's paths."""
        for path, label in zip(self.sources, self.labels, strict=True):
            sentence = sentence.replace(str(path), label)
        return sentence.replace(f"{self.folder}/", "")


class Jobs:
    """The queue, and the thread that works on it."""

    def __init__(self, folder: Path, limits: Limits) -> None:
        self.folder, self.limits = folder, limits
        self._jobs: dict[str, Job] = {}
        self._waiting: deque[tuple[Job, Callable[[Job], BaseModel]]] = deque()
        self._changed, self._closed, self._pace = Condition(), False, GUESS_SECONDS
        self._running: Job | None = None
        self._worker = Thread(target=self._work, name="jobs", daemon=True)
        self._worker.start()

    def __len__(self) -> int:
        return len(self._jobs)

    def put(self, kind: str, held: Sequence[Held], work: Callable[[Job], BaseModel]) -> Job:
        """A new job at the end of the queue.

        Raises:
            RefusedError: the queue is full (status 429, with the seconds after which to retry).
        """
        with self._changed:
            if self._closed:
                raise RefusedError(503, "the server is stopping")
            if len(self._waiting) >= self.limits.waiting:
                raise RefusedError(
                    429,
                    f"{len(self._waiting)} jobs are waiting already; try again",
                    retry=max(1, min(600, round(self._pace * 2))),
                )
            folder = self.folder / secrets.token_hex(16)
            try:
                job = Job(kind, folder, held, 60 * self.limits.job_minutes)
            except OSError as error:
                shutil.rmtree(folder, ignore_errors=True)
                if isinstance(error, FileNotFoundError):
                    raise RefusedError(404, "the recording was removed") from error
                raise
            self._jobs[job.id] = job
            self._waiting.append((job, work))
            self._changed.notify()
        self._forget(self._oldest())
        return job

    def get(self, id_: str) -> Job:
        """Raises RefusedError, status 404."""
        job = self._jobs.get(id_)
        if job is None:
            raise RefusedError(404, "no such job: it was removed, or never was here")
        job.used = time.monotonic()
        return job

    def ahead(self, job: Job) -> int:
        """How many are to be done before a job that waits."""
        with self._changed:
            place = next((n for n, (one, _) in enumerate(self._waiting) if one is job), None)
            return 0 if place is None else place + (self._running is not None)

    def remove(self, id_: str) -> None:
        """Cancel a job if it is not over, and remove all it wrote."""
        self._forget([self.get(id_)])

    def expire(self) -> None:
        """Remove what nobody looked at for long."""
        before = time.monotonic() - 60 * self.limits.keep_minutes
        self._forget([job for job in list(self._jobs.values()) if job.used < before and job.over])

    def close(self) -> None:
        """Cancel everything; returns when the worker has stopped."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._forget(list(self._jobs.values()))
        self._worker.join(timeout=30)

    def _oldest(self) -> list[Job]:
        over = sorted((job for job in list(self._jobs.values()) if job.over), key=lambda job: job.used)
        return over[: max(0, len(over) - self.limits.results)]

    def _forget(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            with self._changed:
                job.cancelled = True
                running = job is self._running
                self._jobs.pop(job.id, None)
                self._waiting = deque(entry for entry in self._waiting if entry[0] is not job)
                if not job.over and not running:
                    job.state = "cancelled"
            # The worker removes the folder of the one it works on, once it has let go of it.
            if not running:
                shutil.rmtree(job.folder, ignore_errors=True)

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._waiting and not self._closed:
                    self._changed.wait()
                if self._closed:
                    return
                job, work = self._waiting.popleft()
                self._running = job
                job.state, begun = "running", time.monotonic()
                job.deadline = begun + job.seconds
            try:
                job.result = work(job)
                job.check()
                end: State = "done"
                job.progress = 1.0
            except _Cancelled:
                end = "cancelled"
            except Exception as error:
                end, job.status, job.detail = "failed", status_of(error), job.plain(sentence_of(error))
                if not isinstance(error, SeparativeError):
                    log.exception("a job failed: %s", job.kind)
            if end != "done":
                shutil.rmtree(job.folder, ignore_errors=True)
            elif job.meeting is None:
                for link in job.sources:
                    link.unlink(missing_ok=True)
            with self._changed:
                self._running = None
                job.used = time.monotonic()
                job.state = "cancelled" if job.cancelled else end
                self._pace += 0.2 * (job.used - begun - self._pace)
            if job.state == "cancelled":
                shutil.rmtree(job.folder, ignore_errors=True)
            # Not held until the next job comes.
            del job, work


@dataclass(frozen=True)
class Service:
    """A gallery with its model, and the recordings and jobs of those who are here now."""

    gallery: Gallery
    limits: Limits
    scratch: Scratch
    recordings: Recordings
    jobs: Jobs

    def expire(self) -> None:
        self.recordings.expire()
        self.jobs.expire()

    def plain(self, sentence: str) -> str:
        """A sentence without the places of this machine."""
        folders = {self.gallery.folder: "the gallery", self.scratch.folder: "the server's folder"}
        for folder, words in folders.items():
            sentence = sentence.replace(str(folder), words)
        return sentence

    def close(self) -> None:
        """Stop working and remove all that is temporary."""
        self.jobs.close()
        self.scratch.close()
        self.gallery.close()
