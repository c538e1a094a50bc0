"""The page in Firefox, driven over its own remote protocol (Marionette)."""

import base64
import json
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from serve_helpers import SCREENSHOTS, RunningServer, until

FIREFOX = next((found for name in ("firefox-esr", "firefox") if (found := shutil.which(name))), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(FIREFOX is None, reason="needs Firefox (apt-get install firefox-esr)"),
]


class Firefox:
    """A Firefox without a window. A command is a JSON array with its length before it."""

    def __init__(self, profile: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        preferences = {"marionette.port": port, "media.autoplay.default": 0, "app.update.enabled": False}
        lines = [f'user_pref("{name}", {json.dumps(value)});' for name, value in preferences.items()]
        (profile / "user.js").write_text("\n".join(lines))
        self.process = subprocess.Popen(
            [FIREFOX, "--headless", "--marionette", "--remote-allow-system-access", "--profile", profile],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.connection = until(lambda: self._connect(port))
        self.connection.settimeout(60)
        self.count = 0
        self._receive()
        self.send("WebDriver:NewSession")

    @staticmethod
    def _connect(port: int) -> socket.socket | None:
        try:
            return socket.create_connection(("127.0.0.1", port), timeout=1)
        except OSError:
            return None

    def _receive(self) -> Any:
        length = b""
        while not length.endswith(b":"):
            length += self.connection.recv(1)
        content = b""
        while len(content) < int(length[:-1]):
            content += self.connection.recv(65536)
        return json.loads(content)

    def send(self, command: str, **parameters: object) -> Any:
        self.count += 1
        message = json.dumps([0, self.count, command, parameters])
        self.connection.sendall(f"{len(message)}:{message}".encode())
        _, _, error, result = self._receive()
        assert error is None, error
        return result.get("value", result) if isinstance(result, dict) else result

    def run(self, script: str, *arguments: object) -> Any:
        return self.send("WebDriver:ExecuteScript", script=script, args=list(arguments))

    def close(self) -> None:
        self.connection.close()
        self.process.terminate()
        self.process.wait(timeout=30)


@pytest.fixture
def firefox(tmp_path: Path) -> Iterator[Firefox]:
    profile = tmp_path / "profile"
    profile.mkdir()
    opened = Firefox(profile)
    yield opened
    opened.close()


def test_a_recording_is_diarized_played_and_corrected(
    server: RunningServer, firefox: Firefox, record
) -> None:
    firefox.send("WebDriver:Navigate", url=server.url)
    until(lambda: "model" in firefox.run("return document.getElementById('about').textContent"))
    # Errors of scripts are collected, because there is no console to read.
    firefox.run(
        "window.failures = []; addEventListener('error', event => failures.push(event.message));"
        "addEventListener('unhandledrejection', event => failures.push(String(event.reason)));"
    )
    content = base64.b64encode(record("page-fox.wav", 6.0, 21).read_bytes()).decode()
    firefox.run(
        "const data = Uint8Array.from(atob(arguments[0]), c => c.charCodeAt(0)), all = new DataTransfer();"
        "document.getElementById('speaker-count').value = '1';"
        "all.items.add(new File([data], 'page-fox.wav'));"
        "const input = document.getElementById('file'); input.files = all.files;"
        "input.dispatchEvent(new Event('change'));",
        content,
    )
    text = "return document.querySelector(arguments[0])?.textContent ?? ''"
    until(lambda: firefox.run(text, "#diarization-title") == "page-fox.wav")
    click = "document.querySelector(arguments[0]).click()"
    firefox.run(click, ".solo")
    firefox.run(click, ".play")
    until(lambda: firefox.run(text, ".clock").startswith("0:01"))
    firefox.run(click, ".play")
    assert firefox.run(text, ".play") == "Play"
    firefox.run(click, ".turn-row")
    firefox.run(
        "const choice = document.querySelector('.turn-tools select');"
        "choice.value = 'new'; choice.dispatchEvent(new Event('change'));"
    )
    until(lambda: "Undo (1)" in firefox.run(text, "#undo"))
    firefox.run(click, ".edit")
    assert firefox.run("return document.getElementById('speaker').open") is True
    picture = firefox.send("WebDriver:TakeScreenshot", full=True)
    SCREENSHOTS.mkdir(exist_ok=True)
    (SCREENSHOTS / "firefox.png").write_bytes(base64.b64decode(picture))
    assert firefox.run("return failures") == []
