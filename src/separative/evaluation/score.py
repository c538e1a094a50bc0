"""The second half of the protocol: from what systems said to scores and result rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from separative.errors import SeparativeError, choose
from separative.evaluation.bootstrap import SpeakerBootstrap
from separative.evaluation.outputs import CollectedOutputs
from separative.evaluation.results import UNITS, Results, Row
from separative.evaluation.rows import activity_rows, information_rows, separation_rows, stream_rows
from separative.evaluation.systems import SystemOutput, scores
from separative.evaluation.trials import TrialList
from separative.evaluation.verification import Enrolments, Scored, identification_rows, verification_rows
from separative.metrics import adaptive_snorm
from separative.types import Floats

Candidates = Literal["active", "all"]
NEAREST = 100


def score(
    answers: dict[str, CollectedOutputs],
    trials: TrialList,
    *,
    candidates: Candidates | Mapping[str, Candidates] = "active",
    resamples: int = 500,
    against: str | None = None,
    oracle: bool = False,
) -> Results:
    """Every figure of every row, each with its 95 % interval by bootstrap over speakers.

    Besides the rows of ``answers`` there are, where there is what they need: ``NAME + s-norm`` (scores
    normalised by a cohort), ``NAME (2 recordings, average)`` (the mean of the most active candidates of all
    of a speaker's enrolments) and ``NAME (2 recordings, cross-attention)`` (the same of the answers that
    these give when they share one memory).

    Args:
        answers: by row name, from :func:`listen`.
        candidates: the ``active`` streams, or ``all``, may match in a trial; one for all, or by row name.
        resamples: of the bootstrap; the same speakers are drawn for all rows.
        against: also the difference of every row's EER from that of this row, with its own interval.
        oracle: also ``NAME (oracle)``, which compares the stream that separation gives to the target, in
            conditions with several speakers.

    Raises:
        SeparativeError: an unknown kind of candidates or row; a condition without target or non-target
            trials; a score that is not finite.
    """
    trials.check_kinds()
    if against is not None:
        choose(against, answers, "row")
    scored = [
        row
        for model, answer in answers.items()
        for row in _scored(model, answer, trials, _kind(candidates, model), oracle)
    ]
    corpus_of = trials.corpus_of
    speakers = SpeakerBootstrap(list(corpus_of), resamples, trials.seed, list(corpus_of.values()))
    rows = verification_rows(scored, trials, speakers, against=against)
    rows += identification_rows(scored, trials, speakers)
    rows += separation_rows(answers, trials, speakers)
    rows += activity_rows(answers, trials, speakers)
    rows += information_rows(answers, trials, speakers)
    rows += stream_rows(answers, trials, speakers)
    settings = {
        "seed": trials.seed,
        "seconds": trials.seconds,
        "enrol": trials.enrol,
        "candidates": candidates if isinstance(candidates, str) else dict(candidates),
        "resamples": resamples,
        "speakers": len(corpus_of),
        "mi_ceiling": float(np.log(len(corpus_of))),
        "rows": list(answers),
    }
    if against is not None:
        settings["against"] = against
    return Results(tuple(_ordered(rows, [s.model for s in scored])), settings)


def score_lines(
    answers: dict[str, CollectedOutputs],
    trials: TrialList,
    *,
    candidates: Candidates | Mapping[str, Candidates] = "active",
) -> Iterator[dict[str, Any]]:
    """One record a trial and row of ``answers``: model, condition, enrolment, test, target, score."""
    left_at = {side.id: i for i, side in enumerate(trials.enrolments)}
    right_at = {side.id: i for i, side in enumerate(trials.tests)}
    for model, answer in answers.items():
        plain = _scored(model, answer, trials, _kind(candidates, model), False)[0]
        for trial in trials.trials:
            score_LR = plain.score_LR[trial.condition]
            yield {
                "model": model,
                "condition": trial.condition,
                "enrolment": trial.enrolment,
                "test": trial.test,
                "target": trial.target,
                "score": float(score_LR[left_at[trial.enrolment], right_at[trial.test]]),
            }


def _kind(candidates: Candidates | Mapping[str, Candidates], model: str) -> Candidates:
    kind: Candidates = candidates if isinstance(candidates, str) else candidates.get(model, "active")
    choose(kind, ("active", "all"), "kind of candidates")
    return kind


def _scored(
    model: str, answer: CollectedOutputs, trials: TrialList, kind: Candidates, oracle: bool
) -> list[Scored]:
    """The row itself and those that follow from it."""
    active_only = kind == "active"
    singly, together = Enrolments.singly(trials), Enrolments.together(trials)
    enrolled = [answer.voices[side.id, trials.enrol] for side in trials.enrolments]
    tested = {c: [answer.voices[s.id, c] for s in trials.tests] for c in trials.conditions}
    plain = {c: scores(enrolled, right, active_only=active_only) for c, right in tested.items()}
    for condition, score_LR in plain.items():
        _need_finite(score_LR, trials, f"{model}, condition '{condition}'")
    rows = [Scored(model, singly, plain)]
    if answer.cohort_KE is not None:
        cohort = [_single(embedding_E) for embedding_E in answer.cohort_KE]
        left_LK = scores(enrolled, cohort, active_only=active_only)
        normal = {
            c: adaptive_snorm(plain[c], left_LK, scores(right, cohort, active_only=active_only), NEAREST)
            for c, right in tested.items()
        }
        rows.append(Scored(f"{model} + s-norm", singly, normal))
    if oracle:
        chosen = {
            c: [_only(answer.voices[s.id, c], answer.stream[s.id, c][0]) for s in trials.tests]
            for c in trials.conditions
            if all((s.id, c) in answer.stream for s in trials.tests)
        }
        told = {c: scores(enrolled, right, active_only=True) for c, right in chosen.items()}
        if told:
            rows.append(Scored(f"{model} (oracle)", singly, told))
    sizes = sorted({len(group) for group in together.sides})
    recordings = f"{'-'.join(str(size) for size in sizes[:1] + sizes[1:][-1:])} recordings"
    ways = {"average": enrolled}
    if answer.together:
        # Only speakers with several enrolments have shared a memory.
        shared = answer.together
        ways["cross-attention"] = [
            shared.get((s.id, trials.enrol), v) for s, v in zip(trials.enrolments, enrolled, strict=True)
        ]
    for way, voices in ways.items():
        if together.sides:
            mean = [_mean([voices[i] for i in group]) for group in together.sides]
            some = {c: scores(mean, right, active_only=active_only) for c, right in tested.items()}
            rows.append(Scored(f"{model} ({recordings}, {way})", together, some))
    return rows


def _need_finite(score_LR: Floats, trials: TrialList, where: str) -> None:
    bad = np.argwhere(~np.isfinite(score_LR))
    if len(bad):
        left, right = bad[0]
        raise SeparativeError(
            f"{where}: the score of {trials.enrolments[left].id} against {trials.tests[right].id} is "
            f"{score_LR[left, right]} ({len(bad)} such in all)"
        )


def _mean(voices: Sequence[SystemOutput]) -> SystemOutput:
    """The mean of the most active candidates: chosen without a look at any test."""
    return _single(np.sum([v.embedding_CE[int(np.argmax(v.active_C))] for v in voices], axis=0))


def _single(embedding_E: Any) -> SystemOutput:
    unit_E = embedding_E / np.linalg.norm(embedding_E)
    return SystemOutput(unit_E[None].astype(np.float32), np.array([True]))


def _only(voices: SystemOutput, stream: int) -> SystemOutput:
    return SystemOutput(voices.embedding_CE, np.arange(len(voices.active_C)) == stream)


def _ordered(rows: Sequence[Row], models: Sequence[str]) -> list[Row]:
    """By metric, place (all corpora first) and model, as a reader expects."""
    metrics = list(UNITS)
    places = list(dict.fromkeys(row.corpus for row in rows))
    return sorted(
        rows, key=lambda r: (metrics.index(r.metric), places.index(r.corpus), models.index(r.model))
    )
