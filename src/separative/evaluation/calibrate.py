"""Calibration of a model: a map from its scores to log-likelihood ratios, fitted on unseen speakers."""

from __future__ import annotations

import datetime
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from separative.corpora.manifest import Corpus
from separative.errors import SeparativeError
from separative.evaluation.bootstrap import FOLDS, Indices, Mask, assign_folds, can_hold_out, held_out_llr
from separative.evaluation.collect import collect_outputs
from separative.evaluation.conditions import parse_condition
from separative.evaluation.draw import build_trials
from separative.evaluation.qualities import QUALITY_CONDITIONS, collect_sides, fit_qualities
from separative.evaluation.score import trial_scores
from separative.evaluation.systems import EncoderSystem
from separative.evaluation.trial_recordings import TrialRecordings
from separative.evaluation.trials import TrialList
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
    qualities: Sequence[str] | None = None,
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
    """Fit a calibration and return the entry ``calibration`` for the model's card.

    ``scale`` and ``offset`` map a cosine without knowledge of the qualities. They are fitted on all trials.
    ``quality`` maps it with the qualities of both sides (see ``evaluation.qualities``). The key ``held_out``
    has the costs in bits of calibrations by ``scale`` and ``offset`` that were fitted in the same way on
    other speakers (:func:`held_out_llr`): ``cllr``, ``min_cllr`` and their
    difference ``loss``. Every trial counts once.

    Args:
        model: in evaluation mode; it must not be trained on any of the speakers.
        corpus, noise: speech and noise; only the utterances of ``split`` are used.
        split: split of both corpora.
        conditions: conditions of the test sides. Their trials are pooled, so one map serves all of them.
        qualities: conditions of the fit by quality; empty for no such fit. By default QUALITY_CONDITIONS,
            without those that need noise if there is none, and those longer than ``seconds``.
        enrol, seed, seconds, enrolments, tests: see :func:`build_trials`.
        prior: target prior of the fit (see :func:`separative.metrics.fit_calibration`).
        folds: number of speaker folds for ``held_out``.
        batch: number of sides in a forward pass.
        trained_on: speakers that the model was trained on, in addition to those in its card.
        progress: called with (done, total) sides.

    Raises:
        CorpusError: too few speakers, an unknown split, missing noise, or speakers that the model was
            trained on.
        SeparativeError: an unknown condition, an invalid prior, too few speakers or folds, or a model with
            scores that are no higher for the same speaker.

    >>> from separative import load_model
    >>> from separative.corpora import synthesize_corpus
    >>> corpus = synthesize_corpus("many", speakers=8, utterances=2, dev_speakers=6, seed=0)
    >>> settings = {"conditions": ["clean"], "seconds": 1.0, "enrolments": 1, "tests": 1, "folds": 3}
    >>> record = calibrate(load_model(), corpus, **settings)
    >>> record["scale"] > 0, record["held_out"]["trials"]
    (True, 36)
    """
    quality_names = default_qualities(seconds, noise is not None) if qualities is None else tuple(qualities)
    for name in quality_names:
        parse_condition(name)
    log_odds(prior)  # raises an error if the prior is invalid, before the model runs
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
    trials.check_speakers(model.training_speakers.union(trained_on))
    target_N = np.array([trial.target for trial in trials.trials])
    fold_P = assign_folds(trials.corpus_of, folds, seed)
    left_N, right_N = _trial_folds(trials, fold_P)
    _check_folds(trials, target_N, left_N, right_N, folds)
    recordings = TrialRecordings(corpus, noise, model.rate, seconds)
    system = EncoderSystem("model", model, queries=False)
    outputs = collect_outputs(system, trials, recordings, batch=batch, progress=progress)
    score_N = np.array([line["score"] for line in trial_scores(outputs, trials)])

    fitted = fit_calibration(score_N, target_N, prior=prior)
    if fitted.scale <= 0:
        raise SeparativeError(
            "the model cannot be calibrated: its scores are not higher for the same speaker than for "
            "different speakers"
        )
    llr_N = held_out_llr(score_N, target_N, left_N, right_N, prior=prior)
    assert llr_N is not None  # _check_folds has checked it
    by_quality: dict[str, Any] = {}
    if quality_names:
        sides = collect_sides(model, trials, recordings, quality_names, batch=batch, progress=progress)
        by_quality["quality"] = {
            "conditions": list(quality_names),
            **fit_qualities(sides, seed=seed).record(),
        }
    return {
        "scale": fitted.scale,
        "offset": fitted.offset,
        "conditions": list(trials.conditions),
        "enrol": enrol,
        "seconds": seconds,
        "prior": prior,
        "corpora": sorted(set(trials.corpus_of.values())),
        "split": split,
        "speakers": len(trials.corpus_of),
        "trials": len(target_N),
        "targets": int(target_N.sum()),
        "seed": seed,
        "date": datetime.date.today().isoformat(),
        "held_out": {"folds": len(set(fold_P.tolist())), **_held_out_costs(llr_N, target_N, trials)},
        **by_quality,
    }


def default_qualities(seconds: float, noise: bool) -> tuple[str, ...]:
    """Return the conditions of the fit by quality for sides of a length, with or without a noise corpus.

    >>> default_qualities(1.0, noise=False)
    ('clean', 'telephone', 'opus', 'overlap0')
    """
    return tuple(
        condition.name
        for condition in map(parse_condition, QUALITY_CONDITIONS)
        if (condition.seconds or 0.0) <= seconds and (noise or condition.snr_db is None)
    )


def _trial_folds(trials: TrialList, fold_P: Indices) -> tuple[Indices, Indices]:
    """Folds [N] of the enrolled speaker and of the test speaker of every trial."""
    fold_of = dict(zip(trials.corpus_of, fold_P, strict=True))
    fold_of_side = {side.id: fold_of[side.speaker] for side in (*trials.enrolments, *trials.tests)}
    left_N = np.array([fold_of_side[trial.enrolment] for trial in trials.trials])
    right_N = np.array([fold_of_side[trial.test] for trial in trials.trials])
    return left_N, right_N


def _check_folds(trials: TrialList, target_N: Mask, left_N: Indices, right_N: Indices, folds: int) -> None:
    if not can_hold_out(target_N, left_N, right_N):
        raise SeparativeError(
            f"{len(trials.corpus_of)} speakers in {folds} folds are too few to calibrate on other speakers: "
            "besides any two folds there must be a third with at least two speakers of one corpus; "
            "use more speakers or more folds"
        )


def _held_out_costs(llr_N: Floats, target_N: Mask, trials: TrialList) -> dict[str, Any]:
    """Costs over all trials, and by condition."""
    condition_N = np.array([trial.condition for trial in trials.trials])
    by_condition = {
        name: _costs(llr_N[condition_N == name], target_N[condition_N == name]) for name in trials.conditions
    }
    return {**_costs(llr_N, target_N), "by_condition": by_condition}


def _costs(llr_N: Floats, target_N: NDArray[np.bool_]) -> dict[str, float | int]:
    actual, least = cllr(llr_N, target_N), min_cllr(llr_N, target_N)
    return {
        "cllr": round(actual, 4),
        "min_cllr": round(least, 4),
        "loss": round(actual - least, 4),
        "trials": len(target_N),
        "targets": int(target_N.sum()),
    }
