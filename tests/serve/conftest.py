"""A calibrated model with a card, and servers that stop with their tests."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from serve_helpers import RunningServer, Visitor, launch

from separative.model import SeparativeEncoder, load_model, save_model
from separative.serve import Limits

CALIBRATION = {"scale": 12.0, "offset": -6.0, "conditions": ["clean"], "seconds": 2.0, "speakers": 20}


@pytest.fixture(scope="session")
def saved(model: SeparativeEncoder, tmp_path_factory: pytest.TempPathFactory) -> SeparativeEncoder:
    return load_model(save_model(model, tmp_path_factory.mktemp("model"), calibration=CALIBRATION))


@pytest.fixture
def start_server(saved: SeparativeEncoder, tmp_path: Path) -> Iterator[Callable[..., RunningServer]]:
    running: list[RunningServer] = []

    def make(limits: Limits | None = None, **options: Any) -> RunningServer:
        running.append(RunningServer(saved, tmp_path / f"gallery{len(running)}", limits, **options))
        return running[-1]

    yield make
    for server in running:
        folder = server.service.scratch.folder
        server.stop()
        # A stopped server leaves no temporary files.
        assert not folder.exists()


@pytest.fixture(scope="module")
def server(saved: SeparativeEncoder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """One server for all tests of a file that do not change its gallery."""
    running = RunningServer(saved, tmp_path_factory.mktemp("serve") / "gallery")
    yield running
    running.stop()


@pytest.fixture(scope="module")
def playwright() -> Iterator[object]:
    # Not for the whole session: it keeps an event loop running, so asyncio.run would fail in other tests.
    from playwright.sync_api import sync_playwright

    with sync_playwright() as opened:
        yield opened


@pytest.fixture(scope="module")
def browser(playwright) -> Iterator[object]:
    opened = launch(playwright)
    yield opened
    opened.close()


@pytest.fixture
def visit(browser) -> Iterator[Callable[..., Visitor]]:
    visitors: list[Visitor] = []

    def open_page(url: str, **options: object) -> Visitor:
        visitors.append(Visitor(browser, url, **options))
        return visitors[-1]

    yield open_page
    for visitor in visitors:
        visitor.context.close()
        assert visitor.foreign_requests == []
