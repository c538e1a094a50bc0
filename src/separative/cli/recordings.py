"""Commands on recordings: embed, separate, verify."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import typer

from separative.cli.options import (
    DEFAULT_MODEL,
    Channels,
    Force,
    Json,
    Model,
    OriginalRate,
    Strict,
    parse_share,
)
from separative.cli.outputs import SOURCE, check_output, claim_outputs, remove_stale_waveforms
from separative.cli.show import (
    Bars,
    Stopped,
    check_recordings,
    print_json,
    print_streams,
    printable,
    stream_rows,
)

if TYPE_CHECKING:
    from separative.inference import Diarization, Recording

Result = TypeVar("Result")


def embed(
    sources: Annotated[
        list[Path] | None,
        typer.Argument(help="Audio files, such as WAV, FLAC, MP3 or M4A.", show_default=False),
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
    strict: Strict = False,
    json: Json = False,
) -> None:
    """Compute the embedding of every speaker in recordings.

    Prints the seconds of speech of every stream; --json adds embeddings and the activity of every segment.
    A recording that fails is named and the others are processed; the exit code is then 2.
    With --corpus, the same command continues after an interruption.
    """
    from separative import inference
    from separative.errors import SeparativeError
    from separative.inference.output import describe_recording, embeddings_suffix
    from separative.model import load_model

    if (corpus is None) == (not sources):
        raise SeparativeError("pass audio files to embed, or a corpus with --corpus")
    if corpus is not None:
        if out is None:
            raise SeparativeError("embed --corpus needs --out FOLDER for the Parquet files")
        from separative.corpora import load_corpus
        from separative.inference.bulk import failed_recordings

        loaded = load_model(model)
        with Bars() as bars:
            utterances = load_corpus(
                corpus, split=split, keep_damaged=True, progress=bars.count("reading headers")
            )
            cuts = [inference.Cut(u.id, u.path, u.start, u.seconds, u.channel, u.speaker) for u in utterances]
            inference.embed_corpus(
                loaded,
                cuts,
                out,
                channels=channels,
                engine=engine,
                address=address,
                progress=bars.count("embedding"),
            )
        print(f"{printable(out)}: {len(cuts)} recordings in {len(list(out.glob('part-*.parquet')))} files")
        if failed := failed_recordings(out):
            raise SeparativeError(f"{failed} of {len(cuts)} not done; the column 'error' in {out} says why")
        return
    if out is not None:
        embeddings_suffix(out)
        check_output(out, folder=False)
    batch = _Batch(sources or [], channels, strict=strict)
    recordings: list[Recording] = []
    if batch.readable:
        loaded = load_model(model)
        try:
            for recording in batch.run(lambda source: inference.embed(loaded, source, channels=channels)):
                recordings.append(recording)
        except KeyboardInterrupt as stop:
            if out is None or not recordings or strict:
                raise
            inference.write_embeddings(recordings, out)
            raise Stopped(f"interrupted; {len(recordings)} of {len(batch.sources)} are in {out}") from stop
    if out is not None and recordings:
        inference.write_embeddings(recordings, out)
    if json and recordings:
        print_json([describe_recording(recording, embeddings=True) for recording in recordings])
    else:
        print_streams([row for recording in recordings for row in stream_rows(recording)])
    batch.finish()


def separate(
    sources: Annotated[list[Path], typer.Argument(help="Audio files, such as WAV, FLAC, MP3 or M4A.")],
    out: Annotated[Path, typer.Option(help="Folder for the waveforms, <name>-speaker<i>.wav.")] = Path(
        "speakers"
    ),
    model: Model = DEFAULT_MODEL,
    channels: Channels = "mean",
    original_rate: OriginalRate = False,
    force: Force = False,
    strict: Strict = False,
    json: Json = False,
) -> None:
    """Separate recordings into one waveform per speaker.

    Writes OUT/<name>-speaker<i>.wav and OUT/<name>.json. A recording of over a minute is separated in
    windows, so it may have more speakers than the model has streams. A recording that fails is named and the
    others are processed; the exit code is then 2. Results of other recordings are kept, unless --force is
    given.
    """
    from separative import inference
    from separative.errors import SeparativeError
    from separative.files import write_json
    from separative.inference.long_recordings import embed_long, is_long
    from separative.inference.output import describe_recording
    from separative.model import load_model

    stem, number = Counter(path.stem for path in sources).most_common(1)[0]
    if number > 1:
        raise SeparativeError(
            f"{number} recordings are named '{stem}', so their outputs would overwrite each other;"
            " separate them into different folders with --out"
        )
    check_output(out, folder=True)
    batch = _Batch(sources, channels, strict=strict)
    rows: list[tuple[object, ...]] = []
    records: list[dict[str, Any]] = []

    def work(source: Path) -> tuple[Recording, Diarization | None, dict[str, str]]:
        ways = "another folder with --out"
        claim = claim_outputs(out, source.stem, source, "separate", force=force, ways=ways)
        if is_long(source):
            # The waveforms are separated when they are written, so that they need not be in memory.
            return *embed_long(loaded, source, channels), claim
        return inference.separate(loaded, source, channels=channels), None, claim

    def write(recording: Recording, diarization: Diarization | None, claim: dict[str, str]) -> None:
        record = describe_recording(recording) | {SOURCE: claim}
        # The record comes first: it tells a later call that the waveforms are of this recording.
        write_json(out / f"{Path(recording.name).stem}.json", record)
        if diarization is None:
            original = recording.name if original_rate else None
            written = inference.write_waveforms(recording, out, source=original)
        else:
            written = inference.write_speakers(loaded, diarization, out, original_rate=original_rate)
        remove_stale_waveforms(out, Path(recording.name).stem, written)
        records.append(record | {"files": [str(path) for path in written]})
        rows.extend(stream_rows(recording))

    if batch.readable:
        loaded = load_model(model)
        results = batch.run(work)
        for result in list(results) if strict else results:
            write(*result)
    if json and records:
        print_json(records)
    else:
        print_streams(rows)
        for record in records:
            for path in record["files"]:
                print(printable(path))
    batch.finish()


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
    false_alarms: Annotated[
        str | None,
        typer.Option(help="Decide by this false-alarm rate, such as 5% or 0.05, instead of the prior."),
    ] = None,
    cohort: Annotated[
        list[Path] | None,
        typer.Option(help="Recording of another person in the same conditions. Repeatable; use about eight."),
    ] = None,
    channels: Channels = "mean",
    json: Json = False,
) -> None:
    """Check whether the same speaker is in two recordings.

    Pass two recordings, or several per side with --left and --right. Prints the score, the two streams that
    match best and, for a calibrated model, the log-likelihood ratio and the probability. With --cohort the
    false-alarm rate is measured on recordings like yours.
    """
    from dataclasses import asdict

    from separative import inference
    from separative.errors import SeparativeError
    from separative.model import load_model

    mixed = bool(two and (left or right or len(two) != 2))
    left, right = (two[:1], two[1:]) if two else (left, right)
    if mixed or not left or not right:
        raise SeparativeError("pass two recordings to verify, or at least one --left and one --right")
    rate = None if false_alarms is None else parse_share(false_alarms, "--false-alarms")
    check_recordings([*left, *right, *(cohort or ())], channels)
    found = inference.verify(
        load_model(model),
        left,
        right,
        prior=prior,
        false_alarms=rate,
        cohort=cohort or (),
        channels=channels,
    )
    if json:
        print_json({"left": left, "right": right} | asdict(found))
        return
    print(
        f"score {found.score:.4f}: stream {found.left_stream} of {left[found.left_recording]},"
        f" stream {found.right_stream} of {right[found.right_recording]}"
    )
    for name, quality in (("left", found.left_quality), ("right", found.right_quality)):
        if quality is not None:
            print(
                f"{name}: {quality.speech_seconds:.1f} s of speech, other speech {quality.other_speech:.0%},"
                f" {quality.snr_db:.0f} dB above the quietest tenth, "
                + ("telephone band" if quality.narrow else "wide band")
            )
    if found.note:
        print(found.note)
    elif found.probability is None:
        print(
            f"no probability: the model is not calibrated; run 'separative calibrate {model} --corpus CORPUS'"
        )
    else:
        decision = "the same speaker: probability"
        if not found.same:
            decision = "different speakers: probability of the same"
        print(f"{decision} {found.probability:.4g}")
        print(
            f"log-likelihood ratio {found.llr:+.2f} nats; prior {prior:g};"
            f" calibrated on {found.calibrated_on}"
        )
    if found.false_alarm_rate is not None:
        how = (
            f"a cohort of {found.cohort}" if found.cohort else "no cohort; recordings unlike those may differ"
        )
        print(
            f"different speakers score as high in {100 * found.false_alarm_rate:.2g} % of comparisons ({how})"
        )


class _Batch:
    """The recordings of a command. One that fails is named, and the others are still processed.

    With ``strict``, and for a single recording, the first error ends the command.
    """

    def __init__(self, sources: list[Path], channels: str, *, strict: bool) -> None:
        self.sources, self.channels, self.failed = sources, channels, 0
        self.stops = strict or len(sources) == 1
        # The headers of all files are read before the model is loaded.
        self.readable = [source for source in sources if self._try(self._has_header, source)]

    def run(self, work: Callable[[Path], Result]) -> Iterator[Result]:
        """Yield the results of ``work`` for the recordings that do not fail."""
        with Bars() as bars:
            report = bars.count("processing")
            for done, source in enumerate(self.readable, 1):
                result = self._try(work, source)
                if result is not None:
                    yield result
                report(done, len(self.readable))

    def finish(self) -> None:
        """End the command with an error if a recording failed."""
        from separative.errors import SeparativeError

        if self.failed:
            raise SeparativeError(f"{self.failed} of {len(self.sources)} not done")

    def _has_header(self, source: Path) -> bool:
        check_recordings([source], self.channels)
        return True

    def _try(self, work: Callable[[Path], Result], source: Path) -> Result | None:
        from separative.errors import SeparativeError

        try:
            return work(source)
        except SeparativeError as error:
            if self.stops:
                raise
            self.failed += 1
            print(f"separative: {error}", file=sys.stderr)
            return None
