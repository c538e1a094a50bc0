"""A server on a free port with an HTTP client, and a browser page."""

import json
import os
import shutil
import socket
import threading
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from separative.model import SeparativeEncoder
from separative.serve import Limits, create_app
from separative.serve.protocol import Connection

CHROMIUM = next((found for name in ("chromium", "chromium-browser") if (found := shutil.which(name))), None)
needs_browser = pytest.mark.skipif(
    CHROMIUM is None or find_spec("playwright") is None,
    reason="needs Chromium (apt-get install chromium) and the package playwright (extra browser)",
)
# Screenshots of the page, to look at; git ignores the folder.
SCREENSHOTS = Path(__file__).parents[2] / "screenshots"


def launch(playwright, *arguments: str):
    root = ["--no-sandbox"] if os.geteuid() == 0 else []
    return playwright.chromium.launch(executable_path=CHROMIUM, args=[*root, *arguments])


class RunningServer:
    """The application behind uvicorn in a thread, on a real socket."""

    def __init__(
        self, model: SeparativeEncoder, gallery: Path, limits: Limits | None = None, **options: Any
    ) -> None:
        self.app = create_app(model, gallery, limits, **options)
        self.service = self.app.state.service
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        config = uvicorn.Config(self.app, log_level="warning", timeout_graceful_shutdown=1, http=Connection)
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [self.socket]})
        self.thread.start()
        until(lambda: self.server.started)
        self.client = httpx.Client(base_url=self.url, timeout=60)

    def connect(self, data: bytes = b"") -> socket.socket:
        """A raw connection that has sent some bytes."""
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=60)
        connection.sendall(data)
        return connection

    def stop(self) -> None:
        self.client.close()
        self.server.should_exit = True
        self.thread.join(timeout=60)
        self.socket.close()
        assert not self.thread.is_alive()

    def upload(self, path: Path, name: str | None = None) -> str:
        response = self.client.post(
            "/api/recordings", params={"name": name or path.name}, content=path.read_bytes()
        )
        assert response.status_code == 201, response.text
        return response.json()["id"]

    def run(self, path: str, **body: Any) -> dict[str, Any]:
        """Start a job and wait until it is finished."""
        response = self.client.post(f"/api/{path}", json=body)
        assert response.status_code == 202, response.text
        return self.wait_for_job(response.json()["id"])

    def wait_for_job(self, id_: str) -> dict[str, Any]:
        def finished_job() -> dict[str, Any] | None:
            job = self.client.get(f"/api/jobs/{id_}").json()
            return job if job["state"] in ("done", "failed", "cancelled") else None

        return until(finished_job)

    def temporary_files(self) -> list[Path]:
        """All temporary files of the server, except its lock."""
        folder = self.service.scratch.folder
        return [path for path in folder.rglob("*") if path.is_file() and path.name != "lock"]


class Visitor:
    """A browser page, with the errors on its console and its requests to other servers."""

    def __init__(self, browser, url: str, ready: str = "#about:has-text('model')", **options: object) -> None:
        self.context = browser.new_context(**options)
        self.page = self.context.new_page()
        self.page.set_default_timeout(60_000)
        self.console_errors: list[str] = []
        self.page.on("console", lambda m: self.console_errors.append(m.text) if m.type == "error" else None)
        self.page.on("pageerror", lambda error: self.console_errors.append(str(error)))
        self.foreign_requests: list[str] = []
        self.origin = url.partition("?")[0].rstrip("/")
        self.page.on("request", self._request)
        # The audio elements are not part of the document. Collect them, to see which of them play.
        self.page.add_init_script(
            "window.audioElements = []; const OriginalAudio = window.Audio;"
            " window.Audio = function (source) {"
            " const element = new OriginalAudio(source); audioElements.push(element); return element; };"
        )
        self.page.goto(url)
        self.page.locator(ready).wait_for()

    def _request(self, request) -> None:
        if not request.url.startswith((self.origin, "blob:")):
            self.foreign_requests.append(request.url)

    def diarize(self, path: Path) -> None:
        """Upload a recording and wait until its result is shown."""
        results = self.page.locator(".queued .open:visible")
        count = results.count()
        self.page.set_input_files("#file", path)
        results.nth(count).wait_for()
        self.page.locator("#diarization").wait_for()

    def enrol(self, lane: str, name: str) -> None:
        """Enrol the speaker of a lane in the dialog."""
        self.page.get_by_role("button", name=f"Edit {lane}", exact=True).click()
        self.page.fill("#speaker-name", name)
        self.page.click("#speaker-enrol")
        self.page.locator("#speaker-message").filter(has_text="enrolled").wait_for()
        self.page.click("#speaker-close")

    def audible(self) -> list[int]:
        """Numbers of the audio elements that play and are not muted; 0 is the recording."""
        return self.page.evaluate(
            "() => audioElements.flatMap((e, i) => !e.paused && !e.muted && e.currentTime > 0 ? [i] : [])"
        )

    def text(self, selector: str) -> str:
        return self.page.locator(selector).first.inner_text()


def answer(connection: socket.socket) -> tuple[int, dict[str, str], dict[str, Any]]:
    """Status, headers and JSON body that a raw connection receives before it is closed."""
    received = b""
    while part := connection.recv(65536):
        received += part
    head, _, body = received.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    assert headers["content-type"].startswith("application/json"), received
    return int(first.split()[1]), headers, json.loads(body)


def until(condition: Any, seconds: float = 60.0) -> Any:
    """Wait until a function returns a true value, and return the value."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.02)
    raise AssertionError(f"the condition was not true within {seconds:g} s")
