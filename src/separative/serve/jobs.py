"""The job queue: one worker thread, bounded length, progress, cancellation, and results that expire."""

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
from separative.serve.diarized import DiarizedRecording
from separative.serve.guard import RefusedError, error_message, http_status
from separative.serve.limits import Limits
from separative.serve.uploads import ScratchFolder, UploadedRecording, Uploads
from separative.types import Progress

log = logging.getLogger(__name__)

JobState = Literal["waiting", "running", "done", "failed", "cancelled"]
FINISHED = ("done", "failed", "cancelled")
# Assumed duration of a job before any job has finished.
INITIAL_JOB_SECONDS = 5.0


class _Cancelled(Exception):  # noqa: N818 (not an error)
    """Ends the work on a cancelled job."""


class Job:
    """Work on recordings, with a folder for its output.

    Args:
        kind: name of the operation, for example ``diarize``.
        folder: folder that the job creates.
        recordings: input; the job links to the files, so they may be removed meanwhile.
        seconds: maximum running time.

    Attributes:
        sources: links to the recordings.
        labels: names of the recordings.
        diarized: result of a job that diarizes, kept for corrections and for enrolling its speakers.

    >>> from pathlib import Path
    >>> from separative import audio
    >>> recording = UploadedRecording("3f2a", "ann", Path("ann.wav"), audio.info("ann.wav"))
    >>> job = Job("embed", Path("job"), [recording], seconds=60)
    >>> update = job.report("embedding", 0.5, 1.0)
    >>> update(1, 2)
    >>> job.stage, job.progress
    ('embedding', 0.75)
    """

    def __init__(
        self, kind: str, folder: Path, recordings: Sequence[UploadedRecording], seconds: float
    ) -> None:
        self.id, self.kind, self.seconds = folder.name, kind, seconds
        self.folder, self.labels = folder, [recording.name for recording in recordings]
        self.state: JobState = "waiting"
        self.stage, self.progress = "", 0.0
        self.detail: str | None = None
        self.status: int | None = None
        self.result: BaseModel | None = None
        self.diarized: DiarizedRecording | None = None
        self.used = time.monotonic()
        self.cancelled = False
        self.deadline = float("inf")
        folder.mkdir()
        self.sources = [folder / f"source{number:03}" for number in range(len(recordings))]
        for recording, link in zip(recordings, self.sources, strict=True):
            os.link(recording.path, link)

    @property
    def finished(self) -> bool:
        """True if the job is done, failed or cancelled."""
        return self.state in FINISHED

    def report(self, stage: str, first: float = 0.0, last: float = 1.0) -> Progress:
        """Begin a stage; returns a callback that moves the progress from ``first`` to ``last``.

        The callback raises an exception if the job was cancelled or takes too long.
        """
        self.stage = stage
        self.check()

        def update(done: int, total: int) -> None:
            self.progress = first + (last - first) * min(1.0, done / max(total, 1))
            self.check()

        return update

    def check(self) -> None:
        """Raise an exception if the job was cancelled or takes too long."""
        if self.cancelled:
            raise _Cancelled
        if time.monotonic() > self.deadline:
            raise RefusedError(
                503, f"the job took more than {self.seconds / 60:g} minutes; use a shorter recording"
            )

    def hide_paths(self, message: str) -> str:
        """Replace the server's paths in a message by the names of the recordings."""
        for path, label in zip(self.sources, self.labels, strict=True):
            message = message.replace(str(path), label)
        return message.replace(f"{self.folder}/", "")


Work = Callable[[Job], BaseModel]


