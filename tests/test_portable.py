"""What other systems need: no modules and signals that only POSIX has, paths with blanks and umlauts."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import separative
from separative import audio
from separative.cli import main
from separative.files import lock_file

RATE = 16000
FOLDER = "Gespräch über Köln, 2. Teil"
# Python on Windows lacks these modules, signals and functions.
HIDE = """
import os, signal, sys
for name in ("fcntl", "resource", "termios", "tty", "pty", "pwd", "grp"):
    sys.modules[name] = None
for name in ("SIGKILL", "SIGHUP", "SIGALRM", "SIGUSR1", "SIGCHLD"):
    if hasattr(signal, name):
        delattr(signal, name)
for name in ("killpg", "getuid", "fork"):
    if hasattr(os, name):
        delattr(os, name)
"""
IMPORT_ALL = """
import importlib, pkgutil
import separative
names = [module.name for module in pkgutil.walk_packages(separative.__path__, "separative.")]
for name in names:
    if name not in ("separative.__main__", "separative.corpora.voices_worker"):
        importlib.import_module(name)
print(len(names))
"""
HELP = """
from separative.cli import main
for command in ("train", "diarize", "verify", "benchmark", "serve", "gallery"):
    assert main([command, "--help"]) == 0, command
"""
LOCK = """
from pathlib import Path
from separative.benchmark.folder import ResultsFolder
from separative.distributed import SINGLE_PROCESS
from separative.serve.uploads import ScratchFolder
from separative.training.folder import lock_folder
with lock_folder(Path("run"), SINGLE_PROCESS), ResultsFolder(Path("table")).lock():
    pass
scratch = ScratchFolder()
other = ScratchFolder()
print(scratch.folder.is_dir())
other.close()
scratch.close()
print(scratch.folder.exists())
"""


def python(code: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        capture_output=True,
        text=True,
        encoding="utf-8",
        env=os.environ | environment,
    )


def test_every_module_is_imported_without_what_only_posix_has(tmp_path: Path) -> None:
    pytest.importorskip("fastapi", reason="needs the extra 'serve'")
    done = python(HIDE + IMPORT_ALL, tmp_path)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 150


def test_help_is_printed_without_what_only_posix_has(tmp_path: Path) -> None:
    done = python(HIDE + HELP, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "--corpus" in done.stdout


def test_folders_are_used_with_a_warning_where_there_are_no_locks(tmp_path: Path) -> None:
    pytest.importorskip("fastapi", reason="needs the extra 'serve'")
    done = python(HIDE + LOCK, tmp_path, TMPDIR=str(tmp_path))
    assert done.returncode == 0, done.stderr
    # A server removes no folder of which it cannot know whether another server uses it.
    assert done.stdout.split() == ["True", "False"]
    assert "start only one training in this folder" in done.stderr
    assert "start only one benchmark in this folder" in done.stderr


def test_a_lock_ends_with_its_file(tmp_path: Path) -> None:
    code = f"from separative.files import lock_file\nlock_file(open({str(tmp_path / 'lock')!r}, 'a'))"
    with (tmp_path / "lock").open("a") as file:
        lock_file(file)
        assert "BlockingIOError" in python(code, tmp_path).stderr
    assert python(code, tmp_path).returncode == 0


def test_paths_with_blanks_and_umlauts(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / FOLDER
    rng, time = np.random.default_rng(0), np.arange(4 * RATE) / RATE
    for name, pitch in {"Jörg Müller": 110, "Zoë": 190}.items():
        wave = sum(np.sin(2 * np.pi * pitch * k * time + rng.uniform(0, 6)) / k for k in range(1, 12))
        wave *= 0.05 * np.clip(np.sin(2 * np.pi * 3 * time) + 0.7, 0, 1)
        audio.write(folder / f"{name}.wav", wave.astype(np.float32), RATE)
    one, two = (str(folder / f"{name}.wav") for name in ("Jörg Müller", "Zoë"))
    assert main(["diarize", one, "--out", str(folder / "Ergebnis für Jörg"), "--format", "rttm,srt"]) == 0
    assert main(["embed", one, two, "--out", str(folder / "Vektoren.npz")]) == 0
    assert main(["separate", two, "--out", str(folder / "Sprecher – Zoë")]) == 0
    capfd.readouterr()
    assert main(["verify", one, two, "--json"]) in (0, 1)
    found = json.loads(capfd.readouterr().out)
    assert 0 <= found["probability"] <= 1
    pytest.importorskip("numkong", reason="needs the extra 'gallery'")
    with separative.Gallery(folder / "Galerie ä", separative.load_model()) as gallery:
        gallery.add("Jörg Müller", one)
        assert [speaker.name for speaker in gallery.list()] == ["Jörg Müller"]
