"""The application: routes behind a guard, around one gallery."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool

from separative.errors import NotEnrolledError, SeparativeError
from separative.gallery import Gallery
from separative.serve import schemas
from separative.serve.guard import Guard, RefusedError, status_of
from separative.serve.job_routes import job_routes, verb_routes
from separative.serve.jobs import Jobs, Service
from separative.serve.limits import Limits
from separative.serve.routes import gallery_routes, page_routes, recording_routes
from separative.serve.uploads import Recordings, Scratch

if TYPE_CHECKING:
    from separative.model import SeparativeEncoder

DESCRIPTION = """Who speaks when, each speaker alone, and whom you know.

Upload a recording, start a job with its id, follow the job (poll it, or listen to its events), fetch what
it made, delete it. Jobs run one at a time, and wait in a queue that is bounded: beyond it, the answer is 429
with Retry-After. Recordings and results go by themselves some time after their last use. Every refusal is a
JSON object with one sentence in `detail`."""

# What any request may meet.
ANYWHERE: dict[int | str, str] = {
    400: "The body is no JSON.",
    401: "The server's token is missing.",
    403: "A page of another origin asks.",
    421: "The server does not answer to that host name.",
    422: "Something in the request is not as it must be.",
}


def create_app(
    model: SeparativeEncoder,
    gallery: str | Path,
    limits: Limits | None = None,
    *,
    token: str | None = None,
    allow_host: Iterable[str] = (),
) -> FastAPI:
    """The page and the API, for any ASGI server, in one process.

    Args:
        model: that listens.
        gallery: folder of a gallery that this model made, or a new or empty one.
        token: what clients must show; None lets in everyone who can connect.
        allow_host: host names by which the server may be addressed, besides localhost.

    Raises:
        GalleryError: a folder with something else in it, or a gallery of another model.
        SeparativeError: an empty token.
    """
    if token is not None and not token.strip():
        raise SeparativeError("an empty token keeps nobody out: give another, or none")
    limits = limits or Limits()
    # As a whole path, it is told from words in what errors say.
    opened = Gallery(Path(gallery).resolve(), model)
    scratch = Scratch()
    service = Service(opened, limits, scratch, Recordings(scratch, limits), Jobs(scratch.jobs, limits))

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        tidying = asyncio.create_task(_tidy(service))
        try:
            yield
        finally:
            tidying.cancel()
            with suppress(asyncio.CancelledError):
                await tidying
            await run_in_threadpool(service.close)

    app = FastAPI(
        title="separative",
        version=version("separative"),
        description=DESCRIPTION,
        # These pages load scripts from elsewhere.
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        responses={
            status: {"model": schemas.ProblemOut, "description": why} for status, why in ANYWHERE.items()
        },
    )
    app.state.service = service
    for routes in (recording_routes, verb_routes, job_routes, gallery_routes, page_routes):
        app.include_router(routes(service))

    @app.exception_handler(SeparativeError)
    async def refuse(_: Request, error: SeparativeError) -> JSONResponse:
        body: dict[str, Any] = {"detail": service.plain(str(error))}
        if isinstance(error, NotEnrolledError):
            body["reasons"] = list(error.reasons)
        retry = error.retry if isinstance(error, RefusedError) else None
        headers = None if retry is None else {"Retry-After": str(retry)}
        return JSONResponse(body, status_of(error), headers)

    @app.exception_handler(RequestValidationError)
    async def explain(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"] if part != "body")
        said = str(first["msg"]).removeprefix("Value error, ")
        sentence = f"{where}: {said}" if where else said
        # What came in may hold half a character.
        return JSONResponse({"detail": sentence.encode("utf-8", "replace").decode()[:500]}, 422)

    app.add_middleware(Guard, hosts=tuple(allow_host), token=token)
    return app


async def _tidy(service: Service) -> None:
    """Look for what has expired, now and then."""
    pause = min(30.0, 60 * service.limits.keep_minutes / 4)
    while True:
        await asyncio.sleep(pause)
        await run_in_threadpool(service.expire)
