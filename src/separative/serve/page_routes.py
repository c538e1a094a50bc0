"""The page's own files, and /api/about."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import FileResponse

from separative.inference.verify import evidence
from separative.serve import schemas
from separative.serve.refusals import RefusedError
from separative.serve.service import Service

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
