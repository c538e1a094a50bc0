"""Rows of separation, of streams, of activity and of identity information, each with its interval."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from separative.evaluation.bootstrap import SpeakerBootstrap
from separative.evaluation.conditions import condition_named
from separative.evaluation.information import information_bound
from separative.evaluation.outputs import CollectedOutputs
from separative.evaluation.results import Row
from separative.evaluation.trials import TrialList
from separative.metrics import DiarizationError, diarization_error
from separative.types import Floats

INFORMATION = ("clean", "overlap0")


def separation_rows(
    answers: dict[str, CollectedOutputs], trials: TrialList, speakers: SpeakerBootstrap
) -> list[Row]:
    """Quality of separation, mean over the sources of a mixture; resampled by its target."""
    rows = []
    for model, answer in answers.items():
        for metric, table in answer.figures.items():
            for condition in trials.conditions:
                # What has no value (PESQ of a source without speech) does not count.
                heard = {
                    side: value_K
                    for side in trials.tests
                    if (side.id, condition) in table
                    and len(value_K := table[side.id, condition][np.isfinite(table[side.id, condition])])
                }
                if heard:
                    mean_N = np.array([value_K.mean() for value_K in heard.values()])
                    figures = speakers.mean(mean_N, speakers.indices([side.speaker for side in heard]))
                    count = sum(map(len, heard.values()))
                    rows.append(Row(model, condition, metric, *figures, count, trials.place, trials.seed))
    return rows


def stream_rows(
    answers: dict[str, CollectedOutputs], trials: TrialList, speakers: SpeakerBootstrap
) -> list[Row]:
    """How many streams a system holds for speech, and how alike are the first two of them.

    ``active streams`` is their mean number, ``stream cosine`` the mean cosine of the two most talkative
    active ones, over the test sides that have two: near 1, they say the same of the mixture; as low as
    between speakers, they tell them apart. Systems with one embedding for a recording have neither.
    """
    rows = []
    for model, answer in answers.items():
        for condition in trials.conditions:
            heard = {side: answer.voices[side.id, condition] for side in trials.tests}
            if max(len(voices.active_C) for voices in heard.values()) < 2:
                continue
            pairs = {s: v.embedding_CE[v.active_C][:2] for s, v in heard.items() if v.active_C.sum() >= 2}
            values = {
                "active streams": {side: float(v.active_C.sum()) for side, v in heard.items()},
                "stream cosine": {side: float(pair_2E[0] @ pair_2E[1]) for side, pair_2E in pairs.items()},
            }
            for metric, value in values.items():
                if value:
                    speaker_N = speakers.indices([side.speaker for side in value])
                    figures = speakers.mean(np.array(list(value.values())), speaker_N)
                    rows.append(
                        Row(model, condition, metric, *figures, len(value), trials.place, trials.seed)
                    )
    return rows


def activity_rows(
    answers: dict[str, CollectedOutputs], trials: TrialList, speakers: SpeakerBootstrap
) -> list[Row]:
    """Diarization error rate and its parts, in % of all speech; overlap scored, no collar, ``trials`` sides.

    A stream speaks in the segments where its activity is above one half.
    """
    rows = []
    for model, answer in answers.items():
        for condition in trials.conditions:
            sides = [side for side in trials.tests if (side.id, condition) in answer.reference]
            if not sides:
                continue
            errors = []
            for side in sides:
                voices = answer.voices[side.id, condition]
                assert voices.activity_CS is not None
                speaks_CS = voices.activity_CS > 0.5
                reference_KS = answer.reference[side.id, condition]
                errors.append(diarization_error(reference_KS, speaks_CS, voices.segment_seconds))
            speaker_N = speakers.indices([side.speaker for side in sides])
            total_N = np.array([e.total for e in errors])
            for metric, seconds_N in errors_by_part(errors).items():
                figures = speakers.ratio(100 * seconds_N, total_N, speaker_N)
                rows.append(Row(model, condition, metric, *figures, len(sides), trials.place, trials.seed))
    return rows


def errors_by_part(errors: Sequence[DiarizationError]) -> dict[str, Floats]:
    """Seconds of every part of N errors, and of all of it, by the name of the metric [N]."""
    parts = {
        "missed": np.array([e.missed for e in errors]),
        "false alarm": np.array([e.false_alarm for e in errors]),
        "confusion": np.array([e.confusion for e in errors]),
    }
    return {"DER": np.sum(list(parts.values()), axis=0), **parts}


def information_rows(
    answers: dict[str, CollectedOutputs], trials: TrialList, speakers: SpeakerBootstrap
) -> list[Row]:
    """The bound for the most talkative stream of clean speech, and for both speakers of a mixture.

    Which stream of a mixture is whom is decided by separation alone. Systems that do not separate have no
    figure for mixtures.
    """
    rows = []
    place = trials.place
    for model, answer in answers.items():
        inventory_PE = np.stack(
            [
                np.sum(
                    [
                        answer.voices[s.id, "clean"].embedding_CE[0]
                        for s in trials.enrolments
                        if s.speaker == t
                    ],
                    0,
                )
                for t in speakers.index
            ]
        )
        inventory_PE /= np.linalg.norm(inventory_PE, axis=1, keepdims=True)
        for condition in (c for c in INFORMATION if c in trials.conditions):
            embeddings, names = [], []
            for side in trials.tests:
                voices = answer.voices[side.id, condition].embedding_CE
                if not condition_named(condition).sir_db:
                    embeddings.append(voices[0])
                    names.append(side.speaker)
                elif (side.id, condition) in answer.stream:
                    streams = answer.stream[side.id, condition]
                    embeddings += [voices[c] for c in streams]
                    names += [side.speaker, *(r.speaker for r in side.rivals[: len(streams) - 1])]
            if embeddings:
                speaker_N = speakers.indices(names)
                figures = information_bound(
                    np.stack(embeddings), speaker_N, inventory_PE, speakers, trials.seed
                )
                rows.append(Row(model, condition, "MI", *figures, len(names), place, trials.seed))
    return rows
