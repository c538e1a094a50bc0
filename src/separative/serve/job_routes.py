"""/api/diarize and the other verbs, which start jobs; /api/jobs: how they go, and what they made."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Query, Response
from fastapi import Path as InPath
from fastapi.responses import FileResponse, StreamingResponse
from pydantic import BaseModel

from separative.serve import schemas, work
from separative.serve.guard import RefusedError
from separative.serve.jobs import Job, Service

STARTED: dict[int | str, dict[str, Any]] = {
    404: {"model": schemas.ProblemOut, "description": "No such recording."},
    429: {
        "model": schemas.ProblemOut,
        "description": "Too many jobs are waiting; Retry-After says for how long.",
    },
    503: {"model": schemas.ProblemOut, "description": "The server is stopping."},
    507: {"model": schemas.ProblemOut, "description": "No room on the server's disk."},
}
LOST: dict[int | str, dict[str, Any]] = {404: {"model": schemas.ProblemOut, "description": "No such job."}}
LOOK_SECONDS, BEAT_SECONDS = 0.2, 15.0

Number = Annotated[int, InPath(ge=1, le=1000, description="Of a speaker, from 1.")]
Save = Annotated[bool, Query(description="For a browser: to save, not to show.")]


def start(service: Service, kind: str, ids: Sequence[str], do: Callable[[Job], BaseModel]) -> schemas.JobOut:
    """Put a job into the queue."""
    held = [service.recordings.get(id_) for id_ in ids]
    service.recordings.room()
    return described(service, service.jobs.put(kind, held, do))


def verb_routes(service: Service) -> APIRouter:
    router = APIRouter(prefix="/api", tags=["jobs"], responses=STARTED)
    model = service.gallery.model

    @router.post("/diarize", status_code=202)
    def diarize(asked: schemas.Diarize) -> schemas.JobOut:
        """Who spoke when, whom of the gallery they are, and each voice alone; recordings of any length."""
        return start(service, "diarize", [asked.recording], lambda job: work.diarize(job, service, asked))

    @router.post("/separate", status_code=202)
    def separate(asked: schemas.One) -> schemas.JobOut:
        """The waveform of every speaker of a recording up to a minute."""
        return start(service, "separate", [asked.recording], lambda job: work.separate(job, model, asked))

    @router.post("/embed", status_code=202)
    def embed(asked: schemas.One) -> schemas.JobOut:
        """Embeddings of all speakers of a recording up to a minute."""
        return start(service, "embed", [asked.recording], lambda job: work.embed(job, model, asked))

    @router.post("/verify", status_code=202)
    def verify(asked: schemas.Verify) -> schemas.JobOut:
        """Is a speaker heard on both sides? One recording or several of each, up to a minute long."""
        ids = [*asked.left, *asked.right]
        return start(service, "verify", ids, lambda job: work.verify(job, model, asked))

    return router


def job_routes(service: Service) -> APIRouter:
    router = APIRouter(prefix="/api/jobs", tags=["jobs"], responses=LOST)

    @router.get("/{id}")
    async def job(id: str) -> schemas.JobOut:
        """How a job goes, and its result once it is done."""
        return described(service, service.jobs.get(id))

    @router.delete("/{id}", status_code=204)
    def cancel(id: str) -> Response:
        """Stop a job, if it is not over, and remove all that it made."""
        service.jobs.remove(id)
        return Response(status_code=204)

    @router.get(
        "/{id}/events",
        response_class=StreamingResponse,
        responses={200: {"content": {"text/event-stream": {}}}},
    )
    async def events(id: str) -> StreamingResponse:
        """The same as server-sent events: one whenever something changed, the last when it is over."""
        return StreamingResponse(_events(service, service.jobs.get(id)), media_type="text/event-stream")

    @router.post(
        "/{id}/speakers/{number}/enrol",
        status_code=201,
        responses={
            409: {
                "model": schemas.ProblemOut,
                "description": "Enrolled with it already, or the job is not done.",
            },
            507: {"model": schemas.ProblemOut, "description": "The gallery cannot be written."},
        },
    )
    def enrol(id: str, number: Number, asked: schemas.Enrol) -> schemas.GateOut:
        """Enrol a speaker of a recording that was diarized. Refused, with reasons, where there is too little
        speech, too much of others, or clipping."""
        job = service.jobs.get(id)
        if job.meeting is None:
            raise RefusedError(409, "no speakers to enrol: the job is not an analysis that is done")
        _one_of(number, len(job.meeting.speakers))
        gate = service.gallery.add_speaker(
            asked.name, job.meeting, number - 1, metadata=asked.metadata, force=asked.force
        )
        return schemas.GateOut(**asdict(gate))

    @router.get("/{id}/mixture.wav", response_class=FileResponse, responses=_kind("audio/wav"))
    def mixture(id: str, save: Save = False) -> FileResponse:
        """What was listened to: one channel, in step with the voices."""
        return _file(service.jobs.get(id), work.MIXTURE, "audio/wav", save)

    @router.get("/{id}/voices/{number}.wav", response_class=FileResponse, responses=_kind("audio/wav"))
    def voice(id: str, number: Number, save: Save = False) -> FileResponse:
        """One speaker's voice."""
        return _file(service.jobs.get(id), f"voice-speaker{number}.wav", "audio/wav", save)

    @router.get("/{id}/meeting.rttm", response_class=FileResponse, responses=_kind("text/plain"))
    def rttm(id: str, save: Save = False) -> FileResponse:
        """Who spoke when, as RTTM."""
        return _file(service.jobs.get(id), work.RTTM, "text/plain", save)

    @router.get("/{id}/meeting.json", response_class=FileResponse, responses=_kind("application/json"))
    def record(id: str, save: Save = False) -> FileResponse:
        """Who spoke when, with embeddings, as ``separative diarize`` writes it."""
        return _file(service.jobs.get(id), work.RECORD, "application/json", save)

    return router


