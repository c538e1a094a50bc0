"""Vectors of a teacher: their file, and the space in which a student's embeddings are comparable with them.

A teacher is any encoder of clean speech. Its vectors are global speaker vectors (method, section 8). They are
centred and projected on their principal axes, because a model's embedding may be smaller than a vector.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor, nn
from torch.nn import functional as F

from separative.errors import MissingExtraError, ModelError, validation_message
from separative.files import atomic_path, parse_json
from separative.types import Floats

# The largest size of a teacher's vectors.
MAX_DIMENSION = 8192


class Teacher(BaseModel):
    """What identifies a teacher.

    Attributes:
        name: name and version.
        licence: licence of its weights.
        sha256: SHA-256 of its weights. Vectors of different teachers cannot be compared.

    >>> Teacher(name="CAM++", licence="Apache-2.0", sha256="5f" * 32).name
    'CAM++'
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1, max_length=200)
    licence: str = Field(min_length=1, max_length=200)
    sha256: str = Field(pattern="^[0-9a-f]{64}$")


@dataclass(frozen=True, eq=False)
class TeacherVectors:
    """Vectors of a teacher by id.

    Attributes:
        teacher: what made them.
        ids: unique name of each vector: the id of an utterance, or the name of a speaker.
        vectors: float32 [R,T], unit norm.

    >>> teacher = Teacher(name="mine", licence="MIT", sha256="5f" * 32)
    >>> vectors = TeacherVectors.from_rows(teacher, ["ann", "bob"], 2 * np.eye(2))
    >>> vectors.vectors.tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    >>> _ = vectors.save("vectors.npz")
    >>> TeacherVectors.load("vectors.npz").ids
    ('ann', 'bob')
    """

    teacher: Teacher
    ids: tuple[str, ...]
    vectors: Floats

    @staticmethod
    def from_rows(teacher: Teacher, ids: Any, vectors: Any, where: str | Path = "vectors") -> TeacherVectors:
        """Check ids and vectors, and scale the vectors to unit norm.

        Args:
            teacher: what made the vectors.
            ids: R different texts.
            vectors: floats [R,T].
            where: the file, for error messages.

        Raises:
            ModelError: wrong shapes, duplicate ids, or a vector that is zero or not finite.
        """
        names = [str(name) for name in ids]
        row_RT = np.asarray(vectors)
        if row_RT.ndim != 2 or row_RT.dtype.kind != "f" or row_RT.shape[0] != len(names) or not row_RT.size:
            raise ModelError(
                f"{where}: the vectors must be floats [{len(names)} ids, dimension], not {row_RT.dtype}"
                f" {list(row_RT.shape)}"
            )
        if row_RT.shape[1] > MAX_DIMENSION:
            raise ModelError(f"{where}: vectors of {row_RT.shape[1]} values; at most {MAX_DIMENSION}")
        if len(set(names)) < len(names):
            seen: set[str] = set()
            twin = next(name for name in names if name in seen or seen.add(name))  # type: ignore[func-returns-value]
            raise ModelError(f"{where}: duplicate id '{twin}'; every vector needs an id of its own")
        with np.errstate(over="ignore"):
            length_R = np.linalg.norm(row_RT.astype(np.float64), axis=1)
        if not (np.isfinite(length_R).all() and length_R.all()):
            wrong = names[int(np.argmin(np.isfinite(length_R) & (length_R > 0)))]
            raise ModelError(f"{where}: the vector of '{wrong}' is zero or not finite")
        return TeacherVectors(teacher, tuple(names), (row_RT / length_R[:, None]).astype(np.float32))

    @property
    def dimension(self) -> int:
        """Size T of a vector."""
        return int(self.vectors.shape[1])

    @property
    def sha256(self) -> str:
        """SHA-256 of teacher, ids and vectors."""
        digest = hashlib.sha256(self.teacher.model_dump_json().encode())
        digest.update("\0".join(self.ids).encode("utf-8", "surrogatepass"))
        digest.update(self.vectors.tobytes())
        return digest.hexdigest()

    def save(self, path: str | Path) -> Path:
        """Write an ``.npz`` (``ids``, ``vectors``, ``teacher``) or, by its suffix, a Parquet file.

        A Parquet file has the columns ``id`` and ``vector``, and the teacher in its metadata.

        Raises:
            MissingExtraError: Parquet, and pyarrow is not installed.
        """
        path, record = Path(path), self.teacher.model_dump_json()
        if path.suffix == ".parquet":
            pyarrow, parquet = _import_parquet()
            table = pyarrow.table({"id": list(self.ids), "vector": list(self.vectors)})
            with atomic_path(path) as temporary:
                parquet.write_table(table.replace_schema_metadata({"teacher": record}), temporary)
            return path
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.savez(file, ids=np.array(self.ids, np.str_), vectors=self.vectors, teacher=np.array(record))
        return path

    @staticmethod
    def load(path: str | Path, teacher: Teacher | None = None) -> TeacherVectors:
        """Read a file that :meth:`save` wrote, or one without a teacher if ``teacher`` is given.

        Raises:
            ModelError: the file is missing, damaged or of another form, or names another teacher.
            MissingExtraError: Parquet, and pyarrow is not installed.
        """
        path = Path(path)
        try:
            record, ids, vectors = (_read_parquet if path.suffix == ".parquet" else _read_npz)(path)
        except (MissingExtraError, ModelError):
            raise
        except OSError as error:
            raise ModelError(f"{path} cannot be read: {error.strerror or error}") from error
        # A damaged file raises errors of many types, such as MemoryError for an absurd size.
        except Exception as error:
            raise ModelError(
                f"{path} is damaged or is not a file of vectors with ids: pass .npz with 'ids' and 'vectors',"
                " or .parquet with 'id' and 'vector'"
            ) from error
        if record is not None:
            made_by = _parse_teacher(record, path)
            if teacher is not None and made_by != teacher:
                raise ModelError(f"{path} was made by the teacher '{made_by.name}', not by '{teacher.name}'")
            teacher = made_by
        if teacher is None:
            raise ModelError(
                f"{path} does not name its teacher; convert it with `separative teach --vectors {path}`"
            )
        return TeacherVectors.from_rows(teacher, ids, vectors, path)


