"""Evaluation of one model, together with simple baselines."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from separative.corpora.manifest import Corpus
from separative.errors import choose
from separative.evaluation.collect import collect_outputs
from separative.evaluation.conditions import CONDITIONS, DEFAULT_CONDITIONS
from separative.evaluation.draw import build_trials
from separative.evaluation.outputs import CollectedOutputs
from separative.evaluation.results import Results
from separative.evaluation.score import CANDIDATES, Candidates, score
from separative.evaluation.systems import EncoderSystem, MfccSystem, System, untrained_copy
from separative.evaluation.trial_recordings import TrialRecordings
from separative.evaluation.trials import TrialList
from separative.types import Progress

if TYPE_CHECKING:
    from separative.model import SeparativeEncoder


def evaluate(
    model: SeparativeEncoder,
    corpus: Corpus,
    *,
    name: str = "trained",
    split: str = "dev",
    noise: Corpus | None = None,
    conditions: Sequence[str] | None = None,
    enrol: str = "clean",
    seed: int = 0,
    seconds: float = 4.0,
    enrolments: int = 2,
    tests: int = 3,
    candidates: Candidates = "active",
    cohort: str | None = None,
    baselines: bool = True,
    quality: bool = False,
    oracle: bool = False,
    resamples: int = 500,
    batch: int = 16,
    trials: TrialList | None = None,
    cache: str | Path | None = None,
    trained_on: Collection[str] = (),
    progress: Progress | None = None,
) -> Results:
    """Measure error rates, separation and identity information of a model on speakers it was not trained on.

    Args:
        model: in evaluation mode.
        corpus, noise: speech and noise; only the utterances of ``split`` are used.
        name: name of the model in the tables.
        split: split of both corpora.
        conditions: names of conditions; by default DEFAULT_CONDITIONS, without noise if no noise is given.
        enrol, seed, seconds, enrolments, tests: see :func:`build_trials`.
        candidates: which streams may match in a trial: the ``active`` ones, or ``all``.
        cohort: split of the corpus with the speakers that normalise scores; adds the rows ``+ s-norm``.
        baselines: also evaluate an untrained network of the same architecture, and MFCC statistics.
        quality: also compute PESQ and STOI (slow; needs the extra ``quality``).
        oracle: also add a row that uses the stream that separation assigns to the target.
        resamples: number of bootstrap resamples of the speakers.
        batch: number of sides in a forward pass.
        trials: a trial list to use instead of drawing one.
        cache: folder in which simulated rooms are stored, for conditions with a room.
        trained_on: speakers that the model was trained on, in addition to those in its card. None of them may
            be in the trials, also not as an interferer.
        progress: called with (done, total), in percent of a system.

    Raises:
        CorpusError: too few speakers, an unknown split, a missing utterance, missing noise, or speakers that
            the model was trained on.
        SeparativeError: an unknown condition or kind of candidates.
        MissingExtraError: rooms without the extra ``rooms``, PESQ without ``quality``.

    >>> from separative import load_model
    >>> from separative.corpora import load_corpus
    >>> settings = {"conditions": ["clean"], "seconds": 2.0, "enrolments": 1, "tests": 1, "resamples": 10}
    >>> results = evaluate(load_model(), load_corpus("speech"), baselines=False, **settings)
    >>> results.find("EER", "clean").model
    'trained'
    """
    choose(candidates, CANDIDATES, "kind of candidates")
    cohort_corpus = None if cohort is None else corpus.split(cohort)
    corpus = corpus.split(split)
    noise = noise.split(split) if noise is not None else None
    if trials is None:
        with_noise = noise is not None
        trials = build_trials(
            corpus,
            noise=noise,
            conditions=conditions
            or [c for c in DEFAULT_CONDITIONS if with_noise or CONDITIONS[c].snr_db is None],
            enrol=enrol,
            seed=seed,
            seconds=seconds,
            enrolments=enrolments,
            tests=tests,
        )
    trials.check_speakers(model.training_speakers.union(trained_on))
    systems = _systems(model, name, trials.seed, baselines)
    recordings = TrialRecordings(corpus, noise, model.rate, trials.seconds, cache)
    outputs: dict[str, CollectedOutputs] = {}
    for number, system in enumerate(systems):
        share = None if progress is None else _share(progress, number, len(systems))
        outputs |= collect_outputs(
            system, trials, recordings, batch=batch, cohort=cohort_corpus, quality=quality, progress=share
        )
    results = score(outputs, trials, candidates=candidates, resamples=resamples, oracle=oracle)
    return Results(results.rows, {"split": split, **results.settings})


def _systems(model: SeparativeEncoder, name: str, seed: int, baselines: bool) -> list[System]:
    systems: list[System] = [EncoderSystem(name, model, queries=True)]
    if baselines:
        untrained = untrained_copy(model, seed)
        systems += [EncoderSystem("untrained", untrained, queries=False), MfccSystem(model.rate)]
    return systems


def _share(progress: Progress, number: int, systems: int) -> Progress:
    """Progress of one of several systems, in percent: systems process different numbers of waveforms."""
    return lambda done, total: progress(100 * number + 100 * done // total, 100 * systems)
