"""Figures of diarizations of recordings, on turns with errors that can be counted by hand."""

from pathlib import Path

import numpy as np
import pytest

from separative.evaluation.recording_rows import (
    ALL_RECORDINGS,
    BY_RECORDING,
    RecordingFigures,
    recording_rows,
    score_turns,
)
from separative.evaluation.references import ReferenceRecording
from separative.evaluation.results import UNITS, Row
from separative.rttm import Turn

EXACT = pytest.approx
RESAMPLES = 50


def recording(*turns: Turn, name: str = "a", kind: str = "", seconds: float = 10.0) -> ReferenceRecording:
    return ReferenceRecording(name, Path(f"{name}.wav"), seconds, turns, ((0.0, seconds),), kind)


def rows_of(
    recordings: list[ReferenceRecording], figures: dict[str, dict[str, RecordingFigures]]
) -> dict[tuple[str, str, str], Row]:
    """Rows by system, condition and metric."""
    rows = recording_rows(recordings, figures, RESAMPLES, 0)
    return {(row.model, row.condition, row.metric): row for row in rows}


def test_every_part_of_the_error_is_counted_in_seconds() -> None:
    reference = recording(Turn("ann", 0.0, 4.0), Turn("bob", 3.0, 8.0))
    # x is ann and y is bob; 1 s of overlap is missed, 1 s is confused, and 1 s is a false alarm.
    found = [Turn("x", 0.0, 3.0), Turn("y", 3.0, 6.0), Turn("x", 6.0, 7.0), Turn("y", 7.0, 9.0)]
    error = score_turns(reference, found).error
    assert (error.total, error.missed, error.false_alarm, error.confusion) == EXACT((9.0, 1.0, 1.0, 1.0))


def test_a_collar_forgives_errors_at_the_borders_of_turns_only() -> None:
    reference = recording(Turn("ann", 2.0, 4.0), Turn("ann", 6.0, 8.0))
    late = score_turns(reference, [Turn("x", 2.2, 4.2), Turn("x", 6.0, 8.0)])
    assert late.error.missed + late.error.false_alarm == EXACT(0.4)
    assert late.collar_error.missed + late.collar_error.false_alarm == 0
    assert late.collar_error.total == EXACT(3.0)
    very_late = score_turns(reference, [Turn("x", 3.0, 4.0), Turn("x", 6.0, 8.0)])
    assert very_late.collar_error.missed == EXACT(0.75)


def test_speech_against_silence_does_not_ask_who_speaks() -> None:
    reference = recording(Turn("ann", 0.0, 4.0), Turn("bob", 2.0, 6.0))
    figures = score_turns(reference, [Turn("x", 0.0, 5.0)])
    assert (figures.speech_error.total, figures.speech_error.missed) == EXACT((6.0, 1.0))
    assert figures.speech_error.confusion == 0


def test_overlap_is_found_where_two_speakers_are_found() -> None:
    reference = recording(Turn("ann", 0.0, 4.0), Turn("bob", 2.0, 6.0))
    figures = score_turns(reference, [Turn("x", 0.0, 3.5), Turn("y", 3.0, 6.0)])
    assert (figures.overlap, figures.overlap_found) == EXACT((2.0, 0.5))


def test_only_scored_spans_count_also_for_the_number_of_speakers() -> None:
    whole = recording(Turn("ann", 0.0, 2.0), Turn("bob", 6.0, 8.0))
    part = ReferenceRecording("a", whole.path, 10.0, whole.turns, ((0.0, 5.0),))
    figures = score_turns(part, [Turn("x", 0.0, 2.0), Turn("y", 7.0, 9.0)])
    assert (figures.error.total, figures.error.rate, figures.present, figures.found) == EXACT((2, 0, 1, 1))


def test_overlapping_turns_of_a_system_count_once() -> None:
    reference = recording(Turn("ann", 0.0, 4.0))
    assert score_turns(reference, [Turn("x", 0.0, 3.0), Turn("x", 2.0, 4.0)]).error.rate == 0


