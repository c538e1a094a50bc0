"""Access control and HTTP status: middleware around all routes, and the statuses and messages of errors."""

from __future__ import annotations

import asyncio
import errno
import hmac
import json
import logging
import secrets
import sqlite3
from collections.abc import Iterable
from urllib.parse import parse_qsl, quote, urlencode

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, cookie_parser
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from separative.errors import (
    AudioError,
    GalleryBusyError,
    GalleryDamagedError,
    GalleryError,
    MissingExtraError,
    NotEnrolledError,
    SeparativeError,
    UnknownSpeakerError,
)
from separative.serve.address import PublicAddress, same_host
from separative.serve.limits import Limits

log = logging.getLogger(__name__)

LOOPBACK = ("localhost", "127.0.0.1", "::1")
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
COOKIE = "separative"
UPLOAD_PATH, TRANSCRIPT_PATH = "/api/recordings", "/transcript"
# Seconds after which a client may repeat a request that found the gallery in use.
RETRY_BUSY_SECONDS = 2

# The page loads its own scripts, styles, audio and worklet, and nothing from other origins.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; media-src 'self';"
    " connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "microphone=(self), camera=(), geolocation=(), display-capture=()",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "X-Frame-Options": "DENY",
}


class RefusedError(SeparativeError):
    """A request that the server refuses.

    Args:
        status: HTTP status of the response.
        message: what is wrong and what to do.
        retry: seconds after which a retry may succeed, for the header ``Retry-After``.

    >>> RefusedError(429, "2 uploads are running; try again later", retry=2).retry
    2
    """

    def __init__(self, status: int, message: str, retry: int | None = None) -> None:
        self.status, self.retry = status, retry
        super().__init__(message)


def http_status(error: Exception) -> int:
    """HTTP status for an error.

    >>> http_status(UnknownSpeakerError("no speaker 'ann'")), http_status(AudioError("ann.wav is silent"))
    (404, 422)
    """
    if isinstance(error, RefusedError):
        return error.status
    if isinstance(error, UnknownSpeakerError):
        return 404
    if isinstance(error, MissingExtraError):
        return 501
    if isinstance(error, NotEnrolledError | AudioError):
        return 422
    if isinstance(error, GalleryBusyError):
        return 503
    if isinstance(error, GalleryDamagedError):
        return 500
    if isinstance(error, GalleryError):
        # The disk is full or read-only.
        if isinstance(error.__cause__, sqlite3.OperationalError):
            return 507
        # The speaker is already enrolled with this recording.
        return 409 if isinstance(error.__cause__, sqlite3.IntegrityError) else 422
    if isinstance(error, SeparativeError):
        return 422
    if isinstance(error, OSError):
        return 507
    return 500


def retry_seconds(error: Exception) -> int | None:
    """Seconds after which a retry may succeed, or None.

    >>> retry_seconds(GalleryBusyError("in use")), retry_seconds(AudioError("ann.wav is silent"))
    (2, None)
    """
    if isinstance(error, RefusedError):
        return error.retry
    return RETRY_BUSY_SECONDS if isinstance(error, GalleryBusyError) else None


def error_message(error: Exception) -> str:
    """Message of an error for clients. The caller replaces paths in it.

    >>> error_message(OSError(errno.ENOSPC, "No space left on device"))
    "the server's disk is full; free some space and try again"
    """
    if isinstance(error, SeparativeError):
        return str(error)
    if isinstance(error, OSError):
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return "the server's disk is full; free some space and try again"
        return "the server cannot read or write its files; see the server's log"
    return "internal server error; see the server's log"


