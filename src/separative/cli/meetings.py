"""Verbs on whole conversations: converse, which simulates them, listen, and evaluate-meetings."""

from __future__ import annotations

import json as json_text
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO, TypeVar

import typer

from separative.cli.recordings import DEFAULT, Model
from separative.cli.show import Bars
from separative.errors import SeparativeError

if TYPE_CHECKING:
    from separative.audio import Resampler
    from separative.inference import StreamingDiarizer, Update
    from separative.types import Wave

Number = TypeVar("Number", int, float)
Rooms = Annotated[int, typer.Option(min=0, help="Simulated rooms to choose from; extra 'rooms'.")]
Snr = Annotated[float | None, typer.Option(help="Speech over noise, dB; no noise by default.")]


def converse(
    corpus: Annotated[Path, typer.Option(help="Labelled speech.")],
    out: Annotated[Path, typer.Option(help="Folder for <number>.wav, .rttm and .json.")],
    noise: Annotated[Path | None, typer.Option(help="Noise clips, for --snr.")] = None,
    split: Annotated[str, typer.Option(help="Of corpus and noise, where they have splits.")] = "dev",
    speakers: Annotated[int, typer.Option(min=1, max=8, help="In a conversation.")] = 3,
    minutes: Annotated[float, typer.Option(min=0.1, help="Length of a conversation.")] = 10.0,
    overlap: Annotated[float, typer.Option(min=0, max=0.7, help="Share of the time with speech.")] = 0.2,
    snr: Snr = None,
    rooms: Rooms = 0,
    rate: Annotated[int, typer.Option(min=4000, help="Hertz.")] = 16000,
    seed: Annotated[int, typer.Option(min=0, help="Of everything drawn.")] = 0,
    count: Annotated[int, typer.Option(min=1, help="How many conversations.")] = 1,
    cache: Annotated[Path | None, typer.Option(help="Folder of decoded speech and rooms.")] = None,
) -> None:
    """Simulate conversations of a corpus's speakers.

    The same corpus, settings, seed and number give the same conversation.
    """
    from separative.corpora import load_corpus
    from separative.mixtures import ConversationConfig, Conversations

    config = ConversationConfig(
        rate=rate,
        seconds=60 * minutes,
        speakers=speakers,
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


def listen(
    model: Model = DEFAULT,
    rate: Annotated[int, typer.Option(help="Hertz of the samples.")] = 16000,
    out: Annotated[Path | None, typer.Option(help="Folder for the voices: speaker<i>.wav.")] = None,
    json: Annotated[bool, typer.Option("--json", help="A line of JSON for every piece.")] = False,
) -> None:
    """Say who speaks, while they do.

    Reads raw samples (16 bit, little-endian, one channel) from standard input until it ends. A line names
    who begins and who stops, at most two seconds later.
    """
    import sys
    from contextlib import ExitStack

    import numpy as np

    from separative import audio
    from separative.inference import StreamingDiarizer
    from separative.model import load_model

    loaded = load_model(model)
    listener = StreamingDiarizer(loaded)
    change = audio.Resampler(rate, loaded.rate)
    speaking: set[str] = set()
    puts: list[Callable[[Wave], None]] = []
    with ExitStack() as files:
        for update in _updates(listener, change, sys.stdin.buffer, rate):
            names = [f"speaker{k + 1}" for k in range(len(update.embedding_KE))]
            shares = dict(zip(names, update.activity_KS.mean(1).round(3).tolist(), strict=True))
            now = {name for name, share in shares.items() if share > 0.5}
            if json:
                line = {"start": round(update.start, 3), "end": round(update.end, 3), "activity": shares}
                print(json_text.dumps(line), flush=True)
            elif now != speaking:
                print(f"{update.start:8.2f} s  {', '.join(sorted(now)) or '-'}", flush=True)
            speaking = now
            for name in names[len(puts) :] if out is not None else ():
                puts.append(files.enter_context(audio.writing(Path(out or "") / f"{name}.wav", loaded.rate)))
                # Whoever comes later was silent before.
                puts[-1](np.zeros(round(update.start * loaded.rate), np.float32))
            for put, voice_N in zip(puts, update.voice_KN, strict=False):
                put(voice_N)


def _updates(listener: StreamingDiarizer, change: Resampler, source: BinaryIO, rate: int) -> Iterator[Update]:
    """What the listener says of raw samples, a tenth of a second at a time."""
    import numpy as np

    odd = b""
    while block := source.read1(rate // 5):  # type: ignore[attr-defined]
        block, odd = odd + block, b""
        if len(block) % 2:
            block, odd = block[:-1], block[-1:]
        wave_N = np.frombuffer(block, "<i2").astype(np.float32) / np.float32(32768)
        yield from listener.push(change(wave_N))
    yield from listener.push(change(np.zeros(0, np.float32), last=True))
    yield from listener.finish()


def _numbers(text: str, kind: Callable[[str], Number], option: str) -> list[Number]:
    """Numbers with commas between."""
    try:
        return [kind(word) for word in text.split(",")]
    except ValueError as error:
        raise SeparativeError(f"{option} '{text}': numbers with commas between are wanted") from error


def evaluate_meetings(
    model: Annotated[str, typer.Argument(help="Folder of a model or a run, or a registered name.")],
    corpus: Annotated[Path, typer.Option(help="Speech of speakers that were not trained on.")],
    noise: Annotated[Path | None, typer.Option(help="Noise clips, for --snr.")] = None,
    split: Annotated[str, typer.Option(help="Of corpus and noise, where they have splits.")] = "dev",
    speakers: Annotated[str, typer.Option(help="Numbers of speakers, with commas between.")] = "2,3,4",
    overlaps: Annotated[str, typer.Option(help="Shares of overlap, with commas between.")] = "0,0.2,0.4",
    count: Annotated[int, typer.Option(min=2, help="Conversations of each kind.")] = 10,
    minutes: Annotated[float, typer.Option(min=0.1, help="Length of a conversation.")] = 10.0,
    snr: Snr = None,
    rooms: Rooms = 0,
    seed: Annotated[int, typer.Option(min=0, help="Of the conversations and the bootstrap.")] = 0,
    cache: Annotated[Path | None, typer.Option(help="Folder of decoded speech and rooms.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the results; by default in MODEL.")] = None,
) -> None:
    """Figures on simulated conversations of speakers that were not trained on.

    Diarization errors, number of speakers, swaps, separation and verification, also without cross-attention
    over windows and with the number of speakers known.
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
            speakers=_numbers(speakers, int, "--speakers"),
            overlaps=_numbers(overlaps, float, "--overlaps"),
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
