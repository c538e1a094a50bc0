"""Conversion between turns and frames, and RTTM files."""

from pathlib import Path

import numpy as np
import pytest

from separative.errors import SeparativeError
from separative.rttm import Turn, frames_to_turns, read_rttm, turns_to_frames, write_rttm


def test_frames_to_turns_and_back_is_lossless() -> None:
    rng = np.random.default_rng(0)
    active_KT = rng.random((3, 500)) < 0.5
    turns = frames_to_turns(active_KT, "abc", 0.01, min_pause=0.0, min_turn=0.0)
    np.testing.assert_array_equal(turns_to_frames(turns, "abc", 500, 0.01), active_KT)
    assert turns == sorted(turns, key=lambda t: t.start)


def test_short_pauses_are_filled_and_short_turns_dropped() -> None:
    active_T = np.zeros(100, bool)
    active_T[[*range(10, 20), *range(22, 30), *range(60, 63)]] = True
    assert frames_to_turns(active_T[None], ["a"], 0.02, min_pause=0.1, min_turn=0.1) == [Turn("a", 0.2, 0.6)]
    assert frames_to_turns(np.zeros((1, 9), bool), ["a"], 0.02) == []


def test_inset_removes_the_bias_of_frames_that_are_partly_speech() -> None:
    rng, frame = np.random.default_rng(1), 0.064
    true, plain, inset = [], [], []
    for _ in range(300):
        start, end = 1 + rng.random(), 3 + rng.random()
        # A frame is active if it contains any speech: the network is trained with such labels.
        edge_T = np.arange(80) * frame
        active_1T = ((edge_T + frame > start) & (edge_T < end))[None]
        true.append((start, end))
        plain.append(frames_to_turns(active_1T, ["a"], frame)[0][1:3])
        inset.append(frames_to_turns(active_1T, ["a"], frame, inset=frame / 2)[0][1:3])
    bias, inset_bias = (np.mean(np.array(x) - np.array(true), axis=0) for x in (plain, inset))
    assert bias == pytest.approx([-frame / 2, frame / 2], abs=0.005)
    assert inset_bias == pytest.approx([0, 0], abs=0.005)
    # The ends of a recording are not inset.
    all_1T = np.ones((1, 10), bool)
    assert frames_to_turns(all_1T, ["a"], 0.1, inset=0.05) == [Turn("a", 0.0, 1.0)]
    # The inset is applied before pauses are measured: 0.2 s of inactive frames are a pause of 0.3 s.
    pause_1T = np.ones((1, 20), bool)
    pause_1T[0, 8:10] = False
    assert len(frames_to_turns(pause_1T, ["a"], 0.1)) == 1
    assert len(frames_to_turns(pause_1T, ["a"], 0.1, inset=0.05)) == 2


def test_written_rttm_is_read_back(tmp_path: Path) -> None:
    turns = [Turn("a b", 0.0, 1.5), Turn("c", 1.25, 2.0)]
    write_rttm(tmp_path / "x.rttm", "my talk", turns)
    assert read_rttm(tmp_path / "x.rttm") == {"my_talk": [Turn("a_b", 0.0, 1.5), Turn("c", 1.25, 2.0)]}
    (tmp_path / "y.rttm").write_text("SPKR-INFO x 1 <NA>\n\nSPEAKER x 1 0.5 1 <NA> <NA> me <NA> <NA>\n")
    assert read_rttm(tmp_path / "y.rttm") == {"x": [Turn("me", 0.5, 1.5)]}


def test_unreadable_and_malformed_files_are_errors(tmp_path: Path) -> None:
    (tmp_path / "z.rttm").write_text("SPEAKER x 1 soon\n")
    with pytest.raises(SeparativeError, match=r"z\.rttm, line 1"):
        read_rttm(tmp_path / "z.rttm")
    with pytest.raises(SeparativeError, match="cannot be read"):
        read_rttm(tmp_path / "none.rttm")