def described(service: Service, job: Job) -> schemas.JobOut:
    return schemas.JobOut.model_validate(
        {
            "id": job.id,
            "kind": job.kind,
            "state": job.state,
            "stage": job.stage,
            "progress": round(job.progress, 3),
            "ahead": service.jobs.ahead(job),
            "detail": None if job.detail is None else service.plain(job.detail),
            "status": job.status,
            "result": job.result if job.state == "done" else None,
        }
    )


async def _events(service: Service, job: Job) -> AsyncIterator[bytes]:
    told, at = None, time.monotonic()
    while True:
        job.used = now = time.monotonic()
        # Asked before: it may be over by the time that its last news is sent.
        over = job.over or job.cancelled
        # The result may be long: it is fetched once, from the job itself.
        news = described(service, job).model_dump_json(exclude={"result"})
        if news != told:
            told, at = news, now
            yield f"data: {news}\n\n".encode()
        elif now - at > BEAT_SECONDS:
            at = now
            yield b": still here\n\n"
        if over:
            return
        await asyncio.sleep(LOOK_SECONDS)


def _one_of(number: int, count: int) -> None:
    if number > count:
        raise RefusedError(404, f"no speaker {number}: the recording has {count}")


def _kind(media: str) -> dict[int | str, dict[str, Any]]:
    schemas_of: dict[str, dict[str, str]] = {
        "audio/wav": {"type": "string", "format": "binary"},
        "text/plain": {"type": "string"},
        "application/json": {"type": "object"},
    }
    return {200: {"content": {media: {"schema": schemas_of[media]}}}}


def _file(job: Job, name: str, media: str, save: bool) -> FileResponse:
    """A file that a job wrote, under a name that says of which recording; parts of it on request (Range)."""
    path = job.folder / name
    if job.state != "done" or not path.is_file():
        raise RefusedError(404, "the job made no such file")
    stem = Path(job.labels[0]).stem or "recording"
    shown = f"{stem}-{name.removeprefix('voice-')}"
    plain = "".join(c if c.isascii() and (c.isalnum() or c in "-_. ") else "_" for c in shown)
    kind = "attachment" if save else "inline"
    disposition = f"{kind}; filename=\"{plain}\"; filename*=UTF-8''{quote(shown, safe='')}"
    return FileResponse(path, media_type=media, headers={"Content-Disposition": disposition})
