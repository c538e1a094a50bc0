"""Manifests, references and scored spans of real recordings, and what is wrong with them."""

import logging
import re
from pathlib import Path

import numpy as np
import pytest
from real_helpers import noise, write_manifest, write_recording

from separative.errors import CorpusError, SeparativeError
from separative.evaluation.references import (
    FRAME,
    ReferenceRecording,
    cut_turns,
    join_turns,
    read_references,
    read_turns,
    read_uem,
)
from separative.rttm import Turn, write_rttm

ANN = Turn("ann", 0.0, 2.0)


def test_overlapping_and_adjacent_turns_of_one_speaker_count_once() -> None:
    turns = [Turn("ann", 1.0, 3.0), Turn("bob", 1.0, 2.0), ANN, Turn("ann", 3.0, 3.5), Turn("ann", 0.5, 0.7)]
    assert join_turns(turns) == [Turn("ann", 0.0, 3.5), Turn("bob", 1.0, 2.0)]


def test_a_folder_of_audio_and_rttm_equals_the_manifest_of_its_files(tmp_path: Path) -> None:
    write_recording(tmp_path, "a", [ANN])
    write_recording(tmp_path, "b", [Turn("bob", 1.0, 2.0)])
    (tmp_path / "b.uem").write_text("b 1 0.0 3.0\n")
    found, failed = read_references(tmp_path)
    assert failed == []
    assert [(r.name, r.seconds, r.turns, r.scored) for r in found] == [
        ("a", 10.0, (ANN,), ((0.0, 10.0),)),
        ("b", 10.0, (Turn("bob", 1.0, 2.0),), ((0.0, 3.0),)),
    ]


def test_only_the_spans_of_a_uem_file_are_scored(tmp_path: Path) -> None:
    (tmp_path / "a.uem").write_text(";; comment\nother 1 0 9\na 1 1.0 2.0\na 1 4.0 99.0\n")
    spans = read_uem(tmp_path / "a.uem", "a")
    recording = ReferenceRecording("a", Path("a.wav"), 6.0, (ANN,), tuple(spans))
    scored_T = np.zeros(round(6 / FRAME), bool)
    scored_T[100:200] = scored_T[400:] = True
    np.testing.assert_array_equal(recording.scored_frames, scored_T)


def test_a_collar_removes_frames_on_both_sides_of_every_border() -> None:
    recording = ReferenceRecording("a", Path("a.wav"), 3.0, (Turn("ann", 1.0, 2.0),), ((0.0, 3.0),))
    outside_T = np.ones(300, bool)
    outside_T[75:125] = outside_T[175:225] = False
    np.testing.assert_array_equal(recording.frames_outside_collar(0.25), outside_T)
    # At the start of the recording, there is only one side.
    first = ReferenceRecording("a", Path("a.wav"), 3.0, (Turn("ann", 0.0, 3.0),), ((0.0, 3.0),))
    assert first.frames_outside_collar(0.25).sum() == 250


def test_an_rttm_file_without_turns_is_a_reference_without_speech(tmp_path: Path) -> None:
    write_recording(tmp_path, "a", [])
    [recording], failed = read_references(write_manifest(tmp_path, "a"))
    assert (recording.turns, recording.reference.shape, failed) == ((), (0, 1000), [])


def test_the_rttm_file_of_another_recording_is_named(tmp_path: Path) -> None:
    write_rttm(tmp_path / "a.rttm", "b", [ANN])
    with pytest.raises(SeparativeError, match=r"a\.rttm has turns of b, but none of 'a'; the second field"):
        read_turns(tmp_path / "a.rttm", "a")


def test_the_turns_of_one_of_several_recordings_are_chosen(tmp_path: Path) -> None:
    (tmp_path / "all.rttm").write_text(
        "SPEAKER b 1 0 1 <NA> <NA> bob <NA> <NA>\nSPEAKER my_call 1 0 2 <NA> <NA> ann <NA> <NA>\n"
    )
    assert read_turns(tmp_path / "all.rttm", "my call") == [ANN]


