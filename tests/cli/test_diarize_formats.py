"""diarize --format: the files of every format, and the record that names them."""

import json
from pathlib import Path

from cli_helpers import RATE, Run, hum

import separative
from separative import audio


def test_every_format_is_written_and_named_in_the_record(cli: Run, run: Path, tmp_path: Path) -> None:
    source = tmp_path / "call.wav"
    audio.write(source, hum(0, 0, 3.0), RATE)
    out = tmp_path / "results"
    words = ("diarize", source, "--model", run, "--out", out, "--no-voices")
    done = cli(*words, "--format", "rttm,csv,srt,vtt,audacity,textgrid,eaf", "--speakers", 1)
    assert done.code == 0, done.err
    record = json.loads((out / "call.json").read_text())
    suffixes = {".rttm", ".csv", ".srt", ".vtt", "-labels.txt", ".TextGrid", ".eaf", ".json", ".png"}
    assert set(record["files"]) == {f"call{suffix}" for suffix in suffixes}
    assert {path.name for path in out.iterdir()} == set(record["files"])
    assert record["software"] == {"name": "separative", "version": separative.__version__}
    assert record["model"]["sha256"] == separative.load_model(run).card["sha256"]
    assert record["settings"]["speakers"] == 1
    [speaker] = record["speakers"]
    spans = [[turn["start"], turn["end"]] for turn in record["exclusive_turns"]]
    assert spans == speaker["turns"] and len(spans) == (out / "call-labels.txt").read_text().count("\n")


def test_an_unknown_format_ends_before_the_work(cli: Run, run: Path, tmp_path: Path) -> None:
    source = tmp_path / "call.wav"
    audio.write(source, hum(0, 0, 3.0), RATE)
    done = cli("diarize", source, "--model", run, "--out", tmp_path / "results", "--format", "str")
    assert done.code == 2 and "unknown format 'str' (did you mean 'srt'?)" in done.err
    assert not (tmp_path / "results").exists()
