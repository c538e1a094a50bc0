"""Verbs on corpora: check, import, speak; and mix, which writes mixtures drawn from one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from separative.cli.show import Bars, say_json, say_table

Source = Annotated[Path, typer.Argument(help="A folder per speaker, a .csv, cuts .jsonl, or a known layout.")]
Layout = Annotated[str | None, typer.Option(help="Name of the layout; found out from SOURCE by default.")]
Split = Annotated[str | None, typer.Option(help="Only this split.")]
Json = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]


def check(
    source: Source,
    layout: Layout = None,
    split: Split = None,
    min_speech: Annotated[
        float, typer.Option(help="Seconds of speech below which a speaker is named.")
    ] = 4.0,
    json: Json = False,
) -> None:
    """Decode every file and list what is wrong.

    The exit code is 1 if there are errors.
    """
    from separative.corpora import check_corpus, load_corpus

    with Bars() as bars:
        corpus = load_corpus(
            source, layout=layout, split=split, keep_damaged=True, progress=bars.count("headers")
        )
        report = check_corpus(corpus, min_speech=min_speech, progress=bars.count("decoding"))
    if json:
        say_json(asdict(report))
    else:
        shares = [*report.by_corpus.items(), ("all", report.total)]
        say_table(
            ("corpus", "speakers", "utterances", "hours"),
            [(name, part.speakers, part.utterances, f"{part.hours:.2f}") for name, part in shares],
        )
        print("rates: " + ", ".join(f"{rate} Hz ({count})" for rate, count in sorted(report.rates.items())))
        if report.problems:
            print()
            say_table(("", "where", "problem"), [(p.kind, p.where, p.problem) for p in report.problems])
        print(f"\n{len(report.errors)} errors, {len(report.warnings)} warnings")
    if report.errors:
        raise typer.Exit(1)


def import_(
    source: Source,
    path: Annotated[Path, typer.Argument(help="The manifest to write: .jsonl or .jsonl.gz.")],
    layout: Layout = None,
    split: Split = None,
    relative: Annotated[
        bool, typer.Option(help="Write paths relative to the manifest's folder, so that both can move.")
    ] = False,
) -> None:
    """Write a corpus as a Lhotse cut manifest."""
    from separative.corpora import load_corpus, save_corpus

    with Bars() as bars:
        corpus = load_corpus(source, layout=layout, split=split, progress=bars.count("headers"))
        save_corpus(corpus, path, relative=relative, progress=bars.count("writing"))
    print(f"{path}: {len(corpus)} utterances, {len(corpus.speakers)} speakers")


def pack(
    source: Source,
    folder: Annotated[Path, typer.Argument(help="New or empty.")],
    layout: Layout = None,
    split: Split = None,
    shard_mb: Annotated[float, typer.Option(min=1.0, help="Megabytes of an archive.")] = 512.0,
) -> None:
    """Copy a corpus into tar archives.

    Few large files instead of many small ones, for file systems that prefer them and for addresses
    (s3://...). Every command takes the folder, or its address, in place of the corpus.
    """
    from separative.corpora import load_corpus, pack_corpus

    with Bars() as bars:
        corpus = load_corpus(source, layout=layout, split=split, progress=bars.count("headers"))
        pack_corpus(corpus, folder, shard_mb=shard_mb, progress=bars.count("packing"))
    print(f"{folder}: {len(corpus)} utterances in {len(list(folder.glob('*.tar')))} archives")


def speak(
    folder: Annotated[Path, typer.Argument(help="New, empty, or of an earlier call with the same settings.")],
    speakers: Annotated[int, typer.Option(help="How many.")] = 80,
    utterances: Annotated[int, typer.Option(help="Sentences of each speaker, 3 to 6 s long.")] = 20,
    dev_speakers: Annotated[int, typer.Option(help="Of the speakers, those of the split dev.")] = 20,
    seed: Annotated[int, typer.Option(min=0, help="Equal seeds speak equal files.")] = 0,
    rate: Annotated[int, typer.Option(help="Hertz.")] = 16000,
) -> None:
    """Speak a corpus of synthetic speakers.

    Needs the extra 'voices'.
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
            progress=bars.count("speaking"),
        )
    print(f"{folder}: {len(corpus)} utterances, {len(corpus.speakers)} speakers")


def mix(
    corpus: Annotated[Path, typer.Option(help="Speech.")],
    out: Annotated[Path, typer.Option(help="Folder for mixtures, sources, noise (WAV) and JSON.")],
    noise: Annotated[Path | None, typer.Option(help="Noise clips, where the recipe asks for noise.")] = None,
    recipe: Annotated[str, typer.Option(help="Name or YAML file.")] = "small",
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Override of the recipe: key.key=value.")
    ] = None,
    split: Annotated[str, typer.Option(help="Of corpus and noise, where they have splits.")] = "train",
    seed: Annotated[int, typer.Option(min=0, help="Of everything drawn.")] = 0,
    count: Annotated[int, typer.Option(min=1, help="How many mixtures.")] = 10,
    first: Annotated[
        int | None,
        typer.Option(min=0, help="Index of the first mixture; by default where the curriculum ends."),
    ] = None,
    replay: Annotated[
        Path | None,
        typer.Option(help="replay.json of a run whose loss was not finite: its mixtures, by its recipe."),
    ] = None,
) -> None:
    """Write the mixtures that a training draws.

    The same corpus, recipe, seed and index give the same mixture, however many are written.
    """
    from separative.corpora import load_corpus
    from separative.mixtures import Batch, ConditionGroup, Mixer
    from separative.training import load_recipe
    from separative.training.loop import load_replay

    indices: Sequence[int] = ()
    if replay is not None:
        plan, indices = load_replay(replay)
        config, seed = plan.mixtures, plan.seed
    else:
        config = load_recipe(recipe, set_ or ()).mixtures
    clips = None if noise is None else load_corpus(noise, split=split)
    mixer = Mixer(load_corpus(corpus, split=split), config, seed=seed, noise=clips)
    start = config.stages[-1].step * config.batch if first is None else first
    indices = indices or range(start, start + count)
    with Bars() as bars:
        report = bars.count("mixing")
        for done, index in enumerate(indices, 1):
            mixture = mixer.mixture(index)
            group = ConditionGroup(mixture.identity_C[0], (mixture,))
            Batch.of([group], config.rate).write(out)
            report(done, len(indices))
    print(f"{out}: mixtures {indices[0]} to {indices[-1]}")
