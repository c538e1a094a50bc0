"""Commands on conversations: converse (simulate them), listen (diarize a stream), evaluate-meetings."""

from __future__ import annotations

import json as json_text
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO, Literal, TypeVar

import typer

from separative.cli.options import DEFAULT_MODEL, Model, ModelArgument, Seed, Split, TestCorpus
from separative.cli.outputs import check_output
from separative.cli.raw_input import interrupt_on_terminate, open_raw_input, raw_blocks
from separative.cli.show import Bars, Stopped
from separative.errors import SeparativeError

if TYPE_CHECKING:
    from separative.inference import Correction, StreamingDiarizer, StreamingUpdate
    from separative.types import Wave

Number = TypeVar("Number", int, float)
MIN_CORRECTION_SECONDS = 0.5
"""Shorter corrections are not printed as text; they are in JSON."""
Rooms = Annotated[int, typer.Option(min=0, help="Number of simulated rooms to draw from (extra 'rooms').")]
Snr = Annotated[float | None, typer.Option(help="Signal-to-noise ratio in dB; by default no noise is added.")]


def converse(
    corpus: Annotated[Path, typer.Option(help="Corpus with speaker labels.")],
    out: Annotated[Path, typer.Option(help="Output folder for the files and recordings.csv.")],
    style: Annotated[
        Literal["plain", "meeting", "call", "interview", "broadcast", "clips"],
        typer.Option(help="Kind of conversation and recording conditions."),
    ] = "plain",
    noise: Annotated[Path | None, typer.Option(help="Corpus of noise clips, for --snr.")] = None,
    split: Split = "dev",
    speakers: Annotated[
        int | None, typer.Option(min=1, max=16, help="Number of speakers; the default depends on the style.")
    ] = None,
    minutes: Annotated[float, typer.Option(min=0.1, help="Length of each conversation in minutes.")] = 10.0,
    overlap: Annotated[
        float | None,
        typer.Option(min=0, max=0.7, help="Share of speech time with overlap (style plain, default 0.2)."),
    ] = None,
    snr: Snr = None,
    rooms: Rooms = 0,
    rate: Annotated[int, typer.Option(min=4000, help="Sample rate in Hz.")] = 16000,
    seed: Seed = 0,
    count: Annotated[int, typer.Option(min=1, help="Number of conversations.")] = 1,
    cache: Annotated[Path | None, typer.Option(help="Folder for decoded speech and rooms.")] = None,
) -> None:
    """Simulate conversations between speakers of a corpus.

    Writes each conversation with its reference, and a list of them, recordings.csv. The same corpus,
    settings, seed and number give the same conversation. The styles meeting, call, interview, broadcast and
    clips follow statistics of real recordings, with one room and one microphone for each conversation.
    """
    from pydantic import ValidationError

    from separative.corpora import load_corpus
    from separative.errors import validation_message
    from separative.mixtures import STYLES, ConversationConfig, ConversationSimulator, write_recordings

    check_output(out, folder=True)
    usual = 3 if style == "plain" else STYLES[style].speakers
    try:
        config = ConversationConfig(
            rate=rate,
            seconds=60 * minutes,
            style=style,
            speakers=usual if speakers is None else speakers,
            overlap=0.2 if overlap is None else overlap,
            snr_db=None if snr is None else (snr, snr),
            rooms=rooms,
        )
    except ValidationError as error:
        raise SeparativeError(validation_message(error, ConversationConfig)) from error
    clips = None if noise is None else load_corpus(noise, split=split)
    source = ConversationSimulator(
        load_corpus(corpus, split=split, keep_damaged=True), config, seed=seed, noise=clips, cache=cache
    )
    prefix = "" if style == "plain" else f"{style}-"
    recordings: list[dict[str, object]] = []
    with Bars() as bars:
        for number in range(count):
            talk = source.conversation(number)
            path = talk.write(out, f"{prefix}{number:04d}", progress=bars.count(f"conversation {number}"))
            recordings.append(talk.manifest_row(path))
            print(f"{path}: {len(talk.turns)} turns, {talk.overlap:.0%} overlap, {', '.join(talk.names)}")
    write_recordings(out / "recordings.csv", recordings)


