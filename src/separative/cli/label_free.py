"""Commands and options for learning without labels: find-identities, and the pile of `train --label-free`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from separative.cli.options import ModelArgument, Split
from separative.cli.outputs import check_output
from separative.cli.show import Bars, exit_on_interrupt

if TYPE_CHECKING:
    from separative.training import Recipe

LabelFree = Annotated[
    bool,
    typer.Option(
        "--label-free",
        help="Train without labels on any folder of recordings, by default with recipe 'presence'.",
    ),
]
Screen = Annotated[
    str,
    typer.Option(help="Model that finds noise and second speakers with --label-free, or 'none'."),
]


def choose_recipe(
    name: str | None, overrides: Sequence[str], resume: Path | None, label_free: bool
) -> Recipe:
    """Load a recipe: by default that of the run to resume, else `presence` without labels or `small`."""
    from separative.training import load_recipe

    own = str(resume / "recipe.json") if resume else "presence" if label_free else "small"
    # Every piece of a pile is a recording of its own.
    pieces = ["mixtures.identity=utterance"] if label_free else []
    return load_recipe(name or own, [*pieces, *overrides])


def load_pile(folder: Path, out: Path, screen: str, bars: Bars) -> Path:
    """Cut a folder of recordings into utterances and return their manifest, or that of an earlier call.

    Args:
        folder: any folder of recordings.
        out: folder of the run. ``<out>-pile.jsonl`` has the utterances, ``<out>-pile.csv`` all pieces.
        screen: name or folder of the model that judges pieces; ``none`` for energy alone.
        bars: shows progress.
    """
    from separative.corpora import load_corpus, save_corpus
    from separative.corpora.pile import read_pile
    from separative.errors import CorpusError
    from separative.model import load_model
    from separative.training.screening import PieceJudge

    manifest = out.with_name(f"{out.name}-pile.jsonl")
    if manifest.is_file():
        made_of = load_corpus(manifest, keep_damaged=True).utterances
        others = [u.path for u in made_of if not u.path.resolve().is_relative_to(folder.resolve())]
        if others:
            raise CorpusError(
                f"{manifest} has pieces of another folder, such as {others[0]}: choose another --out, or"
                f" remove the file to read {folder}"
            )
        print(f"{manifest}: pieces of an earlier call; to read {folder} again, remove this file")
    else:
        judge = None if screen == "none" else PieceJudge(load_model(screen))
        pile = read_pile(folder, judge=judge, progress=bars.count("reading the pile"))
        manifest.parent.mkdir(parents=True, exist_ok=True)
        log = manifest.with_suffix(".csv")
        pile.write_log(log)
        save_corpus(pile.corpus, manifest)
        print(f"{folder}: {pile.summary()}. Every piece: {log}")
    return manifest


def find_identities(
    model: ModelArgument,
    corpus: Annotated[Path, typer.Option(help="Corpus of recordings with one speaker each.")],
    out: Annotated[Path, typer.Option(help="Manifest to write, .jsonl or .jsonl.gz.")],
    split: Split = "train",
    identity: Annotated[
        Literal["recording", "utterance"],
        typer.Option(help="Unit that has one speaker: each file or each utterance."),
    ] = "recording",
    smallest: Annotated[int, typer.Option(min=1, help="Minimum number of recordings of a speaker.")] = 2,
    cache: Annotated[
        Path | None, typer.Option(help="Folder for decoded audio; by default .cache next to --out.")
    ] = None,
) -> None:
    """Cluster recordings by speaker and write a corpus with the clusters as speakers.

    The number of speakers is estimated. Labels are not used. If the corpus has some, purity and coverage
    of the clusters are printed.
    """
    from separative.corpora import load_corpus, save_corpus
    from separative.errors import CorpusError
    from separative.model import load_model
    from separative.training import identities

    if not out.name.endswith((".jsonl", ".jsonl.gz")):
        raise CorpusError(f"--out '{out}' must end in .jsonl or .jsonl.gz")
    check_output(out, folder=False)
    if out.exists() and (out.samefile(corpus) or (corpus.is_dir() and out.parent.samefile(corpus))):
        raise CorpusError(f"{out} belongs to the corpus, whose speakers would be lost; choose another --out")
    with Bars() as bars, exit_on_interrupt():
        found = identities.find_identities(
            load_model(model),
            load_corpus(corpus, keep_damaged=True).readable,
            split=split,
            kind=identity,
            smallest=smallest,
            cache=out.parent / ".cache" if cache is None else cache,
            progress=bars.count("embedding"),
        )
        if not found.clusters:
            raise CorpusError(
                f"{corpus}: no speaker was found in {found.recordings} recordings, and nothing was written;"
                " add recordings or lower --smallest"
            )
        save_corpus(found.corpus, out)
    line = f"{out}: {found.clusters} speakers in {found.clustered:.0%} of {found.recordings} recordings"
    if found.purity is not None and found.coverage is not None:
        line += f"; purity {found.purity:.3f}, coverage {found.coverage:.3f}"
    print(line)
