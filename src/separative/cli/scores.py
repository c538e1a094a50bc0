"""Command score: diarization errors of RTTM files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from separative.cli.options import Json
from separative.cli.show import print_json, print_table

if TYPE_CHECKING:
    from separative.metrics import TurnScore


def score(
    reference: Annotated[Path, typer.Argument(help="Reference: an RTTM file, or a folder of them.")],
    hypothesis: Annotated[Path, typer.Argument(help="Turns to score: an RTTM file, or a folder of them.")],
    uem: Annotated[
        Path | None, typer.Option(help="UEM file or folder with the scored spans; by default all time.")
    ] = None,
    collar: Annotated[
        float,
        typer.Option(min=0, help="Seconds not scored before and after each border of a reference turn."),
    ] = 0.0,
    json: Json = False,
) -> None:
    """Compute the diarization error of RTTM files.

    Prints the diarization error rate (DER), its parts (missed speech, false alarms, confusion) and the
    Jaccard error rate (JER), for every recording and over all. Overlapped speech is scored. The values equal
    those of pyannote.metrics, whose collar is twice as long: --collar 0.25 is 0.5 there.
    """
    from separative.evaluation.rttm_scores import score_rttm

    scores = score_rttm(reference, hypothesis, uem=uem, collar=collar)
    first, *others = scores.values()
    every = first
    for other in others:
        every = every + other
    if json:
        recordings = {name: _describe(one) for name, one in scores.items()}
        print_json({"collar": collar, "recordings": recordings, "all": _describe(every)})
        return
    rows = [_row(name, one) for name, one in scores.items()]
    if len(rows) > 1:
        rows.append(_row("all", every))
    columns = ("recording", "speech, s", "DER, %", "missed", "false alarm", "confusion", "JER, %")
    print_table(columns, rows)


def _row(name: str, score: TurnScore) -> tuple[object, ...]:
    error = score.error
    parts = [error.missed, error.false_alarm, error.confusion]
    # Without speech in the reference there is no rate: the parts are seconds.
    shown = [_percent(part / error.total) if error.total else f"{part:.2f} s" for part in parts]
    return (name, f"{error.total:.2f}", _percent(score.rate), *shown, _percent(score.jaccard))


def _percent(rate: float | None) -> str:
    return "-" if rate is None else f"{100 * rate:.2f}"


def _describe(score: TurnScore) -> dict[str, float | int | None]:
    """A record for JSON: rates are fractions, the rest is seconds."""
    return {
        "der": score.rate,
        "jer": score.jaccard,
        "speech_seconds": score.error.total,
        "missed_seconds": score.error.missed,
        "false_alarm_seconds": score.error.false_alarm,
        "confusion_seconds": score.error.confusion,
        "speakers": score.speakers,
    }
