"""The verb calibrate: from scores to probabilities, kept in the model's card."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from separative.cli.show import Bars, say_json


def calibrate(
    model: Annotated[str, typer.Argument(help="Folder of a model or a run, or a registered name.")],
    corpus: Annotated[Path, typer.Option(help="Speech of talkers that were not trained on.")],
    split: Annotated[str, typer.Option(help="Of corpus and noise, where they have splits.")] = "dev",
    noise: Annotated[Path | None, typer.Option(help="Noise clips, for conditions with noise.")] = None,
    conditions: Annotated[
        str, typer.Option(help="Of the recordings to come; names with commas between.")
    ] = "clean,overlap0",
    enrol: Annotated[str, typer.Option(help="Condition of the enrolment side.")] = "clean",
    seed: Annotated[int, typer.Option(min=0, help="Of the trials and the folds.")] = 0,
    seconds: Annotated[float, typer.Option(min=0.5, help="Length of each side.")] = 4.0,
    enrolments: Annotated[int, typer.Option(min=1, help="Enrolment sides of a talker, at most.")] = 2,
    tests: Annotated[int, typer.Option(min=1, help="Test sides of a talker, at most.")] = 3,
    prior: Annotated[float, typer.Option(help="At which the map is fitted.")] = 0.5,
    folds: Annotated[int, typer.Option(min=3, help="Of talkers, for the cost on unseen ones.")] = 5,
    batch: Annotated[int, typer.Option(min=1, help="Sides in a forward pass.")] = 16,
    json: Annotated[bool, typer.Option("--json", help="Machine-readable output.")] = False,
) -> None:
    """Teach a model what its scores are worth.

    Fits the map from scores to log-likelihood ratios and writes it into the model's card, with its cost on
    talkers it was not fitted on. The weights are not touched.
    """
    from separative import evaluation
    from separative.corpora import load_corpus
    from separative.model import load_model, update_card

    loaded = load_model(model)
    with Bars() as bars:
        record = evaluation.calibrate(
            loaded,
            load_corpus(corpus, progress=bars.count("headers")),
            split=split,
            noise=None if noise is None else load_corpus(noise),
            conditions=conditions.split(","),
            enrol=enrol,
            seed=seed,
            seconds=seconds,
            enrolments=enrolments,
            tests=tests,
            prior=prior,
            folds=folds,
            batch=batch,
            progress=bars.count("calibrating"),
        )
    card = update_card(model, calibration=record)
    if json:
        say_json(record)
        return
    held = record["held_out"]
    print(f"llr = {record['scale']:.3f} · score {record['offset']:+.3f} nats, from {record['trials']} trials")
    print(
        f"on held-out talkers Cllr {held['cllr']:.3f} bits, the least possible {held['min_cllr']:.3f}:"
        f" {held['loss']:.3f} lost to calibration"
    )
    print(card)
