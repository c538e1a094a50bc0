"""The web application: all routes around one gallery, behind access control."""

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
from separative.serve.address import PublicAddress, public_address
from separative.serve.guard import Guard, http_status, retry_seconds
from separative.serve.job_routes import job_routes, start_routes
from separative.serve.jobs import JobQueue, Service
from separative.serve.limits import Limits
from separative.serve.responses import ErrorOut
from separative.serve.result_routes import result_routes
from separative.serve.routes import gallery_routes, page_routes, recording_routes
from separative.serve.uploads import ScratchFolder, Uploads

if TYPE_CHECKING:
    from separative.model import SeparativeEncoder

DESCRIPTION = """Speaker diarization, separation and identification.

Upload a recording and start a job with its id. Poll the job or follow its events, fetch the result and the
files, then delete the job and the recording. Jobs run one after another. If the queue is full, the response
has status 429 and a Retry-After header. The server removes recordings and results some time after their last
use. Every error is a JSON object with one sentence in `detail`."""

# Seconds to wait while another process uses the gallery. Then the request is refused, to be repeated.
LOCK_SECONDS = 2.0

# Errors that any request may get.
COMMON_ERRORS: dict[int | str, str] = {
    400: "The body is not valid JSON.",
    401: "The token is missing or wrong.",
    403: "The request comes from a page of another origin.",
    421: "The host name is not one of the server's.",
    408: "The request arrives too slowly.",
    422: "A value of the request is not valid.",
    503: "The gallery is in use, or the server is stopping or has too many connections; see Retry-After.",
}


def create_app(
    model: SeparativeEncoder,
    gallery: str | Path,
    limits: Limits | None = None,
    *,
    token: str | None = None,
    allow_host: Iterable[str] = (),
    public_url: str | None = None,
    root_path: str | None = None,
) -> FastAPI:
    """Create the page and the API as an ASGI application, to run in one process.

    Args:
        gallery: folder of a gallery that was made with this model, or a new or empty folder.
        limits: limits of uploads and jobs.
        token: secret that clients must send; None admits every client.
        allow_host: host names of the server, besides localhost.
        public_url: address of the page behind a proxy, for example ``https://voices.example.org/speech``. Its
            host name is allowed, and its page may change things.
        root_path: path of the page behind a proxy, for example ``/speech``; by default that of
            ``public_url``. The proxy may remove it from requests, or not.

    Raises:
        GalleryError: the folder holds other files, or a gallery of another model.
        SeparativeError: the token is empty, or an address is not valid.

    >>> from separative import load_model
    >>> app = create_app(load_model(), "gallery", Limits(minutes=10))
    >>> "/api/diarize" in app.openapi()["paths"]
    True
    >>> app.state.service.close()
    """
    if token is not None and not token.strip():
        raise SeparativeError("the token is empty; give another token, or none to admit every client")
    address = public_address(public_url, root_path)
    limits = limits or Limits()
    # The absolute path can be found and replaced in error messages; a relative path might equal a word.
    opened = Gallery(Path(gallery).resolve(), model, lock_seconds=LOCK_SECONDS)
    scratch = ScratchFolder()
    service = Service(opened, limits, scratch, Uploads(scratch, limits), JobQueue(scratch.jobs, limits))

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        expiry = asyncio.create_task(_expire_regularly(service))
        try:
            yield
        finally:
            expiry.cancel()
            with suppress(asyncio.CancelledError):
                await expiry
            await run_in_threadpool(service.close)

    app = FastAPI(
        title="separative",
        version=version("separative"),
        description=DESCRIPTION,
        # FastAPI's documentation pages load scripts from other sites.
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        servers=[{"url": address.url or address.root_path}] if address != PublicAddress() else None,
        responses={
            status: {"model": ErrorOut, "description": reason} for status, reason in COMMON_ERRORS.items()
        },
    )
    app.state.service = service
    for routes in (recording_routes, start_routes, job_routes, result_routes, gallery_routes, page_routes):
        app.include_router(routes(service))

    @app.exception_handler(SeparativeError)
    async def handle_error(_: Request, error: SeparativeError) -> JSONResponse:
        body: dict[str, Any] = {"detail": service.hide_paths(str(error))}
        if isinstance(error, NotEnrolledError):
            body["reasons"] = list(error.reasons)
        retry = retry_seconds(error)
        headers = None if retry is None else {"Retry-After": str(retry)}
        return JSONResponse(body, http_status(error), headers)

    @app.exception_handler(RequestValidationError)
    async def handle_invalid_request(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"] if part != "body")
        reason = str(first["msg"]).removeprefix("Value error, ")
        message = f"{key}: {reason}" if key else reason
        # The request may hold unpaired surrogates, which UTF-8 cannot encode.
        return JSONResponse({"detail": message.encode("utf-8", "replace").decode()[:500]}, 422)

    app.add_middleware(Guard, hosts=tuple(allow_host), token=token, address=address, limits=limits)
    return app


async def _expire_regularly(service: Service) -> None:
    """Remove expired recordings and jobs at regular intervals."""
    interval = min(30.0, 60 * service.limits.keep_minutes / 4)
    while True:
        await asyncio.sleep(interval)
        await run_in_threadpool(service.expire)
