"""The command extract, and the options --original-rate and --cut: files, exit codes and messages."""

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
from cli_helpers import Run

from separative import audio

RATE = 16000


@pytest.fixture(scope="module")
def talk(voices: list[list[Path]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two voices, one after the other, in two channels at 24 kHz."""
    parts = [audio.read(path, 24000)[0] for path in (voices[0][0], voices[1][0])]
    mono = np.concatenate([np.concatenate([part, np.zeros(6000, np.float32)]) for part in parts])
    path = tmp_path_factory.mktemp("talk") / "talk.wav"
    audio.write(path, np.stack([mono, 0.5 * mono]), 24000)
    return path


def test_a_person_who_is_present_is_written(
    cli: Run, talk: Path, voices: list[list[Path]], tmp_path: Path
) -> None:
    out = tmp_path / "one.wav"
    done = cli("extract", talk, "--who", voices[0][1], "--out", out, "--original-rate", "--prior", "0.9")
    assert done.code == 0, done.err
    assert f"{voices[0][1].stem} is speaker" in done.out
    header = audio.info(out)
    assert (header.rate, header.channels, header.frames) == (24000, 2, audio.info(talk).frames)
    again = cli("extract", talk, "--who", voices[0][1], "--out", out)
    assert again.code == 2 and "--force" in again.err


def test_absence_is_said_and_nothing_is_written(
    cli: Run, talk: Path, voices: list[list[Path]], tmp_path: Path
) -> None:
    out = tmp_path / "none.wav"
    done = cli("extract", talk, "--who", voices[2][0], "--out", out, "--prior", "1e-9", "--json")
    record = json.loads(done.out)
    assert (done.code, record["present"], record["file"]) == (1, False, None)
    assert record["probability"] < 0.5 and not out.exists()


def test_a_person_of_a_gallery_is_found_by_name(
    cli: Run, talk: Path, voices: list[list[Path]], tmp_path: Path
) -> None:
    assert cli("gallery", "add", tmp_path / "people", "Ann", *voices[0][1:], "--force").code == 0
    out = tmp_path / "ann.wav"
    done = cli(
        *("extract", talk, "--gallery", tmp_path / "people", "--name", "Ann"),
        *("--out", out, "--prior", "0.9"),
    )
    assert done.code == 0 and "Ann is speaker" in done.out, done.err
    assert audio.info(out).rate == RATE
    wrong = cli(
        "extract", talk, "--gallery", tmp_path / "people", "--name", "Bob", "--out", tmp_path / "b.wav"
    )
    assert wrong.code == 2 and "no speaker 'Bob'" in wrong.err


def test_a_live_stream_gives_the_same_length(
    cli: Run, voices: list[list[Path]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wave, _ = audio.read(voices[0][0], RATE)
    content = (wave * 32767).astype("<i2").tobytes()
    for prior, code in (("0.99", 0), ("1e-9", 1)):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BufferedReader(io.BytesIO(content))))
        out = tmp_path / f"live-{code}.wav"
        done = cli("extract", "--live", "--who", voices[0][code], "--out", out, "--prior", prior)
        assert done.code == code, done.err
        assert out.exists() == (code == 0)
        assert ("is not in the stream" in done.out) == (code == 1)
    assert audio.info(tmp_path / "live-0.wav").frames == len(wave)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["a.wav"], "--who FILE"),
        (["a.wav", "--who", "b.wav", "--gallery", "g", "--name", "c"], "--who FILE"),
        (["a.wav", "--gallery", "g"], "--gallery FOLDER --name NAME"),
        (["--who", "b.wav"], "--live"),
        (["a.wav", "--live", "--who", "b.wav"], "--live"),
        (["--live", "--who", "b.wav", "--original-rate"], "--original-rate"),
        (["a.wav", "--who", "b.wav", "--out", "c.mp3"], ".wav or .flac"),
        (["a.wav", "--who", "b.wav", "--prior", "2"], "prior"),
    ],
)
def test_wrong_options_give_one_sentence(cli: Run, arguments: list[str], words: str) -> None:
    done = cli("extract", *arguments)
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert words in done.err


def test_diarize_writes_the_own_rate_cuts_and_confidence(cli: Run, talk: Path, tmp_path: Path) -> None:
    done = cli(
        *("diarize", talk, "--out", tmp_path, "--speakers", 2, "--original-rate"),
        *("--cut", "speakers", "--format", "csv"),
    )
    assert done.code == 0, done.err
    record = json.loads((tmp_path / "talk.json").read_text())
    assert len(record["count_probability"]) > 2 and isinstance(record["unlike_training"], list)
    for speaker in record["speakers"]:
        header = audio.info(tmp_path / speaker["waveform"])
        assert (header.rate, header.channels, header.frames) == (24000, 2, audio.info(talk).frames)
        assert len(speaker["confidence"]) == len(speaker["turns"])
        assert all(0 < value < 1 for value in speaker["confidence"])
    assert all(0 < turn["confidence"] < 1 for turn in record["exclusive_turns"])
    with (tmp_path / "talk.csv").open() as file:
        assert all(0 < float(row["confidence"]) < 1 for row in csv.DictReader(file))
    with (tmp_path / "talk-cuts.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == sum(len(speaker["turns"]) for speaker in record["speakers"])
    assert {row["file"] for row in rows} | {"talk-cuts.csv"} <= set(record["files"])
    # The next run has one file per turn, cut from the recording, and no others.
    done = cli("diarize", talk, "--out", tmp_path, "--speakers", 2, "--no-voices", "--cut", "turns")
    assert done.code == 0, done.err
    cuts = sorted(path.name for path in tmp_path.glob("*.wav"))
    assert cuts and all("-turn0" in name for name in cuts)
    assert audio.info(tmp_path / cuts[0]).channels == 2


def test_separate_writes_the_own_rate(cli: Run, talk: Path, tmp_path: Path) -> None:
    done = cli("separate", talk, "--out", tmp_path, "--original-rate", "--json")
    assert done.code == 0, done.err
    [record] = json.loads(done.out)
    for path in record["files"]:
        header = audio.info(path)
        assert (header.rate, header.channels, header.frames) == (24000, 2, audio.info(talk).frames)
