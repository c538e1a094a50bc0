"""Routes for uploads (/api/recordings), the gallery (/api/gallery), the page, and /api/about."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import FileResponse
from numpy.typing import ArrayLike

from separative.inference.evidence import calibrated_evidence
from separative.serve import requests, responses, work
from separative.serve.forms import FormFile
from separative.serve.guard import RefusedError
from separative.serve.job_routes import START_ERRORS, start_job
from separative.serve.jobs import Service
from separative.serve.uploads import UploadedRecording
from separative.types import Floats

# The page, and the player that it shares with the pages of ``separative diarize``.
FOLDERS = (Path(__file__).parent / "page", Path(__file__).parents[1] / "templates" / "player")
# The MIME types of the operating system may be wrong, above all for .js.
MEDIA_TYPES = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
    ".ogg": "audio/ogg",
}
# Speakers that a request can list.
MAX_LISTED = 1000

UPLOAD_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "The audio file: WAV, FLAC, OGG (Vorbis or Opus) or MP3; or a form with the file.",
        "content": {
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
            "multipart/form-data": {
                "schema": {"type": "object", "properties": {"file": {"type": "string", "format": "binary"}}}
            },
        },
    }
}
UPLOAD_ERRORS: dict[int | str, dict[str, Any]] = {
    408: {"model": responses.ErrorOut, "description": "The upload took too long."},
    413: {
        "model": responses.ErrorOut,
        "description": "The recording is too large, too long, or has too many channels or samples.",
    },
    415: {"model": responses.ErrorOut, "description": "The body is not a readable audio file."},
    429: {
        "model": responses.ErrorOut,
        "description": "Too many uploads, or the storage is full. Retry-After gives the seconds to wait.",
    },
    507: {"model": responses.ErrorOut, "description": "The server's disk is full."},
}
RECORDING_ERRORS: dict[int | str, dict[str, Any]] = {
    404: {"model": responses.ErrorOut, "description": "There is no such recording."}
}
REMOVE_ERRORS: dict[int | str, dict[str, Any]] = {
    404: {"model": responses.ErrorOut, "description": "There is no such speaker."},
    507: {"model": responses.ErrorOut, "description": "The gallery cannot be written."},
}

RENAME_ERRORS: dict[int | str, dict[str, Any]] = {
    **REMOVE_ERRORS,
    409: {"model": responses.ErrorOut, "description": "Another speaker has the new name."},
}


def recording_routes(service: Service) -> APIRouter:
    """Routes to upload, show and remove recordings.

    >>> from separative import load_model
    >>> from separative.serve import create_app
    >>> service = create_app(load_model(), "gallery").state.service
    >>> [route.path for route in recording_routes(service).routes]
    ['/api/recordings', '/api/recordings/{id}', '/api/recordings/{id}']
    >>> service.close()
    """
    router = APIRouter(prefix="/api/recordings", tags=["recordings"])

    @router.post("", status_code=201, openapi_extra=UPLOAD_BODY, responses=UPLOAD_ERRORS)
    async def upload(
        request: Request,
        name: Annotated[
            str,
            Query(
                max_length=1000,
                description="Name of the recording; folders are removed from it. By default the file name in"
                " the form, or 'recording'.",
            ),
        ] = "",
    ) -> responses.RecordingOut:
        """Upload a recording for jobs to work on. Only its header is checked at this point."""
        content_type = request.headers.get("content-type", "")
        if FormFile.suits(content_type):
            form = FormFile(request.stream(), content_type)
            # The form is longer than the file by an unknown number of bytes.
            return _recording_out(
                await service.uploads.receive(lambda: name or form.name, form.content(), None)
            )
        length = request.headers.get("content-length", "")
        size = int(length[:18]) if length.isascii() and length.isdigit() else None
        return _recording_out(await service.uploads.receive(name, request.stream(), size))

    @router.get("/{id}", responses=RECORDING_ERRORS)
    async def recording(id: str) -> responses.RecordingOut:
        """Get the name, duration and format of a recording."""
        return _recording_out(service.uploads.get(id))

    @router.delete("/{id}", status_code=204, responses=RECORDING_ERRORS)
    async def remove(id: str) -> Response:
        """Remove a recording. Jobs that were already started can still use it."""
        service.uploads.remove(id)
        return Response(status_code=204)

    return router


def gallery_routes(service: Service) -> APIRouter:
    """Routes to list, enrol, identify and remove speakers of the gallery.

    >>> from separative import load_model
    >>> from separative.serve import create_app
    >>> service = create_app(load_model(), "gallery").state.service
    >>> sorted({route.path for route in gallery_routes(service).routes})
    ['/api/gallery', '/api/gallery/find', '/api/gallery/{name:path}']
    >>> service.close()
    """
    router = APIRouter(prefix="/api/gallery", tags=["gallery"])
    gallery = service.gallery

    @router.get("")
    def list_speakers(
        count: Annotated[
            int, Query(ge=1, le=MAX_LISTED, description="Maximum number of speakers to list.")
        ] = MAX_LISTED,
    ) -> responses.GalleryOut:
        """List the enrolled speakers, with their positions on a map of the embeddings."""
        speakers = gallery.list()
        names, embedding_NE = gallery.embeddings(count)
        position_N2, explained_variance = project_embeddings(embedding_NE)
        positions = dict(zip(names, position_N2.tolist(), strict=True))
        listed = []
        for speaker in speakers[:count]:
            x, y = positions.get(speaker.name, (None, None))
            listed.append(
                responses.EnrolledSpeakerOut(
                    name=speaker.name,
                    recordings=speaker.recordings,
                    speech_seconds=speaker.speech_seconds,
                    added=speaker.added,
                    metadata=speaker.metadata,
                    x=x,
                    y=y,
                )
            )
        return responses.GalleryOut(
            count=len(speakers), speakers=listed, explained_variance=explained_variance
        )

    @router.post("", status_code=202, responses=START_ERRORS, tags=["jobs"])
    def add(request: requests.AddIn) -> responses.JobOut:
        """Enrol a speaker with recordings of this speaker alone, or add them to an enrolled speaker."""
        return start_job(service, "add", request.recordings, lambda job: work.add(job, gallery, request))

    @router.post("/find", status_code=202, responses=START_ERRORS, tags=["jobs"])
    def find(request: requests.FindIn) -> responses.JobOut:
        """Identify the speakers of a recording among the enrolled speakers."""
        return start_job(service, "find", [request.recording], lambda job: work.find(job, gallery, request))

    @router.patch("/{name:path}", responses=RENAME_ERRORS)
    def rename(name: str, request: requests.RenameIn) -> responses.RenameOut:
        """Give a speaker another name. Recordings and metadata stay."""
        warnings = gallery.rename(name, request.name)
        return responses.RenameOut(name=request.name, warnings=list(warnings))

    @router.delete("/{name:path}", status_code=204, responses=REMOVE_ERRORS)
    def remove(name: str) -> Response:
        """Remove a speaker and everything stored of them."""
        gallery.remove(name)
        return Response(status_code=204)

    return router


def page_routes(service: Service) -> APIRouter:
    """Routes for the files of the page and for /api/about.

    >>> from separative import load_model
    >>> from separative.serve import create_app
    >>> service = create_app(load_model(), "gallery").state.service
    >>> [route.path for route in page_routes(service).routes]
    ['/api/about', '/', '/{name}']
    >>> service.close()
    """
    router = APIRouter()
    files = {path.name: path for folder in FOLDERS for path in folder.iterdir() if path.suffix in MEDIA_TYPES}
    about_server = _about(service)

    @router.get("/api/about", tags=["about"])
    async def about() -> responses.AboutOut:
        """Get the version, the model and the limits of the server."""
        return about_server

    @router.get("/", include_in_schema=False)
    async def index() -> FileResponse:
        return FileResponse(files["index.html"], media_type=MEDIA_TYPES[".html"])

    @router.get("/{name}", include_in_schema=False)
    async def file(name: str) -> FileResponse:
        if name not in files:
            raise RefusedError(404, f"no page '{name}'; open / instead")
        return FileResponse(files[name], media_type=MEDIA_TYPES[files[name].suffix])

    return router


def project_embeddings(embeddings: ArrayLike) -> tuple[Floats, float]:
    """Project embeddings [N,E] onto their first two principal components, for a map.

    The sign of each component makes its largest entry positive, so that the map is reproducible.

    Returns:
        Positions [N,2], and the share of the variance that they explain.

    >>> positions, explained_variance = project_embeddings([[3.0, 0.0, 0.0], [0.0, 0.0, 4.0]])
    >>> float(np.linalg.norm(positions[0] - positions[1]).round(6)), round(explained_variance, 6)
    (5.0, 1.0)
    """
    embed_NE = np.asarray(embeddings, np.float64)
    position_N2 = np.zeros((len(embed_NE), 2))
    if len(embed_NE) < 2:
        return position_N2, 1.0
    centred_NE = embed_NE - embed_NE.mean(0)
    _, size_K, axis_KE = np.linalg.svd(centred_NE, full_matrices=False)
    axis_2E = axis_KE[:2]
    sign_2 = np.sign(axis_2E[np.arange(len(axis_2E)), np.abs(axis_2E).argmax(1)])
    position_N2[:, : len(axis_2E)] = centred_NE @ (axis_2E * sign_2[:, None]).T
    power_K = size_K**2
    return position_N2, float(power_K[:2].sum() / max(float(power_K.sum()), 1e-12))


def _recording_out(uploaded: UploadedRecording) -> responses.RecordingOut:
    header = uploaded.header
    return responses.RecordingOut(
        id=uploaded.id,
        name=uploaded.name,
        seconds=header.seconds,
        rate=header.rate,
        channels=header.channels,
        format=header.format,
    )


def _about(service: Service) -> responses.AboutOut:
    model, limits = service.gallery.model, service.limits
    evidence = calibrated_evidence(model, 0.0, 0.5)
    return responses.AboutOut(
        version=version("separative"),
        model=responses.ModelOut(
            sha256=str(model.card.get("sha256")),
            parameters=sum(p.numel() for p in model.parameters()),
            rate=model.rate,
            streams=model.streams,
            calibrated_on=None if evidence is None else evidence.calibrated_on,
        ),
        limits=responses.LimitsOut(
            megabytes=limits.megabytes,
            minutes=limits.minutes,
            channels=limits.channels,
            waiting=limits.waiting,
            job_minutes=limits.job_minutes,
            keep_minutes=limits.keep_minutes,
        ),
    )