def listen(
    model: Model = DEFAULT_MODEL,
    rate: Annotated[int, typer.Option(min=1000, max=768000, help="Sample rate of the input in Hz.")] = 16000,
    out: Annotated[
        Path | None, typer.Option(help="Folder for one waveform per speaker, speaker<i>.wav.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace results of an earlier stream.")] = False,
    rttm: Annotated[Path | None, typer.Option(help="RTTM file with the corrected turns at the end.")] = None,
    latency: Annotated[
        float, typer.Option(min=0.5, max=2.0, help="Delay of results, in seconds; longer is more accurate.")
    ] = 0.5,
    horizon: Annotated[
        float, typer.Option(min=0, max=600, help="Seconds for which results may be corrected; 0 for never.")
    ] = 30.0,
    json: Annotated[bool, typer.Option("--json", help="Print one line of JSON per update.")] = False,
) -> None:
    """Diarize a live stream from standard input.

    Reads raw samples (16 bit, little-endian, one channel) until the input ends. Prints a line whenever the
    set of active speakers changes, and a line for each correction of at least half a second. --json reports
    all corrections. Waveforms are not corrected. Ctrl-C ends the input; the waveforms and the turns are kept.
    """
    from contextlib import ExitStack

    import numpy as np

    from separative import audio
    from separative.inference import StreamingDiarizer, StreamingTurns
    from separative.model import load_model
    from separative.rttm import write_rttm

    if rttm is not None:
        check_output(rttm, folder=False)
        if not force and rttm.exists():
            raise SeparativeError(
                f"{rttm} exists; choose another file with --rttm, or replace it with --force"
            )
    if out is not None:
        check_output(out, folder=True)
        if not force and (earlier := sorted(out.glob("speaker*.wav"))):
            raise SeparativeError(
                f"{earlier[0]} exists; choose another folder with --out, or replace it with --force"
            )
    loaded = load_model(model)
    source, head = open_raw_input(rate)
    diarizer = StreamingDiarizer(loaded, latency=latency, horizon=horizon)
    log = StreamingTurns(loaded.segment_seconds)
    speaking: set[str] = set()
    puts: list[Callable[[Wave], None]] = []
    ended: Stopped | BrokenPipeError | None = None
    with ExitStack() as files:
        files.enter_context(interrupt_on_terminate())
        try:
            for update in _updates(diarizer, source, head, rate):
                log.add([update])
                names = [f"speaker{k + 1}" for k in range(len(update.embedding))]
                shares = dict(zip(names, update.activity.mean(1).round(3).tolist(), strict=True))
                now = {name for name, share in shares.items() if share > 0.5}
                if json:
                    line = {"start": round(update.start, 3), "end": round(update.end, 3), "activity": shares}
                    corrections = [_correction(change, names) for change in update.corrections]
                    print(json_text.dumps(line | {"corrections": corrections}), flush=True)
                else:
                    for text in _correction_lines(update, names):
                        print(text, flush=True)
                    if now != speaking:
                        print(f"{update.start:8.2f} s  {', '.join(sorted(now)) or '-'}", flush=True)
                speaking = now
                for name in names[len(puts) :] if out is not None else ():
                    puts.append(
                        files.enter_context(audio.writer(Path(out or "") / f"{name}.wav", loaded.rate))
                    )
                    # A speaker who joins later is silent until then.
                    puts[-1](np.zeros(round(update.start * loaded.rate), np.float32))
                for put, voice_N in zip(puts, update.waveform, strict=False):
                    put(voice_N)
        except KeyboardInterrupt as stop:
            # A live stream usually ends like this. The files are closed, so they are kept.
            ended = Stopped(f"interrupted; waveforms up to there are in {out}" if puts else "interrupted")
            ended.__cause__ = stop
        except BrokenPipeError as error:
            # The program that reads the lines has ended, such as `head`. The files are kept.
            ended = error
    if rttm is not None:
        write_rttm(rttm, rttm.stem, log.turns())
    if ended is not None:
        raise ended


