"""Export and import of galleries, conversion to another model, and folders that are not galleries."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from gallery_helpers import unit

from separative.errors import GalleryError
from separative.gallery import Gallery
from separative.gallery.store import FILE
from separative.inference import diarize
from separative.model import SeparativeEncoder, load_model, save_model


def test_importing_an_export_twice_adds_its_speakers_once(
    gallery: Gallery, saved: SeparativeEncoder, record, tmp_path: Path
) -> None:
    gallery.add("a", record("a.wav", 3.0, 1), metadata={"x": 1}, keep_audio=True, force=True)
    gallery.add("a", record("b.wav", 3.0, 2), force=True)
    gallery.add("b", record("c.wav", 3.0, 3), force=True)
    gallery.export(tmp_path / "out.json")
    with Gallery(tmp_path / "other", saved) as other:
        for _ in range(2):
            assert other.import_(tmp_path / "out.json") == 2
            assert other.list() == gallery.list()
        query = unit(1)[0]
        assert other.search(query) == [(n, pytest.approx(s, abs=1e-4)) for n, s in gallery.search(query)]
        assert other._store.recordings(1)[0].audio == record("a.wav", 3.0, 1).read_bytes()


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"format": 1, "model": "x", "speakers": []}'])
def test_a_file_that_is_not_an_export_is_refused(gallery: Gallery, tmp_path: Path, content: str) -> None:
    (tmp_path / "in.json").write_text(content)
    with pytest.raises(GalleryError, match=r"in\.json is (not )?an export of"):
        gallery.import_(tmp_path / "in.json")


def test_an_export_with_a_nameless_speaker_is_refused(gallery: Gallery, record, tmp_path: Path) -> None:
    gallery.add("a", record("a.wav", 3.0, 1), force=True)
    path = gallery.export(tmp_path / "out.json")
    content = json.loads(path.read_text())
    del content["speakers"][0]["name"]
    path.write_text(json.dumps(content))
    with pytest.raises(GalleryError, match="is not an export of a gallery"):
        gallery.import_(path)


def test_a_damaged_export_adds_no_speaker(gallery: Gallery, record, tmp_path: Path) -> None:
    gallery.add("a", record("a.wav", 3.0, 1), force=True)
    gallery.add("b", record("b.wav", 3.0, 2), force=True)
    path = gallery.export(tmp_path / "out.json")
    content = json.loads(path.read_text())
    del content["speakers"][1]["recordings"][0]["query"]
    path.write_text(json.dumps(content))
    gallery.remove("a", "b")
    with pytest.raises(GalleryError):
        gallery.import_(path)
    assert len(gallery) == 0


def test_another_model_is_refused_until_the_gallery_is_reembedded(
    gallery: Gallery, model: SeparativeEncoder, saved: SeparativeEncoder, record, tmp_path: Path
) -> None:
    with torch.no_grad():
        other = load_model(save_model(model, tmp_path / "first"))
        next(other.speaker.parameters()).mul_(1.5)
    other = load_model(save_model(other, tmp_path / "second"))
    gallery.add("a", record("a.wav", 3.0, 1), keep_audio=True, force=True, label="../ä" * 99)
    gallery.add("b", record("b.wav", 3.0, 2), force=True)
    with pytest.raises(GalleryError, match="was made with another model"):
        Gallery(gallery.folder, other)
    with pytest.raises(GalleryError, match=r"speaker 'b': the audio of b\.wav was not stored"):
        Gallery.reembed(gallery.folder, other)
    gallery.remove("b")
    before_E = gallery._store.embeddings([1])[1][0]

    def enrol_meanwhile(done: int, total: int) -> None:
        with Gallery(gallery.folder, saved) as another:
            another.add("c", record("c.wav", 3.0, 3), keep_audio=True, force=True)

    with pytest.raises(GalleryError, match="was changed by another process; nothing was written"):
        Gallery.reembed(gallery.folder, other, progress=enrol_meanwhile)
    assert [s.name for s in gallery.list()] == ["a", "c"]
    gallery.remove("c")
    with Gallery.reembed(gallery.folder, other) as reembedded:
        assert [s.name for s in reembedded.list()] == ["a"]
        speaker = diarize(other, record("a.wav", 3.0, 1)).speakers[0]
        assert reembedded.search(speaker.embedding)[0] == ("a", pytest.approx(1, abs=0.01))
        assert not np.allclose(reembedded._store.embeddings([1])[1][0], before_E)
    with pytest.raises(GalleryError, match="was made with another model"):
        Gallery(gallery.folder, saved)
    # A gallery that is still open with the old model is refused too.
    with pytest.raises(GalleryError, match="was made with another model"):
        gallery.search(speaker.embedding)
    with pytest.raises(GalleryError, match="was made with another model"):
        gallery.add("d", record("b.wav", 3.0, 2), force=True)


def test_a_folder_that_is_not_a_gallery_is_refused(saved: SeparativeEncoder, tmp_path: Path) -> None:
    with pytest.raises(GalleryError, match="no gallery at"):
        Gallery(tmp_path / "none", saved, create=False)
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(GalleryError, match="is not an empty folder"):
        Gallery(tmp_path, saved)
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / FILE).write_bytes(b"not a database at all" * 100)
    with pytest.raises(GalleryError, match="is not a readable gallery database"):
        Gallery(tmp_path / "bad", saved)
