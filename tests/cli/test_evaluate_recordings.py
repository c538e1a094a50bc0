"""The command evaluate-recordings: files, tables, exit codes."""

from pathlib import Path

import pytest
from cli_helpers import RATE, Run, hum

from separative import audio
from separative.rttm import Turn, write_rttm


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A recording of a call, the answer of another system, and a manifest with a missing recording."""
    audio.write(tmp_path / "call.wav", hum(1, 0, 6.0), RATE)
    write_rttm(tmp_path / "call.rttm", "call", [Turn("ann", 0.0, 6.0)])
    (tmp_path / "other").mkdir()
    write_rttm(tmp_path / "other" / "call.rttm", "call", [Turn("x", 0.0, 3.0)])
    (tmp_path / "good.csv").write_text("recording,path,rttm\ncall,call.wav,call.rttm\n")
    (tmp_path / "bad.csv").write_text(
        "recording,path,rttm\ncall,call.wav,call.rttm\nnone,none.wav,call.rttm\n"
    )
    return tmp_path


def test_results_tables_and_a_figure_are_written(cli: Run, folder: Path) -> None:
    out = folder / "out"
    done = cli(
        "evaluate-recordings", "--recordings", folder / "good.csv", "--system", f"other={folder / 'other'}",
        "--out", out,
    )  # fmt: skip
    assert done.code == 0, done.err
    assert "| base, true speech | 1 |" in done.out and "| other | 1 | 50.0 |" in done.out
    assert sorted(path.name for path in out.iterdir()) == ["der.png", "results.json", "results.md"]
    page = (out / "results.md").read_text()
    command = (
        'Command: `separative evaluate-recordings base --system "other=other" --recordings good.csv --seed 0`'
    )
    assert command in page
    # The page may be published: it names no folders of this machine.
    assert str(folder) not in page


def test_a_missing_recording_is_named_and_the_exit_code_is_2(cli: Run, folder: Path) -> None:
    done = cli(
        "evaluate-recordings", "--no-model", "--recordings", folder / "bad.csv",
        "--system", f"other={folder / 'other'}", "--out", folder / "out",
    )  # fmt: skip
    assert done.code == 2
    assert "separative: none: " in done.err and "none.wav: no such file" in done.err
    assert done.err.strip().endswith("1 not done")
    assert "| other | 1 | 50.0 |" in done.out


def test_the_list_of_windows_needs_no_model(cli: Run, folder: Path) -> None:
    done = cli("evaluate-recordings", "--recordings", folder, "--windows", folder / "windows.csv")
    assert (done.code, done.out.strip()) == (0, f"{folder / 'windows.csv'}: 9 windows")
    header, first, *_ = (folder / "windows.csv").read_text().splitlines()
    assert header == "window,recording,path,start,seconds,speaker"
    assert first == f"call@0.00,call,{folder / 'call.wav'},0.00,2.0,ann"


@pytest.mark.parametrize("system", ["other", "=folder", "other="])
def test_a_system_needs_a_name_and_a_folder(cli: Run, folder: Path, system: str) -> None:
    done = cli("evaluate-recordings", "--recordings", folder / "good.csv", "--system", system)
    assert done.code == 2 and f"--system '{system}' must be NAME=FOLDER" in done.err


def test_an_empty_manifest_is_refused_in_one_sentence(cli: Run, tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("recording,path,rttm\n")
    done = cli("evaluate-recordings", "--recordings", tmp_path / "list.csv", "--out", tmp_path / "out")
    assert done.code == 2 and "list.csv: lists no recordings" in done.err
    assert len(done.err.strip().splitlines()) == 1
