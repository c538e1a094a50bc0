"""Access control and HTTP status: middleware around all routes, and the statuses and messages of errors."""

from __future__ import annotations

import errno
import hmac
import json
import logging
import secrets
import sqlite3
from collections.abc import Iterable
from urllib.parse import parse_qsl, urlencode, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect, cookie_parser
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from separative.errors import (
    AudioError,
    GalleryError,
    MissingExtraError,
    NotEnrolledError,
    SeparativeError,
    UnknownSpeakerError,
)
from separative.serve.limits import Limits

log = logging.getLogger(__name__)

LOOPBACK = ("localhost", "127.0.0.1", "::1")
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
COOKIE = "separative"
UPLOAD_PATH = "/api/recordings"

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
    if isinstance(error, GalleryError):
        # The disk is full or read-only, or another process has locked the gallery.
        if isinstance(error.__cause__, sqlite3.OperationalError):
            return 507
        # The speaker is already enrolled with this recording.
        return 409 if isinstance(error.__cause__, sqlite3.IntegrityError) else 422
    if isinstance(error, SeparativeError):
        return 422
    if isinstance(error, OSError):
        return 507
    return 500


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

    >>> import asyncio
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

    def __init__(self, app: ASGIApp, hosts: Iterable[str] = (), token: str | None = None) -> None:
        self.app, self.token = app, token
        self.hosts = {host.lower().strip("[]") for host in (*LOOPBACK, *hosts)}
        # Browsers store this random value, valid until the server stops, and never the token.
        self.session = secrets.token_urlsafe(32)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = False

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
        try:
            await (response or self.app)(scope, receive, send_with_headers)
        except ClientDisconnect:
            return
        except Exception as error:
            log.exception("%s %s failed", scope["method"], scope["path"])
            if started:
                raise
            body = {"detail": error_message(error)}
            await JSONResponse(body, http_status(error))(scope, receive, send_with_headers)

    def _check_request(self, scope: Scope) -> Response | None:
        """Response that refuses a request with a wrong host, origin or length, or None."""
        headers = Headers(scope=scope)
        if _host_name(headers.get("host", "")) not in self.hosts:
            return _refusal(421, "unknown host name; start the server with --allow-host to allow it")
        if scope["method"] not in SAFE_METHODS:
            origin, site = headers.get("origin"), headers.get("sec-fetch-site", "same-origin")
            if origin is not None and urlsplit(origin).netloc.lower() != headers.get("host", "").lower():
                return _refusal(403, "pages of another origin may not do this; use the server's own page")
            if site not in ("same-origin", "none"):
                return _refusal(403, "pages of another site may not do this; use the server's own page")
            if scope["path"] != UPLOAD_PATH:
                if "transfer-encoding" in headers:
                    return _refusal(411, "the header Content-Length is missing; send it with this request")
                if _content_length(headers.get("content-length", "0")) > Limits.body_bytes:
                    return _refusal(
                        413, f"the request is too large; at most {Limits.body_bytes} bytes are allowed"
                    )
        return None

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
            path = "/" + scope["path"].lstrip("/\\")
            redirect = RedirectResponse(path + (f"?{rest}" if rest else ""), 303)
            redirect.set_cookie(COOKIE, self.session, httponly=True, samesite="strict", path="/")
            return redirect
        message = "a token is required; open the address that the server printed when it started"
        return _refusal(401, message, {"WWW-Authenticate": "Bearer"})


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
