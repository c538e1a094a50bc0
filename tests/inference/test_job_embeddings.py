"""The script of the second job, embeddings in a notebook, runs and gives the results it describes."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from separative.model.files import model_names

SCRIPT = Path(__file__).parents[2] / "docs" / "jobs" / "embeddings.py"


@pytest.mark.skipif("base" not in model_names(), reason="no model comes with this version")
def test_embeddings_of_a_folder_and_turns_of_a_recording(
    example_files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pandas", reason="needs pandas")
    monkeypatch.chdir(shutil.copytree(example_files, tmp_path / "here"))
    names: dict[str, Any] = {}
    exec(compile(SCRIPT.read_text(encoding="utf-8"), SCRIPT.name, "exec"), names)
    assert set(names["table"]["recording"]) == set(map(str, Path("speech").rglob("*.flac")))
    assert names["equal"] > names["different"]
    assert Path("turns.png").stat().st_size > 0
    assert set(names["turns"]["speaker"]) == {speaker.name for speaker in names["diarization"].speakers}
    assert names["excerpt"].seconds == 3.0 and names["ann"].name == "ann.wav"
