"""Second half of the evaluation: from the outputs of systems to scores and result rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from separative.errors import SeparativeError, choose
from separative.evaluation.bootstrap import SpeakerBootstrap
from separative.evaluation.outputs import CollectedOutputs
from separative.evaluation.results import UNITS, Results, Row
from separative.evaluation.rows import activity_rows, information_rows, separation_rows, stream_rows
from separative.evaluation.systems import SystemOutput, score_matrix
from separative.evaluation.trials import TrialList
from separative.evaluation.verification import (
    EnrolmentGroups,
    ScoreMatrices,
    identification_rows,
    verification_rows,
)
from separative.metrics import adaptive_snorm
from separative.types import Floats

Candidates = Literal["active", "all"]
CANDIDATES: tuple[Candidates, ...] = ("active", "all")
# Number of cohort speakers, the most similar ones, that normalise a score.
NEAREST = 100


def score(
    outputs: Mapping[str, CollectedOutputs],
    trials: TrialList,
    *,
    candidates: Candidates | Mapping[str, Candidates] = "active",
    resamples: int = 500,
    against: str | None = None,
    oracle: bool = False,
) -> Results:
    """Compute all figures of all rows, each with a 95 % interval by bootstrap over speakers.

    There are derived rows where the outputs allow them: ``NAME + s-norm`` (scores normalised by a cohort),
    ``NAME (2 recordings, average)`` (the mean embedding of all of a speaker's enrolments) and
    ``NAME (2 recordings, cross-attention)`` (the same after the enrolments shared one memory).

    Args:
        outputs: by row name, from :func:`collect_outputs`.
        trials: the trial list.
        candidates: which streams may match in a trial: the ``active`` ones, or ``all``. One value for all
            rows, or values by row name.
        resamples: number of bootstrap resamples; all rows use the same ones.
        against: name of a row; adds the difference of every row's EER to that of this row.
        oracle: also add ``NAME (oracle)``, which compares the stream that separation assigns to the target.
            It exists for conditions with several speakers.

    Raises:
        SeparativeError: an unknown kind of candidates or row, a condition without target or non-target
            trials, or a score that is not finite.

    >>> from separative.corpora import load_corpus
    >>> from separative.evaluation import MfccSystem, TrialRecordings, build_trials, collect_outputs
    >>> corpus = load_corpus("speech")
    >>> trials = build_trials(corpus, seconds=2.0, conditions=["clean"], enrolments=1, tests=1)
    >>> outputs = collect_outputs(MfccSystem(16000), trials, TrialRecordings(corpus, None, 16000, 2.0))
    >>> results = score(outputs, trials, resamples=10)
    >>> results.find("EER", "clean").trials
    16
    """
    trials.check_labels()
    if against is not None:
        choose(against, outputs, "row")
    scored = [
        row
        for model, output in outputs.items()
        for row in _scored_rows(model, output, trials, _kind(candidates, model), oracle)
    ]
    corpus_of = trials.corpus_of
    speakers = SpeakerBootstrap(list(corpus_of), resamples, trials.seed, list(corpus_of.values()))
    rows = verification_rows(scored, trials, speakers, against=against)
    rows += identification_rows(scored, trials, speakers)
    rows += separation_rows(outputs, trials, speakers)
    rows += activity_rows(outputs, trials, speakers)
    rows += information_rows(outputs, trials, speakers)
    rows += stream_rows(outputs, trials, speakers)
    settings = {
        "seed": trials.seed,
        "seconds": trials.seconds,
        "enrol": trials.enrol,
        "candidates": candidates if isinstance(candidates, str) else dict(candidates),
        "resamples": resamples,
        "speakers": len(corpus_of),
        "mi_ceiling": float(np.log(len(corpus_of))),
        "rows": list(outputs),
    }
    if against is not None:
        settings["against"] = against
    return Results(tuple(_ordered(rows, [s.model for s in scored])), settings)


def trial_scores(
    outputs: Mapping[str, CollectedOutputs],
    trials: TrialList,
    *,
    candidates: Candidates | Mapping[str, Candidates] = "active",
) -> Iterator[dict[str, Any]]:
    """Yield one record per row and trial, with the keys model, condition, enrolment, test, target and score.

    Args: see :func:`score`.

    >>> from separative.corpora import load_corpus
    >>> from separative.evaluation import MfccSystem, TrialRecordings, build_trials, collect_outputs
    >>> corpus = load_corpus("speech")
    >>> trials = build_trials(corpus, seconds=2.0, conditions=["clean"], enrolments=1, tests=1)
    >>> outputs = collect_outputs(MfccSystem(16000), trials, TrialRecordings(corpus, None, 16000, 2.0))
    >>> sum(record["target"] for record in trial_scores(outputs, trials))
    4
    """
    left_at = {side.id: i for i, side in enumerate(trials.enrolments)}
    right_at = {side.id: i for i, side in enumerate(trials.tests)}
    for model, output in outputs.items():
        plain = _scored_rows(model, output, trials, _kind(candidates, model), False)[0]
        for trial in trials.trials:
            score_LR = plain.scores[trial.condition]
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
    choose(kind, CANDIDATES, "kind of candidates")
    return kind


def _scored_rows(
    model: str, output: CollectedOutputs, trials: TrialList, kind: Candidates, oracle: bool
) -> list[ScoreMatrices]:
    """The score matrices of a row and of the rows derived from it."""
    active_only = kind == "active"
    single = EnrolmentGroups.single(trials)
    enrolled = [output.single[side.id, trials.enrol] for side in trials.enrolments]
    tested = {c: [output.single[s.id, c] for s in trials.tests] for c in trials.conditions}
    plain = {c: score_matrix(enrolled, right, active_only=active_only) for c, right in tested.items()}
    for condition, score_LR in plain.items():
        _check_finite(score_LR, trials, f"{model}, condition '{condition}'")
    rows = [ScoreMatrices(model, single, plain)]
    if output.cohort is not None:
        cohort = [_one_candidate(embedding_E) for embedding_E in output.cohort]
        left_LK = score_matrix(enrolled, cohort, active_only=active_only)
        normal = {
            c: adaptive_snorm(
                plain[c], left_LK, score_matrix(right, cohort, active_only=active_only), NEAREST
            )
            for c, right in tested.items()
        }
        rows.append(ScoreMatrices(f"{model} + s-norm", single, normal))
    if oracle:
        chosen = {
            c: [_one_stream(output.single[s.id, c], output.stream[s.id, c][0]) for s in trials.tests]
            for c in trials.conditions
            if all((s.id, c) in output.stream for s in trials.tests)
        }
        if chosen:
            by_oracle = {c: score_matrix(enrolled, right, active_only=True) for c, right in chosen.items()}
            rows.append(ScoreMatrices(f"{model} (oracle)", single, by_oracle))
    return rows + _rows_of_several_enrolments(model, output, trials, enrolled, tested, active_only)


def _rows_of_several_enrolments(
    model: str,
    output: CollectedOutputs,
    trials: TrialList,
    enrolled: Sequence[SystemOutput],
    tested: Mapping[str, Sequence[SystemOutput]],
    active_only: bool,
) -> list[ScoreMatrices]:
    """Rows that enrol each speaker with all of the speaker's enrolments."""
    together = EnrolmentGroups.by_speaker(trials)
    if not together.sides:
        return []
    sizes = sorted({len(group) for group in together.sides})
    recordings = f"{'-'.join(str(size) for size in sizes[:1] + sizes[1:][-1:])} recordings"
    variants = {"average": enrolled}
    if output.joint:
        # Only speakers with several enrolments have joint outputs.
        variants["cross-attention"] = [
            output.joint.get((s.id, trials.enrol), single)
            for s, single in zip(trials.enrolments, enrolled, strict=True)
        ]
    rows = []
    for variant, outputs in variants.items():
        mean = [_mean([outputs[i] for i in group]) for group in together.sides]
        scores = {c: score_matrix(mean, right, active_only=active_only) for c, right in tested.items()}
        rows.append(ScoreMatrices(f"{model} ({recordings}, {variant})", together, scores))
    return rows


def _check_finite(score_LR: Floats, trials: TrialList, where: str) -> None:
    bad = np.argwhere(~np.isfinite(score_LR))
    if len(bad):
        left, right = bad[0]
        raise SeparativeError(
            f"{where}: the score of {trials.enrolments[left].id} against {trials.tests[right].id} is "
            f"{score_LR[left, right]}, but scores must be finite ({len(bad)} such scores)"
        )


def _mean(outputs: Sequence[SystemOutput]) -> SystemOutput:
    """The mean of the first active candidates. The choice does not depend on any test side."""
    return _one_candidate(np.sum([o.embeddings[int(np.argmax(o.active))] for o in outputs], axis=0))


def _one_candidate(embedding_E: Any) -> SystemOutput:
    unit_E = embedding_E / np.linalg.norm(embedding_E)
    return SystemOutput(unit_E[None].astype(np.float32), np.array([True]))


def _one_stream(output: SystemOutput, stream: int) -> SystemOutput:
    return SystemOutput(output.embeddings, np.arange(len(output.active)) == stream)


def _ordered(rows: Sequence[Row], models: Sequence[str]) -> list[Row]:
    """Sort rows by metric, corpus (all corpora first) and model."""
    metrics = list(UNITS)
    corpora = list(dict.fromkeys(row.corpus for row in rows))
    return sorted(
        rows, key=lambda r: (metrics.index(r.metric), corpora.index(r.corpus), models.index(r.model))
    )
