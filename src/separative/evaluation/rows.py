"""Result rows of separation, streams, activity and identity information."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from separative.evaluation.bootstrap import SpeakerBootstrap
from separative.evaluation.conditions import parse_condition
from separative.evaluation.outputs import CollectedOutputs
from separative.evaluation.results import Row
from separative.evaluation.trials import TrialList
from separative.metrics import DiarizationError, cross_fitted_losses, diarization_error
from separative.types import Floats

INFORMATION_CONDITIONS = ("clean", "overlap0")


def separation_rows(
    outputs: Mapping[str, CollectedOutputs], trials: TrialList, speakers: SpeakerBootstrap
) -> list[Row]:
    """Rows of separation quality: means over the sources of a mixture, resampled by target speaker.

    Sources without a value (PESQ without enough speech) do not count.

    >>> from separative.corpora import load_corpus
    >>> from separative.evaluation import build_trials
    >>> trials = build_trials(load_corpus("speech"), seconds=2.0, conditions=["overlap0"])
    >>> speakers = SpeakerBootstrap(list(trials.corpus_of), resamples=10, seed=0)
    >>> improvements = {(side.id, "overlap0"): np.array([8.0, 6.0]) for side in trials.tests}
    >>> outputs = {"csc": CollectedOutputs(figures={"SI-SDRi": improvements})}
    >>> [(row.metric, row.value) for row in separation_rows(outputs, trials, speakers)]
    [('SI-SDRi', 7.0)]
    """
    rows = []
    for model, output in outputs.items():
        for metric, table in output.figures.items():
            for condition in trials.conditions:
                values = {}
                for side in trials.tests:
                    if (side.id, condition) in table:
                        value_K = table[side.id, condition]
                        if len(defined_K := value_K[np.isfinite(value_K)]):
                            values[side] = defined_K
                if values:
                    mean_N = np.array([value_K.mean() for value_K in values.values()])
                    figures = speakers.mean(mean_N, speakers.indices([side.speaker for side in values]))
                    count = sum(map(len, values.values()))
                    rows.append(Row(model, condition, metric, *figures, count, trials.corpus, trials.seed))
    return rows


def stream_rows(
    outputs: Mapping[str, CollectedOutputs], trials: TrialList, speakers: SpeakerBootstrap
) -> list[Row]:
    """Rows of the number of active streams, and of the similarity of the first two.

    ``active streams`` is the mean number of active streams. ``stream cosine`` is the mean cosine of the two
    active streams that speak most, over the test sides that have two. Near 1, both streams represent the same
    speaker. Near the cosine of different speakers, they represent two speakers. Systems with one embedding
    per recording have neither row.

    >>> from separative.corpora import load_corpus
    >>> from separative.evaluation import SystemOutput, build_trials
    >>> trials = build_trials(load_corpus("speech"), seconds=2.0, conditions=["overlap0"])
    >>> speakers = SpeakerBootstrap(list(trials.corpus_of), resamples=10, seed=0)
    >>> output = SystemOutput(np.array([[1.0, 0.0], [0.6, 0.8]]), np.array([True, True]))
    >>> outputs = {"csc": CollectedOutputs({(side.id, "overlap0"): output for side in trials.tests})}
    >>> [(row.metric, row.value) for row in stream_rows(outputs, trials, speakers)]
    [('active streams', 2.0), ('stream cosine', 0.6)]
    """
    rows = []
    for model, output in outputs.items():
        for condition in trials.conditions:
            by_side = {side: output.single[side.id, condition] for side in trials.tests}
            if max(len(o.active) for o in by_side.values()) < 2:
                continue
            pairs = {s: o.embeddings[o.active][:2] for s, o in by_side.items() if o.active.sum() >= 2}
            values = {
                "active streams": {side: float(o.active.sum()) for side, o in by_side.items()},
                "stream cosine": {side: float(pair_2E[0] @ pair_2E[1]) for side, pair_2E in pairs.items()},
            }
            for metric, value in values.items():
                if value:
                    speaker_N = speakers.indices([side.speaker for side in value])
                    figures = speakers.mean(np.array(list(value.values())), speaker_N)
                    rows.append(
                        Row(model, condition, metric, *figures, len(value), trials.corpus, trials.seed)
                    )
    return rows


def activity_rows(
    outputs: Mapping[str, CollectedOutputs], trials: TrialList, speakers: SpeakerBootstrap
) -> list[Row]:
    """Rows of the diarization error rate and its parts, in % of all speech, over the test sides.

    Overlap is scored and there is no collar. A stream speaks in segments with an activity above one half.

    >>> from separative.corpora import load_corpus
    >>> from separative.evaluation import SystemOutput, build_trials
    >>> trials = build_trials(load_corpus("speech"), seconds=2.0, conditions=["overlap0"])
    >>> speakers = SpeakerBootstrap(list(trials.corpus_of), resamples=10, seed=0)
    >>> activity = np.array([[0.9, 0.2], [0.1, 0.3]])  # the second source is missed in the second segment
    >>> output = SystemOutput(np.eye(2), np.array([True, True]), activity=activity, segment_seconds=0.1)
    >>> keys = [(side.id, "overlap0") for side in trials.tests]
    >>> reference = dict.fromkeys(keys, np.array([[True, False], [False, True]]))
    >>> outputs = {"csc": CollectedOutputs(dict.fromkeys(keys, output), reference=reference)}
    >>> activity_rows(outputs, trials, speakers)[0].value
    50.0
    """
    rows = []
    for model, output in outputs.items():
        for condition in trials.conditions:
            sides = [side for side in trials.tests if (side.id, condition) in output.reference]
            if not sides:
                continue
            errors = []
            for side in sides:
                single = output.single[side.id, condition]
                assert single.activity is not None
                reference_KS = output.reference[side.id, condition]
                errors.append(diarization_error(reference_KS, single.activity > 0.5, single.segment_seconds))
            speaker_N = speakers.indices([side.speaker for side in sides])
            total_N = np.array([e.total for e in errors])
            for metric, seconds_N in errors_by_part(errors).items():
                figures = speakers.ratio(100 * seconds_N, total_N, speaker_N)
                rows.append(Row(model, condition, metric, *figures, len(sides), trials.corpus, trials.seed))
    return rows


def errors_by_part(errors: Sequence[DiarizationError]) -> dict[str, Floats]:
    """Seconds [N] of every part of N diarization errors, and of their sum ``DER``, by metric.

    >>> from separative.metrics import DiarizationError
    >>> parts = errors_by_part([DiarizationError(missed=1.0, false_alarm=0.5, confusion=0.0, total=10.0)])
    >>> parts["DER"]
    array([1.5])
    """
    parts = {
        "missed": np.array([e.missed for e in errors]),
        "false alarm": np.array([e.false_alarm for e in errors]),
        "confusion": np.array([e.confusion for e in errors]),
    }
    return {"DER": np.sum(list(parts.values()), axis=0), **parts}


def information_rows(
    outputs: Mapping[str, CollectedOutputs], trials: TrialList, speakers: SpeakerBootstrap
) -> list[Row]:
    """Rows of the information bound, for clean speech and for mixtures.

    Clean speech is represented by its most active stream, a mixture by the streams of all its speakers.
    Separation alone decides which stream of a mixture belongs to which speaker. Systems that do not separate
    have no row for mixtures.

    >>> from separative.corpora import load_corpus
    >>> from separative.evaluation import SystemOutput, build_trials
    >>> trials = build_trials(load_corpus("speech"), seconds=2.0, conditions=["clean"])
    >>> speakers = SpeakerBootstrap(list(trials.corpus_of), resamples=10, seed=0)
    >>> outputs = CollectedOutputs()
    >>> for side in (*trials.enrolments, *trials.tests):  # embeddings that depend on the speaker alone
    ...     embedding = np.eye(4)[[speakers.index[side.speaker]]]
    ...     outputs.single[side.id, "clean"] = SystemOutput(embedding, np.array([True]))
    >>> (row,) = information_rows({"csc": outputs}, trials, speakers)
    >>> round(row.value, 3), round(float(np.log(4)), 3)
    (1.386, 1.386)
    """
    rows = []
    for model, output in outputs.items():
        inventory_PE = _inventory(output, trials, speakers)
        for condition in (c for c in INFORMATION_CONDITIONS if c in trials.conditions):
            embeddings, names = [], []
            for side in trials.tests:
                embedding_CE = output.single[side.id, condition].embeddings
                if not parse_condition(condition).sir_db:
                    embeddings.append(embedding_CE[0])
                    names.append(side.speaker)
                elif (side.id, condition) in output.stream:
                    streams = output.stream[side.id, condition]
                    embeddings += [embedding_CE[c] for c in streams]
                    names += [side.speaker, *(i.speaker for i in side.interferers[: len(streams) - 1])]
            if embeddings:
                speaker_N = speakers.indices(names)
                figures = information_interval(
                    np.stack(embeddings), speaker_N, inventory_PE, speakers, trials.seed
                )
                rows.append(Row(model, condition, "MI", *figures, len(names), trials.corpus, trials.seed))
    return rows


def _inventory(output: CollectedOutputs, trials: TrialList, speakers: SpeakerBootstrap) -> Floats:
    """Unit-norm sum [P,E] of each speaker's clean enrolments."""
    own = {
        speaker: [
            output.single[s.id, "clean"].embeddings[0] for s in trials.enrolments if s.speaker == speaker
        ]
        for speaker in speakers.index
    }
    sum_PE = np.stack([np.sum(embeddings, 0) for embeddings in own.values()])
    unit_PE: Floats = sum_PE / np.linalg.norm(sum_PE, axis=1, keepdims=True)
    return unit_PE


