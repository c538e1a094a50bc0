"""The protocol, run on one model and the baselines."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from separative.corpora.manifest import Corpus
from separative.errors import choose
from separative.evaluation.collect import listen
from separative.evaluation.conditions import CONDITIONS, DEFAULT
from separative.evaluation.draw import build_trials
from separative.evaluation.outputs import CollectedOutputs
from separative.evaluation.results import Results
from separative.evaluation.score import Candidates, score
from separative.evaluation.sounds import Sounds
from separative.evaluation.systems import EncoderSystem, MfccSystem, System, untrained
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
    """Error rates, separation and identity information of a model on speakers it was not trained on.

    Args:
        model: in evaluation mode; ``name`` is its name in the table.
        corpus, noise: of both, the utterances of ``split`` are used.
        conditions: names; by default the protocol's five, without noise if no noise is given.
        enrol, seed, seconds, enrolments, tests: see :func:`build_trials`; ``trials`` replaces them all.
        candidates: the ``active`` streams, or ``all``, may match in a trial.
        cohort: split whose speakers normalise scores in rows of their own, ``+ s-norm``.
        baselines: also the untrained network of the same architecture, and MFCC statistics.
        quality: also PESQ and STOI (slow; extra ``quality``).
        oracle: also the row that is told which stream is the target, by separation.
        resamples: of the bootstrap over speakers.
        batch: sides per forward pass.
        cache: folder in which simulated rooms are kept, for conditions in a room.
        trained_on: speakers that the model has learnt from, besides those its card names; none may be heard
            here, be it as an interferer.
        progress: called with (done, total), in percent of a system.

    Raises:
        CorpusError: too few speakers, a split or an utterance that is not there, noise wanted but not given.
        SeparativeError: an unknown condition or kind of candidates, speakers trained on.
        MissingExtraError: rooms without the extra ``rooms``, PESQ without ``quality``.
    """
    choose(candidates, ("active", "all"), "kind of candidates")
    strangers = None if cohort is None else corpus.split(cohort)
    corpus = corpus.split(split)
    noise = noise.split(split) if noise is not None else None
    if trials is None:
        names = conditions or [c for c in DEFAULT if noise is not None or CONDITIONS[c].snr_db is None]
        trials = build_trials(
            corpus,
            noise=noise,
            conditions=names,
            enrol=enrol,
            seed=seed,
            seconds=seconds,
            enrolments=enrolments,
            tests=tests,
        )
    trials.refuse(model.training_speakers.union(trained_on))
    systems: list[System] = [EncoderSystem(name, model, queries=True)]
    if baselines:
        twin = untrained(model, trials.seed)
        systems += [EncoderSystem("untrained", twin, queries=False), MfccSystem(model.rate)]
    sounds = Sounds(corpus, noise, model.rate, trials.seconds, cache)
    answers: dict[str, CollectedOutputs] = {}
    for number, system in enumerate(systems):
        share = None if progress is None else _share(progress, number, len(systems))
        answers |= listen(
            system, trials, sounds, batch=batch, cohort=strangers, quality=quality, progress=share
        )
    results = score(answers, trials, candidates=candidates, resamples=resamples, oracle=oracle)
    return Results(results.rows, {"split": split, **results.settings})


def _share(progress: Progress, number: int, systems: int) -> Progress:
    """Progress of one of several systems, in percent: they do not all hear the same number of waveforms."""
    return lambda done, total: progress(100 * number + 100 * done // total, 100 * systems)
