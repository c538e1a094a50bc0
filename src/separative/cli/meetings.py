"""Verbs on whole conversations: converse, which simulates them, and evaluate-meetings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from separative.cli.show import Bars

Rooms = Annotated[int, typer.Option(min=0, help="Simulated rooms to choose from; extra 'rooms'.")]
Snr = Annotated[float | None, typer.Option(help="Speech over noise, dB; no noise by default.")]


def converse(
    corpus: Annotated[Path, typer.Option(help="Labelled speech.")],
    out: Annotated[Path, typer.Option(help="Folder for <number>.wav, .rttm and .json.")],
    noise: Annotated[Path | None, typer.Option(help="Noise clips, for --snr.")] = None,
    split: Annotated[str, typer.Option(help="Of corpus and noise, where they have splits.")] = "dev",
    talkers: Annotated[int, typer.Option(min=1, max=8, help="In a conversation.")] = 3,
    minutes: Annotated[float, typer.Option(min=0.1, help="Length of a conversation.")] = 10.0,
    overlap: Annotated[float, typer.Option(min=0, max=0.7, help="Share of the time with speech.")] = 0.2,
    snr: Snr = None,
    rooms: Rooms = 0,
    rate: Annotated[int, typer.Option(help="Hertz.")] = 16000,
    seed: Annotated[int, typer.Option(min=0, help="Of everything drawn.")] = 0,
    count: Annotated[int, typer.Option(min=1, help="How many conversations.")] = 1,
    cache: Annotated[Path | None, typer.Option(help="Folder of decoded speech and rooms.")] = None,
) -> None:
    """Simulate conversations of a corpus's talkers.

    The same corpus, settings, seed and number give the same conversation.
    """
    from separative.corpora import load_corpus
    from separative.mixtures import ConversationConfig, Conversations

    config = ConversationConfig(
        rate=rate,
        seconds=60 * minutes,
        talkers=talkers,
        overlap=overlap,
        snr_db=None if snr is None else (snr, snr),
        rooms=rooms,
    )
    clips = None if noise is None else load_corpus(noise, split=split)
    source = Conversations(
        load_corpus(corpus, split=split, keep_damaged=True), config, seed=seed, noise=clips, cache=cache
    )
    with Bars() as bars:
        for number in range(count):
            talk = source.conversation(number)
            path = talk.write(out, f"{number:04d}", progress=bars.count(f"conversation {number}"))
            print(f"{path}: {len(talk.turns)} turns, {talk.overlap:.0%} overlap, {', '.join(talk.names)}")


def evaluate_meetings(
    model: Annotated[str, typer.Argument(help="Folder of a model or a run, or a registered name.")],
    corpus: Annotated[Path, typer.Option(help="Speech of talkers that were not trained on.")],
    noise: Annotated[Path | None, typer.Option(help="Noise clips, for --snr.")] = None,
    split: Annotated[str, typer.Option(help="Of corpus and noise, where they have splits.")] = "dev",
    talkers: Annotated[str, typer.Option(help="Numbers of talkers, with commas between.")] = "2,3,4",
    overlaps: Annotated[str, typer.Option(help="Shares of overlap, with commas between.")] = "0,0.2,0.4",
    count: Annotated[int, typer.Option(min=2, help="Conversations of each kind.")] = 10,
    minutes: Annotated[float, typer.Option(min=0.1, help="Length of a conversation.")] = 10.0,
    snr: Snr = None,
    rooms: Rooms = 0,
    seed: Annotated[int, typer.Option(min=0, help="Of the conversations and the bootstrap.")] = 0,
    cache: Annotated[Path | None, typer.Option(help="Folder of decoded speech and rooms.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the results; by default in MODEL.")] = None,
) -> None:
    """Figures on simulated conversations of talkers that were not trained on.

    Diarization errors, number of talkers, swaps, separation and verification, also without cross-attention
    over windows and with the number of talkers known.
    """
    from separative.corpora import load_corpus
    from separative.evaluation.meetings import evaluate_meetings as evaluate
    from separative.model import load_model

    loaded = load_model(model)
    folder = out or (Path(model) if Path(model).is_dir() else Path()) / f"meetings-{split}"
    with Bars() as bars:
        results = evaluate(
            loaded,
            load_corpus(corpus, keep_damaged=True, progress=bars.count("headers")),
            noise=None if noise is None else load_corpus(noise),
            split=split,
            talkers=[int(word) for word in talkers.split(",")],
            overlaps=[float(word) for word in overlaps.split(",")],
            count=count,
            seconds=60 * minutes,
            snr_db=None if snr is None else (snr, snr),
            rooms=rooms,
            seed=seed,
            cache=cache,
            progress=bars.count("conversations"),
        )
    saved = results.save(folder)
    print(f"{results.table()}\n{saved}")
