"""The new code on the page for users of other libraries runs, and gives what the page says."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

PAGE = Path(__file__).parents[1] / "docs" / "coming-from.md"
SECTIONS = re.split(r"^## (.+)$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
BY_LIBRARY = dict(zip(SECTIONS[1::2], SECTIONS[2::2], strict=True))


def code(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def run(library: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Run the new code of a section after that at the top of the page; returns its variables."""
    monkeypatch.chdir(folder)
    names: dict[str, Any] = {}
    for block in code(SECTIONS[0], "python") + code(BY_LIBRARY[library], "python"):
        exec(compile(block, library, "exec"), names)
    return names


def test_every_old_example_has_a_new_one() -> None:
    assert len(BY_LIBRARY) == 4
    for section in BY_LIBRARY.values():
        assert re.findall(r"^```(py|python)$", section, re.MULTILINE) == ["py", "python"] * (
            section.count("\n**")
        )


def test_old_examples_are_python() -> None:
    for section in BY_LIBRARY.values():
        for block in code(section, "py"):
            compile(block, "old", "exec")


def test_pyannote(example_files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = run("pyannote.audio", example_files, monkeypatch)
    labels = names["annotation"].labels()
    assert labels and set(names["one_at_a_time"].labels()) <= set(labels)
    assert names["recording"].seconds == 3.0


def test_speechbrain(example_files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = run("SpeechBrain", example_files, monkeypatch)
    assert names["same"] is (names["probability"] > 0.5) and names["score"] < 1
    assert [len(embedding) for embedding in names["embeddings"]] == [128, 128]
    assert len(names["sources"]) == 2


def test_resemblyzer(example_files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = run("Resemblyzer", example_files, monkeypatch)
    assert np.linalg.norm(names["several"]) == pytest.approx(1, abs=1e-5)
    assert names["similarity"] > 0.8
    assert Path(names["recording"].name).suffix == ".flac"


def test_wespeaker(example_files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("numkong", reason="needs the extra 'gallery'")
    names = run("WeSpeaker", example_files, monkeypatch)
    assert names["result"]["speaker"].nunique() >= 1
    assert -1 <= names["similarity"] <= 1
