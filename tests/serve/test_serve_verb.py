"""The verb serve, as a process of its own."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import torch

from separative.cli import main
from separative.model import EncoderConfig, SeparativeEncoder, save_model


@pytest.fixture(scope="module")
def folder(model: SeparativeEncoder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(model, tmp_path_factory.mktemp("verb") / "model")


@contextmanager
def running(folder: Path, tmp_path: Path, *options: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """The address it prints, and the process."""
    (tmp_path / "temporary").mkdir()
    words = ["-m", "separative", "serve", str(tmp_path / "gallery"), "--model", str(folder), "--port", "0"]
    process = subprocess.Popen(
        [sys.executable, *words, *options],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"TMPDIR": str(tmp_path / "temporary")},
    )
    try:
        line = process.stderr.readline()
        yield re.search(r"http://\S+", line)[0], process
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_until_it_is_stopped_and_leaves_only_the_gallery(
    folder: Path, tmp_path: Path, record, stop: signal.Signals
) -> None:
    with running(folder, tmp_path, "--minutes", "2") as (address, process):
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/", address)
        assert "<title>separative" in httpx.get(address).text
        assert httpx.get(f"{address}api/about").json()["limits"]["minutes"] == 2
        sound = record("verb-serve.wav", 60.0, 30).read_bytes()
        held = httpx.post(f"{address}api/recordings", content=sound).json()
        httpx.post(f"{address}api/diarize", json={"recording": held["id"]})
        assert list((tmp_path / "temporary").rglob(held["id"]))
        process.send_signal(stop)
        assert process.wait(timeout=60) in (0, -stop)
    assert list((tmp_path / "temporary").iterdir()) == []
    assert (tmp_path / "gallery" / "gallery.sqlite").is_file()


def test_a_token_is_in_the_address_it_prints(folder: Path, tmp_path: Path) -> None:
    with running(folder, tmp_path, "--host", "localhost", "--token", "a b&c") as (address, _):
        assert address.endswith("/?token=a%20b%26c")
        assert httpx.get(address).status_code == 303
        assert httpx.get(address.partition("?")[0]).status_code == 401


def test_what_cannot_be_served_is_told_in_a_sentence(
    folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def told(*options: str) -> str:
        assert main(["serve", str(tmp_path / "gallery"), "--model", str(folder), *options]) == 2
        return capfd.readouterr().err

    assert "0.0.0.0 lets others in: give a token" in told("--host", "0.0.0.0")
    assert "minutes -1.0: a limit is above 0" in told("--minutes", "-1")
    torch.manual_seed(5)
    small = EncoderConfig(rate=8000, width=16, speaker_width=16, speaker_blocks=1, embedding=16)
    other = save_model(SeparativeEncoder(small), tmp_path / "other")
    with running(folder, tmp_path) as (address, _):
        port = address.rstrip("/").rpartition(":")[2]
        assert f"127.0.0.1:{port} cannot be listened on" in told("--port", port)
    assert main(["serve", str(tmp_path / "gallery"), "--model", str(other)]) == 2
    assert "was made with another model" in capfd.readouterr().err


def test_without_the_extra_it_is_named() -> None:
    code = (
        "import sys\n"
        "sys.modules['fastapi'] = None\n"
        "from separative.cli import main\n"
        "sys.exit(main(['serve', 'gallery']))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "a server needs an optional extra: pip install 'separative[serve]'" in done.stderr
