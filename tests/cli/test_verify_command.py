"""The command calibrate, and the output of verify after it."""

import json
import shutil
from pathlib import Path

import pytest
from cli_helpers import Run

from separative import load_model, update_card, verify


@pytest.fixture
def model(run: Path, tmp_path: Path) -> Path:
    """A copy of the run's model, so that the run itself stays uncalibrated."""
    return Path(shutil.copytree(run / "model", tmp_path / "model"))


def test_calibrate_writes_the_card_that_verify_reads(
    cli: Run, speech: Path, other_speakers: Path, model: Path
) -> None:
    one, two = speech / "speaker0" / "0.flac", speech / "speaker1" / "0.flac"
    weights = (model / "model.safetensors").read_bytes()
    before = json.loads((model / "model.json").read_text())
    said = cli("verify", one, two, "--model", model).out
    assert f"'separative calibrate {model} --corpus CORPUS'" in said
    options = ("--corpus", other_speakers, "--seconds", 1, "--folds", 3, "--qualities", "")
    done = cli("calibrate", model, *options)
    assert done.code == 0, done.err
    assert "held-out speakers: Cllr " in done.out
    after = json.loads((model / "model.json").read_text())
    record = after.pop("calibration")
    # The digest covers the card.
    assert after.pop("digest") != before.pop("digest")
    assert after == before and (model / "model.safetensors").read_bytes() == weights
    assert json.loads(cli("calibrate", model, *options, "--json").out) == record

    found = verify(load_model(model), one, two, prior=0.1)
    assert found.llr == pytest.approx(record["scale"] * found.score + record["offset"])
    said = cli("verify", one, two, "--model", model, "--prior", 0.1).out
    word = "probability" if found.same else "probability of the same"
    assert f"{word} {found.probability:.4g}\n" in said
    assert f"{found.llr:+.2f} nats; prior 0.1; calibrated on clean, overlap0; 1 s a side; 6 speakers" in said


def test_a_stated_false_alarm_rate_decides_and_is_printed(
    cli: Run, speech: Path, other_speakers: Path, model: Path
) -> None:
    one, two = speech / "speaker0" / "0.flac", speech / "speaker1" / "0.flac"
    sides = ("verify", one, two, "--model", model)
    done = cli(*sides, "--false-alarms", "5%")
    assert done.code == 2 and "run `separative calibrate` again" in done.err
    options = ("--corpus", other_speakers, "--seconds", 1, "--folds", 3, "--qualities", "clean,telephone")
    assert cli("calibrate", model, *options).code == 0
    cohort = ("--cohort", speech / "speaker2" / "0.flac")
    found = json.loads(cli(*sides, "--false-alarms", "5%", *cohort, "--json").out)
    assert found["same"] is (found["false_alarm_rate"] <= 0.05) and found["cohort"] == 1
    assert found["left_quality"]["speech_seconds"] > 0
    said = cli(*sides, "--false-alarms", "0.05", *cohort).out
    assert "a cohort of 1" in said and "left: " in said
    for wrong in ("0", "100%", "few"):
        done = cli(*sides, "--false-alarms", wrong)
        assert done.code == 2 and f"--false-alarms '{wrong}'" in done.err


def test_the_prior_changes_the_decision(cli: Run, speech: Path, model: Path) -> None:
    one = speech / "speaker0" / "0.flac"
    fixed = {"scale": 1.0, "conditions": ["clean"], "seconds": 4.0, "speakers": 9}
    # A recording scores 1 against itself.
    for offset, words in ((1.0, "the same speaker: probability 0.8808"), (-3.0, "different speakers")):
        update_card(model, calibration=fixed | {"offset": offset})
        assert words in cli("verify", one, one, "--model", model).out


def test_a_side_may_have_several_recordings(cli: Run, speech: Path, model: Path) -> None:
    one, two, three = (speech / "speaker0" / f"{n}.flac" for n in range(3))
    done = cli("verify", "--left", one, "--left", two, "--right", three, "--model", model, "--json")
    said = json.loads(done.out)
    assert said["left"] == [str(one), str(two)] and said["right"] == [str(three)]
    found = verify(load_model(model), [one, two], three)
    assert (said["score"], said["left_recording"]) == (pytest.approx(found.score), found.left_recording)


def test_verify_requires_two_sides(cli: Run, speech: Path, model: Path) -> None:
    one = speech / "speaker0" / "0.flac"
    for sides in ((), (one,), (one, one, one), ("--left", one), (one, one, "--left", one, "--right", one)):
        done = cli("verify", *sides, "--model", model)
        assert (done.code, done.out) == (2, "")
        assert "pass two recordings to verify, or at least one --left and one --right" in done.err


def test_a_failed_calibration_leaves_the_card_unchanged(cli: Run, speech: Path, model: Path) -> None:
    card = (model / "model.json").read_bytes()
    common = ("calibrate", model, "--corpus", speech, "--seconds", 1)
    for options, words in (
        (("--prior", 1), "between 0 and 1"),
        (("--conditions", "overlap1"), "'overlap1'"),
        (("--enrol", "noise5"), "noise"),
    ):
        done = cli(*common, *options)
        # A line about the layout of the corpus comes before the error.
        assert done.code == 2 and "Traceback" not in done.err
        assert words in done.err.splitlines()[-1]
    assert (model / "model.json").read_bytes() == card
