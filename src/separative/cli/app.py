"""The tree of verbs. Verbs import what they need when they run, so that --help stays quick."""

from __future__ import annotations

import typer

from separative.cli import corpora, gallery, info, meetings, models, recordings, results

app = typer.Typer(
    help="Speaker representations that survive the cocktail party.",
    no_args_is_help=True,
    add_completion=False,
    # A crash of ours is shown as Python shows it, help as plain text: rich would double the time of --help.
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

corpus = typer.Typer(help="Check, import or make a corpus.", no_args_is_help=True, rich_markup_mode=None)
corpus.command("check")(corpora.check)
corpus.command("import")(corpora.import_)
corpus.command("pack")(corpora.pack)
corpus.command("speak")(corpora.speak)
app.add_typer(corpus, name="corpus")

enrolled = typer.Typer(
    help="Keep speakers, and find them again.", no_args_is_help=True, rich_markup_mode=None
)
enrolled.command("add")(gallery.add)
enrolled.command("remove")(gallery.remove)
enrolled.command("list")(gallery.list_)
enrolled.command("find")(gallery.find)
enrolled.command("export")(gallery.export)
enrolled.command("import")(gallery.import_)
enrolled.command("reembed")(gallery.reembed)
app.add_typer(enrolled, name="gallery")

app.command("mix")(corpora.mix)
app.command("converse")(meetings.converse)
app.command("train")(models.train)
app.command("average")(info.average)
app.command("evaluate")(models.evaluate)
app.command("evaluate-meetings")(meetings.evaluate_meetings)
app.command("benchmark")(results.benchmark)
app.command("calibrate")(models.calibrate)
app.command("embed")(recordings.embed)
app.command("separate")(recordings.separate)
app.command("diarize")(recordings.diarize)
app.command("listen")(meetings.listen)
app.command("verify")(recordings.verify)
app.command("serve")(info.serve)
app.command("export")(info.export)
app.command("info")(info.info)
app.command("report")(results.report)
app.command("demo")(models.demo)
