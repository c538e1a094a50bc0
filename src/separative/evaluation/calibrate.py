"""Calibration that ships with a model: scores of talkers never trained on become log-likelihood ratios."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from separative.corpora.manifest import Corpus
from separative.errors import SeparativeError
from separative.evaluation.draw import build_trials
from separative.evaluation.listen import Progress, listen
from separative.evaluation.score import score_lines
from separative.evaluation.sounds import Sounds
from separative.evaluation.systems import EncoderSystem
from separative.metrics import Floats, cllr, fit_calibration, log_odds, min_cllr

if TYPE_CHECKING:
    from separative.model import SeparativeEncoder


def calibrate(
    model: SeparativeEncoder,
    corpus: Corpus,
    *,
    split: str = "dev",
    noise: Corpus | None = None,
    conditions: Sequence[str] = ("clean", "overlap0"),
    enrol: str = "clean",
    seed: int = 0,
    seconds: float = 4.0,
    enrolments: int = 2,
    tests: int = 3,
    prior: float = 0.5,
    folds: int = 5,
    batch: int = 16,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """The entry ``calibration`` of a model's card: the map from scores to nats, and how well it carries over.

    The map is fitted on all trials; ``held_out`` says what maps fitted in the same way cost on talkers whose
    trials they have not seen, in bits: ``cllr``, ``min_cllr`` and, their difference, ``loss``.

    Args:
        model: in evaluation mode, trained on none of the talkers.
        corpus, noise: of both, the utterances of ``split`` are used.
        conditions: of the test sides; their trials are pooled, so one map serves them all.
        enrol, seed, seconds, enrolments, tests: see :func:`build_trials`.
        prior: at which the map is fitted (:func:`fit_calibration`).
        folds: of talkers, for ``held_out``.
        batch: sides per forward pass.
        progress: called with (done, total) sides.

    Raises:
        CorpusError: too few talkers, a split that is not there, noise wanted but not given.
        SeparativeError: an unknown condition, a wrong prior, too few talkers for two folds, or a model whose
            scores say nothing of the talker.
    """
    log_odds(prior)  # a wrong one is refused before anything is heard
    corpus = corpus.split(split)
    noise = noise.split(split) if noise is not None else None
    trials = build_trials(
        corpus,
        noise=noise,
        conditions=conditions,
        enrol=enrol,
        seed=seed,
        seconds=seconds,
        enrolments=enrolments,
        tests=tests,
    )
    fold_of = deal_folds(trials.corpus_of, folds, seed)
    sounds = Sounds(corpus, noise, model.rate, seconds)
    system = EncoderSystem("model", model, queries=False)
    answers = listen(system, trials, sounds, batch=batch, progress=progress)
    score_N = np.array([line["score"] for line in score_lines(answers, trials)])
    target_N = np.array([trial.target for trial in trials.trials])
    condition_N = np.array([trial.condition for trial in trials.trials])
    fold_of_side = {side.id: fold_of[side.talker] for side in (*trials.enrolments, *trials.tests)}
    left_N = np.array([fold_of_side[trial.enrolment] for trial in trials.trials])
    right_N = np.array([fold_of_side[trial.test] for trial in trials.trials])

    fitted = fit_calibration(score_N, target_N, prior=prior)
    if fitted.scale <= 0:
        raise SeparativeError(
            "this model cannot be calibrated: its scores are no higher where the talkers are the same"
        )
    llr_N = held_out_llr(score_N, target_N, left_N, right_N, prior=prior)
    held_N = ~np.isnan(llr_N)
    return {
        "scale": fitted.scale,
        "offset": fitted.offset,
        "conditions": list(trials.conditions),
        "enrol": enrol,
        "seconds": seconds,
        "prior": prior,
        "corpora": sorted(set(trials.corpus_of.values())),
        "split": split,
        "talkers": len(fold_of),
        "trials": len(target_N),
        "targets": int(target_N.sum()),
        "seed": seed,
        "date": datetime.date.today().isoformat(),
        "held_out": {
            "folds": max(fold_of.values()) + 1,
            **_costs(llr_N[held_N], target_N[held_N]),
            "by_condition": {
                name: _costs(llr_N[some_N], target_N[some_N])
                for name in trials.conditions
                for some_N in [held_N & (condition_N == name)]
            },
        },
    }


def deal_folds(corpus_of: Mapping[str, str], folds: int, seed: int = 0) -> dict[str, int]:
    """A fold for every talker, at random but spread evenly within each corpus; at least two talkers a fold.

    Raises:
        SeparativeError: fewer than two folds asked for, or too few talkers for them.
    """
    count = min(folds, len(corpus_of) // 2)
    if count < 2:
        raise SeparativeError(
            f"held-out costs need two folds of two talkers at least, not {folds} of {len(corpus_of)} talkers"
        )
    names = sorted(corpus_of)
    shuffled = [names[i] for i in np.random.default_rng(seed).permutation(len(names))]
    dealt = sorted(shuffled, key=lambda name: corpus_of[name])  # stable: still shuffled within a corpus
    return {name: i % count for i, name in enumerate(dealt)}


def held_out_llr(
    score_N: Floats,
    target_N: NDArray[np.bool_],
    left_N: NDArray[np.intp],
    right_N: NDArray[np.intp],
    *,
    prior: float = 0.5,
) -> Floats:
    """Log-likelihood ratios [N] in nats by a map fitted on other talkers; NaN where the sides' folds differ.

    ``left_N`` and ``right_N`` are the folds of the compared talkers. A trial within a fold is calibrated on
    the trials that have neither talker in it.
    """
    llr_N = np.full(len(score_N), np.nan)
    for fold in np.unique(left_N):
        others_N, held_N = (left_N != fold) & (right_N != fold), (left_N == fold) & (right_N == fold)
        llr_N[held_N] = fit_calibration(score_N[others_N], target_N[others_N], prior=prior).llr(
            score_N[held_N]
        )
    return llr_N


def _costs(llr_N: Floats, target_N: NDArray[np.bool_]) -> dict[str, float | int]:
    actual, least = cllr(llr_N, target_N), min_cllr(llr_N, target_N)
    return {
        "cllr": round(actual, 4),
        "min_cllr": round(least, 4),
        "loss": round(actual - least, 4),
        "trials": len(target_N),
        "targets": int(target_N.sum()),
    }
