"""Commands that compare and report: benchmark, evaluate-recordings, report."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from separative.cli.options import DEFAULT_MODEL, Seed, Split
from separative.cli.outputs import check_output
from separative.cli.show import Bars, exit_on_interrupt, printable


def benchmark(
    plan: Annotated[
        str | None,
        typer.Argument(metavar="[PLAN]", help="Name or YAML file of a plan, such as quick, small or full."),
    ] = None,
    corpus: Annotated[
        Path | None,
        typer.Option(help="Corpus: the split 'train' is trained on, the plan's split is evaluated."),
    ] = None,
    noise: Annotated[Path | None, typer.Option(help="Corpus of noise clips.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the results: new, or one to continue.")] = None,
    peer_python: Annotated[
        Path | None, typer.Option(help="Python of an environment with the baseline systems installed.")
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option(help="Run only this row and the rows it needs. Repeatable.")
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Number of rows to run at the same time.")] = 2,
    threads: Annotated[int, typer.Option(min=1, help="Number of CPU threads per row.")] = 1,
    cache: Annotated[
        Path | None, typer.Option(help="Folder for decoded audio; by default inside --out.")
    ] = None,
    render: Annotated[
        Path | None, typer.Option(help="Only write the tables and the page of this results folder again.")
    ] = None,
) -> None:
    """Train, evaluate and compare every row of a plan.

    Writes results.json, results.md, figures and an HTML page to OUT/table. Ctrl-C stops and keeps finished
    parts; the same command continues.
    """
    from separative import benchmark as table
    from separative.errors import SeparativeError

    def tell(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    if render is not None:
        page = table.render(render, report=tell)
    else:
        for name, value in (("a plan", plan), ("--corpus", corpus), ("--out", out)):
            if value is None:
                raise SeparativeError(f"benchmark needs {name}, or --render with a results folder")
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
                report=tell,
            )
    print(page)


def evaluate_recordings(
    recordings: Annotated[
        Path,
        typer.Option(
            help="CSV file (recording, path, rttm; optional uem, kind), or folder of audio and RTTM."
        ),
    ],
    model: Annotated[
        str,
        typer.Argument(metavar="[MODEL]", help="Folder of a model or a run, or the name of a shipped model."),
    ] = DEFAULT_MODEL,
    system: Annotated[
        list[str] | None,
        typer.Option(help="NAME=FOLDER of another system with <recording>.rttm files. Repeatable."),
    ] = None,
    no_model: Annotated[bool, typer.Option("--no-model", help="Score only the other systems.")] = False,
    windows: Annotated[
        Path | None,
        typer.Option(help="CSV file to write the windows to that other systems embed; nothing is measured."),
    ] = None,
    seed: Seed = 0,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the results; by default recordings-<name> inside MODEL.")
    ] = None,
) -> None:
    """Measure a model and other systems on real recordings with references.

    Reports diarization errors, speaker counts, verification of windows, time and memory, over all recordings,
    by kind and by recording. A recording that fails is named and the others are scored; the exit code is then
    2.
    """
    from separative import evaluation
    from separative.errors import SeparativeError
    from separative.evaluation.recording_tables import systems_table
    from separative.model import load_model, model_names

    if windows is not None:
        check_output(windows, folder=False)
        if windows.exists():
            raise SeparativeError(f"{windows} exists; choose another file with --windows")
        found, failed = evaluation.read_references(recordings)
        print(f"{windows}: {evaluation.write_windows(found, windows)} windows")
        _finish(failed)
        return
    systems: dict[str, str | Path] = {}
    for text in system or ():
        name, separator, folder = text.rpartition("=")
        if not separator or not name or not folder or name in systems:
            raise SeparativeError(f"--system '{text}' must be NAME=FOLDER, with a different name for each")
        systems[name] = Path(folder)
    # The name of a model of the package is not a folder, even if there is a folder of that name.
    inside = Path(model) if model not in model_names() and Path(model).is_dir() and not no_model else Path()
    target = out or inside / f"recordings-{recordings.stem}"
    check_output(target, folder=True)
    name = model if model in model_names() else Path(model).resolve().name
    loaded = None if no_model else load_model(model)
    with Bars() as bars:
        results = evaluation.evaluate_recordings(
            loaded, recordings, name=name, systems=systems, seed=seed, progress=bars.count("recordings")
        )
    # Folders of this machine mean nothing to a reader of the page.
    words = ["--no-model"] if no_model else [name]
    words += [f'--system "{key}={Path(folder).name}"' for key, folder in systems.items()]
    results.settings["command"] = (
        f"separative evaluate-recordings {' '.join(words)} --recordings {recordings.name} --seed {seed}"
    )
    figures = {"der.png": evaluation.recordings_figure(results)}
    saved = results.save(target, text=evaluation.recordings_page(results, figure="der.png"), figures=figures)
    print(f"{systems_table(results)}\n{saved}")
    _finish(results.settings["failed"])


def _finish(failed: list[str]) -> None:
    """Name the recordings that failed, if there are any, and end the command with an error."""
    from separative.errors import SeparativeError

    for sentence in failed:
        print(f"separative: {printable(sentence)}", file=sys.stderr)
    if failed:
        raise SeparativeError(f"{len(failed)} not done")


def report(
    source: Annotated[
        Path, typer.Argument(metavar="RUN|RESULTS", help="Folder of a run, or results.json or its folder.")
    ],
    out: Annotated[
        Path | None, typer.Option(help="Page to write; by default report.html in the folder.")
    ] = None,
    corpus: Annotated[
        Path | None, typer.Option(help="Corpus of other speakers, to add an example mixture to the page.")
    ] = None,
    split: Split = "dev",
    seed: Seed = 0,
) -> None:
    """Write one self-contained HTML page about a run or its results.

    The page shows training curves and error rates by condition with intervals. With a corpus it also shows an
    example mixture and its separated speakers.
    """
    from separative.demo import sample_mixture
    from separative.errors import SeparativeError
    from separative.report import write_report

    folder = source if source.is_dir() else source.parent
    found = [source] if source.is_file() else sorted(source.glob("**/results.json"))
    results = next((path for path in found if path.name == "results.json"), None)
    run = folder if source.is_dir() and (folder / "log.jsonl").is_file() else None
    if results is None and run is None:
        raise SeparativeError(f"{source}: found no run (log.jsonl) and no results (results.json)")
    samples = []
    if corpus is not None:
        from separative.corpora import load_corpus
        from separative.model import load_model

        model = load_model(folder)
        with Bars() as bars:
            speech = load_corpus(
                corpus, split=split, keep_damaged=True, progress=bars.count("reading headers")
            )
        samples = sample_mixture(model, speech, seed)
    page = write_report(
        out or folder / "report.html",
        heading=f"Separative: {folder.resolve().name}",
        results=results,
        run=run,
        samples=samples,
    )
    print(page)