def _correction(change: Correction, names: list[str]) -> dict[str, object]:
    """A correction as a record for JSON."""
    before, after = ([names[k] for k in speakers] for speakers in (change.before, change.after))
    return {
        "start": round(change.start, 3),
        "end": round(change.end, 3),
        "before": before,
        "after": after,
    }


def _correction_lines(update: StreamingUpdate, names: list[str]) -> list[str]:
    """Corrections of at least half a second, as text."""
    return [
        f"{change.start:8.2f} s  correction up to {change.end:.2f} s: "
        + " instead of ".join(
            ", ".join(names[k] for k in speakers) or "no speaker"
            for speakers in (change.after, change.before)
        )
        for change in update.corrections
        if change.end - change.start >= MIN_CORRECTION_SECONDS
    ]


def _updates(
    diarizer: StreamingDiarizer, source: BinaryIO, head: bytes, rate: int
) -> Iterator[StreamingUpdate]:
    """Feed raw samples to the diarizer, and yield its updates; ``head``: the bytes that were already read."""
    for wave_N in raw_blocks(source, head, rate, diarizer.model.rate):
        yield from diarizer.push(wave_N)
    yield from diarizer.finish()


def _numbers(text: str, kind: Callable[[str], Number], option: str) -> list[Number]:
    """Parse numbers separated by commas."""
    try:
        return [kind(word) for word in text.split(",")]
    except ValueError as error:
        raise SeparativeError(f"{option} '{text}' must be numbers separated by commas") from error


def evaluate_meetings(
    model: ModelArgument,
    corpus: TestCorpus,
    noise: Annotated[Path | None, typer.Option(help="Corpus of noise clips, for --snr.")] = None,
    split: Split = "dev",
    speakers: Annotated[str, typer.Option(help="Numbers of speakers, separated by commas.")] = "2,3,4",
    overlaps: Annotated[str, typer.Option(help="Shares of overlap, separated by commas.")] = "0,0.2,0.4",
    count: Annotated[int, typer.Option(min=2, help="Number of conversations per setting.")] = 10,
    minutes: Annotated[float, typer.Option(min=0.1, help="Length of each conversation in minutes.")] = 10.0,
    snr: Snr = None,
    rooms: Rooms = 0,
    seed: Seed = 0,
    cache: Annotated[Path | None, typer.Option(help="Folder for decoded speech and rooms.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the results; by default inside MODEL.")] = None,
) -> None:
    """Measure a model on simulated conversations of speakers it was not trained on.

    Reports diarization errors, speaker counts, speaker swaps, separation and verification, also without
    cross-attention over windows and with the number of speakers given.
    """
    from separative.corpora import load_corpus
    from separative.evaluation.meetings import evaluate_meetings as evaluate
    from separative.model import load_model, model_names

    speaker_counts = _numbers(speakers, int, "--speakers")
    overlap_shares = _numbers(overlaps, float, "--overlaps")
    loaded = load_model(model)
    # The name of a model of the package is not a folder, even if there is a folder of that name.
    inside = Path(model) if model not in model_names() and Path(model).is_dir() else Path()
    folder = out or inside / f"meetings-{split}"
    with Bars() as bars:
        results = evaluate(
            loaded,
            load_corpus(corpus, keep_damaged=True, progress=bars.count("reading headers")),
            noise=None if noise is None else load_corpus(noise),
            split=split,
            speakers=speaker_counts,
            overlaps=overlap_shares,
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
