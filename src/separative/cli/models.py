"""Verbs on models: train, evaluate; and demo, which does both on synthetic voices."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from separative.cli.show import Bars, exit_on_interrupt, say_json

Minutes = Annotated[float | None, typer.Option(min=0.01, help="Stop after so many minutes of training.")]
Steps = Annotated[int | None, typer.Option(min=1, help="Stop after so many steps.")]
Threads = Annotated[int | None, typer.Option(min=1, help="Of the processor; the recipe's by default.")]


def train(
    corpus: Annotated[
        Path, typer.Option(help="Speech; trained on its split train, watched on its split dev.")
    ],
    out: Annotated[Path, typer.Option(help="The run's folder: new, empty, or of the run to resume.")],
    recipe: Annotated[
        str | None, typer.Option(help="Name or YAML file; small by default, the run's own on resume.")
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Override of the recipe: key.key=value; repeatable.")
    ] = None,
    noise: Annotated[Path | None, typer.Option(help="Noise clips, where the recipe asks for noise.")] = None,
    minutes: Minutes = None,
    steps: Steps = None,
    from_: Annotated[
        str | None, typer.Option("--from", help="Model to start from: a folder or a registered name.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
    cache: Annotated[
        Path | None, typer.Option(help="Folder of decoded audio; .cache beside --out by default.")
    ] = None,
    threads: Threads = None,
    workers: Annotated[int | None, typer.Option(min=0, help="Processes that draw mixtures.")] = None,
    device: Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="What computes.")] = "auto",
    devices: Annotated[int, typer.Option(min=1, help="Processes on each machine (GPUs, say).")] = 1,
    nodes: Annotated[int, typer.Option(min=1, help="Machines.")] = 1,
) -> None:
    """Train a model.

    Ctrl-C saves it; --resume goes on from there.
    """
    from separative import training
    from separative.corpora import load_corpus
    from separative.distributed import current
    from separative.model import load_model

    own = str(out / "recipe.json") if resume else "small"
    chosen = training.load_recipe(recipe or own, set_ or ())
    start = None if from_ is None else load_model(from_)
    with Bars() as bars:
        speech = load_corpus(corpus, keep_damaged=True, progress=bars.count("headers"))
        clips = None if noise is None else load_corpus(noise)
        with exit_on_interrupt():
            run = training.train(
                chosen,
                corpus=speech,
                noise=clips,
                out=out,
                minutes=minutes,
                steps=steps,
                start=start,
                resume=resume,
                cache=cache,
                threads=threads,
                workers=workers,
                device=device,
                devices=devices,
                nodes=nodes,
                progress=bars.training("training"),
                decoding=bars.count("decoding"),
                hearing=bars.count("hearing everyone"),
            )
    if current().rank == 0:
        if "dev" in {u.split for u in speech}:
            print(f"{run}: trained; next: separative evaluate {run} --corpus {corpus}")
        else:
            print(f"{run}: trained on everybody; to evaluate it, name a corpus of other speakers")


def evaluate(
    model: Annotated[str, typer.Argument(help="Folder of a model or a run, or a registered name.")],
    corpus: Annotated[Path, typer.Option(help="Speech of speakers that were not trained on.")],
    split: Annotated[str, typer.Option(help="Of corpus and noise, where they have splits.")] = "dev",
    noise: Annotated[Path | None, typer.Option(help="Noise clips, for conditions with noise.")] = None,
    conditions: Annotated[
        str | None,
        typer.Option(help="Names with commas between, cut as in clean@1; by default the protocol's five."),
    ] = None,
    enrol: Annotated[str, typer.Option(help="Condition of the enrolment side.")] = "clean",
    seed: Annotated[int, typer.Option(min=0, help="Of the trials and the bootstrap.")] = 0,
    seconds: Annotated[float, typer.Option(min=0.5, help="Length of each side.")] = 4.0,
    enrolments: Annotated[int, typer.Option(min=1, help="Enrolment sides of a speaker, at most.")] = 2,
    tests: Annotated[int, typer.Option(min=1, help="Test sides of a speaker, at most.")] = 3,
    candidates: Annotated[Literal["active", "all"], typer.Option(help="Streams that may match.")] = "active",
    cohort: Annotated[
        str | None, typer.Option(help="Split whose speakers normalise scores, in rows of their own.")
    ] = None,
    baselines: Annotated[bool, typer.Option(help="Also the untrained network and MFCC statistics.")] = True,
    quality: Annotated[bool, typer.Option("--quality", help="Also PESQ and STOI; extra 'quality'.")] = False,
    oracle: Annotated[
        bool, typer.Option("--oracle", help="Also told by separation which stream is the target's.")
    ] = False,
    resamples: Annotated[int, typer.Option(min=10, help="Of the bootstrap over speakers.")] = 500,
    batch: Annotated[int, typer.Option(min=1, help="Sides in a forward pass.")] = 16,
    trials: Annotated[Path | None, typer.Option(help="A trial list, instead of drawing one.")] = None,
    cache: Annotated[Path | None, typer.Option(help="Folder in which simulated rooms are kept.")] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for results.json, results.md and eer.png; by default in MODEL."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print results.json instead of the table.")] = False,
) -> None:
    """Figures on speakers that were not trained on.

    Error rates, calibrated costs, identification, separation, activity and identity information with 95 %
    intervals: saved as results.json, results.md and eer.png; the main ones are printed.
    """
    from separative import evaluation
    from separative.corpora import load_corpus
    from separative.model import load_model

    folder = out or (Path(model) if Path(model).is_dir() else Path()) / f"evaluation-{split}"
    loaded = load_model(model)
    with Bars() as bars:
        results = evaluation.evaluate(
            loaded,
            load_corpus(corpus, progress=bars.count("headers")),
            split=split,
            noise=None if noise is None else load_corpus(noise),
            conditions=None if conditions is None else conditions.split(","),
            enrol=enrol,
            seed=seed,
            seconds=seconds,
            enrolments=enrolments,
            tests=tests,
            candidates=candidates,
            cohort=cohort,
            baselines=baselines,
            quality=quality,
            oracle=oracle,
            resamples=resamples,
            batch=batch,
            trials=None if trials is None else evaluation.TrialList.read(trials),
            cache=cache,
            progress=bars.count("evaluating"),
        )
    saved = results.save(folder)
    if json:
        print(saved.read_text(encoding="utf-8"), end="")
    else:
        print(f"{results.table(evaluation.MAIN)}\n{saved}")


def demo(
    out: Annotated[Path, typer.Option(help="A new folder, or that of an earlier demonstration.")] = Path(
        "demo"
    ),
    speakers: Annotated[int, typer.Option(help="Synthetic speakers in all.")] = 80,
    utterances: Annotated[int, typer.Option(help="Sentences of each speaker.")] = 20,
    dev_speakers: Annotated[int, typer.Option(help="Speakers never trained on.")] = 20,
    minutes: Minutes = None,
    steps: Steps = None,
    seed: Annotated[int, typer.Option(min=0, help="Of voices, trials and sample.")] = 0,
    threads: Threads = None,
) -> None:
    """The whole way, on synthetic voices.

    Speaks them, trains, evaluates on voices never trained on, separates two of them and writes
    OUT/report.html. Ctrl-C keeps what is done; the same command goes on from there. Needs the extra 'voices'.
    """
    from separative import demo as demonstration
    from separative.evaluation import MAIN, Results

    with Bars() as bars, exit_on_interrupt("; the same command goes on"):
        page = demonstration.demo(
            out,
            speakers=speakers,
            utterances=utterances,
            dev_speakers=dev_speakers,
            minutes=minutes,
            steps=steps,
            seed=seed,
            threads=threads,
            speaking=bars.count("speaking"),
            training=bars.training("training"),
            evaluating=bars.count("evaluating"),
        )
    print(f"{Results.load(page.parent / demonstration.RESULTS).table(MAIN)}\n{page}")


def calibrate(
    model: Annotated[str, typer.Argument(help="Folder of a model or a run, or a registered name.")],
    corpus: Annotated[Path, typer.Option(help="Speech of speakers that were not trained on.")],
    split: Annotated[str, typer.Option(help="Of corpus and noise, where they have splits.")] = "dev",
    noise: Annotated[Path | None, typer.Option(help="Noise clips, for conditions with noise.")] = None,
    conditions: Annotated[
        str, typer.Option(help="Of the recordings to come; names with commas between.")
    ] = "clean,overlap0",
    enrol: Annotated[str, typer.Option(help="Condition of the enrolment side.")] = "clean",
    seed: Annotated[int, typer.Option(min=0, help="Of the trials and the folds.")] = 0,
    seconds: Annotated[float, typer.Option(min=0.5, help="Length of each side.")] = 4.0,
    enrolments: Annotated[int, typer.Option(min=1, help="Enrolment sides of a speaker, at most.")] = 2,
    tests: Annotated[int, typer.Option(min=1, help="Test sides of a speaker, at most.")] = 3,
    prior: Annotated[float, typer.Option(help="At which the map is fitted.")] = 0.5,
    folds: Annotated[int, typer.Option(min=3, help="Of speakers, for the cost on unseen ones.")] = 5,
    batch: Annotated[int, typer.Option(min=1, help="Sides in a forward pass.")] = 16,
    json: Annotated[bool, typer.Option("--json", help="Machine-readable output.")] = False,
) -> None:
    """Teach a model what its scores are worth.

    Fits the map from scores to log-likelihood ratios and writes it into the model's card, with its cost on
    speakers it was not fitted on. The weights are not touched.
    """
    from separative import evaluation
    from separative.corpora import load_corpus
    from separative.model import load_model, update_card

    loaded = load_model(model)
    with Bars() as bars:
        record = evaluation.calibrate(
            loaded,
            load_corpus(corpus, progress=bars.count("headers")),
            split=split,
            noise=None if noise is None else load_corpus(noise),
            conditions=conditions.split(","),
            enrol=enrol,
            seed=seed,
            seconds=seconds,
            enrolments=enrolments,
            tests=tests,
            prior=prior,
            folds=folds,
            batch=batch,
            progress=bars.count("calibrating"),
        )
    card = update_card(model, calibration=record)
    if json:
        say_json(record)
        return
    held = record["held_out"]
    print(f"llr = {record['scale']:.3f} · score {record['offset']:+.3f} nats, from {record['trials']} trials")
    print(
        f"on held-out speakers Cllr {held['cllr']:.3f} bits, the least possible {held['min_cllr']:.3f}:"
        f" {held['loss']:.3f} lost to calibration"
    )
    print(card)
