"""Run the server until it is interrupted."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import uvicorn

from separative.errors import SeparativeError
from separative.serve.address import public_address
from separative.serve.app import create_app
from separative.serve.guard import LOOPBACK
from separative.serve.limits import Limits
from separative.serve.protocol import Connection

if TYPE_CHECKING:
    from separative.model import SeparativeEncoder


def serve(
    model: SeparativeEncoder,
    gallery: str | Path,
    limits: Limits | None = None,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    token: str | None = None,
    allow_host: Iterable[str] = (),
    public_url: str | None = None,
    root_path: str | None = None,
    report: Callable[[str], None] = lambda address: None,
) -> None:
    """Serve the page and the API until interrupted.

    Args:
        gallery: folder of a gallery that was made with this model, or a new or empty folder.
        host: address to listen on. Addresses that other machines can reach require a token.
        port: port to listen on; 0 for any free port.
        token: secret that clients must send.
        allow_host: host names of the server, besides localhost.
        public_url: address of the page behind a proxy; see :func:`separative.serve.create_app`.
        root_path: path of the page behind a proxy; by default that of ``public_url``.
        report: called with the URL of the page when the server is ready.

    Raises:
        GalleryError: see :func:`separative.serve.create_app`.
        SeparativeError: the address can be reached by others and there is no token, or it is in use.

    >>> from separative import load_model
    >>> serve(load_model(), "gallery", host="0.0.0.0")
    Traceback (most recent call last):
    separative.errors.SeparativeError: 0.0.0.0 can be reached by other machines; set a token with ...
    """
    if host.strip("[]") not in LOOPBACK and token is None:
        raise SeparativeError(
            f"{host} can be reached by other machines; set a token with --token or SEPARATIVE_TOKEN"
        )
    names, address = tuple(allow_host), public_address(public_url, root_path)
    app = create_app(
        model,
        gallery,
        limits,
        token=token,
        allow_host=(*names, host),
        public_url=public_url,
        root_path=root_path,
    )
    shown = names[0] if names else host.strip("[]")

    def report_url(port: int) -> None:
        url = address.url or f"http://{f'[{shown}]' if ':' in shown else shown}:{port}/"
        report(url if token is None else f"{url}?token={quote(token, safe='')}")

    config = uvicorn.Config(
        app,
        host=host.strip("[]"),
        port=port,
        log_level="warning",
        # The first URL holds the token, which must not appear in a log.
        access_log=False,
        server_header=False,
        http=Connection,
        timeout_graceful_shutdown=3,
    )
    try:
        _Server(config, report_url).run()
    except KeyboardInterrupt:
        # uvicorn raises it again after the shutdown is complete.
        return
    except SystemExit as end:
        app.state.service.close()
        raise SeparativeError(f"cannot listen on {host}:{port}; choose another port with --port") from end


class _Server(uvicorn.Server):
    """Server that reports the port it listens on."""

    def __init__(self, config: uvicorn.Config, report_port: Callable[[int], None]) -> None:
        super().__init__(config)
        self._report_port = report_port

    async def startup(self, sockets: list[Any] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._report_port(self.servers[0].sockets[0].getsockname()[1])
