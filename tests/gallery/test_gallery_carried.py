"""Galleries on other disks and with other models: exports, recordings heard again, what is no gallery."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from gallery_helpers import unit

from separative.errors import GalleryError
from separative.gallery import Gallery
from separative.gallery.store import FILE, EnrolledRecording, Rows
from separative.inference import diarize
from separative.model import SeparativeEncoder, load_model, save_model


def test_an_export_is_taken_in_again_once(
    gallery: Gallery, saved: SeparativeEncoder, record, tmp_path: Path
) -> None:
    gallery.add("a", record("a.wav", 3.0, 1), metadata={"x": 1}, keep_sound=True, force=True)
    gallery.add("a", record("b.wav", 3.0, 2), force=True)
    gallery.add("b", record("c.wav", 3.0, 3), force=True)
    gallery.export(tmp_path / "out.json")
    with Gallery(tmp_path / "other", saved) as other:
        for _ in range(2):
            assert other.import_(tmp_path / "out.json") == 2
            assert other.list() == gallery.list()
        query = unit(1)[0]
        assert other.find(query) == [(n, pytest.approx(s, abs=1e-4)) for n, s in gallery.find(query)]
        assert other._rows.recordings(1)[0].sound == record("a.wav", 3.0, 1).read_bytes()


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"format": 1, "model": "x", "speakers": []}'])
def test_what_is_no_export_is_refused(gallery: Gallery, tmp_path: Path, content: str) -> None:
    (tmp_path / "in.json").write_text(content)
    with pytest.raises(GalleryError, match=r"in\.json is (no|an) export of"):
        gallery.import_(tmp_path / "in.json")


def test_a_speaker_without_a_name_is_not_taken_in(gallery: Gallery, record, tmp_path: Path) -> None:
    gallery.add("a", record("a.wav", 3.0, 1), force=True)
    path = gallery.export(tmp_path / "out.json")
    content = json.loads(path.read_text())
    del content["speakers"][0]["name"]
    path.write_text(json.dumps(content))
    with pytest.raises(GalleryError, match="is no export of a gallery"):
        gallery.import_(path)


def test_half_of_an_export_is_not_taken_in(gallery: Gallery, record, tmp_path: Path) -> None:
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


def test_another_model_is_refused_until_sounds_are_heard_again(
    gallery: Gallery, model: SeparativeEncoder, saved: SeparativeEncoder, record, tmp_path: Path
) -> None:
    with torch.no_grad():
        other = load_model(save_model(model, tmp_path / "first"))
        next(other.speaker.parameters()).mul_(1.5)
    other = load_model(save_model(other, tmp_path / "second"))
    gallery.add("a", record("a.wav", 3.0, 1), keep_sound=True, force=True, label="../ä" * 99)
    gallery.add("b", record("b.wav", 3.0, 2), force=True)
    with pytest.raises(GalleryError, match="was made with another model"):
        Gallery(gallery.folder, other)
    with pytest.raises(GalleryError, match=r"the sound of b\.wav \('b'\) was not kept"):
        Gallery.reembed(gallery.folder, other)
    gallery.remove("b")
    before = gallery._rows.embeddings([1])[1][0]

    def meanwhile(done: int, total: int) -> None:
        with Gallery(gallery.folder, saved) as another:
            another.add("c", record("c.wav", 3.0, 3), keep_sound=True, force=True)

    with pytest.raises(GalleryError, match="was changed meanwhile: it stays as it is now"):
        Gallery.reembed(gallery.folder, other, progress=meanwhile)
    assert [t.name for t in gallery.list()] == ["a", "c"]
    gallery.remove("c")
    with Gallery.reembed(gallery.folder, other) as again:
        assert [t.name for t in again.list()] == ["a"]
        speaker = diarize(other, record("a.wav", 3.0, 1)).speakers[0]
        assert again.find(speaker.embedding_E)[0] == ("a", pytest.approx(1, abs=0.01))
        assert not np.allclose(again._rows.embeddings([1])[1][0], before)
    with pytest.raises(GalleryError, match="was made with another model"):
        Gallery(gallery.folder, saved)
    # Nor does one that was open all the while go on with the old model.
    with pytest.raises(GalleryError, match="was made with another model"):
        gallery.find(speaker.embedding_E)
    with pytest.raises(GalleryError, match="was made with another model"):
        gallery.add("d", record("b.wav", 3.0, 2), force=True)


def test_what_is_no_gallery_is_refused(saved: SeparativeEncoder, tmp_path: Path) -> None:
    with pytest.raises(GalleryError, match="no gallery at"):
        Gallery(tmp_path / "none", saved, create=False)
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(GalleryError, match="holds something else"):
        Gallery(tmp_path, saved)
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / FILE).write_bytes(b"not a database at all" * 100)
    with pytest.raises(GalleryError, match="is no gallery that can be read"):
        Gallery(tmp_path / "bad", saved)


def test_a_full_disk_loses_nothing(tmp_path: Path) -> None:
    rows = Rows(tmp_path / "g", model="m", size=16)
    row = unit(1)[0]
    rows.put_speaker("a", row)
    rows.db.execute("PRAGMA max_page_count=12")
    big = EnrolledRecording("x", "h", 1.0, row, np.zeros((9000, 16), np.float32), np.zeros(9000, np.float32))
    with pytest.raises(GalleryError, match=r"nothing was written .*full"), rows.writing():
        rows.put_recording(rows.put_speaker("b", row), big)
    assert rows.names() == ["a"] and rows.fact("change") == "1"
    rows.close()
