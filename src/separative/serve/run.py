"""The server itself, from start to Ctrl-C."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import uvicorn

from separative.errors import SeparativeError
from separative.serve.app import create_app
from separative.serve.guard import LOOPBACK
from separative.serve.limits import Limits

if TYPE_CHECKING:
    from separative.model import SeparativeEncoder

# Requests that are being answered at once; more get 503 from the server before they reach the application.
MOST_CONNECTIONS = 256


def serve(
    model: SeparativeEncoder,
    gallery: str | Path,
    limits: Limits | None = None,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    token: str | None = None,
    allow_host: Iterable[str] = (),
    tell: Callable[[str], None] = lambda address: None,
) -> None:
    """Serve the page and the API until interrupted.

    Args:
        host: address to listen on; one that others can reach needs a token.
        port: 0 for any that is free.
        tell: called with the address to open, once it can be.

    Raises:
        GalleryError: see :func:`separative.serve.create_app`.
        SeparativeError: an address that others can reach, without a token; or one that is taken.
    """
    if host.strip("[]") not in LOOPBACK and token is None:
        raise SeparativeError(f"{host} lets others in: give a token (--token, or SEPARATIVE_TOKEN)")
    names = tuple(allow_host)
    app = create_app(model, gallery, limits, token=token, allow_host=(*names, host))
    shown = names[0] if names else host.strip("[]")

    def started(port: int) -> None:
        address = f"http://{f'[{shown}]' if ':' in shown else shown}:{port}/"
        tell(address if token is None else f"{address}?token={quote(token, safe='')}")

    config = uvicorn.Config(
        app,
        host=host.strip("[]"),
        port=port,
        log_level="warning",
        # Addresses hold the token, once.
        access_log=False,
        server_header=False,
        limit_concurrency=MOST_CONNECTIONS,
        timeout_graceful_shutdown=3,
    )
    try:
        _Server(config, started).run()
    except KeyboardInterrupt:
        # Raised once more after all is tidy.
        return
    except SystemExit as end:
        app.state.service.close()
        raise SeparativeError(f"{host}:{port} cannot be listened on: --port names another") from end


class _Server(uvicorn.Server):
    """Tells which port it listens on, once it does."""

    def __init__(self, config: uvicorn.Config, started: Callable[[int], None]) -> None:
        super().__init__(config)
        self._tell = started

    async def startup(self, sockets: list[Any] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._tell(self.servers[0].sockets[0].getsockname()[1])
