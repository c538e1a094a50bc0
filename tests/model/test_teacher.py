"""Files of a teacher's vectors, and the space that they are projected into."""

from pathlib import Path

import numpy as np
import pytest
import torch

from separative.errors import ModelError, SeparativeError
from separative.model import EncoderConfig, SeparativeEncoder, average_models, load_model, save_model
from separative.model.teacher import Teacher, TeacherSpace, TeacherVectors, space_record

TEACHER = Teacher(name="mine", licence="MIT", sha256="5f" * 32)
OTHER = TEACHER.model_copy(update={"sha256": "6a" * 32, "name": "theirs"})
CLOSE = 1e-5  # float32


def drawn(count: int = 60, size: int = 12, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, size)) * np.linspace(3, 0.1, size) + 2.0


def vectors() -> TeacherVectors:
    rows = drawn()
    return TeacherVectors.from_rows(TEACHER, [f"u{i}" for i in range(len(rows))], rows)


@pytest.mark.parametrize("suffix", ["npz", "parquet"])
def test_file_holds_teacher_ids_and_unit_vectors(suffix: str, tmp_path: Path) -> None:
    if suffix == "parquet":
        pytest.importorskip("pyarrow")
    made = vectors()
    loaded = TeacherVectors.load(made.save(tmp_path / f"vectors.{suffix}"))
    assert (loaded.teacher, loaded.ids) == (TEACHER, made.ids)
    assert np.array_equal(loaded.vectors, made.vectors)
    assert loaded.sha256 == made.sha256
    assert np.allclose(np.linalg.norm(loaded.vectors, axis=1), 1, atol=CLOSE)


def test_file_of_somebody_else_needs_a_teacher(tmp_path: Path) -> None:
    path = tmp_path / "plain.npz"
    np.savez(path, ids=np.array(["a", "b"]), vectors=np.eye(2))
    with pytest.raises(ModelError, match="does not name its teacher"):
        TeacherVectors.load(path)
    assert TeacherVectors.load(path, TEACHER).ids == ("a", "b")
    with pytest.raises(ModelError, match="was made by the teacher 'mine', not by 'theirs'"):
        TeacherVectors.load(vectors().save(tmp_path / "mine.npz"), OTHER)


@pytest.mark.parametrize(
    ("ids", "rows", "message"),
    [
        (["a", "a"], np.eye(2), "duplicate id 'a'"),
        (["a"], np.eye(2), r"floats \[1 ids, dimension\]"),
        (["a", "b"], np.array([[1.0, 0.0], [0.0, 0.0]]), "vector of 'b' is zero or not finite"),
        (["a", "b"], np.array([[np.nan, 0.0], [0.0, 1.0]]), "vector of 'a' is zero or not finite"),
        (["a"], np.ones((1, 9000)), "at most 8192"),
    ],
)
def test_wrong_vectors_are_an_error(ids: list[str], rows: np.ndarray, message: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "wrong.npz", ids=np.array(ids), vectors=rows)
    with pytest.raises(ModelError, match=message):
        TeacherVectors.load(tmp_path / "wrong.npz", TEACHER)


@pytest.mark.parametrize(
    "name", ["none.npz", "none.parquet", "text.npz", "text.parquet", "cut.npz", "pickle.npz"]
)
def test_damaged_file_is_one_clear_sentence(name: str, tmp_path: Path) -> None:
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow")
    path = tmp_path / name
    if name.startswith("text"):
        path.write_text("not vectors")
    elif name.startswith("cut"):
        path.write_bytes(vectors().save(tmp_path / "whole.npz").read_bytes()[:1000])
    elif name.startswith("pickle"):
        np.savez(path, ids=np.array([object()]), vectors=np.eye(1))
    with pytest.raises(ModelError, match=name) as error:
        TeacherVectors.load(path, TEACHER)
    assert "\n" not in str(error.value)


def test_space_keeps_the_directions_of_the_largest_variance() -> None:
    rows = drawn()
    space = TeacherSpace(12, 4)
    space.fit(rows)
    found = ((torch.from_numpy(rows).float() - space.mean_T) @ space.axis_TE).numpy()
    assert np.allclose(found.mean(0), 0, atol=1e-4)
    # Independent: the axes are the right singular vectors, and the variances their squared singular values.
    singular = np.linalg.svd(rows - rows.mean(0), compute_uv=False)
    assert np.allclose((found**2).sum(0), singular[:4] ** 2, rtol=1e-4)
    gram = (space.axis_TE.T @ space.axis_TE).numpy()
    assert np.allclose(gram, np.eye(4), atol=CLOSE)


def test_weights_are_repetitions() -> None:
    rows, repeats = drawn(), np.arange(60) % 3 + 1
    weighted, repeated = TeacherSpace(12, 4), TeacherSpace(12, 4)
    weighted.fit(rows, repeats.astype(float))
    repeated.fit(np.repeat(rows, repeats, axis=0))
    assert torch.allclose(weighted(torch.ones(12)), repeated(torch.ones(12)), atol=1e-4)


def test_complete_projection_keeps_cosines_of_centred_vectors() -> None:
    rows = drawn()
    space = TeacherSpace(12, 12)
    space.fit(rows)
    ours = space(torch.from_numpy(rows)).numpy()
    centred = rows - rows.mean(0)
    centred /= np.linalg.norm(centred, axis=1, keepdims=True)
    assert np.allclose(ours @ ours.T, centred @ centred.T, atol=1e-4)


def student(size: int = 12, seed: int = 0) -> SeparativeEncoder:
    torch.manual_seed(seed)
    sizes = {"width": 8, "heads": 2, "shared_blocks": 1, "stream_blocks": 1, "speaker_width": 8, "mels": 16}
    model = SeparativeEncoder(EncoderConfig(rate=8000, embedding=8, teacher=size, **sizes)).eval()
    model.space.fit(drawn(size=size, seed=seed))
    model.card = {"space": space_record(TEACHER, model.space)}
    return model


def test_model_is_saved_with_its_space(tmp_path: Path) -> None:
    model = student()
    save_model(model, tmp_path / "student", half=True, **model.card)
    loaded = load_model(tmp_path / "student")
    assert loaded.space.sha256 == model.space.sha256 == loaded.card["space"]["projection"]
    assert loaded.card["space"]["name"] == "mine"
    assert loaded.card["architecture"]["teacher"] == 12


def test_models_in_different_spaces_are_not_averaged() -> None:
    ours, theirs = student(), student(seed=1)
    with pytest.raises(ModelError, match="spaces of different teachers"):
        average_models([ours, theirs])
    assert average_models([ours, ours]).space.sha256 == ours.space.sha256


def test_embeddings_cannot_be_larger_than_vectors() -> None:
    with pytest.raises((SeparativeError, ValueError), match="cannot teach embeddings of 8"):
        student(size=6)
