"""The server itself, from start to Ctrl-C."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING
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
        tell: called with the address to open, once it is known.

    Raises:
        GalleryError: see :func:`separative.serve.create_app`.
        SeparativeError: an address that others can reach, without a token.
    """
    if host.strip("[]") not in LOOPBACK and token is None:
        raise SeparativeError(f"{host} lets others in: give a token (--token, or SEPARATIVE_TOKEN)")
    names = tuple(allow_host)
    app = create_app(model, gallery, limits, token=token, allow_host=(*names, host))
    shown = names[0] if names else host
    address = f"http://{f'[{shown}]' if ':' in shown else shown}:{port}/"
    tell(address if token is None else f"{address}?token={quote(token, safe='')}")
    uvicorn.run(
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
