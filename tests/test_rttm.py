"""Turns and RTTM: frames to turns and back, and what other tools' files look like."""

from pathlib import Path

import numpy as np
import pytest

from separative.errors import SeparativeError
from separative.rttm import Turn, active_frames, read_rttm, turns_of, write_rttm


def test_turns_and_frames_are_two_views_of_one_thing() -> None:
    rng = np.random.default_rng(0)
    active_KT = rng.random((3, 500)) < 0.5
    turns = turns_of(active_KT, "abc", 0.01, min_pause=0.0, min_turn=0.0)
    np.testing.assert_array_equal(active_frames(turns, "abc", 500, 0.01), active_KT)
    assert turns == sorted(turns, key=lambda t: t.start)


def test_short_pauses_are_part_of_a_turn_and_short_sounds_are_none() -> None:
    active_T = np.zeros(100, bool)
    active_T[[*range(10, 20), *range(22, 30), *range(60, 63)]] = True
    assert turns_of(active_T[None], ["a"], 0.02, min_pause=0.1, min_turn=0.1) == [Turn("a", 0.2, 0.6)]
    assert turns_of(np.zeros((1, 9), bool), ["a"], 0.02) == []


def test_speech_may_fill_only_half_of_the_frames_at_its_ends() -> None:
    rng, frame = np.random.default_rng(1), 0.064
    true, found, inset = [], [], []
    for _ in range(300):
        start, end = 1 + rng.random(), 3 + rng.random()
        # Frames that hold any speech, as the network is taught to find them.
        edge_T = np.arange(80) * frame
        active_1T = ((edge_T + frame > start) & (edge_T < end))[None]
        true.append((start, end))
        found.append(turns_of(active_1T, ["a"], frame)[0][1:])
        inset.append(turns_of(active_1T, ["a"], frame, inset=frame / 2)[0][1:])
    bias, mended = (np.mean(np.array(x) - np.array(true), axis=0) for x in (found, inset))
    assert bias == pytest.approx([-frame / 2, frame / 2], abs=0.005)
    assert mended == pytest.approx([0, 0], abs=0.005)
    # Nothing is cut off at the ends of a recording, and pauses are what they are without the frames' excess.
    all_1T = np.ones((1, 10), bool)
    assert turns_of(all_1T, ["a"], 0.1, inset=0.05) == [Turn("a", 0.0, 1.0)]
    pause_1T = np.ones((1, 20), bool)
    pause_1T[0, 8:10] = False
    assert len(turns_of(pause_1T, ["a"], 0.1)) == 1 and len(turns_of(pause_1T, ["a"], 0.1, inset=0.05)) == 2


def test_files_come_back(tmp_path: Path) -> None:
    turns = [Turn("a b", 0.0, 1.5), Turn("c", 1.25, 2.0)]
    write_rttm(tmp_path / "x.rttm", "my talk", turns)
    assert read_rttm(tmp_path / "x.rttm") == {"my_talk": [Turn("a_b", 0.0, 1.5), Turn("c", 1.25, 2.0)]}
    (tmp_path / "y.rttm").write_text("SPKR-INFO x 1 <NA>\n\nSPEAKER x 1 0.5 1 <NA> <NA> me <NA> <NA>\n")
    assert read_rttm(tmp_path / "y.rttm") == {"x": [Turn("me", 0.5, 1.5)]}


def test_another_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "z.rttm").write_text("SPEAKER x 1 soon\n")
    with pytest.raises(SeparativeError, match=r"z\.rttm, line 1"):
        read_rttm(tmp_path / "z.rttm")
    with pytest.raises(SeparativeError, match="cannot be read"):
        read_rttm(tmp_path / "none.rttm")
