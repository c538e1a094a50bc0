"""Verbs on recordings: embed, separate, verify."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from separative.cli.show import Bars, check_sounds, say_json, say_table

if TYPE_CHECKING:
    from separative.inference import Recording

Sounds = Annotated[list[Path], typer.Argument(help="Sound files: WAV, FLAC, OGG, MP3.")]
Model = Annotated[str, typer.Option(help="Folder of a model or a run, or a registered name.")]
# As in the room model, which brings torch: --help need not wait for it.
DEFAULT = "base"
Channels = Annotated[Literal["mean", "first"], typer.Option(help="What becomes of several channels.")]
Json = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]


def embed(
    sources: Annotated[
        list[Path] | None, typer.Argument(help="Sound files: WAV, FLAC, OGG, MP3.", show_default=False)
    ] = None,
    model: Model = DEFAULT,
    corpus: Annotated[
        Path | None, typer.Option(help="A whole corpus instead, into Parquet files; extra 'bulk'.")
    ] = None,
    split: Annotated[str | None, typer.Option(help="Of the corpus, only this split.")] = None,
    engine: Annotated[
        Literal["local", "ray"], typer.Option(help="What embeds a corpus: this process, or a Ray cluster.")
    ] = "local",
    address: Annotated[str | None, typer.Option(help="Of the cluster; one of this machine if none.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="File for the embeddings, .npz or .json; folder for a corpus.")
    ] = None,
    channels: Channels = "mean",
    json: Json = False,
) -> None:
    """Embeddings of all speakers of recordings.

    Each with its seconds of speech; --json adds the activity of every segment. A corpus that was stopped goes
    on where it was.
    """
    from separative import inference
    from separative.errors import SeparativeError
    from separative.inference.output import describe

    if (corpus is None) == (not sources):
        raise SeparativeError("embed takes sound files, or --corpus")
    if corpus is not None:
        if out is None:
            raise SeparativeError("embed --corpus needs --out: a folder for Parquet files")
        from separative.corpora import load_corpus
        from separative.model import load_model

        loaded = load_model(model)
        with Bars() as bars:
            heard = load_corpus(corpus, split=split, keep_damaged=True, progress=bars.count("headers"))
            cuts = [inference.Cut(u.id, u.path, u.start, u.seconds) for u in heard]
            inference.embed_corpus(
                loaded,
                cuts,
                out,
                channels=channels,
                engine=engine,
                address=address,
                progress=bars.count("embedding"),
            )
        print(f"{out}: {len(cuts)} recordings in {len(list(out.glob('part-*.parquet')))} files")
        return
    recordings = _each(inference.embed, sources or [], model, channels)
    if out is not None:
        inference.write_embeddings(recordings, out)
    if json:
        say_json([describe(recording, embeddings=True) for recording in recordings])
    else:
        _say(recordings)


def separate(
    sources: Sounds,
    out: Annotated[Path, typer.Option(help="Folder for the speakers: <name>-speaker<i>.wav.")] = Path(
        "speakers"
    ),
    model: Model = DEFAULT,
    channels: Channels = "mean",
    json: Json = False,
) -> None:
    """Write the waveform of every speaker."""
    from separative import inference
    from separative.errors import SeparativeError
    from separative.inference.output import describe

    stem, number = Counter(path.stem for path in sources).most_common(1)[0]
    if number > 1:
        raise SeparativeError(
            f"{number} recordings are named '{stem}': their speakers would overwrite each other"
        )
    recordings = _each(inference.separate, sources, model, channels)
    written = [inference.write_waveforms(recording, out) for recording in recordings]
    if json:
        say_json(
            [describe(r) | {"files": [str(p) for p in ps]} for r, ps in zip(recordings, written, strict=True)]
        )
    else:
        _say(recordings)
        for path in (path for paths in written for path in paths):
            print(path)


def verify(
    two: Annotated[
        list[Path] | None, typer.Argument(metavar="[LEFT RIGHT]", help="One recording a side.")
    ] = None,
    model: Model = DEFAULT,
    left: Annotated[list[Path] | None, typer.Option(help="A recording of the left side; repeatable.")] = None,
    right: Annotated[list[Path] | None, typer.Option(help="Of the right side; repeatable.")] = None,
    prior: Annotated[float, typer.Option(help="Probability of the same speaker before listening.")] = 0.5,
    channels: Channels = "mean",
    json: Json = False,
) -> None:
    """Is a speaker heard on both sides?

    Name two recordings, or several of each side by --left and --right. Prints the score, the streams that
    match best and, if the model is calibrated, the log-likelihood ratio and the probability at the prior.
    """
    from dataclasses import asdict

    from separative import inference
    from separative.errors import SeparativeError
    from separative.model import load_model

    mixed = bool(two and (left or right or len(two) != 2))
    left, right = (two[:1], two[1:]) if two else (left, right)
    if mixed or not left or not right:
        raise SeparativeError("verify takes two recordings, or --left and --right, each at least once")
    check_sounds([*left, *right], channels)
    found = inference.verify(load_model(model), left, right, prior=prior, channels=channels)
    if json:
        say_json({"left": left, "right": right} | asdict(found))
        return
    print(
        f"score {found.score:.4f}: stream {found.left_stream} of {left[found.left_recording]},"
        f" stream {found.right_stream} of {right[found.right_recording]}"
    )
    if found.probability is None:
        print(f"no probability: the model has no calibration; 'separative calibrate {model}' makes one")
    else:
        print(
            f"{'the same speaker' if found.same else 'different speakers'}: probability {found.probability:.4g}"
        )
        print(
            f"log-likelihood ratio {found.llr:+.2f} nats; prior {prior:g};"
            f" calibrated on {found.calibrated_on}"
        )


def diarize(
    source: Annotated[Path, typer.Argument(help="A sound file of any length.")],
    out: Annotated[Path, typer.Option(help="Folder for <name>.rttm, .json, .png, .html and the voices.")],
    model: Model = DEFAULT,
    speakers: Annotated[int | None, typer.Option(min=1, help="How many there are, if known.")] = None,
    voices: Annotated[
        bool, typer.Option(help="Also each speaker's voice, <name>-speaker<i>.wav, and the page.")
    ] = True,
    active_only: Annotated[
        bool, typer.Option("--active-only", help="Voices silent where their speakers are.")
    ] = False,
    enrol: Annotated[
        list[str] | None, typer.Option(help="NAME=FILE: a speaker to look for; repeatable, also of one name.")
    ] = None,
    prior: Annotated[
        float, typer.Option(help="Probability that an enrolled speaker is there, before listening.")
    ] = 0.5,
    channels: Channels = "mean",
    json: Json = False,
) -> None:
    """Who spoke when, in a recording of any length.

    Speakers are counted, told apart over the whole recording, compared with enrolled ones, and separated.
    """
    from separative import inference
    from separative.errors import AudioError, SeparativeError
    from separative.files import write_json
    from separative.metrics.calibration import log_odds
    from separative.model import load_model
    from separative.report.timeline import write_picture, write_timeline
    from separative.rttm import write_rttm

    enrolled: dict[str, list[Path]] = {}
    for entry in enrol or ():
        name, equals, file = entry.partition("=")
        if not (name and equals and file):
            raise SeparativeError(f"--enrol '{entry}' is not of the form NAME=FILE")
        enrolled.setdefault(name, []).append(Path(file))
    log_odds(prior)
    check_sounds([source, *(path for paths in enrolled.values() for path in paths)], channels)
    loaded = load_model(model)
    with Bars() as bars:
        # A run that was stopped goes on from here; one that is done leaves nothing behind.
        kept = out / f".{source.stem}.npz"
        meeting = inference.diarize(
            loaded,
            source,
            speakers=speakers,
            channels=channels,
            keep=kept,
            progress=bars.count("listening"),
        )
        matches = (
            inference.identify(loaded, meeting, enrolled, prior=prior, channels=channels)
            if enrolled
            else None
        )
        record = inference.describe_diarization(meeting, matches)
        # What is known is kept before the longer work begins.
        write_rttm(out / f"{source.stem}.rttm", source.stem, meeting.turns)
        write_json(out / f"{source.stem}.json", record)
        paths = [out / f"{source.stem}.rttm", out / f"{source.stem}.json"]
        paths.append(write_picture(out / f"{source.stem}.png", record))
        if voices:
            heard = inference.write_voices(
                loaded, meeting, out, active_only=active_only, progress=bars.count("separating")
            )
            paths += heard
            if not meeting.damage:
                paths.append(write_timeline(out / f"{source.stem}.html", record, source, heard))
    kept.unlink(missing_ok=True)
    if json:
        say_json(record | {"files": paths})
        return
    columns = ["speaker", "speech, s", "turns", *(["most like"] if matches else [])]
    rows = []
    for number, speaker in enumerate(meeting.speakers):
        row: list[object] = [speaker.name, f"{speaker.speech_seconds:.1f}", len(speaker.turns)]
        if matches and not matches[number]:
            row.append("too little speech to say")
        elif matches:
            best = matches[number][0]
            worth = "" if best.probability is None else f", probability {best.probability:.3g}"
            row.append(f"{best.name} ({best.score:.2f}{worth})")
        rows.append(row)
    say_table(columns, rows)
    for path in paths:
        print(path)
    if meeting.damage:
        raise AudioError(f"{meeting.damage}; what came before is in {out}")


def _each(work: Callable[..., Recording], sources: list[Path], model: str, channels: str) -> list[Recording]:
    """One verb of the inference room on every file, after all files have been looked at."""
    from separative.model import load_model

    check_sounds(sources, channels)
    loaded = load_model(model)
    recordings = []
    with Bars() as bars:
        report = bars.count("listening")
        for done, source in enumerate(sources, 1):
            recordings.append(work(loaded, source, channels=channels))
            report(done, len(sources))
    return recordings


def _say(recordings: list[Recording]) -> None:
    # Levels are those of waveforms, which embedding does without.
    waves = any(t.waveform_N.size for r in recordings for t in r.streams)
    say_table(
        ("recording", "stream", "speech, s", *(["level, dB"] if waves else []), "heard"),
        [
            (
                r.name,
                t.stream,
                f"{t.speech_seconds:.2f}",
                *([f"{t.level_db:.1f}"] if waves else []),
                "yes" if t.audible else "no",
            )
            for r in recordings
            for t in r.streams
        ],
    )
