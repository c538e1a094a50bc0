"""The tree of commands. A command imports what it needs when it runs, so that --help stays quick."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer

from separative.cli import (
    corpora,
    diarize,
    extract,
    gallery,
    info,
    label_free,
    meetings,
    models,
    recordings,
    results,
    scores,
    teach,
    transcripts,
)
from separative.plugins import load_plugins

app = typer.Typer(
    help="Speaker representations that survive the cocktail party.",
    no_args_is_help=True,
    # Rich formatting would double the run time of --help.
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"separative {version('separative')}")
        raise typer.Exit


@app.callback()
def _prepare(
    plugins: Annotated[
        list[Path] | None,
        typer.Option(
            "--plugin",
            metavar="FILE.py",
            help="Python file that registers an objective, a corpus layout or a condition. Repeatable.",
        ),
    ] = None,
    quiet: Annotated[
        bool, typer.Option("--quiet", help="Print results and errors only: no progress, no warnings.")
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", help="Also print what is loaded, and where an error occurred.")
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Read the options of all commands, which may also follow the command."""
    if quiet or verbose:
        logging.getLogger("separative").setLevel(logging.DEBUG if verbose else logging.ERROR)
    load_plugins(plugins or ())


corpus = typer.Typer(
    help="Check, import, pack or synthesize a corpus.", no_args_is_help=True, rich_markup_mode=None
)
corpus.command("check")(corpora.check)
corpus.command("import")(corpora.import_)
corpus.command("pack")(corpora.pack)
corpus.command("speak")(corpora.speak)
app.add_typer(corpus, name="corpus")

gallery_commands = typer.Typer(
    help="Enrol speakers and identify them in recordings.", no_args_is_help=True, rich_markup_mode=None
)
gallery_commands.command("add")(gallery.add)
gallery_commands.command("remove")(gallery.remove)
gallery_commands.command("rename")(gallery.rename)
gallery_commands.command("list")(gallery.list_)
gallery_commands.command("find")(gallery.find)
gallery_commands.command("export")(gallery.export)
gallery_commands.command("import")(gallery.import_)
gallery_commands.command("reembed")(gallery.reembed)
app.add_typer(gallery_commands, name="gallery")

app.command("mix")(corpora.mix)
app.command("converse")(meetings.converse)
app.command("train")(models.train)
app.command("find-identities")(label_free.find_identities)
app.command("teach")(teach.teach)
app.command("average")(info.average)
app.command("evaluate")(models.evaluate)
app.command("evaluate-meetings")(meetings.evaluate_meetings)
app.command("evaluate-recordings")(results.evaluate_recordings)
app.command("score")(scores.score)
app.command("benchmark")(results.benchmark)
app.command("calibrate")(models.calibrate)
app.command("embed")(recordings.embed)
app.command("separate")(recordings.separate)
app.command("diarize")(diarize.diarize)
app.command("extract")(extract.extract)
app.command("transcript")(transcripts.transcript)
app.command("listen")(meetings.listen)
app.command("verify")(recordings.verify)
app.command("serve")(info.serve)
app.command("export")(info.export)
app.command("info")(info.info)
app.command("report")(results.report)
app.command("demo")(models.demo)
