"""TensorBoard events of a run: curves, figures, audio and embeddings; and runs without TensorBoard."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from separative.corpora.manifest import Corpus
from separative.training import Recipe, train
from separative.training.events import EventLog, ValidationView

accumulators = pytest.importorskip(
    "tensorboard.backend.event_processing.event_accumulator", reason="needs the extra 'tensorboard'"
)


def test_a_run_has_curves_figures_audio_and_embeddings(
    recipe: Callable[..., Recipe], corpus: Corpus, cache: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    train(recipe(run={"log_every": 20}), corpus=corpus, out=out, cache=cache, steps=2, device="cpu")
    events = accumulators.EventAccumulator(str(out / "tensorboard"))
    events.Reload()
    tags = events.Tags()
    assert {"loss", "valid/eer_clean", "valid/si_sdri_db"} <= set(tags["scalars"])
    assert tags["images"] == ["valid/spectrograms", "valid/scores"]
    assert tags["audio"] == ["valid/mixture", "valid/stream_0", "valid/stream_1"]
    log = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    (first,) = events.Scalars("loss")
    assert (first.step, first.value) == (1, pytest.approx(log[0]["loss"], rel=1e-5))
    (names,) = (out / "tensorboard").rglob("metadata.tsv")
    assert sorted(names.read_text().split()) == ["t10", "t8", "t9"]


def test_streams_keep_their_level_relative_to_the_mixture(tmp_path: Path) -> None:
    tone = np.sin(np.arange(8000)).astype(np.float32)
    view = ValidationView(8000, 4 * tone, np.stack([3 * tone, tone]), ("ann",), np.ones((1, 4)), {})
    events = EventLog(tmp_path, None)
    events.add_validation(7, view)
    events.close()
    found = accumulators.EventAccumulator(str(tmp_path))
    found.Reload()
    peaks = []
    for name in ("mixture", "stream_0", "stream_1"):
        (sound,) = found.Audio(f"valid/{name}")
        assert (sound.step, sound.sample_rate) == (7, 8000)
        peaks.append(np.abs(np.frombuffer(sound.encoded_audio_string[44:], np.int16)).max())
    assert np.array(peaks) / peaks[0] == pytest.approx([1, 0.75, 0.25], abs=1e-3)


def test_without_tensorboard_the_log_is_complete(
    recipe: Callable[..., Recipe],
    corpus: Corpus,
    cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # An entry of None makes the import fail, as if the package was not installed.
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    out = train(
        recipe(), corpus=corpus.split("train"), out=tmp_path / "run", cache=cache, steps=2, device="cpu"
    )
    assert not (out / "tensorboard").exists()
    assert len((out / "log.jsonl").read_text().splitlines()) == 2
