"""Make the pictures of README and docs: ``.venv/bin/python docs/make_images.py``.

A conversation of two synthetic speakers is simulated and diarized with the shipped model. Its picture, the
HTML report of the same run, and the web page with its example go to ``docs/images``. Needs Chromium and the
extras ``voices``, ``serve`` and ``browser``.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from separative.cli import main

IMAGES = Path(__file__).parent / "images"


def run(*words: object) -> None:
    assert main([str(word) for word in words]) == 0, words


def shoot(page: Page, name: str, top: str) -> None:
    """A screenshot of the page for a desktop, and one in dark colours, from an element on, for a phone."""
    page.set_viewport_size({"width": 1280, "height": 900})
    page.screenshot(path=IMAGES / f"{name}.png", full_page=True)
    page.emulate_media(color_scheme="dark")
    page.set_viewport_size({"width": 390, "height": 900})
    page.locator(top).evaluate("element => element.scrollIntoView()")
    page.screenshot(path=IMAGES / f"{name}-phone.png")
    page.emulate_media(color_scheme="light")


def make(folder: Path) -> None:
    run(
        "corpus",
        "speak",
        folder / "speech",
        "--speakers",
        6,
        "--utterances",
        12,
        "--dev-speakers",
        3,
        "--seed",
        3,
    )
    conversation = ("--speakers", 2, "--minutes", 0.7, "--overlap", 0.2, "--seed", 6, "--out", folder)
    run("converse", "--corpus", folder / "speech", *conversation)
    recording = (folder / "0000.wav").rename(folder / "meeting.wav")
    run("diarize", recording, "--out", folder / "diarized")
    IMAGES.mkdir(exist_ok=True)
    (IMAGES / "conversation.png").write_bytes((folder / "diarized" / "meeting.png").read_bytes())
    words = [sys.executable, "-m", "separative", "serve", str(folder / "gallery"), "--port", "0"]
    server = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
    try:
        assert server.stderr is not None
        found = re.search(r"http://\S+", server.stderr.readline())
        assert found is not None
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
            page = browser.new_page()
            page.goto(found[0])
            page.click("#example")
            page.locator("#diarization-title").filter(has_text="Example").wait_for(timeout=120_000)
            for speaker, name in (("Speaker 1", "Ann"), ("Speaker 2", "Ben")):
                page.get_by_role("button", name=f"Edit {speaker}").click()
                page.fill("#speaker-name", name)
                page.get_by_role("button", name="Use this name").click()
                page.locator(".lane-name").filter(has_text=name).wait_for()
            page.locator(".turn-row").nth(3).click()
            shoot(page, "page", "#diarization-title")
            page.goto((folder / "diarized" / "meeting.html").as_uri())
            shoot(page, "report", "h1")
            browser.close()
    finally:
        server.terminate()
        server.wait(30)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        make(Path(temporary))
