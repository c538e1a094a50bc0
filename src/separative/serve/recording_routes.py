"""/api/recordings: uploads."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from separative.serve import schemas
from separative.serve.recordings import Held
from separative.serve.service import Service

BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "The sound file as it is: WAV, FLAC, OGG (Vorbis, Opus) or MP3.",
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}


def recording_routes(service: Service) -> APIRouter:
    router = APIRouter(prefix="/api/recordings", tags=["recordings"])

    @router.post(
        "",
        status_code=201,
        openapi_extra=BODY,
        responses={
            408: {"model": schemas.Problem, "description": "It took too long to come."},
            413: {"model": schemas.Problem, "description": "Too many bytes, minutes, channels or samples."},
            415: {"model": schemas.Problem, "description": "No sound file that can be read."},
            429: {"model": schemas.Problem, "description": "Too many at once; Retry-After says when."},
            507: {"model": schemas.Problem, "description": "No room on the server's disk."},
        },
    )
    async def upload(
        request: Request,
        name: Annotated[
            str,
            Query(max_length=1000, description="What to call it: a label, of which folders are left out."),
        ] = "recording",
    ) -> schemas.RecordingOut:
        """Put a recording on the server, for jobs to work on. Nothing of it is decoded yet."""
        length = request.headers.get("content-length", "")
        size = int(length[:18]) if length.isascii() and length.isdigit() else None
        return described(await service.recordings.take(name, request.stream(), size))

    @router.get("/{id}", responses={404: {"model": schemas.Problem}})
    async def recording(id: str) -> schemas.RecordingOut:
        """What a recording is called and how long it is."""
        return described(service.recordings.get(id))

    @router.delete("/{id}", status_code=204, responses={404: {"model": schemas.Problem}})
    async def forget(id: str) -> Response:
        """Remove a recording; jobs that were asked for already still have it."""
        service.recordings.remove(id)
        return Response(status_code=204)

    return router


def described(held: Held) -> schemas.RecordingOut:
    header = held.header
    return schemas.RecordingOut(
        id=held.id,
        name=held.name,
        seconds=header.seconds,
        rate=header.rate,
        channels=header.channels,
        format=header.format,
    )
