"""Command transcript: the speakers of a transcript."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from separative.cli.options import DEFAULT_MODEL, Channels, Json, Model
from separative.cli.outputs import check_output
from separative.cli.show import Bars, check_recordings, print_json, printable

if TYPE_CHECKING:
    from separative.rttm import Turn


def transcript(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="TRANSCRIPT", help="Transcript with times: SRT, WebVTT, or JSON of Whisper or whisperX."
        ),
    ],
    recording: Annotated[
        Path, typer.Argument(help="Recording of the transcript, or an RTTM file with its turns.")
    ],
    out: Annotated[
        Path | None, typer.Option(help="Output file: .json, .srt, .vtt or .txt; by default printed.")
    ] = None,
    model: Model = DEFAULT_MODEL,
    speakers: Annotated[
        int | None, typer.Option(min=1, help="Number of speakers, if known; by default estimated.")
    ] = None,
    channels: Channels = "mean",
    force: Annotated[bool, typer.Option("--force", help="Replace the output file if it exists.")] = False,
    json: Json = False,
) -> None:
    """Find the speaker of every word of a transcript.

    Diarizes the recording, or reads its turns from an RTTM file, and splits the segments of the transcript
    where the speaker changes. A transcript without times of words keeps its segments: each gets one speaker.
    """
    from separative import inference
    from separative.errors import SeparativeError
    from separative.inference.transcript_files import describe_segment, dialogue, output_suffix
    from separative.model import load_model

    if out is not None:
        output_suffix(out)
        check_output(out, folder=False)
        if out.exists() and not force:
            raise SeparativeError(f"{out} exists; choose another file with --out, or replace it with --force")
    segments = inference.read_transcript(source)
    if segments and not any(segment.words for segment in segments):
        print(
            f"separative: {printable(source)}: the words have no times, so each segment gets one speaker",
            file=sys.stderr,
        )
    exclusive: list[Turn] = []
    seconds = None
    if recording.suffix.lower() == ".rttm":
        turns = _read_turns(recording, source.stem)
    else:
        check_recordings([recording], channels)
        loaded = load_model(model)
        with Bars() as bars:
            report = bars.minutes("processing", loaded.rate)
            found = inference.diarize(
                loaded, recording, speakers=speakers, channels=channels, progress=report
            )
        turns, exclusive, seconds = found.turns, inference.exclusive_turns(found), found.seconds
    segments = inference.add_speakers(segments, turns, exclusive=exclusive, seconds=seconds)
    if out is not None:
        inference.write_transcript(segments, out)
    if json:
        print_json({"segments": [describe_segment(segment) for segment in segments]})
    elif out is None:
        print(printable(dialogue(segments)), end="")
    else:
        print(printable(out))


def _read_turns(path: Path, name: str) -> list[Turn]:
    """The turns of the one recording of an RTTM file, or of the one named like the transcript."""
    from separative.errors import SeparativeError
    from separative.rttm import read_rttm, rttm_name

    turns = read_rttm(path)
    if len(turns) <= 1:
        return next(iter(turns.values()), [])
    if (own := turns.get(rttm_name(name))) is None:
        raise SeparativeError(
            f"{path} has turns of {len(turns)} recordings, but none of '{name}'; give the transcript the name"
            " of its recording"
        )
    return own