class JobQueue:
    """Jobs, and the worker thread that runs them one after another.

    >>> from pathlib import Path
    >>> queue = JobQueue(Path("."), Limits())
    >>> job = queue.submit("embed", [], lambda job: BaseModel())
    >>> queue.get(job.id) is job, len(queue)
    (True, 1)
    >>> queue.close()
    """

    def __init__(self, folder: Path, limits: Limits) -> None:
        self.folder, self.limits = folder, limits
        self._jobs: dict[str, Job] = {}
        self._waiting: deque[tuple[Job, Work]] = deque()
        self._changed, self._closed = Condition(), False
        self._average_seconds = INITIAL_JOB_SECONDS
        self._running: Job | None = None
        self._worker = Thread(target=self._run_jobs, name="jobs", daemon=True)
        self._worker.start()

    def __len__(self) -> int:
        return len(self._jobs)

    def submit(self, kind: str, recordings: Sequence[UploadedRecording], work: Work) -> Job:
        """Append a job to the queue.

        Raises:
            RefusedError: the queue is full (status 429, with seconds until a retry), the server is stopping
                (503), or a recording was removed (404).
        """
        with self._changed:
            if self._closed:
                raise RefusedError(503, "the server is stopping; start it again")
            if len(self._waiting) >= self.limits.waiting:
                raise RefusedError(
                    429,
                    f"the queue is full ({len(self._waiting)} jobs); try again later",
                    retry=max(1, min(600, round(self._average_seconds * 2))),
                )
            folder = self.folder / secrets.token_hex(16)
            try:
                job = Job(kind, folder, recordings, 60 * self.limits.job_minutes)
            except OSError as error:
                shutil.rmtree(folder, ignore_errors=True)
                if isinstance(error, FileNotFoundError):
                    raise RefusedError(404, "the recording was removed; upload it again") from error
                raise
            self._jobs[job.id] = job
            self._waiting.append((job, work))
            self._changed.notify()
        self._discard(self._surplus())
        return job

    def get(self, id_: str) -> Job:
        """The job with an id.

        Raises:
            RefusedError: there is no such job (status 404).
        """
        job = self._jobs.get(id_)
        if job is None:
            raise RefusedError(404, "no such job; it may have been removed, start it again")
        job.used = time.monotonic()
        return job

    def jobs_ahead(self, job: Job) -> int:
        """Number of jobs that run before a waiting job."""
        with self._changed:
            position = next((n for n, (waiting, _) in enumerate(self._waiting) if waiting is job), None)
            return 0 if position is None else position + (self._running is not None)

    def remove(self, id_: str) -> None:
        """Cancel a job if it is not finished, and remove its output."""
        self._discard([self.get(id_)])

    def expire(self) -> None:
        """Remove finished jobs that were not used for ``keep_minutes``."""
        oldest = time.monotonic() - 60 * self.limits.keep_minutes
        self._discard([job for job in list(self._jobs.values()) if job.used < oldest and job.finished])

    def close(self) -> None:
        """Cancel all jobs and wait until the worker has stopped."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._discard(list(self._jobs.values()))
        self._worker.join(timeout=30)

    def _surplus(self) -> list[Job]:
        """Finished jobs beyond the number that is kept, the least recently used."""
        finished = sorted(
            (job for job in list(self._jobs.values()) if job.finished), key=lambda job: job.used
        )
        return finished[: max(0, len(finished) - self.limits.results)]

    def _discard(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            with self._changed:
                job.cancelled = True
                running = job is self._running
                self._jobs.pop(job.id, None)
                self._waiting = deque(entry for entry in self._waiting if entry[0] is not job)
                if not job.finished and not running:
                    job.state = "cancelled"
            # The worker still writes to the folder of the running job, and removes it when the job ends.
            if not running:
                shutil.rmtree(job.folder, ignore_errors=True)

    def _run_jobs(self) -> None:
        """Loop of the worker thread."""
        while True:
            with self._changed:
                while not self._waiting and not self._closed:
                    self._changed.wait()
                if self._closed:
                    return
                job, work = self._waiting.popleft()
                self._running = job
                job.state, started = "running", time.monotonic()
                job.deadline = started + job.seconds
            end = self._run(job, work)
            with self._changed:
                self._running = None
                job.used = time.monotonic()
                job.state = "cancelled" if job.cancelled else end
                self._average_seconds += 0.2 * (job.used - started - self._average_seconds)
            if job.state == "cancelled":
                shutil.rmtree(job.folder, ignore_errors=True)
            # Release the job's memory before waiting for the next job.
            del job, work

    @staticmethod
    def _run(job: Job, work: Work) -> JobState:
        """Run one job; returns the state in which it ends, and removes the files that are not needed then."""
        end: JobState = "done"
        try:
            job.result = work(job)
            job.check()
            job.progress = 1.0
        except _Cancelled:
            end = "cancelled"
        except Exception as error:
            end, job.status, job.detail = "failed", http_status(error), job.hide_paths(error_message(error))
            if not isinstance(error, SeparativeError):
                log.exception("job %s failed", job.kind)
        if end != "done":
            shutil.rmtree(job.folder, ignore_errors=True)
        elif job.diarized is None:
            for link in job.sources:
                link.unlink(missing_ok=True)
        return end


@dataclass(frozen=True)
class Service:
    """What the routes work on: a gallery with its model, recordings and jobs.

    >>> from separative import load_model
    >>> from separative.serve import create_app
    >>> service = create_app(load_model(), "gallery").state.service
    >>> service.hide_paths(f"no speaker 'ann' in {service.gallery.folder}")
    "no speaker 'ann' in the gallery"
    >>> service.close()
    """

    gallery: Gallery
    limits: Limits
    scratch: ScratchFolder
    uploads: Uploads
    jobs: JobQueue

    def expire(self) -> None:
        """Remove recordings and jobs that were not used for ``keep_minutes``."""
        self.uploads.expire()
        self.jobs.expire()

    def hide_paths(self, message: str) -> str:
        """Replace the server's folders in a message by words."""
        folders = {self.gallery.folder: "the gallery", self.scratch.folder: "the server's folder"}
        for folder, words in folders.items():
            message = message.replace(str(folder), words)
        return message

    def close(self) -> None:
        """Stop all jobs and remove all temporary files."""
        self.jobs.close()
        self.scratch.close()
        self.gallery.close()
