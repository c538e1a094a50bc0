"""Command diarize: who spoke when in recordings, in files for people and programs."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from separative.cli.options import DEFAULT_MODEL, ChannelsOrEach, Force, Json, Model, OriginalRate
from separative.cli.outputs import check_output, claim_outputs
from separative.cli.show import Bars, check_recordings, nearest_match, print_json, print_table, printable

if TYPE_CHECKING:
    from separative.cli.one_recording import DiarizeResult
    from separative.gallery import KnownSpeakers
    from separative.model import SeparativeEncoder


def diarize(
    sources: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILES|FOLDERS...", help="Recordings of any length, and folders with recordings."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Output folder.")],
    model: Model = DEFAULT_MODEL,
    speakers: Annotated[
        int | None,
        typer.Option(min=1, help="Number of speakers, if known (of each channel, with --channels each)."),
    ] = None,
    min_speakers: Annotated[
        int | None,
        typer.Option(min=1, help="Least number of speakers. Counts only if each may have 15 s of speech."),
    ] = None,
    max_speakers: Annotated[int | None, typer.Option(min=1, help="Greatest number of speakers.")] = None,
    voices: Annotated[
        bool, typer.Option(help="Also write one waveform per speaker and an HTML page.")
    ] = True,
    active_only: Annotated[
        bool, typer.Option("--active-only", help="Mute each waveform outside its speaker's turns.")
    ] = False,
    original_rate: OriginalRate = False,
    cut: Annotated[
        Literal["speakers", "turns"] | None,
        typer.Option(
            help="Also write only the turns: one file per speaker or per turn, and a list of them. Without"
            " --voices, they are cut from the recording."
        ),
    ] = None,
    gallery: Annotated[
        Path | None,
        typer.Option(help="Folder of a gallery. Its speakers are named in the results."),
    ] = None,
    enrol: Annotated[
        list[str] | None,
        typer.Option(help="NAME=FILE: recording of a speaker to name in the results. Repeatable."),
    ] = None,
    enrol_unknown: Annotated[
        bool,
        typer.Option(
            "--enrol-unknown",
            help="Enrol unknown speakers in the gallery, as <name>-speaker1 and so on, to be renamed later.",
        ),
    ] = False,
    prior: Annotated[
        float, typer.Option(help="Prior probability that a speaker of a recording is an enrolled one.")
    ] = 0.5,
    channels: ChannelsOrEach = "mean",
    name: Annotated[
        str | None, typer.Option(help="Name of the results of a single file; by default that of the file.")
    ] = None,
    formats: Annotated[
        str,
        typer.Option(
            "--format",
            help="Files of turns, separated by commas: rttm, csv, srt, vtt, audacity, textgrid, eaf. JSON is"
            " always written.",
        ),
    ] = "rttm",
    force: Force = False,
    json: Json = False,
) -> None:
    """Find who spoke when in recordings of any length.

    Estimates the number of speakers and writes their turns: OUT/<name>.json, .png, and one file for each
    --format. Subtitles (srt, vtt) have one speaker at a time; the other files have all turns. With --voices
    also writes one waveform per speaker, OUT/<name>-speaker<i>.wav, and a page to play them,
    OUT/<name>.html. With --channels each, every channel has its own speakers: 1-speaker1, 2-speaker1 and so
    on. With --gallery or --enrol, enrolled speakers have their names in all files. After an interruption the
    same command continues. Results of other recordings are kept, unless --force is given.

    Several files and folders are processed one after the other, and results keep their sub-folders. Files
    that fail are named, and the exit code is then 2. Finished ones are not processed again, unless --force is
    given.
    """
    from separative.cli.many_recordings import find_targets, process_all
    from separative.cli.one_recording import DiarizeJob, DiarizeTarget, process_recording
    from separative.errors import AudioError, SeparativeError
    from separative.inference.counting import SpeakerLimits
    from separative.inference.formats import parse_formats
    from separative.inference.output import recording_digest
    from separative.metrics.calibration import log_odds
    from separative.model import load_model

    wanted = parse_formats(formats)
    enrolled = _parse_enrolled(enrol or [])
    log_odds(prior)
    SpeakerLimits.of(speakers, min_speakers, max_speakers)
    if name is not None and (Path(name).name != name or name == ".."):
        raise SeparativeError(f"--name '{name}' must be a file name without folders")
    if enrol_unknown and gallery is None:
        raise SeparativeError("--enrol-unknown needs a gallery: add --gallery FOLDER")
    single = len(sources) == 1 and not sources[0].is_dir()
    if name is not None and not single:
        raise SeparativeError("--name is for one file; results of several have the names of their files")
    # Enrolled speakers come first: an error in their recordings must not cost the work on a long recording.
    one = "mean" if channels == "each" else channels
    if single:
        check_recordings(sources, channels)
    check_recordings((path for paths in enrolled.values() for path in paths), one)
    check_output(out, folder=True)
    if single:
        targets = [DiarizeTarget(sources[0], out, name or sources[0].stem)]
        ways = "another folder with --out or another name with --name"
        claim = claim_outputs(
            out, targets[0].stem, sources[0], "diarize", force=force, ways=ways, by_channel=channels == "each"
        )
    else:
        targets = find_targets(sources, out)
    settings = {
        "speakers": speakers,
        "min_speakers": min_speakers,
        "max_speakers": max_speakers,
        "channels": channels,
        "prior": prior,
        "enrol": {who: [recording_digest(path) for path in paths] for who, paths in enrolled.items()},
        "gallery": None if gallery is None else gallery.name,
        "enrol_unknown": enrol_unknown,
        "formats": list(wanted),
        "voices": voices,
        "active_only": active_only,
        "original_rate": original_rate,
        "cut": cut,
    }
    loaded = load_model(model)
    with ExitStack() as opened:
        known = _open_known(opened, loaded, gallery, enrolled, one, prior, create=enrol_unknown)
        job = DiarizeJob(loaded, settings, wanted, known)
        if not single:
            process_all(job, targets, out, force=force, json=json)
            return
        with Bars() as bars:
            result = process_recording(job, targets[0], claim, bars)
    if json:
        print_json(result.record | {"files": result.paths})
        return
    _print_result(result, sources[0], with_nearest=known is not None)
    if result.damage:
        raise AudioError(f"{result.damage}; results up to there are in {out}")


def _open_known(
    opened: ExitStack,
    model: SeparativeEncoder,
    folder: Path | None,
    enrolled: Mapping[str, list[Path]],
    channels: Any,
    prior: float,
    *,
    create: bool,
) -> KnownSpeakers | None:
    """The speakers of a gallery and those of --enrol; None if neither was given."""
    if folder is None and not enrolled:
        return None
    from separative.gallery import Gallery, KnownSpeakers
    from separative.inference.verify import embed_speaker

    gallery = None if folder is None else opened.enter_context(Gallery(folder, model, create=create))
    embeddings = {name: embed_speaker(model, paths, channels) for name, paths in enrolled.items()}
    known = KnownSpeakers(model, gallery=gallery, embeddings=embeddings, prior=prior)
    for warning in known.warnings:
        print(f"separative: {printable(warning)}", file=sys.stderr)
    return known


def _parse_enrolled(entries: list[str]) -> dict[str, list[Path]]:
    """The recordings of each known speaker, from entries NAME=FILE."""
    from separative.errors import SeparativeError
    from separative.gallery.records import check_name

    enrolled: dict[str, list[Path]] = {}
    for entry in entries:
        name, equals, file = entry.partition("=")
        if not (name and equals and file):
            raise SeparativeError(f"--enrol '{entry}' must have the form NAME=FILE")
        enrolled.setdefault(check_name(name), []).append(Path(file))
    return enrolled


def _print_result(result: DiarizeResult, source: Path, *, with_nearest: bool) -> None:
    speakers = result.record["speakers"]
    if speakers:
        _print_speakers(speakers, with_nearest=with_nearest)
        for channel in result.record.get("channels_without_speech", ()):
            print(f"channel {channel} of {result.record['channels']}: no speech found")
    else:
        print(f"{printable(source)}: no speech found")
    for line in (*result.notes, *result.paths):
        print(printable(line))
    if result.missing_speakers and speakers:
        missing = f"{result.missing_speakers} of the speakers asked for were not found"
        print(f"{missing}: the recording has too little speech that is unlike the other speakers")


def _print_speakers(speakers: list[dict[str, Any]], *, with_nearest: bool) -> None:
    rows = [
        (
            speaker["name"],
            f"{speaker['speech_seconds']:.1f}",
            len(speaker["turns"]),
            *([nearest_match(speaker["matches"])] if with_nearest else []),
        )
        for speaker in speakers
    ]
    print_table(["speaker", "speech, s", "turns", *(["nearest"] if with_nearest else [])], rows)
