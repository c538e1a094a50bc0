"""diarize with several files and folders: places of the results, bad files, and calls that continue."""

import json
from pathlib import Path

import numpy as np
import pytest
from cli_helpers import RATE, Run, hum

from separative import audio, inference
from separative.cli.many_recordings import find_targets
from separative.errors import SeparativeError


@pytest.fixture
def week(tmp_path: Path) -> Path:
    """Two days with a recording of the same name, one bad file, and files that are no recordings."""
    folder = tmp_path / "week"
    for number, place in enumerate(("mon/call.wav", "tue/call.wav", "tue/late/b.flac")):
        audio.write(folder / place, hum(number, 0, 2.5), RATE)
    (folder / "mon" / "bad.wav").write_text("no sound at all")
    (folder / "notes.txt").write_text("notes")
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_folder_is_done_but_for_the_bad_file_and_a_second_call_does_the_rest(
    cli: Run, run: Path, week: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "results"
    words = ("diarize", week, "--model", run, "--out", out, "--speakers", 1, "--format", "rttm,srt")
    done = cli(*words)
    assert done.code == 2
    assert [line for line in done.err.splitlines() if "bad.wav" in line] and "1 of 4 not done" in done.err
    lines = done.out.splitlines()
    assert [line.split(":")[0] for line in lines[:-1]] == ["2 of 4", "3 of 4", "4 of 4"]
    assert lines[-1] == f"results are in {out}"
    before = contents(out)
    for stem in ("week/mon/call", "week/tue/call", "week/tue/late/b"):
        assert {f"{stem}.json", f"{stem}.rttm", f"{stem}.srt", f"{stem}-speaker1.wav"} <= set(before)
        record = json.loads(before[f"{stem}.json"])
        assert Path(record["recording"]).with_suffix("") == tmp_path / stem
        assert {str(Path(stem).parent / name) for name in record["files"]} <= set(before)
    assert not [name for name in before if "bad" in name or Path(name).name.startswith(".")]

    # The second call needs the model for the file that was bad only.
    audio.write(week / "mon" / "bad.wav", hum(5, 0, 2.5), RATE)
    calls, whole = [], inference.diarize

    def counted(model: object, source: Path, **options: object) -> object:
        calls.append(source)
        return whole(model, source, **options)

    monkeypatch.setattr(inference, "diarize", counted)
    done = cli(*words, "--json")
    assert (done.code, calls) == (0, [week / "mon" / "bad.wav"]), done.err
    records = json.loads(done.out)
    assert [Path(one["recording"]).name for one in records] == ["bad.wav", "call.wav", "call.wav", "b.flac"]
    assert {name: content for name, content in contents(out).items() if name in before} == before

    # Other settings, another content and a lost file are reasons to process a recording again.
    calls.clear()
    (out / "week" / "tue" / "call.srt").unlink()
    assert cli(*words).code == 0 and calls == [week / "tue" / "call.wav"]
    calls.clear()
    audio.write(week / "mon" / "call.wav", hum(7, 0, 2.5), RATE)
    done = cli(*words)
    assert done.code == 2 and f"(it is of {week / 'mon' / 'call.wav'})" in done.err and calls == []
    assert cli(*words[:-2], "--format", "rttm", "--no-voices").code == 2
    assert [path.name for path in calls] == ["bad.wav", "call.wav", "b.flac"]


def test_results_of_an_earlier_call_are_not_recordings(
    cli: Run, run: Path, week: Path, tmp_path: Path
) -> None:
    (week / "mon" / "bad.wav").unlink()
    words = ("diarize", week, "--model", run, "--speakers", 1, "--out")
    for _ in range(2):
        done = cli(*words, week / "results")
        assert done.code == 0 and "3 of 3" in done.out, done.err
    done = cli(*words, week)
    assert done.code == 2 and "is the folder of the recordings; choose another folder" in done.err
    empty = tmp_path / "empty"
    empty.mkdir()
    done = cli("diarize", week, empty, "--model", run, "--out", tmp_path / "out")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert f"{empty}: no recordings in this folder" in done.err and not (tmp_path / "out").exists()


def test_every_recording_has_results_in_a_place_of_its_own(tmp_path: Path) -> None:
    """Only the names count: the files are empty."""
    names = ("a/call.wav", "a/call.flac", "b/call.wav", "c/a/call.wav", "c/x.wav")
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    out = tmp_path / "out"

    def places(*sources: str) -> list[str]:
        targets = find_targets([tmp_path / source for source in sources], out)
        return [str((target.folder / target.stem).relative_to(out)) for target in targets]

    assert places("b", "c") == ["b/call", "c/x", "c/a/call"]
    # Another folder does not move the results of the first, and a file that is named twice is processed once.
    assert places("b", "b/../b/call.wav") == places("b") == ["b/call"]
    assert places("a") == ["a/call-flac", "a/call-wav"]
    assert places("b/call.wav", "c/x.wav") == ["call", "x"]
    assert places("a/call.wav", "b/call.wav", "c/x.wav") == ["a/call", "b/call", "x"]
    assert places("a/call.wav", "a/call.flac", "b/call.wav") == ["a/call-wav", "a/call-flac", "b/call"]
    with pytest.raises(SeparativeError, match=r"the results of 2 recordings would be .*a.call; .*--out"):
        places("a/call.wav", "c/a/call.wav")


def test_an_interruption_keeps_what_is_done(
    cli: Run, run: Path, week: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = inference.diarize

    def third_is_interrupted(model: object, source: Path, **options: object) -> object:
        if source.name == "b.flac":
            raise KeyboardInterrupt
        return whole(model, source, **options)

    monkeypatch.setattr(inference, "diarize", third_is_interrupted)
    done = cli("diarize", week, "--model", run, "--out", tmp_path / "out", "--no-voices")
    assert done.code == 130 and "2 of 4 are in" in done.err and "the same command continues" in done.err
    assert (tmp_path / "out" / "week" / "tue" / "call.rttm").is_file()


def test_a_damaged_recording_is_named_in_every_call(
    cli: Run, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    audio.write(tmp_path / "rec" / "cut.flac", hum(1, 0, 30.0), RATE)
    content = (tmp_path / "rec" / "cut.flac").read_bytes()
    (tmp_path / "rec" / "cut.flac").write_bytes(content[: len(content) // 2])
    audio.write(tmp_path / "rec" / "good.wav", hum(2, 0, 2.5), RATE)
    for _ in range(2):
        done = cli("diarize", tmp_path / "rec", "--model", run, "--out", tmp_path / "out", "--no-voices")
        assert done.code == 2 and "results up to there are in" in done.err and "1 of 2 not done" in done.err
        assert {path.stem for path in (tmp_path / "out" / "rec").glob("*.rttm")} == {"cut", "good"}
        monkeypatch.setattr(inference, "diarize", None)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--name", "x"), "--name is for one file"),
        (("--enrol-unknown",), "--enrol-unknown needs a gallery: add --gallery FOLDER"),
        (("--gallery", "none"), "no gallery at 'none'; create one with: separative gallery add"),
        (("--enrol", "An\nn=x.wav"), "must be one line of valid text"),
    ],
)
def test_wrong_options_are_one_sentence(
    cli: Run, run: Path, week: Path, tmp_path: Path, words: tuple[str, ...], sentence: str
) -> None:
    done = cli("diarize", week, "--model", run, "--out", tmp_path / "out", *words)
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert sentence in done.err and not (tmp_path / "out").exists()


def test_silence_in_a_folder_does_not_end_the_rest(cli: Run, run: Path, tmp_path: Path) -> None:
    audio.write(tmp_path / "rec" / "a.wav", np.zeros(3 * RATE, np.float32), RATE)
    audio.write(tmp_path / "rec" / "b.wav", hum(2, 0, 2.5), RATE)
    done = cli("diarize", tmp_path / "rec", "--model", run, "--out", tmp_path / "out", "--no-voices")
    assert done.code == 2 and "a.wav is silent throughout" in done.err
    assert [path.name for path in (tmp_path / "out" / "rec").glob("*.rttm")] == ["b.rttm"]
