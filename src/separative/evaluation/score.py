"""The second half of the protocol: from what systems said to scores and result rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

import numpy as np

from separative.errors import choose
from separative.evaluation.answers import Answers
from separative.evaluation.bootstrap import Talkers
from separative.evaluation.results import Results
from separative.evaluation.rows import information_rows, separation_rows, verification_rows
from separative.evaluation.systems import scores
from separative.evaluation.trials import TrialList
from separative.metrics import Floats

Candidates = Literal["active", "all"]


def score(
    answers: dict[str, Answers],
    trials: TrialList,
    *,
    candidates: Candidates | Mapping[str, Candidates] = "active",
    resamples: int = 500,
) -> Results:
    """Every figure of every row, each with its 95 % interval by bootstrap over talkers.

    Args:
        answers: by row name, from :func:`listen`.
        candidates: the ``active`` streams, or ``all``, may match in a trial; one for all, or by row name.
        resamples: of the bootstrap; the same talkers are drawn for all rows.

    Raises:
        SeparativeError: an unknown kind of candidates.
    """
    score_LR = _scores(answers, trials, candidates)
    corpus_of = trials.corpus_of
    talkers = Talkers(list(corpus_of), resamples, trials.seed, list(corpus_of.values()))
    rows = verification_rows(score_LR, trials, talkers)
    rows += separation_rows(answers, trials, talkers)
    rows += information_rows(answers, trials, talkers)
    settings = {
        "seed": trials.seed,
        "seconds": trials.seconds,
        "enrol": trials.enrol,
        "candidates": candidates if isinstance(candidates, str) else dict(candidates),
        "resamples": resamples,
        "talkers": len(corpus_of),
        "mi_ceiling": float(np.log(len(corpus_of))),
    }
    return Results(tuple(rows), settings)


def score_lines(
    answers: dict[str, Answers],
    trials: TrialList,
    *,
    candidates: Candidates | Mapping[str, Candidates] = "active",
) -> Iterator[dict[str, Any]]:
    """One record a trial and row: model, condition, enrolment, test, target, score."""
    left_at = {side.id: i for i, side in enumerate(trials.enrolments)}
    right_at = {side.id: i for i, side in enumerate(trials.tests)}
    score_LR = _scores(answers, trials, candidates)
    for model in answers:
        for trial in trials.trials:
            yield {
                "model": model,
                "condition": trial.condition,
                "enrolment": trial.enrolment,
                "test": trial.test,
                "target": trial.target,
                "score": float(
                    score_LR[model, trial.condition][left_at[trial.enrolment], right_at[trial.test]]
                ),
            }


def _scores(
    answers: dict[str, Answers],
    trials: TrialList,
    candidates: Candidates | Mapping[str, Candidates],
) -> dict[tuple[str, str], Floats]:
    """Score matrix [enrolment, test] of every row and condition."""
    score_LR: dict[tuple[str, str], Floats] = {}
    for model, answer in answers.items():
        kind = candidates if isinstance(candidates, str) else candidates.get(model, "active")
        choose(kind, ("active", "all"), "kind of candidates")
        enrolled = [answer.voices[side.id, trials.enrol] for side in trials.enrolments]
        for condition in trials.conditions:
            tested = [answer.voices[side.id, condition] for side in trials.tests]
            score_LR[model, condition] = scores(enrolled, tested, active_only=kind == "active")
    return score_LR
