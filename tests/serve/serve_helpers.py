"""A server on a free port, a client that knows what to wait for, and a visitor with a browser."""

import socket
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import uvicorn

from separative.model import SeparativeEncoder
from separative.serve import Limits, create_app


class Running:
    """The application behind uvicorn in a thread, on a real socket."""

    def __init__(
        self, model: SeparativeEncoder, gallery: Path, limits: Limits | None = None, **options: Any
    ) -> None:
        self.app = create_app(model, gallery, limits, **options)
        self.service = self.app.state.service
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        config = uvicorn.Config(self.app, log_level="warning", timeout_graceful_shutdown=1)
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [self.socket]})
        self.thread.start()
        until(lambda: self.server.started)
        self.client = httpx.Client(base_url=self.url, timeout=60)

    def stop(self) -> None:
        self.client.close()
        self.server.should_exit = True
        self.thread.join(timeout=60)
        self.socket.close()
        assert not self.thread.is_alive()

    def upload(self, path: Path, name: str | None = None) -> str:
        answer = self.client.post(
            "/api/recordings", params={"name": name or path.name}, content=path.read_bytes()
        )
        assert answer.status_code == 201, answer.text
        return answer.json()["id"]

    def run(self, verb: str, **body: Any) -> dict[str, Any]:
        """Start a job and wait until it is over."""
        answer = self.client.post(f"/api/{verb}", json=body)
        assert answer.status_code == 202, answer.text
        return self.over(answer.json()["id"])

    def over(self, id_: str) -> dict[str, Any]:
        def look() -> dict[str, Any] | None:
            job = self.client.get(f"/api/jobs/{id_}").json()
            return job if job["state"] in ("done", "failed", "cancelled") else None

        return until(look)

    def files(self) -> list[Path]:
        """All that is temporary."""
        folder = self.service.scratch.folder
        return [path for path in folder.rglob("*") if path.is_file() and path.name != "lock"]


class Visitor:
    """A page, and all that its console complained of."""

    def __init__(self, browser, url: str, **options: object) -> None:
        self.context = browser.new_context(**options)
        self.page = self.context.new_page()
        self.page.set_default_timeout(60_000)
        self.complaints: list[str] = []
        self.page.on("console", lambda m: self.complaints.append(m.text) if m.type == "error" else None)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.foreign: list[str] = []
        self.home = url.partition("?")[0].rstrip("/")
        self.page.on("request", self._request)
        # Sounds are no elements of the page: kept hold of, to see what plays.
        self.page.add_init_script(
            "window.sounds = []; const Plain = window.Audio;"
            " window.Audio = function (source) { const s = new Plain(source); sounds.push(s); return s; };"
        )
        self.page.goto(url)
        self.page.locator("#about").filter(has_text="model").wait_for()

    def _request(self, request) -> None:
        if not request.url.startswith((self.home, "blob:")):
            self.foreign.append(request.url)

    def diarize(self, path: Path) -> None:
        # The lanes of an earlier recording are gone before the new ones come.
        self.page.set_input_files("#file", path)
        self.page.locator("#meeting").wait_for()

    def heard(self) -> list[int]:
        """Numbers of the sounds that play and can be heard."""
        return self.page.evaluate(
            "() => sounds.flatMap((s, i) => !s.paused && !s.muted && s.currentTime > 0 ? [i] : [])"
        )

    def text(self, selector: str) -> str:
        return self.page.locator(selector).first.inner_text()


def until(holds: Any, seconds: float = 60.0) -> Any:
    """Wait until something is true, and return it."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := holds():
            return found
        time.sleep(0.02)
    raise AssertionError("it did not come true")
