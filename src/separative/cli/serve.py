"""The verb serve: the page and the HTTP API."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from separative.cli.hear import DEFAULT, Model


def serve(
    gallery: Annotated[
        Path, typer.Argument(metavar="[GALLERY]", help="Folder of enrolled talkers; made if missing.")
    ] = Path("gallery"),
    model: Model = DEFAULT,
    host: Annotated[
        str, typer.Option(help="Address to listen on; others than this machine's need a token.")
    ] = ("127.0.0.1"),
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any that is free.")] = 8000,
    token: Annotated[
        str | None, typer.Option(envvar="SEPARATIVE_TOKEN", help="What clients must show.")
    ] = None,
    allow_host: Annotated[
        list[str] | None, typer.Option(help="A host name it may be addressed by; repeatable.")
    ] = None,
    megabytes: Annotated[float, typer.Option(help="Of an upload, at most.")] = 200.0,
    minutes: Annotated[float, typer.Option(help="Of a recording, at most.")] = 60.0,
    channels: Annotated[int, typer.Option(help="Of a recording, at most.")] = 8,
    uploads: Annotated[int, typer.Option(help="At once.")] = 8,
    waiting: Annotated[
        int, typer.Option(help="Jobs that may wait; beyond it, clients are told to retry.")
    ] = 8,
    job_minutes: Annotated[float, typer.Option(help="After which a job is ended.")] = 30.0,
    keep_minutes: Annotated[
        float, typer.Option(help="After the last use, before uploads and results go.")
    ] = 30.0,
    gigabytes: Annotated[float, typer.Option(help="Of all uploads and results together.")] = 4.0,
) -> None:
    """A page to drop recordings on, and the same over HTTP.

    See who speaks when, hear each talker alone, enrol and find again. Ctrl-C ends it, and removes all but the
    gallery. Needs the extra 'serve'.
    """
    from separative.model import load_model
    from separative.serve import Limits
    from separative.serve import serve as run

    run(
        load_model(model),
        gallery,
        Limits(megabytes, minutes, channels, uploads, waiting, job_minutes, keep_minutes, gigabytes),
        host=host,
        port=port,
        token=token,
        allow_host=allow_host or (),
        tell=lambda address: print(f"separative: {address} (Ctrl-C ends it)", file=sys.stderr, flush=True),
    )
