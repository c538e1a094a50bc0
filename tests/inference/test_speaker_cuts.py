"""Cutting the turns of speakers out of files, with a list of them."""

import csv
from pathlib import Path

import numpy as np
import pytest

from separative import audio
from separative.errors import SeparativeError
from separative.inference.cuts import COLUMNS, FADE_SECONDS, write_cuts
from separative.inference.speakers import Speaker
from separative.rttm import Turn

RATE = 8000


def speaker(name: str, *spans: tuple[float, float], confidence: float | None = None) -> Speaker:
    return Speaker(name, tuple(Turn(name, *span, confidence) for span in spans), np.zeros(1), np.zeros(1))


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """Two channels; a sample says when it is: the first channel is the time over 16 s."""
    time = np.arange(4 * RATE) / RATE
    audio.write(tmp_path / "talk.wav", np.stack([time, -time]).astype(np.float32) / 16, RATE)
    return tmp_path / "talk.wav"


def read_list(folder: Path) -> list[dict[str, str]]:
    with (folder / "talk-cuts.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def check(folder: Path, row: dict[str, str]) -> None:
    """The samples in the file are those of the turn."""
    start, end, at = (float(row[key]) for key in ("start", "end", "file_start"))
    wave, rate = audio.read(folder / row["file"], channels="each", start=at, seconds=end - start)
    assert rate == RATE and wave.shape == (2, round((end - start) * RATE))
    inside = slice(round(FADE_SECONDS * RATE) + 1, -round(FADE_SECONDS * RATE) - 1)
    time = start + np.arange(wave.shape[1]) / RATE
    np.testing.assert_allclose(16 * wave[0, inside], time[inside], atol=2e-3)
    np.testing.assert_allclose(wave[1], -wave[0], atol=1e-4)
    assert abs(wave[0, 0]) < 1e-4 and abs(wave[0, -1]) < 1e-4


def test_one_file_per_speaker_has_all_turns_in_a_row(tmp_path: Path, recording: Path) -> None:
    speakers = [speaker("ann", (0.5, 1.0), (2.0, 3.5), confidence=0.875), speaker("bob", (1.5, 2.25))]
    paths = write_cuts(speakers, [recording] * 2, tmp_path, "talk")
    assert [path.name for path in paths] == ["talk-ann-cut.wav", "talk-bob-cut.wav", "talk-cuts.csv"]
    assert audio.info(paths[0]).seconds == 2.0
    rows = read_list(tmp_path)
    assert tuple(rows[0]) == COLUMNS
    assert [row["speaker"] for row in rows] == ["ann", "bob", "ann"]
    assert [row["confidence"] for row in rows] == ["0.875", "", "0.875"]
    assert rows[2]["file_start"] == "0.500"
    for row in rows:
        check(tmp_path, row)


def test_one_file_per_turn(tmp_path: Path, recording: Path) -> None:
    speakers = [speaker("ann", (0.5, 1.0), (2.0, 3.5)), speaker("bob", (1.5, 2.25))]
    paths = write_cuts(speakers, [recording] * 2, tmp_path, "talk", by="turns", parts=["a", "b"])
    names = [path.name for path in paths]
    assert names == ["talk-a-turn001.wav", "talk-a-turn002.wav", "talk-b-turn001.wav", "talk-cuts.csv"]
    for row in read_list(tmp_path):
        assert row["file_start"] == "0.000"
        check(tmp_path, row)


def test_turns_after_the_end_of_a_file_are_left_out(tmp_path: Path, recording: Path) -> None:
    speakers = [speaker("ann", (3.5, 4.5)), speaker("bob", (3.999, 5.0), (6.0, 7.0))]
    paths = write_cuts(speakers, [recording] * 2, tmp_path, "talk")
    assert [path.name for path in paths] == ["talk-ann-cut.wav", "talk-cuts.csv"]
    assert audio.info(paths[0]).seconds == 0.5
    [row] = read_list(tmp_path)
    # The list says what the file holds.
    assert (row["start"], row["end"]) == ("3.500", "4.000")


def test_without_turns_there_is_only_the_list(tmp_path: Path, recording: Path) -> None:
    assert write_cuts([], [], tmp_path, "talk") == [tmp_path / "talk-cuts.csv"]
    assert read_list(tmp_path) == []


def test_an_unknown_way_to_cut_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SeparativeError, match=r"unknown way to cut 'word'.*speakers, turns"):
        write_cuts([], [], tmp_path, "talk", by="word")
    assert not list(tmp_path.iterdir())
