"""Exclusive turns: one speaker at a time, the same time in all, the stronger speaker in overlaps."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from separative.inference import Diarization, diarize, exclusive_turns
from separative.inference.exclusive import resolve_overlaps
from separative.model import SeparativeEncoder
from separative.rttm import Turn, turns_to_frames


def cover(turns: list[Turn], names: list[str]) -> np.ndarray:
    return turns_to_frames(turns, names, 3000, 0.01)


@pytest.mark.parametrize("seed", range(20))
def test_exclusive_turns_cover_the_same_time_with_one_active_speaker(seed: int) -> None:
    rng = np.random.default_rng(seed)
    names = ["a", "b", "c"]
    turns = []
    for name in names:
        for _ in range(5):
            start, end = np.sort(rng.integers(0, 3000, 2)) / 100
            turns.append(Turn(name, float(start), float(end)))
    found = resolve_overlaps(turns, lambda name, start, end: float(rng.random()), shortest=0.0)
    before, after = cover(turns, names), cover(found, names)
    assert (after.sum(0) == before.any(0)).all() and (after <= before).all()
    assert all(one.end <= other.start for one, other in pairwise(found))


def test_the_stronger_speaker_gets_the_overlap() -> None:
    turns = [Turn("ann", 0.0, 3.0), Turn("bob", 2.0, 5.0)]
    strength = {"ann": 0.4, "bob": 0.9}
    found = resolve_overlaps(turns, lambda name, start, end: strength[name])
    assert found == [Turn("ann", 0.0, 2.0), Turn("bob", 2.0, 5.0)]


def test_a_short_overlap_does_not_interrupt_a_turn() -> None:
    turns = [Turn("ann", 0.0, 3.0), Turn("bob", 2.0, 2.05)]
    assert resolve_overlaps(turns, lambda name, start, end: float(name == "bob")) == [Turn("ann", 0.0, 3.0)]


def test_the_activity_of_the_model_decides(model: SeparativeEncoder, record: Callable[..., Path]) -> None:
    from dataclasses import replace

    found = diarize(model, record("long.wav", seconds=6.0))
    lead = found.windows.grid.lead / found.rate
    frames = len(found.speakers[0].activity)
    time = (np.arange(frames) + 0.5) * found.segment_seconds - lead
    # Two speakers all the time; the second one is more active from 2 to 4 s.
    rising = np.where((time > 2) & (time < 4), 0.9, 0.5).astype(np.float32)
    level = np.full(frames, 0.7, np.float32)
    speakers = tuple(
        replace(found.speakers[0], name=name, turns=turns, activity=activity)
        for name, turns, activity in (
            ("a", (Turn("a", 0.0, 6.0),), level),
            ("b", (Turn("b", 0.5, 1.5), Turn("b", 2.0, 4.0)), rising),
        )
    )
    two: Diarization = replace(found, speakers=speakers)
    assert exclusive_turns(two) == [Turn("a", 0.0, 2.0), Turn("b", 2.0, 4.0), Turn("a", 4.0, 6.0)]
