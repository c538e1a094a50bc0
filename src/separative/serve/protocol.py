"""HTTP connections of the server: errors below the application are JSON too, and idle connections end."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import h11
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

# Simultaneous connections. Requests on further connections get status 503.
MAX_CONNECTIONS = 256
# Seconds after which a connection ends that has sent no complete request header.
HEADER_SECONDS = 30.0


class Connection(H11Protocol):
    """A connection that answers in JSON, also invalid requests and those of too many connections.

    >>> Connection.max_connections
    256
    """

    max_connections = MAX_CONNECTIONS
    header_seconds = HEADER_SECONDS
    _timer: asyncio.TimerHandle | None = None
    _last_cycle: Any = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start to watch a new connection."""
        super().connection_made(transport)
        if len(self.connections) > self.max_connections:
            self.app = refuse_busy
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop watching the connection."""
        if self._timer is not None:
            self._timer.cancel()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """Answer data that is no HTTP request."""
        body = json.dumps({"detail": f"{msg.rstrip('.')}; send an HTTP/1.1 request"}).encode()
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"cache-control", b"no-store"),
            (b"x-content-type-options", b"nosniff"),
            (b"connection", b"close"),
        ]
        if self.conn.our_state is h11.IDLE or self.conn.our_state is h11.SEND_RESPONSE:
            for event in (
                h11.Response(status_code=400, headers=headers),
                h11.Data(data=body),
                h11.EndOfMessage(),
            ):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def _watch(self) -> None:
        self._timer = self.loop.call_later(self.header_seconds, self._end_if_idle)

    def _end_if_idle(self) -> None:
        """End the connection if it has had no request since the last look, and has none now."""
        idle = self.cycle is None or self.cycle.response_complete
        if idle and self.cycle is self._last_cycle:
            self.transport.close()
            return
        self._last_cycle = self.cycle
        self._watch()


async def refuse_busy(scope: Scope, receive: Receive, send: Send) -> None:
    """Application that answers every request with status 503.

    >>> import httpx
    >>> async def get():
    ...     transport = httpx.ASGITransport(refuse_busy)
    ...     async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
    ...         return (await client.get("/")).status_code
    >>> asyncio.run(get())
    503
    """
    body = {"detail": "the server has too many connections; try again later"}
    headers = {"Retry-After": "5", "Connection": "close", "Cache-Control": "no-store"}
    await JSONResponse(body, 503, headers)(scope, receive, send)
