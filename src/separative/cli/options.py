"""Options and arguments that several commands share, and the names of their defaults."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

# Repeats the name in the room `model`: importing that room imports torch, and --help must stay quick.
DEFAULT_MODEL = "base"

ModelArgument = Annotated[
    str, typer.Argument(metavar="MODEL", help="Folder of a model or a run, or the name of a shipped model.")
]
Model = Annotated[str, typer.Option(help="Folder of a model or a run, or the name of a shipped model.")]
TestCorpus = Annotated[Path, typer.Option(help="Corpus of speakers the model was not trained on.")]
Noise = Annotated[Path | None, typer.Option(help="Corpus of noise clips, for conditions with noise.")]
Split = Annotated[str, typer.Option(help="Split of the corpora to use, if they have splits.")]
Seed = Annotated[int, typer.Option(min=0, help="Random seed; the same seed gives the same result.")]
Seconds = Annotated[float, typer.Option(min=0.5, help="Length in seconds of every enrolment and test side.")]
Enrolments = Annotated[int, typer.Option(min=1, help="Maximum number of enrolment sides per speaker.")]
Tests = Annotated[int, typer.Option(min=1, help="Maximum number of test sides per speaker.")]
EnrolCondition = Annotated[str, typer.Option(help="Condition of the enrolment side.")]
Batch = Annotated[int, typer.Option(min=1, help="Number of sides in one forward pass.")]
Set = Annotated[
    list[str] | None, typer.Option("--set", help="Recipe key to override: key.key=value. Repeatable.")
]
Channels = Annotated[
    Literal["mean", "first"],
    typer.Option(help="How to handle multichannel audio: average the channels or use the first."),
]
ChannelsOrEach = Annotated[
    Literal["mean", "first", "each"],
    typer.Option(
        help="How to handle multichannel audio: average the channels, use the first, or diarize each."
    ),
]
OriginalRate = Annotated[
    bool,
    typer.Option(
        "--original-rate", help="Write waveforms at the rate and with the channels of the recording."
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Replace results of other recordings and other files.")]
Strict = Annotated[
    bool, typer.Option("--strict", help="Stop at the first recording that fails, and write nothing.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Minutes = Annotated[
    float | None, typer.Option(min=0.01, help="Maximum training time in minutes; by default not limited.")
]
Steps = Annotated[
    int | None, typer.Option(min=1, help="Maximum number of training steps; by default the recipe's.")
]
Qualities = Annotated[
    str | None,
    typer.Option(
        help="Conditions for the calibration by recording quality, separated by commas; '' for none."
    ),
]
Threads = Annotated[int | None, typer.Option(min=1, help="Number of CPU threads; by default the recipe's.")]


def parse_share(text: str, option: str) -> float:
    """Read a share between 0 and 1, such as 5% or 0.05.

    Raises:
        SeparativeError: it is something else; the message names the option.
    """
    from separative.errors import SeparativeError

    try:
        share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        share = 0.0
    if not 0 < share < 1:
        raise SeparativeError(f"{option} '{text}' must be a rate such as 5% or 0.05")
    return share