class TeacherSpace(nn.Module):
    """Centre and principal axes of a teacher's vectors: the space of a student's embeddings.

    Args:
        dimension: size T of the teacher's vectors.
        size: size E of the embeddings, at most T.

    >>> space = TeacherSpace(dimension=3, size=2)
    >>> rng = np.random.default_rng(0)
    >>> space.fit(rng.normal(size=(50, 3)) * [3.0, 2.0, 0.1] + 5.0)
    >>> space(torch.tensor([[8.0, 5.0, 5.0]])).shape
    torch.Size([1, 2])
    """

    mean_T: Tensor
    axis_TE: Tensor

    def __init__(self, dimension: int, size: int) -> None:
        super().__init__()
        if dimension < size:
            raise ModelError(
                f"vectors of {dimension} values cannot teach embeddings of {size}: set model.embedding to"
                f" {dimension} or less"
            )
        self.register_buffer("mean_T", torch.zeros(dimension))
        self.register_buffer("axis_TE", torch.eye(dimension, size))

    def forward(self, vectors: Tensor) -> Tensor:
        """Project vectors [...,T] to unit norm embeddings [...,E]."""
        return F.normalize((vectors.to(self.mean_T) - self.mean_T) @ self.axis_TE, dim=-1)

    def fit(self, vectors: Floats, weights: Floats | None = None) -> None:
        """Set the centre to the mean of vectors [R,T], and the axes to those of the largest variance.

        Args:
            vectors: the vectors.
            weights: weight of each vector in mean and variance [R]; equal by default.
        """
        row_RT = vectors.astype(np.float64)
        share_R = np.ones(len(row_RT)) if weights is None else np.asarray(weights, np.float64)
        share_R = share_R / share_R.sum()
        mean_T = share_R @ row_RT
        centred_RT = row_RT - mean_T
        _, axis_TT = np.linalg.eigh((centred_RT * share_R[:, None]).T @ centred_RT)
        axis_TE = axis_TT[:, ::-1][:, : self.axis_TE.shape[1]]
        # The sign of an axis is arbitrary: make its largest entry positive, so that a fit is repeatable.
        axis_TE = axis_TE * np.sign(axis_TE[np.abs(axis_TE).argmax(0), np.arange(axis_TE.shape[1])])
        self.mean_T.copy_(torch.from_numpy(mean_T))
        self.axis_TE.copy_(torch.from_numpy(np.ascontiguousarray(axis_TE)))

    @property
    def sha256(self) -> str:
        """SHA-256 of centre and axes."""
        content = b"".join(x.detach().cpu().numpy().tobytes() for x in (self.mean_T, self.axis_TE))
        return hashlib.sha256(content).hexdigest()


def _parse_teacher(record: str, path: Path) -> Teacher:
    content = parse_json(record, f"{path}: its entry 'teacher'", ModelError)
    try:
        return Teacher.model_validate(content)
    except ValidationError as error:
        message = validation_message(error, Teacher)
        raise ModelError(f"{path}: its entry 'teacher' is wrong: {message}") from error


def _read_npz(path: Path) -> tuple[str | None, Any, Any]:
    with path.open("rb") as file, np.load(file, allow_pickle=False) as content:
        record = str(content["teacher"]) if "teacher" in content else None
        return record, content["ids"], content["vectors"]


def _read_parquet(path: Path) -> tuple[str | None, Any, Any]:
    _, parquet = _import_parquet()
    table = parquet.read_table(path, columns=["id", "vector"])
    record = (table.schema.metadata or {}).get(b"teacher")
    vectors = np.array(table["vector"].to_pylist(), np.float32)
    return None if record is None else record.decode(), table["id"].to_pylist(), vectors


def _import_parquet() -> tuple[Any, Any]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise MissingExtraError("a Parquet file", "bulk") from error
    return pyarrow, parquet


def file_sha256(path: str | Path) -> str:
    """SHA-256 of a file, such as a teacher's weights.

    Raises:
        ModelError: the file cannot be read.

    >>> len(file_sha256("ann.wav"))
    64
    """
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}") from error


def space_record(teacher: Teacher, space: TeacherSpace) -> dict[str, Any]:
    """The entry ``space`` of a model card.

    >>> teacher = Teacher(name="mine", licence="MIT", sha256="5f" * 32)
    >>> sorted(space_record(teacher, TeacherSpace(3, 2)))
    ['dimension', 'licence', 'name', 'projection', 'sha256']
    """
    return teacher.model_dump() | {"dimension": len(space.mean_T), "projection": space.sha256}
