"""Command diarize: who spoke when in a recording, in files for people and programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from separative.cli.options import DEFAULT_MODEL, ChannelsOrEach, Force, Json, Model
from separative.cli.outputs import SOURCE, check_output, claim_outputs, remove_stale_waveforms
from separative.cli.show import Bars, check_recordings, nearest_match, print_json, print_table, printable


def diarize(
    source: Annotated[Path, typer.Argument(help="Audio file of any length.")],
    out: Annotated[Path, typer.Option(help="Output folder.")],
    model: Model = DEFAULT_MODEL,
    speakers: Annotated[
        int | None,
        typer.Option(
            min=1, help="Maximum number of speakers, if known (of each channel, with --channels each)."
        ),
    ] = None,
    voices: Annotated[
        bool, typer.Option(help="Also write one waveform per speaker and an HTML page.")
    ] = True,
    active_only: Annotated[
        bool, typer.Option("--active-only", help="Mute each waveform outside its speaker's turns.")
    ] = False,
    enrol: Annotated[
        list[str] | None,
        typer.Option(help="NAME=FILE: recording of a known speaker to compare with. Repeatable."),
    ] = None,
    prior: Annotated[
        float, typer.Option(help="Prior probability that a known speaker is in the recording.")
    ] = 0.5,
    channels: ChannelsOrEach = "mean",
    name: Annotated[
        str | None, typer.Option(help="Name of the results, <name>; by default that of the file.")
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
    """Find who spoke when in a recording of any length.

    Estimates the number of speakers and writes their turns: OUT/<name>.json, .png, and one file for each
    --format. Subtitles (srt, vtt) have one speaker at a time; the other files have all turns. With --voices
    also writes one waveform per speaker, OUT/<name>-speaker<i>.wav, and a page to play them,
    OUT/<name>.html. With --channels each, every channel has its own speakers: 1-speaker1, 2-speaker1 and so
    on. After an interruption the same command continues. Results of other recordings are kept, unless --force
    is given.
    """
    from separative import inference
    from separative.errors import AudioError, SeparativeError
    from separative.files import write_json
    from separative.inference.formats import TurnTable, parse_formats, write_turns
    from separative.inference.timeline import write_picture, write_timeline
    from separative.inference.verify import embed_speaker, rank_enrolled
    from separative.metrics.calibration import log_odds
    from separative.model import load_model

    wanted = parse_formats(formats)
    enrolled = _parse_enrolled(enrol or [])
    log_odds(prior)
    if name is not None and (Path(name).name != name or name == ".."):
        raise SeparativeError(f"--name '{name}' must be a file name without folders")
    stem = name or source.stem
    # Enrolled speakers come first: an error in their recordings must not cost the work on a long recording.
    one = "mean" if channels == "each" else channels
    check_recordings([source], channels)
    check_recordings((path for paths in enrolled.values() for path in paths), one)
    check_output(out, folder=True)
    ways = "another folder with --out or another name with --name"
    claim = claim_outputs(out, stem, source, "diarize", force=force, ways=ways, by_channel=channels == "each")
    loaded = load_model(model)
    known = {who: embed_speaker(loaded, paths, one) for who, paths in enrolled.items()}
    with Bars() as bars:
        # Windows that were processed before an interruption; removed when the command is done.
        kept = out / f".{stem}.npz"
        report = bars.count("processing")
        if channels == "each":
            found = inference.diarize_channels(loaded, source, speakers=speakers, cache=kept, progress=report)
        else:
            meeting = inference.diarize(
                loaded, source, speakers=speakers, channels=channels, cache=kept, progress=report
            )
            found = (meeting,)
        ranked = [rank_enrolled(loaded, meeting, known, prior=prior) for meeting in found] if known else None
        if channels == "each":
            record = inference.describe_channels(found, ranked)
        else:
            record = inference.describe_diarization(found[0], ranked[0] if ranked else None)
        settings = {"speakers": speakers, "channels": channels, "prior": prior, "enrol": list(enrolled)}
        record = record | inference.describe_run(loaded, settings) | {SOURCE: claim}
        # The record comes first: it tells a later call that the other files are of this recording. The turns
        # come before the separation, which takes longer.
        write_json(out / f"{stem}.json", record)
        table = TurnTable(
            stem,
            found[0].seconds,
            tuple(sorted((turn for meeting in found for turn in meeting.turns), key=lambda turn: turn.start)),
            tuple(inference.exclusive_turns(*found)),
            source,
            {speaker["name"]: speaker.get("channel", 1) for speaker in record["speakers"]},
        )
        paths = [*write_turns(table, out, stem, wanted), out / f"{stem}.json"]
        paths.append(write_picture(out / f"{stem}.png", record))
        if voices:
            written = [
                path
                for meeting in found
                for path in inference.write_speakers(
                    loaded, meeting, out, stem, active_only=active_only, progress=bars.count("separating")
                )
            ]
            remove_stale_waveforms(out, stem, written)
            paths += written
            if not found[0].damage:
                paths.append(write_timeline(out / f"{stem}.html", record, source, written))
        record = record | {"files": [path.name for path in paths]}
        write_json(out / f"{stem}.json", record)
    for path in (kept, *(inference.channel_cache(kept, c) for c in range(found[0].channels))):
        path.unlink(missing_ok=True)
    if json:
        print_json(record | {"files": paths})
        return
    if record["speakers"]:
        _print_speakers(record["speakers"], with_nearest=bool(known))
        for channel in record.get("channels_without_speech", ()):
            print(f"channel {channel} of {found[0].channels}: no speech found")
    else:
        print(f"{printable(source)}: no speech found")
    for path in paths:
        print(printable(path))
    if (missing := sum(meeting.missing_speakers for meeting in found)) and record["speakers"]:
        print(f"{missing} of the speakers asked for were not found; no speaker is split to reach the number")
    if damage := found[0].damage:
        raise AudioError(f"{damage}; results up to there are in {out}")


def _parse_enrolled(entries: list[str]) -> dict[str, list[Path]]:
    """The recordings of each known speaker, from entries NAME=FILE."""
    from separative.errors import SeparativeError

    enrolled: dict[str, list[Path]] = {}
    for entry in entries:
        name, equals, file = entry.partition("=")
        if not (name and equals and file):
            raise SeparativeError(f"--enrol '{entry}' must have the form NAME=FILE")
        enrolled.setdefault(name, []).append(Path(file))
    return enrolled


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
