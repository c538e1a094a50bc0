"""diarize with limits of the number of speakers."""

import json
from pathlib import Path

from cli_helpers import RATE, Run, hum

from separative import audio


def test_limits_that_contradict_each_other_are_refused_before_any_work(cli: Run, tmp_path: Path) -> None:
    audio.write(tmp_path / "a.wav", hum(0, 0, 2.5), RATE)
    words = ("diarize", tmp_path / "a.wav", "--out", tmp_path / "out")
    for options, sentence in (
        (("--min-speakers", 4, "--max-speakers", 3), "min_speakers is 4 but max_speakers is 3"),
        (("--speakers", 5, "--max-speakers", 3), "speakers is 5 but max_speakers is 3; raise max_speakers"),
        (("--speakers", 2, "--min-speakers", 3), "min_speakers is 3 but speakers is 2"),
    ):
        done = cli(*words, *options)
        assert done.code == 2 and sentence in done.err and "Traceback" not in done.err
    assert not (tmp_path / "out").exists()


def test_speakers_that_are_missing_are_said(cli: Run, example_files: Path, tmp_path: Path) -> None:
    """One speaker of a few seconds is not split to reach the least number."""
    words = ("diarize", example_files / "ann.wav", "--out", tmp_path, "--no-voices")
    done = cli(*words, "--min-speakers", 3, "--max-speakers", 5)
    record = json.loads((tmp_path / "ann.json").read_text())
    assert record["settings"]["min_speakers"] == 3 and record["settings"]["max_speakers"] == 5
    assert len(record["speakers"]) == 1 and done.code == 0
    assert "2 of the speakers asked for were not found" in done.out
