"""diarize with a gallery: names in all results, unknown speakers who are enrolled, and the next recording."""

import json
from pathlib import Path

import numpy as np
import pytest
from cli_helpers import Run

from separative import audio
from separative.gallery import Gallery
from separative.model import load_model
from separative.rttm import read_rttm

RATE = 16000
pytest.importorskip("numkong", reason="needs the extra 'gallery'")


@pytest.fixture
def days(voices: list[list[Path]], tmp_path: Path) -> Path:
    """Two recordings of Ann and Bob; Bob speaks for longer on Monday."""
    ann, bob = voices[0], voices[2]
    folder = tmp_path / "days"
    for day, parts in (("monday", (ann[0], bob[0], bob[1])), ("tuesday", (bob[2], ann[2]))):
        audio.write(folder / f"{day}.wav", np.concatenate([audio.read(p, RATE)[0] for p in parts]), RATE)
    return folder


def record_of(out: Path, stem: str) -> dict[str, dict[str, object]]:
    return {
        speaker["name"]: speaker for speaker in json.loads((out / f"{stem}.json").read_text())["speakers"]
    }


def test_nobody_is_asked_twice(cli: Run, voices: list[list[Path]], days: Path, tmp_path: Path) -> None:
    people, out = tmp_path / "people", tmp_path / "out"
    assert cli("gallery", "add", people, "Ann Groß", voices[0][1]).code == 0
    words = ("--gallery", people, "--enrol-unknown", "--out", out, "--format", "rttm,csv,srt,textgrid")
    done = cli("diarize", days / "monday.wav", *words)
    assert done.code == 0, done.err
    monday = record_of(out, "monday")
    [new] = set(monday) - {"Ann Groß"}
    assert new == f"monday-{monday[new]['label']}" and f"enrolled {new} (" in done.out
    assert monday["Ann Groß"]["identity"]["probability"] > 0.5
    assert monday[new]["identity"] == {
        "name": new,
        "probability": None,
        "unknown_probability": pytest.approx(1.0, abs=0.5),
        "enrolled_now": True,
    }
    assert monday["Ann Groß"]["waveform"] == "monday-Ann_Groß.wav"
    assert monday[new]["waveform"] == f"{new}.wav"
    for speaker in monday.values():
        assert audio.info(out / str(speaker["waveform"])).rate == RATE
    assert {turn.speaker for turn in read_rttm(out / "monday.rttm")["monday"]} == {"Ann_Groß", new}
    for suffix in (".csv", ".srt", ".TextGrid", ".html"):
        text = (out / f"monday{suffix}").read_text()
        # The page holds its data as JSON with letters of ASCII only.
        known = json.dumps("Ann Groß")[1:-1] if suffix == ".html" else "Ann Groß"
        assert known in text and new in text, suffix

    # The user says who it was. The next recording has both names.
    assert cli("gallery", "rename", people, new, "Bob").code == 0
    done = cli("diarize", days / "tuesday.wav", *words)
    assert done.code == 0 and "enrolled" not in done.out, done.err
    assert set(record_of(out, "tuesday")) == {"Ann Groß", "Bob"}
    assert {"tuesday-Ann_Groß.wav", "tuesday-Bob.wav"} == {path.name for path in out.glob("tuesday*.wav")}

    # So has Monday, when both are processed again; Tuesday is not.
    done = cli("diarize", days / "monday.wav", days / "tuesday.wav", *words)
    assert done.code == 0, done.err
    assert "monday.wav" in done.out.splitlines()[0] and "Bob" in done.out.splitlines()[0]
    assert "done before" not in done.out.splitlines()[0] and "done before" in done.out.splitlines()[1]
    assert set(record_of(out, "monday")) == {"Ann Groß", "Bob"}
    assert {path.name for path in out.glob("monday*.wav")} == {"monday-Ann_Groß.wav", "monday-Bob.wav"}
    with Gallery(people, load_model()) as gallery:
        assert [speaker.name for speaker in gallery.list()] == ["Ann Groß", "Bob"]


def test_a_name_does_not_replace_a_file_of_that_name(cli: Run, voices: list[list[Path]], days: Path) -> None:
    other = days / "monday-Ann.wav"
    other.write_bytes(b"made by hand")
    words = ("diarize", days / "monday.wav", "--out", days, "--enrol", f"Ann={voices[0][1]}")
    for _ in range(2):
        done = cli(*words)
        assert done.code == 0, done.err
        assert record_of(days, "monday")["Ann"]["waveform"] == "monday-Ann-2.wav"
        assert other.read_bytes() == b"made by hand"
        assert not (days / "monday-Ann-3.wav").exists()


def test_two_people_of_one_name_are_one_sentence(
    cli: Run, voices: list[list[Path]], days: Path, tmp_path: Path
) -> None:
    people = tmp_path / "people"
    assert cli("gallery", "add", people, "Ann", voices[0][1]).code == 0
    words = ("diarize", days / "monday.wav", "--gallery", people, "--out", tmp_path / "out", "--no-voices")
    done = cli(*words, "--enrol", f" Ann={voices[2][1]}")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert f"'Ann' is in the gallery {people} too; use another name" in done.err
    assert not (tmp_path / "out").exists()
    done = cli(*words, "--enrol", f"ann={voices[2][1]}")
    assert done.code == 0 and "'Ann' and 'ann' differ only in capital letters and blanks" in done.err
    assert set(record_of(tmp_path / "out", "monday")) == {"Ann", "ann"}


def test_a_gallery_of_another_model_is_one_sentence(
    cli: Run, run: Path, voices: list[list[Path]], days: Path, tmp_path: Path
) -> None:
    people = tmp_path / "people"
    assert cli("gallery", "add", people, "Ann", voices[0][1]).code == 0
    words = ("diarize", days, "--gallery", people, "--out", tmp_path / "out")
    done = cli(*words, "--model", run)
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert f"{people} was made with another model" in done.err and "gallery reembed" in done.err
    assert not (tmp_path / "out").exists()


def test_names_and_channels(cli: Run, voices: list[list[Path]], tmp_path: Path) -> None:
    people = {"Bob": voices[2], "Ann": voices[0]}
    waves = [audio.read(files[0], RATE)[0] for files in people.values()]
    longest = max(map(len, waves))
    audio.write(tmp_path / "call.wav", np.stack([np.resize(wave, longest) for wave in waves]), RATE)
    enrol = [word for name, files in people.items() for word in ("--enrol", f"{name}={files[1]}")]
    words = ("diarize", tmp_path / "call.wav", "--channels", "each", "--speakers", 1)
    done = cli(*words, "--out", tmp_path / "out", *enrol)
    assert done.code == 0, done.err
    speakers = record_of(tmp_path / "out", "call")
    assert {(name, speaker["label"], speaker["channel"]) for name, speaker in speakers.items()} == {
        ("Bob", "1-speaker1", 1),
        ("Ann", "2-speaker1", 2),
    }
    lines = [line.split() for line in (tmp_path / "out" / "call.rttm").read_text().splitlines()]
    assert {(line[7], line[2]) for line in lines} == {("Bob", "1"), ("Ann", "2")}
    assert {path.name for path in (tmp_path / "out").glob("*.wav")} == {"call-Ann.wav", "call-Bob.wav"}
