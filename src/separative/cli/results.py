"""The verb benchmark: a plan in, a table out."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from separative.cli.show import Bars, exit_on_interrupt


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
        with exit_on_interrupt():
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


def report(
    source: Annotated[
        Path, typer.Argument(metavar="RUN|RESULTS", help="A run's folder, or results.json or its folder.")
    ],
    out: Annotated[Path | None, typer.Option(help="The page; report.html in the folder by default.")] = None,
    corpus: Annotated[
        Path | None, typer.Option(help="Speech of speakers not trained on, to look at and listen to.")
    ] = None,
    noise: Annotated[Path | None, typer.Option(help="Noise clips, for conditions with noise.")] = None,
    split: Annotated[str, typer.Option(help="Of corpus and noise, where they have splits.")] = "dev",
    seconds: Annotated[float, typer.Option(min=0.5, help="Of each recording that is compared.")] = 4.0,
    seed: Annotated[int, typer.Option(min=0, help="Of what is drawn from the corpus.")] = 0,
) -> None:
    """One self-contained page about a run or its results.

    Training curves, error rates by condition with intervals; with a corpus also who is like whom, a map of
    speakers, what the cross-attention looks at, and a mixture to see and hear.
    """
    from separative.demo import sample_mixture
    from separative.errors import SeparativeError
    from separative.evaluation.portrait import portrait
    from separative.report import write_report

    folder = source if source.is_dir() else source.parent
    found = [source] if source.is_file() else sorted(source.glob("**/results.json"))
    results = next((path for path in found if path.name == "results.json"), None)
    run = folder if source.is_dir() and (folder / "log.jsonl").is_file() else None
    if results is None and run is None:
        raise SeparativeError(f"{source}: neither a run (log.jsonl) nor results (results.json) there")
    looks, samples = None, []
    if corpus is not None:
        from separative.corpora import load_corpus
        from separative.model import load_model

        model = load_model(folder)
        with Bars() as bars:
            speech = load_corpus(corpus, split=split, keep_damaged=True, progress=bars.count("headers"))
            clips = None if noise is None else load_corpus(noise, split=split)
            looks = portrait(
                model, speech, noise=clips, seed=seed, seconds=seconds, progress=bars.count("looking")
            )
        samples = sample_mixture(model, speech, seed)
    page = write_report(
        out or folder / "report.html",
        heading=f"Separative: {folder.resolve().name}",
        results=results,
        run=run,
        portrait=looks,
        samples=samples,
    )
    print(page)