def information_interval(
    embedding: Floats,
    speaker: NDArray[np.intp],
    inventory: Floats,
    speakers: SpeakerBootstrap,
    seed: int = 0,
) -> tuple[float, float, float]:
    """Lower bound on I(embedding; speaker) in nats and its 95 % interval; at most ln P.

    I ≥ H(speaker) − E[loss] for any inventory and any α that are not fitted on the same embeddings (method,
    section 4). The inventory comes from other recordings, the enrolments. α is fitted on one half of the
    speakers and used on the other half, and vice versa. Speakers have equal weight, so H = ln P.

    Args:
        embedding: unit-norm embeddings of P speakers [N,E].
        speaker: position of the speaker of each embedding in ``speakers`` [N].
        inventory: unit-norm vectors of the speakers [P,E].
        speakers: bootstrap resamples of the P speakers.
        seed: random seed of the two halves.

    >>> speakers = SpeakerBootstrap(["ann", "bob", "eve", "joe"], resamples=100, seed=0)
    >>> bound, low, high = information_interval(np.eye(4), np.arange(4), np.eye(4), speakers)
    >>> round(bound, 4) == round(float(np.log(4)), 4)
    True
    """
    count = len(inventory)
    distance_NP = ((embedding[:, None] - inventory[None]) ** 2).sum(-1, dtype=np.float64)
    fold_P = np.random.default_rng(seed).permutation(count) % 2
    loss_N = cross_fitted_losses(distance_NP, speaker, fold_P[speaker])
    loss, low, high = speakers.mean(loss_N, speaker)
    ceiling = float(np.log(count))
    return ceiling - loss, ceiling - high, ceiling - low
