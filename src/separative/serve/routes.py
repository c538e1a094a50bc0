"""The page's own files, and /api/about."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import FileResponse

from separative.inference.verify import evidence
from separative.metrics import plane
from separative.serve import schemas, work
from separative.serve.guard import RefusedError
from separative.serve.job_routes import STARTED, start
from separative.serve.jobs import Service
from separative.serve.uploads import Held

PAGE = Path(__file__).parent / "page"
# By hand: what a machine's own table says of .js may be anything.
KINDS = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


def page_routes(service: Service) -> APIRouter:
    router = APIRouter()
    files = {path.name: path for path in PAGE.iterdir() if path.suffix in KINDS}
    about_now = about(service)

    @router.get("/api/about", tags=["about"])
    async def about_() -> schemas.AboutOut:
        """The model that listens, and what the server takes."""
        return about_now

    @router.get("/", include_in_schema=False)
    async def index() -> FileResponse:
        return FileResponse(files["index.html"], media_type=KINDS[".html"])

    @router.get("/{name}", include_in_schema=False)
    async def file(name: str) -> FileResponse:
        if name not in files:
            raise RefusedError(404, "no such page")
        return FileResponse(files[name], media_type=KINDS[files[name].suffix])

    return router


def about(service: Service) -> schemas.AboutOut:
    model, limits = service.gallery.model, service.limits
    worth = evidence(model, 0.0, 0.5)
    return schemas.AboutOut(
        version=version("separative"),
        model=schemas.ModelOut(
            sha256=str(model.card.get("sha256")),
            parameters=sum(p.numel() for p in model.parameters()),
            rate=model.rate,
            streams=model.streams,
            calibrated_on=None if worth is None else worth[2],
        ),
        limits=schemas.LimitsOut(
            megabytes=limits.megabytes,
            minutes=limits.minutes,
            channels=limits.channels,
            waiting=limits.waiting,
            job_minutes=limits.job_minutes,
            keep_minutes=limits.keep_minutes,
        ),
    )


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
            408: {"model": schemas.ProblemOut, "description": "It took too long to come."},
            413: {
                "model": schemas.ProblemOut,
                "description": "Too many bytes, minutes, channels or samples.",
            },
            415: {"model": schemas.ProblemOut, "description": "No sound file that can be read."},
            429: {"model": schemas.ProblemOut, "description": "Too many at once; Retry-After says when."},
            507: {"model": schemas.ProblemOut, "description": "No room on the server's disk."},
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

    @router.get("/{id}", responses={404: {"model": schemas.ProblemOut}})
    async def recording(id: str) -> schemas.RecordingOut:
        """What a recording is called and how long it is."""
        return described(service.recordings.get(id))

    @router.delete("/{id}", status_code=204, responses={404: {"model": schemas.ProblemOut}})
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


MOST = 1000


def gallery_routes(service: Service) -> APIRouter:
    router = APIRouter(prefix="/api/gallery", tags=["gallery"])
    gallery = service.gallery

    @router.get("")
    def who(
        count: Annotated[int, Query(ge=1, le=MOST, description="How many to list, at most.")] = MOST,
    ) -> schemas.GalleryOut:
        """Who is enrolled, and where a map of their embeddings shows them."""
        speakers = gallery.list()
        names, embed_NE = gallery.embeddings(count)
        place_N2, spread = plane(embed_NE)
        places = dict(zip(names, place_N2.tolist(), strict=True))
        listed = []
        for speaker in speakers[:count]:
            x, y = places.get(speaker.name, (None, None))
            listed.append(
                schemas.EnrolledOut(
                    name=speaker.name,
                    recordings=speaker.recordings,
                    seconds=speaker.seconds,
                    added=speaker.added,
                    metadata=speaker.metadata,
                    x=x,
                    y=y,
                )
            )
        return schemas.GalleryOut(count=len(speakers), speakers=listed, spread=spread)

    @router.post("", status_code=202, responses=STARTED, tags=["jobs"])
    def add(asked: schemas.Add) -> schemas.JobOut:
        """Enrol a speaker with recordings of theirs alone, or add these to a known one's."""
        return start(service, "add", asked.recordings, lambda job: work.add(job, gallery, asked))

    @router.post("/find", status_code=202, responses=STARTED, tags=["jobs"])
    def find(asked: schemas.Find) -> schemas.JobOut:
        """Whose voices are in a recording: enrolled speakers', or unknown."""
        return start(service, "find", [asked.recording], lambda job: work.find(job, gallery, asked))

    @router.delete(
        "/{name:path}",
        status_code=204,
        responses={
            404: {"model": schemas.ProblemOut, "description": "No such speaker."},
            507: {"model": schemas.ProblemOut, "description": "The gallery cannot be written."},
        },
    )
    def remove(name: str) -> Response:
        """Remove a speaker, from every file of the gallery."""
        gallery.remove(name)
        return Response(status_code=204)

    return router