def test_without_speech_in_the_reference_all_that_is_found_is_a_false_alarm() -> None:
    figures = score_turns(recording(), [Turn("x", 1.0, 3.0)])
    assert (figures.error.total, figures.error.false_alarm) == EXACT((0.0, 2.0))
    assert figures.jaccard is None and (figures.found, figures.present) == (1, 0)
    alone = rows_of([recording()], {"base": {"a": figures}})
    # Percent of no speech has no meaning; the count has.
    assert ("base", "a", "DER") not in alone and alone["base", "a", "count error"].value == 1
    other = recording(Turn("ann", 0.0, 4.0), name="b")
    both = rows_of(
        [recording(), other], {"base": {"a": figures, "b": score_turns(other, [Turn("x", 0.0, 4.0)])}}
    )
    assert both["base", ALL_RECORDINGS, "DER"].value == EXACT(50.0)
    assert both["base", ALL_RECORDINGS, "JER"].value == 0


def test_errors_are_summed_over_recordings_and_kinds() -> None:
    one = recording(Turn("ann", 0.0, 2.0), name="one", kind="call")
    two = recording(Turn("ann", 0.0, 8.0), name="two", kind="meeting")
    found = {"one": score_turns(one, []), "two": score_turns(two, [Turn("x", 0.0, 6.0)])}
    rows = rows_of([one, two], {"base": found})
    values = {c: rows["base", c, "DER"].value for c in (ALL_RECORDINGS, "call", "meeting", "one", "two")}
    assert values == EXACT({ALL_RECORDINGS: 40, "call": 100, "meeting": 25, "one": 100, "two": 25})
    row = rows["base", ALL_RECORDINGS, "DER"]
    assert 25 <= row.low <= row.value <= row.high <= 100
    assert rows["base", "one", "DER"].corpus == BY_RECORDING
    assert rows["base", ALL_RECORDINGS, "count error"].value == -0.5
    assert rows["base", ALL_RECORDINGS, "count right"].value == 50
    assert {metric for _, _, metric in rows} <= set(UNITS)


def test_differences_are_between_the_same_recordings() -> None:
    one, two = (recording(Turn("ann", 0.0, 5.0), name=name) for name in ("one", "two"))
    none = {r.name: score_turns(r, []) for r in (one, two)}
    half = {r.name: score_turns(r, [Turn("x", 0.0, 2.5)]) for r in (one, two)}
    rows = rows_of([one, two], {"base": none, "other": half, "part": {"one": half["one"]}})
    difference = rows["other", ALL_RECORDINGS, "DER difference"]
    # Both recordings have the same difference, so there is no uncertainty.
    assert (difference.value, difference.low, difference.high) == EXACT((-50, -50, -50))
    assert ("part", ALL_RECORDINGS, "DER difference") not in rows
    assert rows["part", ALL_RECORDINGS, "DER"].trials == 1


def test_time_is_pooled_and_memory_is_the_largest() -> None:
    recordings = [
        recording(Turn("ann", 0.0, 2.0), name=n, seconds=s) for n, s in (("one", 4.0), ("two", 6.0))
    ]
    found = {r.name: score_turns(r, []) for r in recordings}
    assert ("base", ALL_RECORDINGS, "real-time factor") not in rows_of(recordings, {"base": found})
    for figures, seconds, memory in zip(found.values(), (1.0, 4.0), (300.0, 200.0), strict=True):
        figures.run_seconds, figures.peak_memory_mb = seconds, memory
    rows = rows_of(recordings, {"base": found})
    assert rows["base", ALL_RECORDINGS, "real-time factor"].value == EXACT(0.5)
    assert rows["base", ALL_RECORDINGS, "peak memory"].value == 300


def test_forty_speakers_are_matched_one_to_one() -> None:
    turns = [Turn(f"s{k}", 0.2 * k, 0.2 * k + 1.0) for k in range(40)]
    order = np.random.default_rng(0).permutation(40)
    figures = score_turns(
        recording(*turns), [turns[k]._replace(speaker=f"x{i}") for i, k in enumerate(order)]
    )
    assert (figures.error.rate, figures.jaccard, figures.found, figures.present) == (0, 0, 40, 40)
