"""A model with a card and a calibration, and servers that end with their tests."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from serve_helpers import Running

from separative.model import SeparativeEncoder, load_model, save_model
from separative.serve import Limits

CALIBRATION = {"scale": 12.0, "offset": -6.0, "conditions": ["clean"], "seconds": 2.0, "speakers": 20}


@pytest.fixture(scope="session")
def saved(model: SeparativeEncoder, tmp_path_factory: pytest.TempPathFactory) -> SeparativeEncoder:
    return load_model(save_model(model, tmp_path_factory.mktemp("model"), calibration=CALIBRATION))


@pytest.fixture
def start(saved: SeparativeEncoder, tmp_path: Path) -> Iterator[Callable[..., Running]]:
    running: list[Running] = []

    def make(limits: Limits | None = None, **options: Any) -> Running:
        running.append(Running(saved, tmp_path / f"gallery{len(running)}", limits, **options))
        return running[-1]

    yield make
    for server in running:
        folder = server.service.scratch.folder
        server.stop()
        # Whatever happened in between, nothing temporary is left.
        assert not folder.exists()


@pytest.fixture(scope="module")
def server(saved: SeparativeEncoder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One for all tests of a file that leave it as it was."""
    running = Running(saved, tmp_path_factory.mktemp("serve") / "gallery")
    yield running
    running.stop()
