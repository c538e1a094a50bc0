"""The verb benchmark: a plan in, a table out."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from separative.cli.show import telling_what_is_kept


def benchmark(
    plan: Annotated[
        str | None, typer.Argument(metavar="[PLAN]", help="Name or YAML file: quick, small or full, say.")
    ] = None,
    corpus: Annotated[
        Path | None, typer.Option(help="Speech; trained on its split train, compared on the plan's split.")
    ] = None,
    noise: Annotated[Path | None, typer.Option(help="Noise clips.")] = None,
    out: Annotated[Path | None, typer.Option(help="The results folder: new, or one to go on in.")] = None,
    peer_python: Annotated[
        Path | None, typer.Option(help="Python of an environment with the rival systems.")
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option(help="Only this row, and what it needs; repeatable.")
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Processes at a time.")] = 2,
    threads: Annotated[int, typer.Option(min=1, help="Of each process.")] = 1,
    cache: Annotated[Path | None, typer.Option(help="Folder of decoded audio; in --out by default.")] = None,
    render: Annotated[
        Path | None, typer.Option(help="Only make the page of this results folder anew; no plan.")
    ] = None,
) -> None:
    """Train, evaluate and compare every row of a plan.

    Ctrl-C keeps what is done; the same command goes on from there. OUT/table gets results.json, results.md,
    every score, and one page.
    """
    from separative import benchmark as table
    from separative.errors import SeparativeError

    def tell(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    if render is not None:
        page = table.render(render, tell=tell)
    else:
        for name, value in (("a plan", plan), ("--corpus", corpus), ("--out", out)):
            if value is None:
                raise SeparativeError(f"benchmark needs {name}; or --render with a results folder")
        assert plan is not None and corpus is not None and out is not None
        with telling_what_is_kept():
            page = table.benchmark(
                table.load_plan(plan),
                corpus=corpus,
                noise=noise,
                out=out,
                peer_python=peer_python,
                only=only or (),
                jobs=jobs,
                threads=threads,
                cache=cache,
                command=sys.argv[1:],
                tell=tell,
            )
    print(page)
