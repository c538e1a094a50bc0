"""Command teach: the vectors of a teacher."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from separative.cli.options import Split
from separative.cli.outputs import check_output
from separative.cli.show import Bars, exit_on_interrupt


def teach(
    out: Annotated[Path, typer.Option(help="File to write or continue: .npz or .parquet.")],
    name: Annotated[str, typer.Option(help="Name and version of the teacher, for model cards.")],
    licence: Annotated[str, typer.Option(help="Licence of the teacher's weights, for model cards.")],
    weights: Annotated[
        Path, typer.Option(help="File with the teacher's weights; its SHA-256 identifies the teacher.")
    ],
    system: Annotated[
        str | None,
        typer.Option(
            help="Command that embeds the WAV files of {list} and writes {out}; see systems/README.md."
        ),
    ] = None,
    corpus: Annotated[
        list[Path] | None, typer.Option(help="Corpus to embed; repeat the option for several.")
    ] = None,
    split: Split = "train",
    vectors: Annotated[
        Path | None,
        typer.Option(help="File with ids and vectors to use instead of a command: .npz or .parquet."),
    ] = None,
    rate: Annotated[
        int, typer.Option(min=1000, max=768000, help="Sample rate of the WAV files in Hz.")
    ] = 16000,
    piece: Annotated[
        float,
        typer.Option(
            min=0.1,
            max=60,
            help="Maximum length of a piece in seconds; up to three pieces of an utterance are embedded.",
        ),
    ] = 4.0,
    speed: Annotated[
        list[float] | None,
        typer.Option(
            min=0.5,
            max=2,
            help="Playback speed; repeat the option for those of the recipe. [default: 1]",
        ),
    ] = None,
) -> None:
    """Compute a teacher's vectors of a corpus, for `train --vectors`.

    Ctrl-C stops and keeps finished vectors; the same command continues.
    """
    import shlex

    from pydantic import ValidationError

    from separative.benchmark.adapter import CommandSystem
    from separative.benchmark.teach import teach as embed_corpora
    from separative.corpora import load_corpus
    from separative.errors import SeparativeError, validation_message
    from separative.model.teacher import Teacher, TeacherVectors, file_sha256

    if (system is None) == (vectors is None):
        raise SeparativeError("name one source of vectors: --system with a command, or --vectors with a file")
    if system is not None and not corpus:
        raise SeparativeError("--system needs a corpus to embed: add --corpus")
    if out.suffix not in (".npz", ".parquet"):
        raise SeparativeError(f"--out '{out}' must end in .npz or .parquet")
    check_output(out, folder=False)
    try:
        command = shlex.split(system or "")
    except ValueError as error:
        raise SeparativeError(f"--system has a quotation mark without its partner: {system}") from error
    try:
        teacher = Teacher(name=name, licence=licence, sha256=file_sha256(weights))
    except ValidationError as error:
        reason = validation_message(error, Teacher)
        raise SeparativeError(f"--name or --licence is wrong: {reason}") from error
    if vectors is not None:
        if out.exists():
            raise SeparativeError(f"{out} exists; choose another file with --out")
        made = TeacherVectors.load(vectors, teacher)
        made.save(out)
    else:
        with Bars() as bars, exit_on_interrupt("; run the same command to continue"):
            made = embed_corpora(
                CommandSystem(name, command, rate=rate),
                teacher,
                [load_corpus(path, split=split, keep_damaged=True).readable for path in corpus or ()],
                out,
                seconds=piece,
                speeds=speed or (1.0,),
                progress=bars.count("embedding"),
            )
    print(f"{out}: {len(made.ids)} vectors of {made.dimension} values by {name} ({licence})")
