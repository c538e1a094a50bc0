"""Commands on recordings: embed, separate, verify, diarize."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from separative.cli.options import DEFAULT_MODEL, Channels, Json, Model
from separative.cli.show import Bars, check_recordings, print_json, print_table

if TYPE_CHECKING:
    from separative.inference import Recording


def embed(
    sources: Annotated[
        list[Path] | None, typer.Argument(help="Audio files: WAV, FLAC, OGG, MP3.", show_default=False)
    ] = None,
    model: Model = DEFAULT_MODEL,
    corpus: Annotated[
        Path | None, typer.Option(help="Corpus to embed into Parquet files, instead of files (extra 'bulk').")
    ] = None,
    split: Annotated[str | None, typer.Option(help="Split of the corpus to embed; by default all.")] = None,
    engine: Annotated[
        Literal["local", "ray"],
        typer.Option(help="Where to embed a corpus: in this process or on a Ray cluster."),
    ] = "local",
    address: Annotated[
        str | None, typer.Option(help="Address of the Ray cluster; by default this machine.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Output file, .npz or .json; with --corpus, a folder.")
    ] = None,
    channels: Channels = "mean",
    json: Json = False,
) -> None:
    """Compute the embedding of every speaker in recordings.

    Prints the seconds of speech of every stream; --json adds embeddings and the activity of every segment.
    With --corpus, the same command continues after an interruption.
    """
    from separative import inference
    from separative.errors import SeparativeError
    from separative.inference.output import describe_recording

    if (corpus is None) == (not sources):
        raise SeparativeError("pass audio files to embed, or a corpus with --corpus")
    if corpus is not None:
        if out is None:
            raise SeparativeError("embed --corpus needs --out FOLDER for the Parquet files")
        from separative.corpora import load_corpus
        from separative.model import load_model

        loaded = load_model(model)
        with Bars() as bars:
            utterances = load_corpus(
                corpus, split=split, keep_damaged=True, progress=bars.count("reading headers")
            )
            cuts = [inference.Cut(u.id, u.path, u.start, u.seconds) for u in utterances]
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
        print_json([describe_recording(recording, embeddings=True) for recording in recordings])
    else:
        _print_streams(recordings)


def separate(
    sources: Annotated[list[Path], typer.Argument(help="Audio files: WAV, FLAC, OGG, MP3.")],
    out: Annotated[Path, typer.Option(help="Folder for the waveforms, <name>-speaker<i>.wav.")] = Path(
        "speakers"
    ),
    model: Model = DEFAULT_MODEL,
    channels: Channels = "mean",
    json: Json = False,
) -> None:
    """Separate recordings into one waveform per speaker."""
    from separative import inference
    from separative.errors import SeparativeError
    from separative.inference.output import describe_recording

    stem, number = Counter(path.stem for path in sources).most_common(1)[0]
    if number > 1:
        raise SeparativeError(
            f"{number} recordings are named '{stem}', so their outputs would overwrite each other;"
            " separate them into different folders with --out"
        )
    recordings = _each(inference.separate, sources, model, channels)
    written = [inference.write_waveforms(recording, out) for recording in recordings]
    if json:
        print_json(
            [
                describe_recording(r) | {"files": [str(p) for p in ps]}
                for r, ps in zip(recordings, written, strict=True)
            ]
        )
    else:
        _print_streams(recordings)
        for path in (path for paths in written for path in paths):
            print(path)


def verify(
    two: Annotated[
        list[Path] | None, typer.Argument(metavar="[LEFT RIGHT]", help="One recording per side.")
    ] = None,
    model: Model = DEFAULT_MODEL,
    left: Annotated[list[Path] | None, typer.Option(help="Recording of the left side. Repeatable.")] = None,
    right: Annotated[list[Path] | None, typer.Option(help="Recording of the right side. Repeatable.")] = None,
    prior: Annotated[
        float, typer.Option(help="Prior probability that both sides have a speaker in common.")
    ] = 0.5,
    channels: Channels = "mean",
    json: Json = False,
) -> None:
    """Check whether the same speaker is in two recordings.

    Pass two recordings, or several per side with --left and --right. Prints the score, the two streams that
    match best and, for a calibrated model, the log-likelihood ratio and the probability.
    """
    from dataclasses import asdict

    from separative import inference
    from separative.errors import SeparativeError
    from separative.model import load_model

    mixed = bool(two and (left or right or len(two) != 2))
    left, right = (two[:1], two[1:]) if two else (left, right)
    if mixed or not left or not right:
        raise SeparativeError("pass two recordings to verify, or at least one --left and one --right")
    check_recordings([*left, *right], channels)
    found = inference.verify(load_model(model), left, right, prior=prior, channels=channels)
    if json:
        print_json({"left": left, "right": right} | asdict(found))
        return
    print(
        f"score {found.score:.4f}: stream {found.left_stream} of {left[found.left_recording]},"
        f" stream {found.right_stream} of {right[found.right_recording]}"
    )
    if found.probability is None:
        print(
            f"no probability: the model is not calibrated; run 'separative calibrate {model} --corpus CORPUS'"
        )
    else:
        print(
            f"{'the same speaker' if found.same else 'different speakers'}:"
            f" probability {found.probability:.4g}"
        )
        print(
            f"log-likelihood ratio {found.llr:+.2f} nats; prior {prior:g};"
            f" calibrated on {found.calibrated_on}"
        )


def diarize(
    source: Annotated[Path, typer.Argument(help="Audio file of any length.")],
    out: Annotated[Path, typer.Option(help="Output folder.")],
    model: Model = DEFAULT_MODEL,
    speakers: Annotated[
        int | None, typer.Option(min=1, help="Number of speakers, if known; estimated by default.")
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
    channels: Channels = "mean",
    json: Json = False,
) -> None:
    """Find who spoke when in a recording of any length.

    Estimates the number of speakers and writes their turns: OUT/<name>.rttm, .json and .png. With --voices
    also writes one waveform per speaker, OUT/<name>-speaker<i>.wav, and a page to play them,
    OUT/<name>.html. After an interruption the same command continues.
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
            raise SeparativeError(f"--enrol '{entry}' must have the form NAME=FILE")
        enrolled.setdefault(name, []).append(Path(file))
    log_odds(prior)
    check_recordings([source, *(path for paths in enrolled.values() for path in paths)], channels)
    loaded = load_model(model)
    with Bars() as bars:
        # Windows that were processed before an interruption; removed when the command is done.
        kept = out / f".{source.stem}.npz"
        meeting = inference.diarize(
            loaded,
            source,
            speakers=speakers,
            channels=channels,
            cache=kept,
            progress=bars.count("processing"),
        )
        matches = (
            inference.identify(loaded, meeting, enrolled, prior=prior, channels=channels)
            if enrolled
            else None
        )
        record = inference.describe_diarization(meeting, matches)
        # Write the turns before the separation, which takes longer.
        write_rttm(out / f"{source.stem}.rttm", source.stem, meeting.turns)
        write_json(out / f"{source.stem}.json", record)
        paths = [out / f"{source.stem}.rttm", out / f"{source.stem}.json"]
        paths.append(write_picture(out / f"{source.stem}.png", record))
        if voices:
            written = inference.write_speakers(
                loaded, meeting, out, active_only=active_only, progress=bars.count("separating")
            )
            paths += written
            if not meeting.damage:
                paths.append(write_timeline(out / f"{source.stem}.html", record, source, written))
    kept.unlink(missing_ok=True)
    if json:
        print_json(record | {"files": paths})
        return
    columns = ["speaker", "speech, s", "turns", *(["nearest"] if matches else [])]
    rows = []
    for number, speaker in enumerate(meeting.speakers):
        row: list[object] = [speaker.name, f"{speaker.speech_seconds:.1f}", len(speaker.turns)]
        if matches and not matches[number]:
            row.append("too little speech")
        elif matches:
            best = matches[number][0]
            worth = "" if best.probability is None else f", probability {best.probability:.3g}"
            row.append(f"{best.name} ({best.score:.2f}{worth})")
        rows.append(row)
    print_table(columns, rows)
    for path in paths:
        print(path)
    if meeting.damage:
        raise AudioError(f"{meeting.damage}; results up to there are in {out}")


def _each(work: Callable[..., Recording], sources: list[Path], model: str, channels: str) -> list[Recording]:
    """Run ``work`` on every file, after the headers of all files were checked."""
    from separative.model import load_model

    check_recordings(sources, channels)
    loaded = load_model(model)
    recordings = []
    with Bars() as bars:
        report = bars.count("processing")
        for done, source in enumerate(sources, 1):
            recordings.append(work(loaded, source, channels=channels))
            report(done, len(sources))
    return recordings


def _print_streams(recordings: list[Recording]) -> None:
    # Levels are levels of waveforms, which `embed` does not compute.
    waves = any(t.waveform.size for r in recordings for t in r.streams)
    print_table(
        ("recording", "stream", "speech, s", *(["level, dB"] if waves else []), "speaker"),
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