def test_turns_after_the_end_are_cut_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    turns = [Turn("ann", 1.0, 9.0), Turn("bob", 7.0, 8.0)]
    with caplog.at_level(logging.WARNING):
        assert cut_turns(turns, 5.0, Path("a.rttm")) == [Turn("ann", 1.0, 5.0)]
    assert "a.rttm: 2 of 2 turns end after the recording (5.00 s) and are cut there" in caplog.text


def test_rounding_at_the_end_is_cut_without_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert cut_turns([Turn("ann", 1.0, 5.004)], 5.0, Path("a.rttm")) == [Turn("ann", 1.0, 5.0)]
    assert not caplog.records


def test_a_missing_file_is_named_and_the_others_are_read(tmp_path: Path) -> None:
    write_recording(tmp_path, "a", [ANN])
    manifest = write_manifest(tmp_path, "a", "b")
    found, [failed] = read_references(manifest)
    assert [recording.name for recording in found] == ["a"]
    assert failed.startswith("b: ") and "b.wav: no such file" in failed


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no column 'recording'"),
        ("recording,path,rttm\n", "lists no recordings"),
        ("recording,paths,rttm\na,a.wav,a.rttm\n", r"no column 'path' \(is it 'paths'\?\)"),
        ("recording,path,rttm\na,,a.rttm\n", "line 2: the column 'path' is empty"),
        ("recording,path,rttm\na,a.wav\n", "line 2: the column 'rttm' is empty"),
        ("recording,path,rttm\na,a.wav,a.rttm\na,b.wav,b.rttm\n", "two recordings are named 'a'"),
    ],
)
def test_a_bad_manifest_is_refused_with_the_place_and_the_cure(
    tmp_path: Path, text: str, message: str
) -> None:
    (tmp_path / "list.csv").write_text(text)
    with pytest.raises(CorpusError, match=message):
        read_references(tmp_path / "list.csv")


def test_a_missing_manifest_and_an_empty_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"none\.csv: cannot be read"):
        read_references(tmp_path / "none.csv")
    with pytest.raises(CorpusError, match="no RTTM files"):
        read_references(tmp_path)


@pytest.mark.parametrize(
    ("uem", "message"),
    [
        ("a 1 x 3\n", "line 1: 'a 1 x 3' is not a line of a UEM file"),
        ("a 1 3 2\n", "line 1: 'a 1 3 2' is not"),
        ("b 1 0 2\n", "has no line about 'a'"),
        ("a 1 11 12\n", r"every span starts after the end of .*a\.wav \(10\.00 s\)"),
    ],
)
def test_a_bad_uem_file_fails_its_recording(tmp_path: Path, uem: str, message: str) -> None:
    write_recording(tmp_path, "a", [ANN])
    (tmp_path / "a.uem").write_text(uem)
    found, [failed] = read_references(tmp_path)
    assert not found
    assert re.search(message, failed)


@pytest.mark.parametrize("times", ["nan 1", "0 inf", "1 -2", "x 1"])
def test_impossible_times_in_an_rttm_file_are_refused(tmp_path: Path, times: str) -> None:
    write_recording(tmp_path, "a", [], wave=noise(2.0))
    (tmp_path / "a.rttm").write_text(f"SPEAKER a 1 {times} <NA> <NA> ann <NA> <NA>\n")
    _, [failed] = read_references(tmp_path)
    assert "line 1" in failed and "is not a line of an RTTM file" in failed


def test_forty_speakers_are_forty_speakers(tmp_path: Path) -> None:
    turns = [Turn(f"s{k}", 0.1 * k, 0.1 * k + 1.0) for k in range(40)]
    write_recording(tmp_path, "a", turns)
    [recording], _ = read_references(tmp_path)
    assert recording.reference.shape == (40, 1000)
    assert recording.reference.any(1).all()