class Guard:
    """ASGI middleware that checks host, origin, token and body size, and adds security headers.

    Args:
        hosts: allowed names in the Host header, besides those of this machine. All others are refused, so
            that no other site can reach the server by pointing its own host name at this machine.
        token: secret that clients must send; None admits every client.
        address: where browsers reach the server.
        limits: limits of the time in which a request must arrive.

    >>> import httpx
    >>> from starlette.responses import PlainTextResponse
    >>> app = Guard(PlainTextResponse("hello"), token="secret")
    >>> async def get(**headers):
    ...     transport = httpx.ASGITransport(app)
    ...     async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
    ...         return (await client.get("/", headers=headers)).status_code
    >>> asyncio.run(get()), asyncio.run(get(Authorization="Bearer secret"))
    (401, 200)
    """

    def __init__(
        self,
        app: ASGIApp,
        hosts: Iterable[str] = (),
        token: str | None = None,
        address: PublicAddress | None = None,
        limits: Limits | None = None,
    ) -> None:
        self.app, self.token, self.limits = app, token, limits or Limits()
        self.address = address or PublicAddress()
        self.hosts = {host.lower().strip("[]") for host in (*LOOPBACK, *hosts, self.address.host) if host}
        # Browsers store this random value, valid until the server stops, and never the token.
        self.session = secrets.token_urlsafe(32)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        scope, started = self._without_root_path(scope), False

        async def send_with_headers(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                cacheable = _is_page_file(scope["path"]) and message["status"] == 200
                headers["Cache-Control"] = "no-cache" if cacheable else "no-store"
            await send(message)

        response = self._check_request(scope) or self._check_token(scope)
        if response is None and scope.get("at_root") and scope["method"] in SAFE_METHODS:
            # The page finds its files below an address that ends with a slash only.
            response = RedirectResponse(self._page_below_root(), 307)
        try:
            await (response or self.app)(scope, limit_rate(receive, self.limits), send_with_headers)
        except ClientDisconnect:
            return
        except asyncio.CancelledError:
            # The server stops and waits no longer for this request.
            if not started:
                stopping = _refusal(503, "the server is stopping; start it again", {"Connection": "close"})
                await stopping(scope, receive, send_with_headers)
            # The task ends here. Raised again, this would be a traceback in the log of every stop.
            return
        except Exception as error:
            log.exception("%s %s failed", scope["method"], scope["path"])
            if started:
                raise
            body = {"detail": error_message(error)}
            await JSONResponse(body, http_status(error))(scope, receive, send_with_headers)

    def _without_root_path(self, scope: Scope) -> Scope:
        """Remove the root path from a request. Some proxies remove it, others pass it on."""
        root, path = self.address.root_path, scope["path"]
        if not root or not f"{path}/".startswith(f"{root}/"):
            return scope
        return {**scope, "path": path.removeprefix(root) or "/", "at_root": path == root}

    def _page_below_root(self) -> str:
        """Address of the page, relative to the root path without a slash at its end."""
        return f"./{self.address.root_path.rpartition('/')[2]}/"

    def _check_request(self, scope: Scope) -> Response | None:
        """Response that refuses a request with a wrong host, origin or length, or None."""
        headers = Headers(scope=scope)
        if _host_name(headers.get("host", "")) not in self.hosts:
            return _refusal(421, "unknown host name; start the server with --allow-host to allow it")
        if scope["method"] not in SAFE_METHODS:
            origin, site = headers.get("origin"), headers.get("sec-fetch-site", "same-origin")
            if origin is not None and not self._is_own(origin, headers.get("host", "")):
                return _refusal(403, _foreign_origin(origin, headers.get("host", ""), self.address))
            if site not in ("same-origin", "none"):
                return _refusal(403, "pages of another site may not do this; use the server's own page")
            if scope["path"] != UPLOAD_PATH:
                if "transfer-encoding" in headers:
                    return _refusal(411, "the header Content-Length is missing; send it with this request")
                transcript = scope["path"].endswith(TRANSCRIPT_PATH)
                most = Limits.transcript_bytes if transcript else Limits.body_bytes
                if _content_length(headers.get("content-length", "0")) > most:
                    return _refusal(413, f"the request is too large; at most {most} bytes are allowed")
        return None

    def _is_own(self, origin: str, host: str) -> bool:
        """True for an origin of the server's own page."""
        return same_host(origin, host) or (
            self.address.origin != "" and origin.lower() == self.address.origin
        )

    def _check_token(self, scope: Scope) -> Response | None:
        """None if the client may continue; else a refusal, or a redirect that sets the session cookie."""
        if self.token is None:
            return None
        headers, query = Headers(scope=scope), parse_qsl(scope["query_string"].decode("latin-1"))
        kind, _, given = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and _equal(given.strip(), self.token):
            return None
        if _equal(cookie_parser(headers.get("cookie", "")).get(COOKIE, ""), self.session):
            return None
        if scope["method"] == "GET" and any(k == "token" and _equal(v, self.token) for k, v in query):
            # The redirect removes the token from the address and from the browser's history.
            rest = urlencode([(key, value) for key, value in query if key != "token"])
            # A relative address is right below any path of a proxy, and never leads to another server.
            last = quote(scope["path"].replace("\\", "/").rpartition("/")[2], safe="")
            where = self._page_below_root() if scope.get("at_root") else f"./{last}"
            redirect = RedirectResponse(where + (f"?{rest}" if rest else ""), 303)
            path = self.address.root_path or "/"
            secure = self.address.origin.startswith("https:")
            redirect.set_cookie(
                COOKIE, self.session, httponly=True, samesite="strict", path=path, secure=secure
            )
            return redirect
        message = "a token is required; open the address that the server printed when it started"
        return _refusal(401, message, {"WWW-Authenticate": "Bearer"})


def limit_rate(receive: Receive, limits: Limits) -> Receive:
    """Make ``receive`` raise HTTPException (status 408) if the body of a request arrives too slowly.

    >>> async def receive():
    ...     await asyncio.sleep(60)
    >>> asyncio.run(limit_rate(receive, Limits(grace_seconds=0.01))())
    Traceback (most recent call last):
    starlette.exceptions.HTTPException: 408: the request arrives too slowly; ...
    """
    waited, count, complete = 0.0, 0, False

    async def receive_in_time() -> Message:
        nonlocal waited, count, complete
        if complete:
            return await receive()
        clock = asyncio.get_running_loop().time
        begun, left = clock(), limits.grace_seconds + count / limits.bytes_per_second - waited
        try:
            async with asyncio.timeout(left):
                message = await receive()
        except TimeoutError:
            raise HTTPException(408, slow_message(limits), {"Connection": "close"}) from None
        waited += clock() - begun
        count += len(message.get("body", b""))
        complete = not message.get("more_body", False)
        return message

    return receive_in_time


def slow_message(limits: Limits) -> str:
    """What to tell a client that sends too slowly.

    >>> slow_message(Limits())
    'the request arrives too slowly; at least 30 kB/s are needed after 10 s: use a faster connection or ...'
    """
    return (
        f"the request arrives too slowly; at least {limits.kilobytes_per_second:g} kB/s are needed after"
        f" {limits.grace_seconds:g} s: use a faster connection or a smaller file, such as FLAC or Opus"
    )


def _foreign_origin(origin: str, host: str, address: PublicAddress) -> str:
    """Why a request of a page is refused, and what to do behind a proxy."""
    shown, host = (text.encode("ascii", "replace").decode()[:200] for text in (origin, host))
    own = f" or {address.origin}" if address.origin else ""
    return (
        f"pages of another origin may not do this: the page is {shown}, the Host header is {host}{own}; open"
        " the server's own page, or, behind a proxy, let the proxy pass the Host header of the browser, or"
        f" start the server with --public-url {shown}{address.root_path}"
    )


def _is_page_file(path: str) -> bool:
    """True for files of the page. Browsers may cache these if they revalidate; nothing else may be cached."""
    return not path.startswith(("/api", "/openapi"))


def _refusal(status: int, message: str, headers: dict[str, str] | None = None) -> Response:
    body = json.dumps({"detail": message})
    return Response(body, status, headers, media_type="application/json")


def _equal(given: str, expected: str) -> bool:
    """Compare secrets in constant time."""
    return hmac.compare_digest(given.encode("utf-8", "replace"), expected.encode())


def _host_name(host: str) -> str:
    """Host name of a Host header, without port and brackets."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].lower().rstrip(".")


def _content_length(length: str) -> int:
    return int(length[:18]) if length.isascii() and length.isdigit() else 0
