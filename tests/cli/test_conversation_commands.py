"""Conversations on the command line: simulate, diarize, evaluate."""

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
from cli_helpers import RATE, Run

from separative import audio
from separative.evaluation import Results
from separative.rttm import read_rttm


@pytest.fixture(scope="module")
def talk(other_speakers: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from separative.cli import main

    out = tmp_path_factory.mktemp("talk")
    words = [
        "converse",
        "--corpus",
        other_speakers,
        "--out",
        out,
        "--rate",
        RATE,
        "--minutes",
        0.4,
        "--speakers",
        2,
    ]
    assert main([str(word) for word in words]) == 0
    return out / "0000.wav"


def test_a_conversation_is_written_with_its_turns(talk: Path) -> None:
    record = json.loads(talk.with_suffix(".json").read_text())
    turns = read_rttm(talk.with_suffix(".rttm"))["0000"]
    assert {turn.speaker for turn in turns} == set(record["speakers"])
    assert audio.info(talk).seconds == pytest.approx(24.0)


def test_conversations_in_a_style_are_listed_for_the_evaluation(
    cli: Run, other_speakers: Path, tmp_path: Path
) -> None:
    common = ("converse", "--corpus", other_speakers, "--rate", RATE, "--minutes", 0.2, "--style", "call")
    done = cli(*common, "--out", tmp_path, "--count", 2)
    assert done.code == 0, done.err
    with (tmp_path / "recordings.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["recording"] for row in rows] == ["call-0000", "call-0001"]
    for row in rows:
        turns = read_rttm(tmp_path / row["rttm"]).get(row["recording"], [])
        assert int(row["speakers"]) == len({turn.speaker for turn in turns})
        assert float(row["seconds"]) == pytest.approx(audio.info(tmp_path / row["path"]).seconds, abs=0.01)
        assert row["kind"] == "simulated call"
    record = json.loads((tmp_path / "call-0000.json").read_text())
    assert record["config"]["style"] == "call"
    assert record["scene"]["microphone"]["kind"] == "telephone"
    done = cli(*common, "--out", tmp_path, "--overlap", 0.4)
    assert done.code == 2 and "overlap is a setting of the style 'plain'" in done.err


def test_diarize_writes_turns_embeddings_and_waveforms(
    cli: Run, run: Path, talk: Path, tmp_path: Path
) -> None:
    done = cli("diarize", talk, "--model", run, "--out", tmp_path, "--speakers", 2)
    assert done.code == 0, done.err
    record = json.loads((tmp_path / "0000.json").read_text())
    names = [speaker["name"] for speaker in record["speakers"]]
    assert names == ["speaker1", "speaker2"][: len(names)] and names
    assert done.out.splitlines()[1].startswith("speaker1")
    turns = read_rttm(tmp_path / "0000.rttm")["0000"]
    assert [t.speaker for t in turns if t.start == record["speakers"][0]["turns"][0][0]].count(
        "speaker1"
    ) == 1
    for name in names:
        assert audio.info(tmp_path / f"0000-{name}.wav").seconds == pytest.approx(24.0, abs=0.01)
    page = (tmp_path / "0000.html").read_text()
    assert page.count("data:audio/mpeg;base64,") == len(names) + 1
    # The only address is the name of a namespace.
    assert "http" not in page.replace("'http://www.w3.org/2000/svg'", "")


def test_diarize_compares_with_known_speakers(cli: Run, voices: list[list[Path]], tmp_path: Path) -> None:
    ann, bob = voices[0], voices[2]
    talk_N = np.concatenate([audio.read(files[0], 16000)[0] for files in (ann, bob)])
    audio.write(tmp_path / "talk.wav", talk_N, 16000)
    enrol = [word for path in ann[1:] for word in ("--enrol", f"ann={path}")]
    enrol += ["--enrol", f"bob={bob[1]}"]
    talk = ("diarize", tmp_path / "talk.wav", "--out", tmp_path / "out", "--no-voices")
    done = cli(*talk, *enrol, "--json")
    assert done.code == 0, done.err
    best = []
    for speaker in json.loads(done.out)["speakers"]:
        assert {match["name"] for match in speaker["matches"]} == {"ann", "bob"}
        scores = [match["score"] for match in speaker["matches"]]
        assert scores == sorted(scores, reverse=True)
        best.append(speaker["matches"][0]["name"])
    assert sorted(best) == ["ann", "bob"]
    assert not list((tmp_path / "out").glob("*.wav"))
    done = cli(*talk, "--enrol", "ann")
    assert (done.code, done.err) == (2, "separative: --enrol 'ann' must have the form NAME=FILE\n")


def test_evaluate_meetings_writes_results(cli: Run, run: Path, other_speakers: Path, tmp_path: Path) -> None:
    common = ("evaluate-meetings", run, "--corpus", other_speakers, "--count", 2, "--minutes", 0.3)
    done = cli(*common, "--speakers", 2, "--overlaps", "0,0.3", "--out", tmp_path)
    assert done.code == 0, done.err
    results = Results.load(tmp_path)
    assert {row.condition for row in results.rows} == {"2 speakers, 0%", "2 speakers, 30%"}
    known = "trained, number of speakers known"
    for metric in ("DER", "JER", "swaps", "count right"):
        row = results.find(metric, "2 speakers, 30%", model=known)
        assert row.low <= row.value <= row.high
    assert results.find("SI-SDRi", "2 speakers, 0%").trials == 2
    alone = "trained, no attention over windows"
    with_it, without = (results.find("window EER", "2 speakers, 30%", model=m) for m in ("trained", alone))
    difference = results.find("window EER difference", "2 speakers, 30%", model=alone)
    assert difference.value == pytest.approx(without.value - with_it.value, abs=1e-3)
    assert difference.low <= difference.value <= difference.high
    errors = [results.find("DER", "2 speakers, 30%", model=m).value for m in ("trained", alone)]
    difference = results.find("DER difference", "2 speakers, 30%", model=alone)
    assert difference.value == pytest.approx(errors[1] - errors[0], abs=1e-3)
    # Two conversations of 18 s give windows of 2 s every second, each compared with every speaker.
    assert with_it.trials == without.trials > 100


def test_conversations_of_training_speakers_are_refused(cli: Run, run: Path, speech: Path) -> None:
    done = cli("evaluate-meetings", run, "--corpus", speech)
    assert done.code == 2 and "is in training and in evaluation" in done.err


@pytest.mark.parametrize("rate", [RATE, 16000])
def test_listen_prints_the_active_speakers(
    cli: Run, run: Path, talk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rate: int
) -> None:
    wave_N, _ = audio.read(talk, rate)
    raw = (wave_N * 32767).astype("<i2").tobytes()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BufferedReader(io.BytesIO(raw))))
    done = cli("listen", "--model", run, "--rate", rate, "--out", tmp_path, "--json")
    assert done.code == 0, done.err
    lines = [json.loads(line) for line in done.out.splitlines()]
    assert lines[-1]["end"] == pytest.approx(24.0, abs=0.01)
    assert lines[-1]["activity"].keys() == {path.stem for path in tmp_path.glob("*.wav")}
    for path in tmp_path.glob("*.wav"):
        assert audio.info(path).seconds == pytest.approx(24.0, abs=0.01)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BufferedReader(io.BytesIO(b""))))
    assert cli("listen", "--model", run) == (0, "", "")


def test_a_damaged_recording_gives_results_up_to_the_damage(
    cli: Run, run: Path, talk: Path, tmp_path: Path
) -> None:
    whole_N, rate = audio.read(talk)
    audio.write(tmp_path / "cut.flac", whole_N, rate)
    content = (tmp_path / "cut.flac").read_bytes()
    (tmp_path / "cut.flac").write_bytes(content[: len(content) // 2])
    done = cli("diarize", tmp_path / "cut.flac", "--model", run, "--out", tmp_path / "out")
    assert done.code == 2 and "cut.flac" in done.err
    assert f"results up to there are in {tmp_path / 'out'}" in done.err
    record = json.loads((tmp_path / "out" / "cut.json").read_text())
    assert 8.0 < record["seconds"] < 16.0
    assert not list((tmp_path / "out").glob(".*"))
