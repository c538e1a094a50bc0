"""Command extract: the voice of one person from a recording or a live stream."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from separative.cli.options import DEFAULT_MODEL, Channels, Json, Model, OriginalRate
from separative.cli.outputs import check_output
from separative.cli.raw_input import interrupt_on_terminate, open_raw_input, raw_blocks
from separative.cli.show import Bars, Stopped, check_recordings, print_json, printable
from separative.errors import AudioError, SeparativeError

if TYPE_CHECKING:
    from separative.inference.extract import LiveExtractor, PersonUpdate, Presence
    from separative.model import SeparativeEncoder
    from separative.types import Floats

ABSENT = 1
"""Exit code if the person is not in the recording."""


def extract(
    source: Annotated[
        Path | None, typer.Argument(help="Recording of any length; none with --live.", show_default=False)
    ] = None,
    out: Annotated[Path, typer.Option(help="File for the voice, .wav or .flac.")] = Path("person.wav"),
    who: Annotated[list[Path] | None, typer.Option(help="Recording of the person alone. Repeatable.")] = None,
    gallery: Annotated[Path | None, typer.Option(help="Gallery in which the person is enrolled.")] = None,
    name: Annotated[str | None, typer.Option(help="Name of the person in the gallery.")] = None,
    model: Model = DEFAULT_MODEL,
    prior: Annotated[
        float, typer.Option(help="Prior probability that the person is in the recording.")
    ] = 0.5,
    live: Annotated[
        bool, typer.Option("--live", help="Read raw samples from standard input, as `listen` does.")
    ] = False,
    rate: Annotated[
        int, typer.Option(min=1000, max=768_000, help="Sampling rate of --live in hertz.")
    ] = 16000,
    latency: Annotated[
        float, typer.Option(min=0.5, max=2.0, help="Delay of --live in seconds; longer is more accurate.")
    ] = 0.5,
    channels: Channels = "mean",
    original_rate: OriginalRate = False,
    force: Annotated[bool, typer.Option("--force", help="Replace the output file.")] = False,
    json: Json = False,
) -> None:
    """Extract the voice of one person from a recording or a live stream.

    Name the person with --who FILE, or with --gallery FOLDER --name NAME. The output is as long as the
    recording, and silent where the person does not talk. If the person is not in the recording, nothing is
    written, the exit code is 1, and one line says so. With --live, the voice is written while samples arrive,
    until the input ends.
    """
    from separative.inference.extract import find_person, write_person
    from separative.inference.verify import embed_speaker
    from separative.metrics.calibration import log_odds
    from separative.model import load_model

    by_gallery = gallery is not None and name is not None
    if bool(who) == by_gallery or (gallery is None) != (name is None):
        raise SeparativeError("name the person with --who FILE, or with --gallery FOLDER --name NAME")
    if live == (source is not None):
        raise SeparativeError("pass a recording, or --live to read raw samples from standard input")
    if live and original_rate:
        raise SeparativeError("--original-rate is for recordings; --live writes at the rate of the model")
    log_odds(prior)
    if out.suffix.lower() not in (".wav", ".flac"):
        raise SeparativeError(f"--out {out} must end in .wav or .flac")
    check_output(out, folder=False)
    if out.exists() and not force:
        raise SeparativeError(f"{out} exists; choose another file with --out, or replace it with --force")
    check_recordings([*(who or ()), *([source] if source else ())], channels)
    loaded = load_model(model)
    if gallery is not None and name is not None:
        person = _enrolled(loaded, gallery, name)
    else:
        person = embed_speaker(loaded, list(who or ()), channels)
    words = name or printable((who or [Path("the person")])[0].stem)
    if source is None:
        presence = _extract_live(loaded, person, out, prior, rate, latency, words)
        damage = ""
    else:
        from separative.inference import diarize

        with Bars() as bars:
            diarization = diarize(loaded, source, channels=channels, progress=bars.count("processing"))
            presence = find_person(loaded, diarization, person, prior=prior)
            if presence.present and presence.speaker is not None:
                report = bars.count("separating")
                write_person(
                    loaded, diarization, presence.speaker, out, original_rate=original_rate, progress=report
                )
        damage = diarization.damage
    if json:
        print_json({"person": words, **asdict(presence), "file": out if presence.present else None})
    else:
        print(_sentence(presence, words, "the stream" if source is None else printable(source)))
        if presence.present:
            print(printable(out))
    if damage:
        raise AudioError(f"{damage}; only the part before it was used")
    if not presence.present:
        raise typer.Exit(ABSENT)


def _enrolled(model: SeparativeEncoder, folder: Path, name: str) -> Floats:
    """The embedding of a person in a gallery."""
    from separative.errors import UnknownSpeakerError
    from separative.gallery import Gallery
    from separative.gallery.records import check_name

    with Gallery(folder, model, create=False) as gallery:
        names, embedding_NE = gallery.embeddings(max(1, len(gallery)))
    if (name := check_name(name)) not in names:
        raise UnknownSpeakerError(f"no speaker '{name}' in {folder}")
    found: Floats = embedding_NE[list(names).index(name)]
    return found


def _sentence(presence: Presence, person: str, where: str) -> str:
    if presence.speaker is None:
        return f"{person} is not in {where}: no speaker with enough speech was found"
    how = f"cosine {presence.score:.2f}"
    if presence.probability is not None:
        how = f"probability {presence.probability:.3g}, {how}"
    if presence.present:
        return f"{person} is speaker{presence.speaker + 1} of {where} ({how})"
    return f"{person} is not in {where} ({how} for the most similar speaker)"


def _extract_live(
    model: SeparativeEncoder,
    person: Floats,
    out: Path,
    prior: float,
    rate: int,
    latency: float,
    words: str,
) -> Presence:
    """Write the voice while samples arrive. The file is removed if the person was never found."""
    from separative import audio
    from separative.inference.extract import LiveExtractor

    source, head = open_raw_input(rate)
    extractor = LiveExtractor(model, person, prior=prior, latency=latency)
    presence, found, active = extractor.presence, False, False
    stopped: KeyboardInterrupt | None = None
    with ExitStack() as files:
        files.enter_context(interrupt_on_terminate())
        write = files.enter_context(audio.writer(out, model.rate))
        try:
            for update in _updates(extractor, source, head, rate):
                # A person who was found once stays found, whoever is the most similar speaker later.
                if update.active or not found:
                    presence, found = update.presence, found or update.active
                if update.active != active:
                    active = update.active
                    print(f"{update.start:8.2f} s  {words if active else '-'}", file=sys.stderr, flush=True)
                write(update.waveform)
        except KeyboardInterrupt as stop:
            # A live stream usually ends like this.
            stopped = stop
    if not found:
        out.unlink(missing_ok=True)
    if stopped is not None:
        kept = f"the voice up to there is in {out}" if found else f"{words} was not found"
        raise Stopped(f"interrupted; {kept}") from stopped
    return replace(presence, present=found)


def _updates(extractor: LiveExtractor, source: BinaryIO, head: bytes, rate: int) -> Iterator[PersonUpdate]:
    for wave_N in raw_blocks(source, head, rate, extractor.model.rate):
        yield from extractor.push(wave_N)
    yield from extractor.finish()
