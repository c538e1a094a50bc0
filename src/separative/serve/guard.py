"""Who may ask, and what every answer says to the browser: around all routes, also around their failures."""

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


class RefusedError(SeparativeError):
    """A request that is refused: the HTTP ``status``, and seconds after which to ``retry``, if that helps."""

    def __init__(self, status: int, sentence: str, retry: int | None = None) -> None:
        self.status, self.retry = status, retry
        super().__init__(sentence)


def status_of(error: Exception) -> int:
    """The HTTP status that fits an error."""
    if isinstance(error, RefusedError):
        return error.status
    if isinstance(error, UnknownSpeakerError):
        return 404
    if isinstance(error, MissingExtraError):
        return 501
    if isinstance(error, NotEnrolledError | AudioError):
        return 422
    if isinstance(error, GalleryError):
        # The gallery's disk is full or read-only, or another writer holds it.
        if isinstance(error.__cause__, sqlite3.OperationalError):
            return 507
        # Enrolled with that recording already.
        return 409 if isinstance(error.__cause__, sqlite3.IntegrityError) else 422
    if isinstance(error, SeparativeError):
        return 422
    if isinstance(error, OSError):
        return 507
    return 500


def sentence_of(error: Exception) -> str:
    """What a user is told; paths are the caller's to replace."""
    if isinstance(error, SeparativeError):
        return str(error)
    if isinstance(error, OSError):
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        return "the server's disk is full" if full else "the server cannot write or read its files"
    return "something went wrong inside the server; its log says what"


log = logging.getLogger(__name__)

LOOPBACK = ("localhost", "127.0.0.1", "::1")
SAFE = ("GET", "HEAD", "OPTIONS")
COOKIE = "separative"
UPLOADS = "/api/recordings"

# The page needs its own files, sounds and worklet, and nothing from anywhere else.
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


class Guard:
    """Middleware: allowed hosts, same origin for what changes anything, a token, short texts, strict headers.

    Args:
        hosts: names in the Host header besides those of this machine. Any other is refused, so that no
            foreign site can get here under a name of its own that it points to this machine.
        token: what a client must know; None lets in everyone who can connect.
    """

    def __init__(self, app: ASGIApp, hosts: Iterable[str] = (), token: str | None = None) -> None:
        self.app, self.token = app, token
        self.hosts = {host.lower().strip("[]") for host in (*LOOPBACK, *hosts)}
        # In place of the token itself: a browser's jar is no place for it. It ends with the server.
        self.session = secrets.token_urlsafe(32)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begun = False

        async def dressed(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                page = _of_page(scope["path"]) and message["status"] == 200
                headers["Cache-Control"] = "no-cache" if page else "no-store"
            await send(message)

        answer = self._refusal(scope) or self._entry(scope)
        try:
            await (answer or self.app)(scope, receive, dressed)
        except ClientDisconnect:
            return
        except Exception as error:
            log.exception("%s %s failed", scope["method"], scope["path"])
            if begun:
                raise
            status, sentence = status_of(error), sentence_of(error)
            await JSONResponse({"detail": sentence}, status)(scope, receive, dressed)

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        if _name(headers.get("host", "")) not in self.hosts:
            return _no(421, "this server does not answer to that host name; --allow-host adds one")
        if scope["method"] not in SAFE:
            origin, site = headers.get("origin"), headers.get("sec-fetch-site", "same-origin")
            if origin is not None and urlsplit(origin).netloc.lower() != headers.get("host", "").lower():
                return _no(403, "a page of another origin may not do this")
            if site not in ("same-origin", "none"):
                return _no(403, "a page of another site may not do this")
            if scope["path"] != UPLOADS:
                if "transfer-encoding" in headers:
                    return _no(411, "a request of this kind says its length")
                if _size(headers.get("content-length", "0")) > Limits.text_bytes:
                    return _no(413, f"a request of this kind has up to {Limits.text_bytes} bytes")
        return None

    def _entry(self, scope: Scope) -> Response | None:
        """None for those who may come in."""
        if self.token is None:
            return None
        headers, query = Headers(scope=scope), parse_qsl(scope["query_string"].decode("latin-1"))
        kind, _, given = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and _same(given.strip(), self.token):
            return None
        if _same(cookie_parser(headers.get("cookie", "")).get(COOKIE, ""), self.session):
            return None
        if scope["method"] == "GET" and any(k == "token" and _same(v, self.token) for k, v in query):
            # Once: then it is gone from the address, and from the browser's history.
            rest = urlencode([(key, value) for key, value in query if key != "token"])
            path = "/" + scope["path"].lstrip("/\\")
            entry = RedirectResponse(path + (f"?{rest}" if rest else ""), 303)
            entry.set_cookie(COOKIE, self.session, httponly=True, samesite="strict", path="/")
            return entry
        sentence = "this server wants its token: open the address that it printed when it started"
        return _no(401, sentence, {"WWW-Authenticate": "Bearer"})


def _of_page(path: str) -> bool:
    """A file of the page, which may be kept and asked for again; anything else is nobody's to keep."""
    return not path.startswith(("/api", "/openapi"))


def _no(status: int, sentence: str, headers: dict[str, str] | None = None) -> Response:
    body = json.dumps({"detail": sentence})
    return Response(body, status, headers, media_type="application/json")


def _same(given: str, wanted: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "replace"), wanted.encode())


def _name(host: str) -> str:
    """Of a Host header, without port and brackets."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].lower().rstrip(".")


def _size(length: str) -> int:
    return int(length[:18]) if length.isascii() and length.isdigit() else 0
