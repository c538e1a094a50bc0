"""Windows of lone speakers and the trials between them."""

from pathlib import Path

import numpy as np
import pytest

from separative.evaluation.lone_windows import (
    MAX_OTHERS,
    MAX_WINDOWS,
    MIN_SPEECH,
    WINDOW,
    LoneWindow,
    lone_windows,
    scores_between,
    window_scores,
)
from separative.evaluation.references import ReferenceRecording
from separative.rttm import Turn


def recording(*turns: Turn, seconds: float = 10.0) -> ReferenceRecording:
    return ReferenceRecording("a", Path("a.wav"), seconds, turns, ((0.0, seconds),))


def seconds_in(turns: tuple[Turn, ...], speakers: set[str], start: float) -> float:
    """Speech of some speakers in a window, counted in steps of 1 ms."""
    time = start + (np.arange(round(1000 * WINDOW)) + 0.5) / 1000
    active = [(turn.start <= time) & (time < turn.end) for turn in turns if turn.speaker in speakers]
    return float(np.any(active, axis=0).sum() / 1000) if active else 0.0


def test_windows_are_those_that_the_definition_allows() -> None:
    rng = np.random.default_rng(0)
    starts = np.sort(rng.uniform(0, 28, 15)).round(1)
    turns = tuple(Turn("abc"[i % 3], float(s), float(s) + 0.5 * (i % 6)) for i, s in enumerate(starts))
    found = {(w.start, w.speaker) for w in lone_windows(recording(*turns, seconds=30.0))}
    expected = {
        (start, speaker)
        for start in np.arange(0, 28.01, 0.5).tolist()
        for speaker in "abc"
        if seconds_in(turns, {speaker}, start) >= MIN_SPEECH - 1e-6
        and seconds_in(turns, set("abc") - {speaker}, start) <= MAX_OTHERS + 1e-6
    }
    assert found == expected and len(found) > 5


def test_windows_are_inside_the_scored_spans() -> None:
    turns = (Turn("ann", 0.0, 10.0),)
    part = ReferenceRecording("a", Path("a.wav"), 10.0, turns, ((3.2, 6.0),))
    assert [window.start for window in lone_windows(part)] == [3.5, 4.0]


def test_a_long_recording_has_windows_from_all_of_it() -> None:
    windows = lone_windows(recording(Turn("ann", 0.0, 600.0), seconds=600.0))
    starts = np.array([window.start for window in windows])
    assert len(starts) == MAX_WINDOWS and (starts[0], starts[-1]) == (0.0, 598.0)
    assert np.diff(starts).max() < 7


def test_a_recording_shorter_than_a_window_has_none() -> None:
    assert lone_windows(recording(Turn("ann", 0.0, 0.3), seconds=0.3)) == []
    assert window_scores([], np.zeros((0, 4))) == []


def test_overlapping_windows_are_not_compared() -> None:
    windows = [LoneWindow("a", start, "ann") for start in (0.0, 0.5, 1.5, 2.0, 4.0)]
    scores = window_scores(windows, np.arange(1.0, 6.0)[:, None])
    # Pairs at least 2 s apart: 0.0 with 2.0 and 4.0, 0.5 with 4.0, 1.5 with 4.0, and 2.0 with 4.0.
    assert scores == [(1.0, True)] * 5


def test_scores_are_cosines_and_failed_windows_score_lowest() -> None:
    windows = [LoneWindow("a", 2.0 * i, "ann" if i < 2 else "bob") for i in range(3)]
    embedding = np.array([[3.0, 0.0], [4.0, 4.0], [np.nan, 0.0]])
    (same, target), *others = window_scores(windows, embedding)
    assert same == pytest.approx(np.sqrt(0.5)) and target
    assert others == [(-1.0, False), (-1.0, False)]


def test_windows_of_different_recordings_are_compared_if_the_names_differ() -> None:
    first = [LoneWindow("a", 0.0, "ann"), LoneWindow("a", 2.0, "bob")]
    second = [LoneWindow("b", 0.0, "ann"), LoneWindow("b", 2.0, "cid")]
    third = [LoneWindow("c", 0.0, "dan")]
    one, two = np.array([[3.0, 0.0], [0.0, 2.0]]), np.array([[1.0, 1.0], [0.0, -5.0]])
    silent = np.full((1, 2), np.nan)
    root = 2**-0.5
    # ann and cid, bob and ann, bob and cid; everybody with dan, whose window has no embedding.
    expected = [0.0, root, -1.0, -1.0, -1.0, -1.0, -1.0]
    found = scores_between([first, second, third], [one, two, silent])
    assert found.tolist() == pytest.approx(expected)
    assert (
        len(scores_between([first], [one])) == len(scores_between([first, []], [one, np.zeros((0, 1))])) == 0
    )
