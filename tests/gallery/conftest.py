"""A model with a card, and an empty gallery of this model."""

from pathlib import Path

import pytest

from separative.gallery import Gallery
from separative.model import SeparativeEncoder, load_model, save_model


@pytest.fixture(scope="module")
def saved_folder(model: SeparativeEncoder, tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_model(model, tmp_path_factory.mktemp("model")))


@pytest.fixture(scope="module")
def saved(saved_folder: str) -> SeparativeEncoder:
    """The model with a card, as load_model returns it."""
    return load_model(saved_folder)


@pytest.fixture
def gallery(saved: SeparativeEncoder, tmp_path: Path) -> Gallery:
    with Gallery(tmp_path / "gallery", saved) as opened:
        yield opened
