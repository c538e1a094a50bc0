"""Commands on corpora: check, import, pack, speak, and mix, which writes training mixtures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from separative.cli.options import Json, Seed, Set
from separative.cli.options import Split as SplitOption
from separative.cli.show import Bars, print_json, print_table

Source = Annotated[
    Path, typer.Argument(help="Corpus: a folder per speaker, a .csv, a cuts .jsonl, or a known layout.")
]
Layout = Annotated[str | None, typer.Option(help="Layout of SOURCE; detected by default.")]
OnlySplit = Annotated[str | None, typer.Option(help="Split to use; by default all.")]


def check(
    source: Source,
    layout: Layout = None,
    split: OnlySplit = None,
    min_speech: Annotated[
        float, typer.Option(help="Warn about speakers with less speech than this, in seconds.")
    ] = 4.0,
    json: Json = False,
) -> None:
    """Check a corpus: decode every file and list the problems.

    The exit code is 1 if there are errors, 0 if there are only warnings.
    """
    from separative.corpora import check_corpus, load_corpus
    from separative.corpora.folders import first_names

    with Bars() as bars:
        # The report lists the notes of the corpus.
        corpus = load_corpus(
            source,
            layout=layout,
            split=split,
            keep_damaged=True,
            progress=bars.count("reading headers"),
            log_notes=False,
        )
        report = check_corpus(corpus, min_speech=min_speech, progress=bars.count("decoding"))
    if json:
        print_json(asdict(report))
    else:
        if report.read_as:
            print(f"{report.read_as}\n")
        elif corpus.speakers:
            print(f"speakers: {first_names(corpus.speakers)}\n")
        shares = [*report.by_corpus.items(), ("all", report.total)]
        print_table(
            ("corpus", "speakers", "utterances", "hours"),
            [(name, part.speakers, part.utterances, f"{part.hours:.2f}") for name, part in shares],
        )
        print("rates: " + ", ".join(f"{rate} Hz ({count})" for rate, count in sorted(report.rates.items())))
        if report.problems:
            print()
            print_table(("", "where", "problem"), [(p.kind, p.where, p.problem) for p in report.problems])
        print(f"\n{len(report.errors)} errors, {len(report.warnings)} warnings")
    if report.errors:
        raise typer.Exit(1)


def import_(
    source: Source,
    path: Annotated[Path, typer.Argument(help="Manifest to write, .jsonl or .jsonl.gz.")],
    layout: Layout = None,
    split: OnlySplit = None,
    relative: Annotated[
        bool, typer.Option(help="Write paths relative to the manifest's folder, so that both can be moved.")
    ] = False,
) -> None:
    """Write a corpus as a Lhotse cut manifest."""
    from separative.corpora import load_corpus, save_corpus

    with Bars() as bars:
        corpus = load_corpus(source, layout=layout, split=split, progress=bars.count("reading headers"))
        save_corpus(corpus, path, relative=relative, progress=bars.count("writing"))
    print(f"{path}: {len(corpus)} utterances, {len(corpus.speakers)} speakers")


def pack(
    source: Source,
    folder: Annotated[Path, typer.Argument(help="Output folder, new or empty.")],
    layout: Layout = None,
    split: OnlySplit = None,
    shard_mb: Annotated[float, typer.Option(min=1.0, help="Size of each archive in MB.")] = 512.0,
) -> None:
    """Pack a corpus into tar archives.

    A few large files suit network file systems and object stores (s3://...). Every command that takes a
    corpus also takes the packed folder or its address.
    """
    from separative.corpora import load_corpus, pack_corpus

    with Bars() as bars:
        corpus = load_corpus(source, layout=layout, split=split, progress=bars.count("reading headers"))
        pack_corpus(corpus, folder, shard_mb=shard_mb, progress=bars.count("packing"))
    print(f"{folder}: {len(corpus)} utterances in {len(list(folder.glob('*.tar')))} archives")


def speak(
    folder: Annotated[
        Path, typer.Argument(help="Output folder: new, empty, or of the same command with the same settings.")
    ],
    speakers: Annotated[int, typer.Option(help="Number of speakers.")] = 80,
    utterances: Annotated[
        int, typer.Option(help="Number of sentences per speaker, each 3 to 6 s long.")
    ] = 20,
    dev_speakers: Annotated[int, typer.Option(help="Number of speakers to put into the split 'dev'.")] = 20,
    seed: Seed = 0,
    rate: Annotated[int, typer.Option(help="Sample rate in Hz.")] = 16000,
) -> None:
    """Synthesize a corpus of synthetic speakers.

    Needs the extra 'voices'. After an interruption the same command continues.
    """
    from separative.corpora import synthesize_corpus

    with Bars() as bars:
        corpus = synthesize_corpus(
            folder,
            speakers=speakers,
            utterances=utterances,
            dev_speakers=dev_speakers,
            seed=seed,
            rate=rate,
            progress=bars.count("synthesizing"),
        )
    print(f"{folder}: {len(corpus)} utterances, {len(corpus.speakers)} speakers")


def mix(
    corpus: Annotated[Path, typer.Option(help="Corpus to draw from.")],
    out: Annotated[
        Path,
        typer.Option(help="Output folder for mixtures, sources and noise (WAV) and descriptions (JSON)."),
    ],
    noise: Annotated[
        Path | None, typer.Option(help="Corpus of noise clips; without it, mixtures have no noise clips.")
    ] = None,
    recipe: Annotated[str, typer.Option(help="Name or YAML file of a recipe.")] = "small",
    set_: Set = None,
    split: SplitOption = "train",
    seed: Seed = 0,
    count: Annotated[int, typer.Option(min=1, help="Number of mixtures.")] = 10,
    first: Annotated[
        int | None,
        typer.Option(min=0, help="Index of the first mixture; by default that of the last stage's first."),
    ] = None,
    replay: Annotated[
        Path | None,
        typer.Option(help="replay.json of a run that stopped at a non-finite loss: write that batch."),
    ] = None,
) -> None:
    """Write mixtures as a training with the same recipe draws them.

    The same corpus, recipe, seed and index give the same mixture.
    """
    from separative.corpora import load_corpus
    from separative.mixtures import Batch, ConditionGroup, Mixer
    from separative.training import load_recipe
    from separative.training.folder import load_replay
    from separative.training.recipe import without_noise

    indices: Sequence[int] = ()
    if replay is not None:
        plan, indices = load_replay(replay)
        config, seed = plan.mixtures, plan.seed
    else:
        plan = load_recipe(recipe, set_ or ())
        # As in training.
        config = (plan if noise is not None else without_noise(plan)).mixtures
    clips = None if noise is None else load_corpus(noise, split=split)
    mixer = Mixer(load_corpus(corpus, split=split), config, seed=seed, noise=clips)
    start = config.stages[-1].step * config.batch if first is None else first
    indices = indices or range(start, start + count)
    with Bars() as bars:
        report = bars.count("mixing")
        for done, index in enumerate(indices, 1):
            mixture = mixer.mixture(index)
            group = ConditionGroup(mixture.identities[0], (mixture,))
            Batch.from_groups([group], config.rate).write(out)
            report(done, len(indices))
    print(f"{out}: mixtures {indices[0]} to {indices[-1]}")
