"""Routes that start jobs (/api/diarize and others), and routes for their state and output (/api/jobs)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Query, Response
from fastapi import Path as PathParameter
from fastapi.responses import FileResponse, StreamingResponse

from separative.serve import requests, responses, work
from separative.serve.guard import RefusedError
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

SpeakerNumber = Annotated[int, PathParameter(ge=1, le=1000, description="Number of a speaker, from 1.")]
Save = Annotated[bool, Query(description="Make browsers save the file instead of showing it.")]


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
    return _job_out(service, service.jobs.submit(kind, uploaded, work))


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
    """Routes for the state and the output of jobs.

    >>> from separative import load_model
    >>> from separative.serve import create_app
    >>> service = create_app(load_model(), "gallery").state.service
    >>> [route.path for route in job_routes(service).routes][:3]
    ['/api/jobs/{id}', '/api/jobs/{id}', '/api/jobs/{id}/events']
    >>> service.close()
    """
    router = APIRouter(prefix="/api/jobs", tags=["jobs"], responses=JOB_ERRORS)

    @router.get("/{id}")
    async def job(id: str) -> responses.JobOut:
        """Get the state of a job, and its result once it is done."""
        return _job_out(service, service.jobs.get(id))

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

    @router.post(
        "/{id}/speakers/{number}/enrol",
        status_code=201,
        responses={
            409: {
                "model": responses.ErrorOut,
                "description": "The speaker is already enrolled with this recording, or the job is not done.",
            },
            507: {"model": responses.ErrorOut, "description": "The gallery cannot be written."},
        },
    )
    def enrol(id: str, number: SpeakerNumber, request: requests.EnrolIn) -> responses.QualityOut:
        """Enrol a speaker of a diarized recording.

        The recording is refused, with reasons, if it has too little speech, too much speech of others, or
        clipping.
        """
        job = service.jobs.get(id)
        if job.diarization is None:
            raise RefusedError(
                409, "the job has no speakers to enrol; start a diarize job and wait until it is done"
            )
        count = len(job.diarization.speakers)
        if count == 0:
            raise RefusedError(404, "no speech was found in the recording, so it has no speaker to enrol")
        if number > count:
            raise RefusedError(404, f"no speaker {number}; the recording has {count} speakers")
        quality = service.gallery.add_from_diarization(
            request.name, job.diarization, number - 1, metadata=request.metadata, force=request.force
        )
        return responses.QualityOut(**asdict(quality))

    @router.get("/{id}/mixture.wav", response_class=FileResponse, responses=_content("audio/wav"))
    def mixture(id: str, save: Save = False) -> FileResponse:
        """Get the processed mixture: one channel, synchronous with the speakers' waveforms."""
        return _file(service.jobs.get(id), work.MIXTURE_FILE, "audio/wav", save)

    @router.get("/{id}/speakers/{number}.wav", response_class=FileResponse, responses=_content("audio/wav"))
    def speaker(id: str, number: SpeakerNumber, save: Save = False) -> FileResponse:
        """Get the waveform of one speaker."""
        return _file(service.jobs.get(id), f"{work.SEPARATED}-speaker{number}.wav", "audio/wav", save)

    @router.get("/{id}/meeting.rttm", response_class=FileResponse, responses=_content("text/plain"))
    def rttm(id: str, save: Save = False) -> FileResponse:
        """Get the turns as RTTM."""
        return _file(service.jobs.get(id), work.RTTM_FILE, "text/plain", save)

    @router.get("/{id}/meeting.json", response_class=FileResponse, responses=_content("application/json"))
    def record(id: str, save: Save = False) -> FileResponse:
        """Get turns, embeddings and identities as JSON, as ``separative diarize`` writes them."""
        return _file(service.jobs.get(id), work.RECORD_FILE, "application/json", save)

    return router


def _job_out(service: Service, job: Job) -> responses.JobOut:
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
            "result": job.result if job.state == "done" else None,
        }
    )


async def _events(service: Service, job: Job) -> AsyncIterator[bytes]:
    sent, sent_at = None, time.monotonic()
    while True:
        job.used = now = time.monotonic()
        # Read this before the state: the job may finish in between, and its last state must still be sent.
        finished = job.finished or job.cancelled
        # The result may be large. Clients fetch it once, from the job.
        state = _job_out(service, job).model_dump_json(exclude={"result"})
        if state != sent:
            sent, sent_at = state, now
            yield f"data: {state}\n\n".encode()
        elif now - sent_at > KEEP_ALIVE_SECONDS:
            sent_at = now
            yield b": keep-alive\n\n"
        if finished:
            return
        await asyncio.sleep(POLL_SECONDS)


def _content(media_type: str) -> dict[int | str, dict[str, Any]]:
    """OpenAPI description of a response that is a file."""
    media_schemas: dict[str, dict[str, str]] = {
        "audio/wav": {"type": "string", "format": "binary"},
        "text/plain": {"type": "string"},
        "application/json": {"type": "object"},
    }
    return {200: {"content": {media_type: {"schema": media_schemas[media_type]}}}}


def _file(job: Job, name: str, media_type: str, save: bool) -> FileResponse:
    """Response with a file of a job, named after the recording. It supports range requests."""
    path = job.folder / name
    if job.state != "done" or not path.is_file():
        raise RefusedError(404, "the job has no such file; only finished jobs have files")
    stem = Path(job.labels[0]).stem or "recording"
    shown = f"{stem}-{name.removeprefix(f'{work.SEPARATED}-')}"
    plain = "".join(c if c.isascii() and (c.isalnum() or c in "-_. ") else "_" for c in shown)
    kind = "attachment" if save else "inline"
    disposition = f"{kind}; filename=\"{plain}\"; filename*=UTF-8''{quote(shown, safe='')}"
    return FileResponse(path, media_type=media_type, headers={"Content-Disposition": disposition})
