"""From a results folder to the table and its page; nothing is trained or heard."""

from __future__ import annotations

from pathlib import Path

from separative.benchmark.folder import Folder
from separative.benchmark.tasks import Tell


def render(folder: Folder, tell: Tell = print) -> Path:
    return folder.root / "index.html"
