"""A model with a card, and a gallery of it."""

from pathlib import Path

import pytest

from separative.gallery import Gallery
from separative.model import SeparativeEncoder, load_model, save_model


@pytest.fixture(scope="module")
def saved(model: SeparativeEncoder, tmp_path_factory: pytest.TempPathFactory) -> SeparativeEncoder:
    """With a card, as every model that is used."""
    return load_model(save_model(model, tmp_path_factory.mktemp("model")))


@pytest.fixture
def gallery(saved: SeparativeEncoder, tmp_path: Path) -> Gallery:
    with Gallery(tmp_path / "gallery", saved) as opened:
        yield opened
