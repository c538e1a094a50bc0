"""The gallery commands: names, renaming, recordings without speech and damaged files."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from separative.cli import main
from separative.gallery.store import FILE


def test_names_are_one_speaker_and_can_be_changed(
    saved_folder: str, tmp_path: Path, record, capfd: pytest.CaptureFixture[str]
) -> None:
    def run(*words: str) -> tuple[int, str, str]:
        code = main(["gallery", words[0], str(tmp_path / "g"), *words[1:], "--model", saved_folder])
        return code, *capfd.readouterr()

    first, second = (str(record(f"command{n}.wav", 4.0, n)) for n in (1, 2))
    assert run("add", "Ann", first, "--force")[0] == 0
    code, out, err = run("add", "Ann ", second, "--force")
    assert code == 0 and "4.0 s of Ann\n" in out and err == ""
    code, out, err = run("add", "ann", first, "--force")
    assert code == 0 and "'ann' and 'Ann' differ only in capital letters" in err
    assert "is also enrolled for 'Ann'" in err
    code, out, _ = run("rename", " ann", "Bob")
    assert (code, out) == (0, f"{tmp_path / 'g'}: ann is now Bob\n")
    code, _, err = run("rename", "Bob", "Ann")
    assert code == 2 and "'Ann' is enrolled already" in err
    code, _, err = run("rename", "ann", "x")
    assert code == 2 and "no speaker 'ann'" in err
    code, _, err = run("add", "a\nb", first, "--force")
    assert code == 2 and "must be one line of valid text" in err
    assert run("remove", "Bob", "Bob ")[1] == f"{tmp_path / 'g'}: 1 removed, 1 left\n"
    (tmp_path / "g" / FILE).write_bytes(b"SQLite format 3\0" + bytes(5000))
    for words in (["list"], ["find", first], ["add", "x", first], ["remove", "Ann"], ["export", "out.json"]):
        code, _, err = run(*words)
        assert code == 2 and FILE in err and len(err.strip().splitlines()) == 1


def test_a_recording_without_speech_is_named(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "noise.wav"
    soundfile.write(path, 0.05 * np.random.default_rng(0).standard_normal(80000), 16000)
    gallery = str(tmp_path / "g")
    assert main(["gallery", "add", gallery, "Ann", str(path)]) == 2
    assert "noise.wav: not enrolled: no speech was found in it" in capfd.readouterr().err
    assert main(["gallery", "find", gallery, str(path)]) == 0
    assert capfd.readouterr().out == f"{path}: no speech was found\n"
