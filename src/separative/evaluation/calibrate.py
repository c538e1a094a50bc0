"""Calibration that ships with a model: scores of speakers never trained on become log-likelihood ratios."""

from __future__ import annotations

import datetime
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from separative.corpora.manifest import Corpus
from separative.errors import SeparativeError
from separative.evaluation.bootstrap import FOLDS, deal_folds, enough, held_out_llr
from separative.evaluation.collect import listen
from separative.evaluation.draw import build_trials
from separative.evaluation.score import score_lines
from separative.evaluation.sounds import Sounds
from separative.evaluation.systems import EncoderSystem
from separative.metrics import cllr, fit_calibration, log_odds, min_cllr
from separative.types import Floats, Progress

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
    folds: int = FOLDS,
    batch: int = 16,
    trained_on: Collection[str] = (),
    progress: Progress | None = None,
) -> dict[str, Any]:
    """The entry ``calibration`` of a model's card: the map from scores to nats, and how well it carries over.

    The map is fitted on all trials; ``held_out`` says what maps fitted in the same way cost on speakers whose
    trials they have not seen (:func:`held_out_llr`; every trial counts once), in bits: ``cllr``, ``min_cllr``
    and, their difference, ``loss``.

    Args:
        model: in evaluation mode, trained on none of the speakers heard.
        corpus, noise: of both, the utterances of ``split`` are used.
        conditions: of the test sides; their trials are pooled, so one map serves them all.
        enrol, seed, seconds, enrolments, tests: see :func:`build_trials`.
        prior: at which the map is fitted (:func:`fit_calibration`).
        folds: of speakers, for ``held_out``.
        batch: sides per forward pass.
        trained_on: speakers that the model has learnt from, besides those its card names.
        progress: called with (done, total) sides.

    Raises:
        CorpusError: too few speakers, a split that is not there, noise wanted but not given.
        SeparativeError: an unknown condition, a wrong prior, too few speakers or folds, speakers trained on, a
            model whose scores say nothing of the speaker.
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
    trials.refuse(model.training_speakers.union(trained_on))
    corpus_of = trials.corpus_of
    target_N = np.array([trial.target for trial in trials.trials])
    condition_N = np.array([trial.condition for trial in trials.trials])
    fold_of = dict(zip(corpus_of, deal_folds(corpus_of, folds, seed), strict=True))
    fold_of_side = {side.id: fold_of[side.speaker] for side in (*trials.enrolments, *trials.tests)}
    left_N = np.array([fold_of_side[trial.enrolment] for trial in trials.trials])
    right_N = np.array([fold_of_side[trial.test] for trial in trials.trials])
    if not enough(target_N, left_N, right_N):
        raise SeparativeError(
            f"{len(corpus_of)} speakers in {folds} folds are too few for costs on speakers that a map was not "
            "fitted on: beside any two folds a third is needed, of two speakers of one corpus at least"
        )
    sounds = Sounds(corpus, noise, model.rate, seconds)
    system = EncoderSystem("model", model, queries=False)
    answers = listen(system, trials, sounds, batch=batch, progress=progress)
    score_N = np.array([line["score"] for line in score_lines(answers, trials)])

    fitted = fit_calibration(score_N, target_N, prior=prior)
    if fitted.scale <= 0:
        raise SeparativeError(
            "this model cannot be calibrated: its scores are no higher where the speakers are the same"
        )
    llr_N = held_out_llr(score_N, target_N, left_N, right_N, prior=prior)
    assert llr_N is not None  # there were enough
    return {
        "scale": fitted.scale,
        "offset": fitted.offset,
        "conditions": list(trials.conditions),
        "enrol": enrol,
        "seconds": seconds,
        "prior": prior,
        "corpora": sorted(set(corpus_of.values())),
        "split": split,
        "speakers": len(corpus_of),
        "trials": len(target_N),
        "targets": int(target_N.sum()),
        "seed": seed,
        "date": datetime.date.today().isoformat(),
        "held_out": {
            "folds": len(set(fold_of.values())),
            **_costs(llr_N, target_N),
            "by_condition": {
                name: _costs(llr_N[condition_N == name], target_N[condition_N == name])
                for name in trials.conditions
            },
        },
    }


def _costs(llr_N: Floats, target_N: NDArray[np.bool_]) -> dict[str, float | int]:
    actual, least = cllr(llr_N, target_N), min_cllr(llr_N, target_N)
    return {
        "cllr": round(actual, 4),
        "min_cllr": round(least, 4),
        "loss": round(actual - least, 4),
        "trials": len(target_N),
        "targets": int(target_N.sum()),
    }
