"""Commands on models: train, evaluate, calibrate, and demo, which uses synthetic speech."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from separative.cli.label_free import LabelFree, Screen, choose_recipe, load_pile
from separative.cli.options import (
    DEFAULT_MODEL,
    Batch,
    EnrolCondition,
    Enrolments,
    Json,
    Minutes,
    ModelArgument,
    Noise,
    Qualities,
    Seconds,
    Seed,
    Set,
    Split,
    Steps,
    TestCorpus,
    Tests,
    Threads,
    parse_share,
)
from separative.cli.show import Bars, exit_on_interrupt, print_json


def train(
    corpus: Annotated[
        Path, typer.Option(help="Corpus: split 'train' for training, split 'dev' for validation.")
    ],
    out: Annotated[
        Path, typer.Option(help="Folder of the run: new, empty, or with --resume an existing run.")
    ],
    recipe: Annotated[
        str | None,
        typer.Option(help="Name or YAML file of a recipe: by default 'small', or the run's on resume."),
    ] = None,
    set_: Set = None,
    noise: Annotated[
        Path | None, typer.Option(help="Corpus of noise clips; without it, training has no noise clips.")
    ] = None,
    holdout: Annotated[
        str | None,
        typer.Option(
            metavar="SHARE",
            help="Share of the speakers of a corpus without splits to hold out for validation, such as 10%.",
        ),
    ] = None,
    vectors: Annotated[
        Path | None,
        typer.Option(help="Vectors that `separative teach` wrote, needed if the objective is 'teach'."),
    ] = None,
    label_free: LabelFree = False,
    screen: Screen = DEFAULT_MODEL,
    minutes: Minutes = None,
    steps: Steps = None,
    from_: Annotated[
        str | None, typer.Option("--from", help="Model to start from: its folder or name.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in --out.")] = False,
    cache: Annotated[
        Path | None, typer.Option(help="Folder for decoded audio; by default .cache next to --out.")
    ] = None,
    threads: Threads = None,
    workers: Annotated[
        int | None,
        typer.Option(min=0, help="Number of processes that draw mixtures; by default the recipe's."),
    ] = None,
    device: Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="Device to run on.")] = "auto",
    devices: Annotated[
        int, typer.Option(min=1, help="Number of training processes per machine, one per GPU.")
    ] = 1,
    nodes: Annotated[int, typer.Option(min=1, help="Number of machines.")] = 1,
) -> None:
    """Train a model.

    Ctrl-C saves a checkpoint and stops; the same command with --resume continues.
    """
    from separative import training
    from separative.corpora import hold_out_speakers, load_corpus, save_corpus
    from separative.distributed import current_process_group
    from separative.errors import SeparativeError
    from separative.model import load_model
    from separative.model.teacher import TeacherVectors

    share = None if holdout is None else parse_share(holdout, "--holdout")
    if share is not None and label_free:
        raise SeparativeError(
            "--holdout needs speaker labels and cannot be used with --label-free; leave it out"
        )
    chosen = choose_recipe(recipe, set_ or (), out if resume else None, label_free)
    start = None if from_ is None else load_model(from_)
    teacher = None if vectors is None else TeacherVectors.load(vectors)
    with Bars() as bars:
        if label_free:
            corpus = load_pile(corpus, out, screen, bars)
        speech = load_corpus(corpus, keep_damaged=True, progress=bars.count("reading headers"))
        if share is not None:
            speech = hold_out_speakers(speech, share, seed=chosen.seed)
        clips = None if noise is None else load_corpus(noise)
        with exit_on_interrupt():
            run = training.train(
                chosen,
                corpus=speech,
                noise=clips,
                teacher=teacher,
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
                decoding_progress=bars.count("decoding"),
                inventory_progress=bars.count("initialising the inventory"),
            )
    if current_process_group().rank == 0:
        if share is not None:
            # So that an evaluation uses the speakers that were held out.
            corpus = out.with_name(f"{out.name}-corpus.jsonl")
            save_corpus(speech.readable, corpus)
        if "dev" in {u.split for u in speech}:
            print(f"{run}: trained. Next: separative evaluate {run} --corpus {corpus}")
        else:
            print(f"{run}: trained on all speakers. To evaluate it, use a corpus of other speakers.")


def evaluate(
    model: ModelArgument,
    corpus: TestCorpus,
    split: Split = "dev",
    noise: Noise = None,
    conditions: Annotated[
        str | None,
        typer.Option(
            help="Conditions, separated by commas; clean@1 cuts test sides to 1 s. Default: five main ones."
        ),
    ] = None,
    enrol: EnrolCondition = "clean",
    seed: Seed = 0,
    seconds: Seconds = 4.0,
    enrolments: Enrolments = 2,
    tests: Tests = 3,
    candidates: Annotated[
        Literal["active", "all"], typer.Option(help="Streams of the test side that may match.")
    ] = "active",
    cohort: Annotated[
        str | None, typer.Option(help="Split used as cohort for score normalisation; adds rows.")
    ] = None,
    baselines: Annotated[
        bool, typer.Option(help="Also evaluate the untrained network and MFCC statistics.")
    ] = True,
    quality: Annotated[
        bool, typer.Option("--quality", help="Also compute PESQ and STOI (extra 'quality').")
    ] = False,
    oracle: Annotated[
        bool, typer.Option("--oracle", help="Also report rows with the target's stream chosen by SI-SDR.")
    ] = False,
    resamples: Annotated[
        int, typer.Option(min=10, help="Number of bootstrap resamples over speakers.")
    ] = 500,
    batch: Batch = 16,
    trials: Annotated[
        Path | None,
        typer.Option(
            help="Trial list to use instead of drawing one. Lists of VoxCeleb (label left right) and Kaldi"
            " (left right target) compare whole utterances."
        ),
    ] = None,
    cache: Annotated[Path | None, typer.Option(help="Folder for simulated rooms.")] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for results.json, results.md and eer.png; by default inside MODEL."),
    ] = None,
    json: Json = False,
) -> None:
    """Measure a model on speakers it was not trained on.

    Computes verification error rates, calibrated costs, identification, separation, diarization and mutual
    information, with 95 % intervals. Saves results.json, results.md and eer.png, and prints the main figures.
    """
    from separative import evaluation
    from separative.corpora import load_corpus
    from separative.errors import SeparativeError
    from separative.model import load_model, model_names

    # The name of a model of the package is not a folder, even if there is a folder of that name.
    inside = Path(model) if model not in model_names() and Path(model).is_dir() else Path()
    folder = out or inside / f"evaluation-{split}"
    loaded = load_model(model)
    if trials is not None and evaluation.is_published(trials):
        given = {"--conditions": conditions, "--noise": noise, "--cohort": cohort}
        flags = {"--quality": quality, "--oracle": oracle}
        if useless := [key for key, value in {**given, **flags}.items() if value]:
            raise SeparativeError(
                f"{useless[0]} has no effect on {trials}, which compares whole utterances; leave it out"
            )
        pairs = evaluation.read_pairs(trials)
        folder = out or inside / f"evaluation-{trials.stem}"
        with Bars() as bars:
            results, scores = evaluation.evaluate_pairs(
                loaded,
                load_corpus(corpus, progress=bars.count("reading headers")),
                pairs,
                resamples=resamples,
                seed=seed,
                batch=batch,
                progress=bars.count("embedding"),
            )
        saved = results.save(folder)
        evaluation.write_scores(folder / "scores.txt", pairs, scores)
        if json:
            print(saved.read_text(encoding="utf-8"), end="")
        else:
            print(f"{results.table()}\n{saved}\n{folder / 'scores.txt'}")
        return
    with Bars() as bars:
        results = evaluation.evaluate(
            loaded,
            load_corpus(corpus, progress=bars.count("reading headers")),
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
        print(f"{results.table(evaluation.MAIN_METRICS)}\n{saved}")


def demo(
    out: Annotated[Path, typer.Option(help="Folder for the demonstration: new, or one to continue.")] = Path(
        "demo"
    ),
    speakers: Annotated[int, typer.Option(help="Total number of synthetic speakers.")] = 80,
    utterances: Annotated[int, typer.Option(help="Number of sentences per speaker.")] = 20,
    dev_speakers: Annotated[int, typer.Option(help="Number of speakers held out for evaluation.")] = 20,
    minutes: Minutes = None,
    steps: Steps = None,
    seed: Seed = 0,
    threads: Threads = None,
) -> None:
    """Train and evaluate a model on synthetic speech.

    Synthesizes a corpus, trains, evaluates on held-out speakers, separates a mixture of two of them and
    writes OUT/report.html. Ctrl-C stops and keeps finished parts; the same command continues. Needs the
    extra 'voices'.
    """
    from separative import demo as demonstration
    from separative.evaluation import MAIN_METRICS, Results

    with Bars() as bars, exit_on_interrupt("; run the same command to continue"):
        page = demonstration.demo(
            out,
            speakers=speakers,
            utterances=utterances,
            dev_speakers=dev_speakers,
            minutes=minutes,
            steps=steps,
            seed=seed,
            threads=threads,
            synthesis_progress=bars.count("synthesizing"),
            training_progress=bars.training("training"),
            evaluation_progress=bars.count("evaluating"),
        )
    print(f"{Results.load(page.parent / demonstration.RESULTS).table(MAIN_METRICS)}\n{page}")


def calibrate(
    model: ModelArgument,
    corpus: TestCorpus,
    split: Split = "dev",
    noise: Noise = None,
    conditions: Annotated[
        str, typer.Option(help="Conditions to calibrate for, separated by commas.")
    ] = "clean,overlap0",
    qualities: Qualities = None,
    enrol: EnrolCondition = "clean",
    seed: Seed = 0,
    seconds: Seconds = 4.0,
    enrolments: Enrolments = 2,
    tests: Tests = 3,
    prior: Annotated[
        float, typer.Option(help="Prior probability of the same speaker, which weights the fit.")
    ] = 0.5,
    folds: Annotated[int, typer.Option(min=3, help="Number of speaker folds for the held-out cost.")] = 5,
    batch: Batch = 16,
    json: Json = False,
) -> None:
    """Calibrate a model's scores.

    Fits the map from scores to log-likelihood ratios and writes it into the model's card, together with its
    cost on speakers outside the fit. The weights do not change.
    """
    from separative import evaluation
    from separative.corpora import load_corpus
    from separative.model import load_model, update_card

    loaded = load_model(model)
    with Bars() as bars:
        record = evaluation.calibrate(
            loaded,
            load_corpus(corpus, progress=bars.count("reading headers")),
            split=split,
            noise=None if noise is None else load_corpus(noise),
            conditions=conditions.split(","),
            qualities=None if qualities is None else [name for name in qualities.split(",") if name],
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
        print_json(record)
        return
    held = record["held_out"]
    print(
        f"llr = {record['scale']:.3f} · score {record['offset']:+.3f} nats,"
        f" fitted on {record['trials']} trials"
    )
    print(
        f"held-out speakers: Cllr {held['cllr']:.3f} bits, minimum {held['min_cllr']:.3f} bits,"
        f" calibration loss {held['loss']:.3f} bits"
    )
    print(card)
