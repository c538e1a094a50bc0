"""The protocol, run: every side is heard once per condition and system; all figures come from that."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Literal

import numpy as np

from separative.corpora.manifest import Corpus
from separative.errors import choose
from separative.evaluation.bootstrap import Talkers
from separative.evaluation.conditions import CONDITIONS, DEFAULT, Condition, mix
from separative.evaluation.draw import build_trials
from separative.evaluation.results import Results
from separative.evaluation.rows import Answers, Key, information_rows, separation_rows, verification_rows
from separative.evaluation.sounds import Sounds
from separative.evaluation.systems import EncoderSystem, MfccSystem, System, Voices, untrained
from separative.evaluation.trials import Side, TrialList
from separative.inference.recording import Wave
from separative.metrics import si_sdr_improvement

if TYPE_CHECKING:
    from separative.model import SeparativeEncoder

Candidates = Literal["active", "all"]
Progress = Callable[[int, int], None]


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
    baselines: bool = True,
    resamples: int = 500,
    batch: int = 16,
    trials: TrialList | None = None,
    progress: Progress | None = None,
) -> Results:
    """Error rates, separation and identity information of a model on talkers it was not trained on.

    Args:
        model: in evaluation mode; ``name`` is its name in the table.
        corpus, noise: of both, the utterances of ``split`` are used.
        conditions: names; by default the protocol's five, without noise if no noise is given.
        enrol, seed, seconds, enrolments, tests: see :func:`build_trials`; ``trials`` replaces them all.
        candidates: the ``active`` streams, or ``all``, may match in a trial.
        baselines: also the untrained network of the same architecture, and MFCC statistics.
        resamples: of the bootstrap over talkers.
        batch: sides per forward pass.
        progress: called with (done, total) sides.

    Raises:
        CorpusError: too few talkers, a split or an utterance that is not there, noise wanted but not given.
        SeparativeError: an unknown condition or kind of candidates.
    """
    choose(candidates, ("active", "all"), "kind of candidates")
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
    systems: list[System] = [EncoderSystem(name, model, queries=True)]
    if baselines:
        twin = untrained(model, trials.seed)
        systems += [EncoderSystem("untrained", twin, queries=False), MfccSystem(model.rate)]
    answers = _listen(systems, trials, Sounds(corpus, noise, model.rate, trials.seconds), batch, progress)
    corpus_of = trials.corpus_of
    talkers = Talkers(list(corpus_of), resamples, trials.seed, list(corpus_of.values()))
    rows = verification_rows(answers, trials, talkers, active_only=candidates == "active")
    rows += separation_rows(answers, trials, talkers)
    rows += information_rows(answers, trials, talkers)
    settings = {
        "split": split,
        "seed": trials.seed,
        "seconds": trials.seconds,
        "enrol": trials.enrol,
        "candidates": candidates,
        "resamples": resamples,
        "talkers": len(corpus_of),
        "mi_ceiling": float(np.log(len(corpus_of))),
    }
    return Results(tuple(rows), settings)


def _listen(
    systems: Sequence[System], trials: TrialList, sounds: Sounds, batch: int, progress: Progress | None
) -> dict[str, Answers]:
    """Every side in every condition through every system, decoded and mixed once."""
    jobs = [(side, [trials.enrol]) for side in trials.enrolments]
    # Clean, whatever was asked for: the bound on information needs it as its inventory.
    jobs = [(side, list(dict.fromkeys([*names, "clean"]))) for side, names in jobs]
    jobs += [(side, list(trials.conditions)) for side in trials.tests]
    total, done = sum(len(names) for _, names in jobs), 0
    answers: dict[str, Answers] = defaultdict(Answers)
    mixtures = _mixtures(jobs, sounds)
    while some := list(islice(mixtures, batch)):
        for system in systems:
            for (key, mix_N, source_KN), found in zip(some, system([m for _, m, _ in some]), strict=True):
                for row, voices in zip(system.rows, found, strict=True):
                    answers[row].voices[key] = Voices(voices.embedding_CE, voices.active_C)
                estimate_CN = found[0].estimate_CN
                if estimate_CN is not None and 1 < len(source_KN) <= len(estimate_CN):
                    gain_K, stream_K = si_sdr_improvement(estimate_CN, source_KN, mix_N)
                    answers[system.rows[0]].improvement[key] = gain_K
                    for row in system.rows:
                        answers[row].stream[key] = stream_K
        done += len(some)
        if progress is not None:
            progress(done, total)
    return answers


def _mixtures(jobs: Sequence[tuple[Side, list[str]]], sounds: Sounds) -> Iterator[tuple[Key, Wave, Wave]]:
    for side, names in jobs:
        wanted: list[Condition] = [CONDITIONS[name] for name in names]
        rivals = max(len(c.sir_db) for c in wanted)
        parts = sounds.parts(side, rivals=rivals, noise=any(c.snr_db is not None for c in wanted))
        for condition in wanted:
            heard = mix(parts, condition)
            yield (side.id, condition.name), heard.mix_N, heard.source_KN
