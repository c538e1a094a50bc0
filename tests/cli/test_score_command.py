"""The command score: files, folders, spans, and what it refuses."""

import json
from pathlib import Path

import pytest
from cli_helpers import Run

from separative.rttm import Turn, write_rttm

REFERENCE = [Turn("ann", 0.0, 4.0), Turn("bob", 4.0, 8.0)]
FOUND = [Turn("speaker1", 0.0, 5.0), Turn("speaker2", 5.0, 9.0)]


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """Folders of references and of results: two recordings each."""
    for name in ("a", "b"):
        write_rttm(tmp_path / "ref" / f"{name}.rttm", name, REFERENCE)
        write_rttm(tmp_path / "hyp" / f"{name}.rttm", name, FOUND if name == "a" else REFERENCE)
    return tmp_path / "ref", tmp_path / "hyp"


def test_score_prints_every_recording_and_all(cli: Run, files: tuple[Path, Path]) -> None:
    done = cli("score", *files)
    assert done.code == 0
    rows = [line.split() for line in done.out.splitlines()[1:]]
    assert rows[0] == ["a", "8.00", "25.00", "0.00", "12.50", "12.50", "30.00"]
    assert rows[1] == ["b", "8.00", "0.00", "0.00", "0.00", "0.00", "0.00"]
    assert rows[2] == ["all", "16.00", "12.50", "0.00", "6.25", "6.25", "15.00"]


def test_files_with_several_recordings_equal_folders(cli: Run, files: tuple[Path, Path]) -> None:
    joined = []
    for folder in files:
        path = folder.parent / f"{folder.name}-all.rttm"
        path.write_text("".join(file.read_text() for file in sorted(folder.glob("*.rttm"))))
        joined.append(path)
    assert cli("score", *joined, "--json").out == cli("score", *files, "--json").out


def test_uem_and_collar_limit_what_is_scored(cli: Run, files: tuple[Path, Path], tmp_path: Path) -> None:
    uem = tmp_path / "all.uem"
    uem.write_text(";; scored\na 1 0.0 4.5\nb 1 0.0 8.0\n")
    whole = json.loads(cli("score", *files, "--json").out)
    assert whole["recordings"]["a"]["confusion_seconds"] == 1.0
    cut = json.loads(cli("score", *files, "--uem", uem, "--json").out)
    assert cut["recordings"]["a"]["speech_seconds"] == 4.5
    assert cut["recordings"]["a"]["confusion_seconds"] == 0.5
    near = json.loads(cli("score", *files, "--collar", "0.25", "--json").out)
    assert near["recordings"]["a"]["speech_seconds"] == 7.0
    assert near["recordings"]["a"]["confusion_seconds"] == 0.75


def test_a_recording_without_result_is_missed_and_named(cli: Run, files: tuple[Path, Path]) -> None:
    (files[1] / "b.rttm").unlink()
    done = cli("score", *files, "--json")
    assert json.loads(done.out)["recordings"]["b"]["der"] == 1.0
    assert "has no turns of 'b'; all speech there counts as missed" in done.err


def test_an_empty_reference_has_seconds_but_no_rate(cli: Run, tmp_path: Path) -> None:
    (tmp_path / "a.rttm").write_text("")
    write_rttm(tmp_path / "hyp.rttm", "a", FOUND)
    done = cli("score", tmp_path / "a.rttm", tmp_path / "hyp.rttm")
    assert done.out.splitlines()[1].split() == ["a", "0.00", "-", "0.00", "s", "9.00", "s", "0.00", "s", "-"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("SPEAKER a 1 0.0\n", "line 2: 'SPEAKER a 1 0.0' is not a line of an RTTM file"),
        ("SPEAKER a 1 0.0 -1 <NA> <NA> ann <NA> <NA>\n", "is not a line of an RTTM file"),
        ("start,end,speaker\n", "line 2: 'start,end,speaker' is not a line of an RTTM file"),
    ],
)
def test_odd_lines_are_named(
    cli: Run, files: tuple[Path, Path], tmp_path: Path, line: str, message: str
) -> None:
    path = tmp_path / "odd.rttm"
    path.write_text("SPEAKER a 1 0.0 1.0 <NA> <NA> ann <NA> <NA>\n" + line)
    done = cli("score", files[0], path)
    assert done.code == 2 and message in done.err and done.err.count("\n") == 1


def test_lines_that_are_not_about_turns_are_skipped(cli: Run, tmp_path: Path) -> None:
    lines = ";; made by hand\nSPKR-INFO a 1 <NA> <NA> <NA> unknown ann <NA> <NA>\n"
    (tmp_path / "a.rttm").write_text(lines + "SPEAKER a 1 0.0 1.0 <NA> <NA> ann <NA> <NA>\n")
    assert cli("score", tmp_path / "a.rttm", tmp_path / "a.rttm").code == 0


def test_bad_uem_other_recordings_and_empty_folders_are_one_sentence(
    cli: Run, files: tuple[Path, Path], tmp_path: Path
) -> None:
    (tmp_path / "bad.uem").write_text("a 1 5.0 4.0\n")
    (tmp_path / "part.uem").write_text("a 1 0.0 4.0\n")
    (tmp_path / "none").mkdir()
    write_rttm(tmp_path / "c.rttm", "c", FOUND)
    for arguments, message in [
        ((*files, "--uem", tmp_path / "bad.uem"), "line 1: 'a 1 5.0 4.0' is not a line of a UEM file"),
        ((*files, "--uem", tmp_path / "part.uem"), "has no line about 'b'"),
        ((files[0], tmp_path / "c.rttm"), "it has 'c', the reference has 'a', 'b'"),
        ((files[0], tmp_path / "none"), "no .rttm files"),
        ((files[0], tmp_path / "missing.rttm"), "cannot be read"),
    ]:
        done = cli("score", *arguments)
        assert done.code == 2 and message in done.err and done.err.count("\n") == 1, done.err
