"""Voiceprints that a teacher made from clean speech, in a gallery of the model that it taught."""

from pathlib import Path

import numpy as np
import pytest
import torch
from gallery_helpers import SIZE

from separative.errors import GalleryError
from separative.gallery import Gallery
from separative.model import EncoderConfig, SeparativeEncoder, load_model, save_model
from separative.model.teacher import Teacher, TeacherVectors, space_record

TEACHER = Teacher(name="mine", licence="MIT", sha256="5f" * 32)
DIMENSION = 24
CLOSE = 1e-3  # the index stores one byte per dimension, and re-scores with float32


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> SeparativeEncoder:
    torch.manual_seed(0)
    sizes = {"width": 16, "shared_blocks": 1, "stream_blocks": 1, "speaker_width": 16, "speaker_blocks": 1}
    model = SeparativeEncoder(EncoderConfig(rate=8000, embedding=SIZE, teacher=DIMENSION, **sizes)).eval()
    model.space.fit(np.random.default_rng(0).normal(size=(100, DIMENSION)))
    card = {"space": space_record(TEACHER, model.space)}
    return load_model(save_model(model, tmp_path_factory.mktemp("student"), **card))


def voices(teacher: Teacher = TEACHER, names: tuple[str, ...] = ("ann", "bob", "eve")) -> TeacherVectors:
    rows = np.random.default_rng(1).normal(size=(len(names), DIMENSION))
    return TeacherVectors.from_rows(teacher, names, rows)


def test_voiceprints_are_found_by_the_projection_of_their_vectors(
    student: SeparativeEncoder, tmp_path: Path
) -> None:
    path = voices().save(tmp_path / "voices.npz")
    with Gallery(tmp_path / "gallery", student) as gallery:
        for _ in range(2):
            assert gallery.import_(path) == 3
        assert [(s.name, s.recordings) for s in gallery.list()] == [("ann", 1), ("bob", 1), ("eve", 1)]
        projected = student.space(torch.from_numpy(voices().vectors)).numpy()
        for number, name in enumerate(("ann", "bob", "eve")):
            (found, score), *others = gallery.search(projected[number])
            assert (found, score) == (name, pytest.approx(1, abs=CLOSE))
            assert all(other < 0.99 for _, other in others)


def test_voiceprints_of_another_space_are_refused(
    student: SeparativeEncoder, gallery: Gallery, tmp_path: Path
) -> None:
    path = voices().save(tmp_path / "voices.npz")
    with pytest.raises(GalleryError, match="the model of this gallery has no teacher"):
        gallery.import_(path)
    other = voices(TEACHER.model_copy(update={"sha256": "6a" * 32, "name": "theirs"}))
    with (
        Gallery(tmp_path / "taught", student) as taught,
        pytest.raises(GalleryError, match=r"the teacher 'theirs', but .* is in the space of 'mine'"),
    ):
        taught.import_(other.save(tmp_path / "theirs.npz"))


def test_all_voiceprints_are_imported_or_none(student: SeparativeEncoder, tmp_path: Path) -> None:
    path = voices(names=("ann", "two\nlines")).save(tmp_path / "voices.npz")
    with Gallery(tmp_path / "gallery", student) as gallery:
        with pytest.raises(GalleryError, match="is no name for a speaker"):
            gallery.import_(path)
        assert len(gallery) == 0
