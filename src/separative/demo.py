"""A demonstration on synthetic speech: train a small model, evaluate it, and show a separated mixture."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from separative import audio
from separative.corpora import Corpus, synthesize_corpus
from separative.distributed import SINGLE_PROCESS
from separative.evaluation import evaluate, si_sdr_improvement
from separative.files import new_folder
from separative.inference import separate
from separative.mixtures import Mixer, MixtureConfig, Stage
from separative.report import Sample, write_report
from separative.types import Progress

if TYPE_CHECKING:
    from separative.model import SeparativeEncoder
    from separative.training import Status

PAGE, CORPUS, RUN, RESULTS, SAMPLE = "report.html", "voices", "run", "results", "sample"
SAMPLE_SECONDS = 5.0


def demo(
    out: str | Path = "demo",
    *,
    speakers: int = 80,
    utterances: int = 20,
    dev_speakers: int = 20,
    minutes: float | None = None,
    steps: int | None = None,
    seed: int = 0,
    threads: int | None = None,
    synthesis_progress: Progress | None = None,
    training_progress: Callable[[Status], None] | None = None,
    evaluation_progress: Progress | None = None,
) -> Path:
    """Synthesise a corpus, train a model, evaluate it on held-out speakers and write an HTML page.

    The folder ``out`` gets the corpus (``voices``), the model (``run``), ``results``, the audio files of one
    separated mixture (``sample``) and the page (``report.html``). Another call with the same folder uses the
    corpus again. It also continues a training that was interrupted before there were results; otherwise it
    repeats everything except the corpus.

    Args:
        out: a new or empty folder, or the folder of an earlier demonstration.
        speakers, utterances: number of synthetic speakers, and of sentences per speaker.
        dev_speakers: number of these speakers that are held out for evaluation.
        minutes, steps: length of the training, whichever ends first; by default the steps of the recipe.
        seed: random seed of the corpus, the trials and the sample.
        threads: number of threads for training.
        synthesis_progress, training_progress, evaluation_progress: called while the three long parts run.

    Returns:
        the path of the page.

    Raises:
        SeparativeError: ``out`` holds something else.
        MissingExtraError: the extra ``voices`` is not installed.

    Example:
        >>> demo("speech")
        Traceback (most recent call last):
        separative.errors.SeparativeError: speech exists and is not an empty folder; ...
    """
    from separative.model import load_model
    from separative.training import load_recipe, train
    from separative.training.checkpoint import has_checkpoint
    from separative.training.folder import lock_folder

    out = Path(out)
    if not (out / CORPUS).is_dir():
        new_folder(out, "the demonstration")
    recipe = load_recipe("demo")
    corpus = synthesize_corpus(
        out / CORPUS,
        speakers=speakers,
        utterances=utterances,
        dev_speakers=dev_speakers,
        seed=seed,
        rate=recipe.model.rate,
        progress=synthesis_progress,
    )
    # Results are written last, so a run without results was interrupted.
    resume = has_checkpoint(out / RUN) and not (out / RESULTS).exists()
    if not resume:
        # The lock refuses to remove a run that another demonstration trains.
        with lock_folder(out / RUN, SINGLE_PROCESS):
            shutil.rmtree(out / RUN)
    for stale in (RESULTS, SAMPLE):
        shutil.rmtree(out / stale, ignore_errors=True)
    train(
        recipe,
        corpus=corpus,
        out=out / RUN,
        minutes=minutes,
        steps=steps or recipe.run.steps,
        threads=threads,
        resume=resume,
        progress=training_progress,
    )
    model = load_model(out / RUN)
    evaluate(model, corpus, split="dev", seed=seed, progress=evaluation_progress).save(out / RESULTS)
    samples = sample_mixture(model, corpus.split("dev"), seed)
    for sample in samples:
        name = sample.title.partition(":")[0].replace(" ", "-")
        audio.write(out / SAMPLE / f"{name}.wav", sample.waveform, sample.rate, subtype="FLOAT")
    return write_report(
        out / PAGE,
        heading="Separative: the demonstration",
        results=out / RESULTS,
        run=out / RUN,
        samples=samples,
    )


def sample_mixture(model: SeparativeEncoder, corpus: Corpus, seed: int) -> list[Sample]:
    """Mix two speakers of a corpus at equal level and separate them, for a page.

    Returns the mixture, the separated waveforms and the sources. The mixture is the first for the seed. Each
    separated waveform is paired with the source that it fits best.

    Example:
        >>> import separative
        >>> corpus = separative.load_corpus("speech")
        >>> samples = sample_mixture(separative.load_model(), corpus, seed=0)
        >>> [sample.title.split(":")[0] for sample in samples]
        ['mixture', 'separated 1', 'separated 2', 'source 1', 'source 2']
    """
    config = MixtureConfig(
        rate=model.rate,
        seconds=SAMPLE_SECONDS,
        batch=1,
        stages=(Stage(speakers=(0.0, 1.0)),),
        sir_db=(0.0, 0.0),
        level_db=(-26.0, -26.0),
    )
    mixture = Mixer(corpus, config, seed=seed).mixture(0)
    recording = separate(model, (mixture.waveform, model.rate))
    estimate_CN = np.stack([stream.waveform for stream in recording.streams])
    gain_K, stream_K = si_sdr_improvement(estimate_CN, mixture.sources, mixture.waveform)
    names = [source["name"] for source in mixture.info["sources"]]
    samples = [Sample(f"mixture: {' and '.join(names)}, equally loud", mixture.waveform, model.rate)]
    for number, (name, gain, stream) in enumerate(zip(names, gain_K, stream_K, strict=True), 1):
        title = f"separated {number}: {name}, SI-SDR improved by {gain:.1f} dB"
        samples.append(Sample(title, estimate_CN[stream], model.rate))
    for number, (name, source_N) in enumerate(zip(names, mixture.sources, strict=True), 1):
        samples.append(Sample(f"source {number}: {name} alone", source_N, model.rate))
    return samples
