"""Verbs on galleries of enrolled speakers: add, remove, list, find, export, import, reembed."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from separative.cli.recordings import DEFAULT, Model
from separative.cli.show import Bars, check_sounds, say_json, say_table

if TYPE_CHECKING:
    from separative.gallery import Gallery

Folder = Annotated[Path, typer.Argument(metavar="GALLERY", help="Folder of the gallery.")]
Json = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]


def add(
    gallery: Folder,
    name: Annotated[str, typer.Argument(help="Of the speaker; a known one gets more recordings.")],
    sources: Annotated[list[Path], typer.Argument(help="Recordings of this speaker alone.")],
    model: Model = DEFAULT,
    metadata: Annotated[
        list[str] | None, typer.Option(help="KEY=VALUE to keep with the speaker; repeatable.")
    ] = None,
    keep_sound: Annotated[
        bool, typer.Option("--keep-sound", help="Keep the recordings, so that another model can hear them.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Enrol in spite of little speech, other speakers, clipping.")
    ] = False,
) -> None:
    """Enrol a speaker.

    A new gallery is made where there is none. Recordings that are not good enough are refused, with reasons.
    """
    from separative.errors import GalleryError

    notes: dict[str, str] = {}
    for entry in metadata or ():
        key, equals, value = entry.partition("=")
        if not (key and equals):
            raise GalleryError(f"--metadata '{entry}' is not of the form KEY=VALUE")
        notes[key] = value
    check_sounds(sources, "mean")
    with Bars() as bars, _opened(gallery, model, create=True) as opened:
        heard = [
            opened.hear(
                source,
                keep_sound=keep_sound,
                force=force,
                progress=bars.count(f"listening to {source.name}"),
            )
            for source in sources
        ]
        opened.enrol(name, [view for _, view in heard], notes)
        for source, (gate, _) in zip(sources, heard, strict=True):
            print(f"{source}: {gate.seconds:.1f} s of {name}")


def remove(
    gallery: Folder,
    names: Annotated[list[str], typer.Argument(help="Speakers to remove, with all that is known of them.")],
    model: Model = DEFAULT,
) -> None:
    """Remove speakers, from every file of the gallery."""
    with _opened(gallery, model) as opened:
        opened.remove(*names)
        print(f"{gallery}: {len(names)} removed, {len(opened)} left")


def list_(gallery: Folder, model: Model = DEFAULT, json: Json = False) -> None:
    """Who is enrolled."""
    with _opened(gallery, model) as opened:
        speakers = opened.list()
    if json:
        say_json([asdict(speaker) for speaker in speakers])
        return
    say_table(
        ("name", "recordings", "speech, s", "added", "metadata"),
        [
            (
                t.name,
                t.recordings,
                f"{t.seconds:.1f}",
                t.added,
                ", ".join(f"{key}={value}" for key, value in t.metadata.items()),
            )
            for t in speakers
        ],
    )


def find(
    gallery: Folder,
    source: Annotated[Path, typer.Argument(help="A recording of one or several speakers, of any length.")],
    model: Model = DEFAULT,
    count: Annotated[int, typer.Option(min=1, help="Candidates for each voice.")] = 3,
    prior: Annotated[
        float, typer.Option(help="Probability that a voice is that of anyone enrolled, before listening.")
    ] = 0.5,
    json: Json = False,
) -> None:
    """Whose voices are in a recording: enrolled speakers', or unknown."""
    from separative import inference
    from separative.metrics.calibration import log_odds

    log_odds(prior)
    check_sounds([source], "mean")
    with Bars() as bars, _opened(gallery, model) as opened:
        meeting = inference.diarize(opened.model, source, progress=bars.count("listening"))
        found = [opened.identify_speaker(s, count=count, prior=prior) for s in meeting.speakers]
    if json:
        voices = zip(meeting.speakers, found, strict=True)
        say_json(
            [{"speaker": s.name, "speech_seconds": s.speech_seconds, **asdict(who)} for s, who in voices]
        )
        return
    rows = []
    for speaker, who in zip(meeting.speakers, found, strict=True):
        chance = "" if who.unknown is None else f" ({who.unknown:.0%})"
        nearest = ", ".join(
            f"{c.name} {c.score:.2f}" + ("" if c.probability is None else f" ({c.probability:.0%})")
            for c in who.candidates
        )
        rows.append(
            (speaker.name, f"{speaker.speech_seconds:.1f}", who.name or f"unknown{chance}", nearest or "–")
        )
    say_table(("speaker", "speech, s", "is", "nearest"), rows)


def export(
    gallery: Folder,
    path: Annotated[Path, typer.Argument(help="JSON file to write.")],
    model: Model = DEFAULT,
) -> None:
    """Write a gallery to one file, for another machine."""
    with _opened(gallery, model) as opened:
        opened.export(path)
        print(f"{path}: {len(opened)} speakers")


def import_(
    gallery: Folder,
    path: Annotated[Path, typer.Argument(help="What export wrote, with the same model.")],
    model: Model = DEFAULT,
) -> None:
    """Take in what export wrote: all of it, or nothing."""
    with _opened(gallery, model, create=True) as opened:
        print(f"{path}: {opened.import_(path)} speakers; {len(opened)} in {gallery}")


def reembed(gallery: Folder, model: Model = DEFAULT) -> None:
    """Hear all kept recordings again, with another model.

    Only for galleries whose speakers were all added with --keep-sound.
    """
    from separative.gallery import Gallery
    from separative.model import load_model

    with (
        Bars() as bars,
        Gallery.reembed(gallery, load_model(model), progress=bars.count("listening again")) as opened,
    ):
        print(f"{gallery}: {len(opened)} speakers, heard by {model}")


def _opened(folder: Path, model: str, *, create: bool = False) -> Gallery:
    from separative.gallery import Gallery
    from separative.model import load_model

    return Gallery(folder, load_model(model), create=create)
