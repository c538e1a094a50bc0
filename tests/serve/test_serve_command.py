"""The command serve in its own process."""

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
    """Start the command; yields the URL that it prints, and the process."""
    (tmp_path / "temporary").mkdir()
    command = ["-m", "separative", "serve", str(tmp_path / "gallery"), "--model", str(folder), "--port", "0"]
    process = subprocess.Popen(
        [sys.executable, *command, *options],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"TMPDIR": str(tmp_path / "temporary")},
    )
    try:
        line = process.stderr.readline()
        yield re.search(r"https?://\S+", line)[0], process
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_server_leaves_only_the_gallery(
    folder: Path, tmp_path: Path, record, stop: signal.Signals
) -> None:
    with running(folder, tmp_path, "--minutes", "2") as (url, process):
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/", url)
        assert "<title>separative" in httpx.get(url).text
        assert httpx.get(f"{url}api/about").json()["limits"]["minutes"] == 2
        content = record("verb-serve.wav", 60.0, 30).read_bytes()
        uploaded = httpx.post(f"{url}api/recordings", content=content).json()
        httpx.post(f"{url}api/diarize", json={"recording": uploaded["id"]})
        assert list((tmp_path / "temporary").rglob(uploaded["id"]))
        process.send_signal(stop)
        assert process.wait(timeout=300) in (0, -stop)
    assert list((tmp_path / "temporary").iterdir()) == []
    assert (tmp_path / "gallery" / "gallery.sqlite").is_file()


def test_the_printed_url_contains_the_token(folder: Path, tmp_path: Path) -> None:
    with running(folder, tmp_path, "--host", "localhost", "--token", "a b&c") as (url, _):
        assert url.endswith("/?token=a%20b%26c")
        assert httpx.get(url).status_code == 303
        assert httpx.get(url.partition("?")[0]).status_code == 401


def test_the_printed_url_is_the_public_one(folder: Path, tmp_path: Path) -> None:
    options = ("--public-url", "https://voices.example.org/speech", "--token", "x")
    with running(folder, tmp_path, *options) as (url, _):
        assert url == "https://voices.example.org/speech/?token=x"


def test_invalid_options_give_a_message(
    folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def error(*options: str) -> str:
        assert main(["serve", str(tmp_path / "gallery"), "--model", str(folder), *options]) == 2
        return capfd.readouterr().err

    assert "0.0.0.0 can be reached by other machines; set a token" in error("--host", "0.0.0.0")
    assert "minutes is -1.0; a limit must be above 0" in error("--minutes", "-1")
    assert "the public URL 'voices' must be like https://" in error("--public-url", "voices")
    assert "the root path '/a b' must be like /speech" in error("--root-path", "/a b")
    torch.manual_seed(5)
    small = EncoderConfig(rate=8000, width=16, speaker_width=16, speaker_blocks=1, embedding=16)
    other = save_model(SeparativeEncoder(small), tmp_path / "other")
    with running(folder, tmp_path) as (url, _):
        port = url.rstrip("/").rpartition(":")[2]
        assert f"cannot listen on 127.0.0.1:{port}" in error("--port", port)
    assert main(["serve", str(tmp_path / "gallery"), "--model", str(other)]) == 2
    assert "was made with another model" in capfd.readouterr().err


def test_a_missing_extra_is_named() -> None:
    code = (
        "import sys\n"
        "sys.modules['fastapi'] = None\n"
        "from separative.cli import main\n"
        "sys.exit(main(['serve', 'gallery']))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "a server needs an optional extra: pip install 'separative[serve]'" in done.stderr
