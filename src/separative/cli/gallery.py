"""Commands on galleries of enrolled speakers: add, remove, rename, list, find, export, import, reembed."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from separative.cli.options import DEFAULT_MODEL, Json, Model
from separative.cli.show import Bars, check_recordings, print_json, print_table

if TYPE_CHECKING:
    from separative.gallery import Gallery

Folder = Annotated[Path, typer.Argument(metavar="GALLERY", help="Folder of the gallery.")]


def add(
    gallery: Folder,
    name: Annotated[
        str, typer.Argument(help="Name of the speaker. An enrolled speaker gets the recordings added.")
    ],
    sources: Annotated[list[Path], typer.Argument(help="Recordings of this speaker alone.")],
    model: Model = DEFAULT_MODEL,
    metadata: Annotated[
        list[str] | None, typer.Option(help="KEY=VALUE to store with the speaker. Repeatable.")
    ] = None,
    keep_audio: Annotated[
        bool, typer.Option("--keep-audio", help="Store the audio, so that another model can embed it later.")
    ] = False,
    force: Annotated[
        bool,
        typer.Option("--force", help="Enrol recordings with too little speech, other speakers or clipping."),
    ] = False,
) -> None:
    """Enrol a speaker.

    Creates the gallery if there is none. Recordings that fail a quality check are refused with the reasons.
    """
    from separative.errors import GalleryError
    from separative.gallery.records import check_name

    name = check_name(name)
    notes: dict[str, str] = {}
    for entry in metadata or ():
        key, equals, value = entry.partition("=")
        if not (key and equals):
            raise GalleryError(f"--metadata '{entry}' must have the form KEY=VALUE")
        notes[key] = value
    check_recordings(sources, "mean")
    with Bars() as bars, _opened(gallery, model, create=True) as opened:
        embedded = [
            opened.embed_recording(
                source,
                keep_audio=keep_audio,
                force=force,
                progress=bars.count(f"processing {source.name}"),
            )
            for source in sources
        ]
        warnings = opened.enrol(name, [view for _, view in embedded], notes)
        for source, (quality, _) in zip(sources, embedded, strict=True):
            print(f"{source}: {quality.speech_seconds:.1f} s of {name}")
    _print_warnings(warnings)


def remove(
    gallery: Folder,
    names: Annotated[list[str], typer.Argument(help="Names of the speakers to remove, with all their data.")],
    model: Model = DEFAULT_MODEL,
) -> None:
    """Remove speakers and all their data from a gallery."""
    with _opened(gallery, model) as opened:
        removed = opened.remove(*names)
        print(f"{gallery}: {removed} removed, {len(opened)} left")


def rename(
    gallery: Folder,
    name: Annotated[str, typer.Argument(help="Name of an enrolled speaker.")],
    new_name: Annotated[str, typer.Argument(help="New name, which no other enrolled speaker has.")],
    model: Model = DEFAULT_MODEL,
) -> None:
    """Give an enrolled speaker another name. Recordings and metadata stay."""
    from separative.gallery.records import check_name

    with _opened(gallery, model) as opened:
        warnings = opened.rename(name, new_name)
        print(f"{gallery}: {check_name(name)} is now {check_name(new_name)}")
    _print_warnings(warnings)


def list_(gallery: Folder, model: Model = DEFAULT_MODEL, json: Json = False) -> None:
    """List the enrolled speakers."""
    with _opened(gallery, model) as opened:
        speakers = opened.list()
    if json:
        print_json([asdict(speaker) for speaker in speakers])
        return
    print_table(
        ("name", "recordings", "speech, s", "added", "metadata"),
        [
            (
                t.name,
                t.recordings,
                f"{t.speech_seconds:.1f}",
                t.added,
                ", ".join(f"{key}={value}" for key, value in t.metadata.items()),
            )
            for t in speakers
        ],
    )


def find(
    gallery: Folder,
    source: Annotated[Path, typer.Argument(help="Recording of any length, with any number of speakers.")],
    model: Model = DEFAULT_MODEL,
    count: Annotated[int, typer.Option(min=1, help="Number of candidates per speaker.")] = 3,
    prior: Annotated[
        float, typer.Option(help="Prior probability that a speaker of the recording is enrolled.")
    ] = 0.5,
    json: Json = False,
) -> None:
    """Identify the speakers of a recording among the enrolled speakers."""
    from separative import inference
    from separative.gallery import KnownSpeakers
    from separative.metrics.calibration import log_odds

    log_odds(prior)
    check_recordings([source], "mean")
    with Bars() as bars, _opened(gallery, model) as opened:
        meeting = inference.diarize(
            opened.model, source, progress=bars.minutes("processing", opened.model.rate)
        )
        known = KnownSpeakers(opened.model, gallery=opened, prior=prior)
        found = [replace(who, candidates=who.candidates[:count]) for who in known.identify_in(meeting)]
    if json:
        voices = zip(meeting.speakers, found, strict=True)
        print_json(
            [{"speaker": s.name, "speech_seconds": s.speech_seconds, **asdict(who)} for s, who in voices]
        )
        return
    if not found:
        print(f"{source}: no speech was found")
        return
    rows = []
    for speaker, who in zip(meeting.speakers, found, strict=True):
        chance = "" if who.unknown_probability is None else f" ({who.unknown_probability:.0%})"
        nearest = ", ".join(
            f"{c.name} {c.score:.2f}" + ("" if c.probability is None else f" ({c.probability:.0%})")
            for c in who.candidates
        )
        rows.append(
            (speaker.name, f"{speaker.speech_seconds:.1f}", who.name or f"unknown{chance}", nearest or "–")
        )
    print_table(("speaker", "speech, s", "identity", "nearest"), rows)


def export(
    gallery: Folder,
    path: Annotated[Path, typer.Argument(help="JSON file to write.")],
    model: Model = DEFAULT_MODEL,
) -> None:
    """Write a gallery to one JSON file, to move it to another machine."""
    with _opened(gallery, model) as opened:
        opened.export(path)
        print(f"{path}: {len(opened)} speakers")


def import_(
    gallery: Folder,
    path: Annotated[
        Path,
        typer.Argument(
            help="JSON file that `gallery export` wrote with the same model, or .npz or .parquet file with"
            " vectors of the model's teacher by name of the speaker."
        ),
    ],
    model: Model = DEFAULT_MODEL,
) -> None:
    """Add the speakers of an exported file: all of them, or none if one fails."""
    with _opened(gallery, model, create=True) as opened:
        print(f"{path}: {opened.import_(path)} speakers; {len(opened)} in {gallery}")


def reembed(gallery: Folder, model: Model = DEFAULT_MODEL) -> None:
    """Embed all stored recordings again with another model.

    Every speaker of the gallery must have been added with --keep-audio.
    """
    from separative.gallery import Gallery
    from separative.model import load_model

    with (
        Bars() as bars,
        Gallery.reembed(gallery, load_model(model), progress=bars.count("embedding")) as opened,
    ):
        print(f"{gallery}: {len(opened)} speakers, embedded by {model}")


def _print_warnings(warnings: Iterable[str]) -> None:
    for warning in warnings:
        print(f"separative: {warning}", file=sys.stderr)


def _opened(folder: Path, model: str, *, create: bool = False) -> Gallery:
    from separative.gallery import Gallery
    from separative.model import load_model

    return Gallery(folder, load_model(model), create=create)
