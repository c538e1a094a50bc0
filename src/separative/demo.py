"""The demonstration: synthetic voices, a short training, figures on voices never heard, a page to hear."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from separative import audio
from separative.corpora import Corpus, synthesize_corpus
from separative.errors import SeparativeError
from separative.evaluation import evaluate, si_sdr_improvement
from separative.inference import separate
from separative.mixtures import Mixer, MixtureConfig, Stage
from separative.report import Sample, write_report
from separative.types import Progress

if TYPE_CHECKING:
    from separative.model import SeparativeEncoder
    from separative.training import Status

PAGE, VOICES, RUN, RESULTS, SAMPLE = "report.html", "voices", "run", "results", "sample"
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
    speaking: Progress | None = None,
    training: Callable[[Status], None] | None = None,
    evaluating: Progress | None = None,
) -> Path:
    """Speak voices, train on them, evaluate on those held out, separate two of them; write a page about it.

    ``out`` gets ``voices``, ``run``, ``results``, ``sample`` and ``report.html``; voices of an earlier call
    with equal settings are used again, and what was stopped before its results goes on; all else is made
    anew.

    Args:
        out: a new or empty folder, or that of an earlier demonstration.
        speakers, utterances, dev_speakers: synthetic speakers, sentences of each, speakers never trained on.
        minutes, steps: length of the training, whichever is reached first; the recipe's steps if None.
        seed: of the voices, the trials and the sample.
        threads: of the training.
        speaking, training, evaluating: progress of the three long parts.

    Returns:
        the path of the page.

    Raises:
        SeparativeError: ``out`` holds something else.
        MissingExtraError: the extra ``voices`` is not installed.
    """
    from separative.model import load_model
    from separative.training import load_recipe, train
    from separative.training.checkpoint import NAME

    out = Path(out)
    if out.exists() and not (out.is_dir() and ((out / VOICES).is_dir() or not any(out.iterdir()))):
        raise SeparativeError(f"{out}: holds no demonstration; name a new folder or delete it")
    recipe = load_recipe("demo")
    corpus = synthesize_corpus(
        out / VOICES,
        speakers=speakers,
        utterances=utterances,
        dev_speakers=dev_speakers,
        seed=seed,
        rate=recipe.model.rate,
        progress=speaking,
    )
    # Results go first and come last: a run without them is unfinished.
    resume = (out / RUN / NAME).is_file() and not (out / RESULTS).exists()
    for stale in (RESULTS, SAMPLE) if resume else (RUN, RESULTS, SAMPLE):
        shutil.rmtree(out / stale, ignore_errors=True)
    train(
        recipe,
        corpus=corpus,
        out=out / RUN,
        minutes=minutes,
        steps=steps or recipe.run.steps,
        threads=threads,
        resume=resume,
        progress=training,
    )
    model = load_model(out / RUN)
    evaluate(model, corpus, split="dev", seed=seed, progress=evaluating).save(out / RESULTS)
    samples = sample_mixture(model, corpus.split("dev"), seed)
    for sample in samples:
        name = sample.title.partition(":")[0].replace(" ", "-")
        audio.write(out / SAMPLE / f"{name}.wav", sample.wave_N, sample.rate, subtype="FLOAT")
    return write_report(
        out / PAGE,
        heading="Separative: the demonstration",
        results=out / RESULTS,
        run=out / RUN,
        samples=samples,
    )


def sample_mixture(model: SeparativeEncoder, corpus: Corpus, seed: int) -> list[Sample]:
    """Two speakers of a corpus at 0 dB: the mixture, the speakers as the model separates them, the sources.

    The first mixture that the seed draws, not a chosen one; each separated speaker with the source it fits.
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
    heard = separate(model, (mixture.mix_N, model.rate))
    estimate_CN = np.stack([speaker.waveform_N for speaker in heard.streams])
    gain_K, stream_K = si_sdr_improvement(estimate_CN, mixture.source_CN, mixture.mix_N)
    names = [source["name"] for source in mixture.info["sources"]]
    samples = [Sample(f"mixture: {' and '.join(names)}, equally loud", mixture.mix_N, model.rate)]
    for number, (name, gain, stream) in enumerate(zip(names, gain_K, stream_K, strict=True), 1):
        title = f"separated {number}: {name}, SI-SDR improved by {gain:.1f} dB"
        samples.append(Sample(title, estimate_CN[stream], model.rate))
    for number, (name, source_N) in enumerate(zip(names, mixture.source_CN, strict=True), 1):
        samples.append(Sample(f"source {number}: {name} alone", source_N, model.rate))
    return samples
