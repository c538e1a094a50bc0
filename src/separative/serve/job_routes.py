"""Routes that start jobs (/api/diarize and others), and routes for their state (/api/jobs)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

from fastapi import APIRouter, Response
from fastapi.responses import StreamingResponse

from separative.serve import requests, responses, work
from separative.serve.jobs import Job, Service, Work

START_ERRORS: dict[int | str, dict[str, Any]] = {
    404: {"model": responses.ErrorOut, "description": "There is no such recording."},
    429: {
        "model": responses.ErrorOut,
        "description": "The queue is full. Retry-After gives the seconds to wait.",
    },
    503: {"model": responses.ErrorOut, "description": "The server is stopping."},
    507: {"model": responses.ErrorOut, "description": "The server's disk is full."},
}
JOB_ERRORS: dict[int | str, dict[str, Any]] = {
    404: {"model": responses.ErrorOut, "description": "There is no such job."}
}
# Seconds between two looks at a job, and between two comments that keep the event stream alive.
POLL_SECONDS, KEEP_ALIVE_SECONDS = 0.2, 15.0


def start_job(service: Service, kind: str, recordings: Sequence[str], work: Work) -> responses.JobOut:
    """Queue a job on uploaded recordings, given by id.

    Raises:
        RefusedError: a recording does not exist, or the queue or the storage is full.

    >>> from separative import load_model
    >>> from separative.serve import create_app
    >>> service = create_app(load_model(), "gallery").state.service
    >>> start_job(service, "embed", [], lambda job: responses.AddOut(name="", recordings=[])).kind
    'embed'
    >>> service.close()
    """
    uploaded = [service.uploads.get(id_) for id_ in recordings]
    service.uploads.check_space()
    return job_out(service, service.jobs.submit(kind, uploaded, work))


def start_routes(service: Service) -> APIRouter:
    """Routes that start jobs on recordings.

    >>> from separative import load_model
    >>> from separative.serve import create_app
    >>> service = create_app(load_model(), "gallery").state.service
    >>> [route.path for route in start_routes(service).routes]
    ['/api/diarize', '/api/separate', '/api/embed', '/api/verify']
    >>> service.close()
    """
    router = APIRouter(prefix="/api", tags=["jobs"], responses=START_ERRORS)
    model = service.gallery.model

    @router.post("/diarize", status_code=202)
    def diarize(request: requests.DiarizeIn) -> responses.JobOut:
        """Diarize a recording of any length, identify its speakers, and separate each speaker's waveform."""
        return start_job(
            service, "diarize", [request.recording], lambda job: work.diarize(job, service, request)
        )

    @router.post("/separate", status_code=202)
    def separate(request: requests.RecordingIn) -> responses.JobOut:
        """Separate the waveforms of all speakers of a recording of up to one minute."""
        return start_job(
            service, "separate", [request.recording], lambda job: work.separate(job, model, request)
        )

    @router.post("/embed", status_code=202)
    def embed(request: requests.RecordingIn) -> responses.JobOut:
        """Embed all speakers of a recording of up to one minute."""
        return start_job(service, "embed", [request.recording], lambda job: work.embed(job, model, request))

    @router.post("/verify", status_code=202)
    def verify(request: requests.VerifyIn) -> responses.JobOut:
        """Verify whether two sides hold the same speaker.

        A side is one or more recordings of one speaker, each of up to one minute.
        """
        ids = [*request.left, *request.right]
        return start_job(service, "verify", ids, lambda job: work.verify(job, model, request))

    return router


def job_routes(service: Service) -> APIRouter:
    """Routes for the state of jobs.

    >>> from separative import load_model
    >>> from separative.serve import create_app
    >>> service = create_app(load_model(), "gallery").state.service
    >>> [route.path for route in job_routes(service).routes][:3]
    ['/api/jobs/{id}', '/api/jobs/{id}', '/api/jobs/{id}/events']
    >>> service.close()
    """
    router = APIRouter(prefix="/api/jobs", tags=["jobs"], responses=JOB_ERRORS)

    @router.get("/{id}")
    def job(id: str) -> responses.JobOut:
        """Get the state of a job, and its result once it is done."""
        return job_out(service, service.jobs.get(id))

    @router.delete("/{id}", status_code=204)
    def cancel(id: str) -> Response:
        """Cancel a job if it is not finished, and remove its output."""
        service.jobs.remove(id)
        return Response(status_code=204)

    @router.get(
        "/{id}/events",
        response_class=StreamingResponse,
        responses={200: {"content": {"text/event-stream": {}}}},
    )
    async def events(id: str) -> StreamingResponse:
        """Follow a job by server-sent events: one for each change of its state, until it is finished."""
        return StreamingResponse(_events(service, service.jobs.get(id)), media_type="text/event-stream")

    return router


def job_out(service: Service, job: Job, *, result: bool = True) -> responses.JobOut:
    """State of a job, with its result if it is done.

    >>> from separative import load_model
    >>> from separative.serve import create_app
    >>> service = create_app(load_model(), "gallery").state.service
    >>> job_out(service, Job("embed", service.scratch.jobs / "3f2a", [], 60)).state
    'waiting'
    >>> service.close()
    """
    content = None
    if result and job.state == "done":
        content = job.result if job.diarized is None else job.diarized.out()
    return responses.JobOut.model_validate(
        {
            "id": job.id,
            "kind": job.kind,
            "state": job.state,
            "stage": job.stage,
            "progress": round(job.progress, 3),
            "jobs_ahead": service.jobs.jobs_ahead(job),
            "detail": None if job.detail is None else service.hide_paths(job.detail),
            "status": job.status,
            "result": content,
        }
    )


async def _events(service: Service, job: Job) -> AsyncIterator[bytes]:
    sent, sent_at = None, time.monotonic()
    while True:
        job.used = now = time.monotonic()
        # Read this before the state: the job may finish in between, and its last state must still be sent.
        finished = job.finished or job.cancelled
        # The result may be large. Clients fetch it once, from the job.
        state = job_out(service, job, result=False).model_dump_json(exclude={"result"})
        if state != sent:
            sent, sent_at = state, now
            yield f"data: {state}\n\n".encode()
        elif now - sent_at > KEEP_ALIVE_SECONDS:
            sent_at = now
            yield b": keep-alive\n\n"
        if finished:
            return
        await asyncio.sleep(POLL_SECONDS)
