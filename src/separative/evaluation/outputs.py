"""Storage of a system's outputs for a whole trial list, so that scoring does not run the system again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from separative.errors import SeparativeError
from separative.evaluation.systems import SystemOutput
from separative.files import atomic_path
from separative.types import Floats

FORMAT = 2

Key = tuple[str, str]
"""A side id and a condition."""

Tables = dict[str, dict[Key, NDArray[Any]]]
"""By name of a quantity, its array for every key."""


@dataclass
class CollectedOutputs:
    """Everything that scoring needs from one row of a system. Keys are (side id, condition).

    Attributes:
        single: output for each side, processed alone.
        joint: output for each enrolment side, processed jointly with the speaker's other enrolments.
        figures: for each separation metric, its value for every source of a mixture [K].
        stream: for each mixture, the candidate that separation assigns to every source.
        reference: reference activity of every source in the system's segments, boolean [K, S].
        cohort: unit-norm embeddings of the cohort speakers, float32 [K, E]; None without a cohort.

    >>> outputs = CollectedOutputs()
    >>> outputs.single["ann:t0", "clean"] = SystemOutput(np.eye(1, 4, dtype=np.float32), np.array([True]))
    >>> path = outputs.save("outputs.npz")
    >>> CollectedOutputs.load(path).single["ann:t0", "clean"].embeddings
    array([[1., 0., 0., 0.]], dtype=float32)
    """

    single: dict[Key, SystemOutput] = field(default_factory=dict)
    joint: dict[Key, SystemOutput] = field(default_factory=dict)
    figures: dict[str, dict[Key, Floats]] = field(default_factory=dict)
    stream: dict[Key, tuple[int, ...]] = field(default_factory=dict)
    reference: dict[Key, NDArray[np.bool_]] = field(default_factory=dict)
    cohort: NDArray[np.float32] | None = None

    def save(self, path: str | Path) -> Path:
        """Write one ``.npz`` file without pickled objects. Waveforms are not stored."""
        tables: Tables = {"stream": {k: np.array(v) for k, v in self.stream.items()}}
        tables["reference"] = dict(self.reference)
        tables |= {f"figure {name}": dict(table) for name, table in self.figures.items()}
        for kind, outputs in (("single", self.single), ("joint", self.joint)):
            tables |= {f"{kind} {name}": table for name, table in _columns(outputs).items()}
        arrays: dict[str, NDArray[Any]] = {"format": np.array(FORMAT)}
        if self.cohort is not None:
            arrays["cohort"] = self.cohort
        for name, table in tables.items():
            arrays |= _pack(name, table)
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, **arrays)  # type: ignore[arg-type]  # NumPy's stubs: allow_pickle
        return Path(path)

    @staticmethod
    def load(path: str | Path) -> CollectedOutputs:
        """Read a file written by :meth:`save`.

        Raises:
            SeparativeError: the file is missing, damaged or of another format.
        """
        try:
            with Path(path).open("rb") as file, np.load(file, allow_pickle=False) as stored:
                if int(stored["format"]) != FORMAT:
                    raise ValueError(f"format {stored['format']}, expected {FORMAT}")
                tables = {
                    name.removesuffix("/keys"): _unpack(stored, name.removesuffix("/keys"))
                    for name in stored.files
                    if name.endswith("/keys")
                }
                cohort_KE = stored["cohort"] if "cohort" in stored.files else None
            return CollectedOutputs(
                _outputs(tables, "single"),
                _outputs(tables, "joint"),
                {n.removeprefix("figure "): t for n, t in tables.items() if n.startswith("figure ")},
                {key: tuple(map(int, row)) for key, row in tables["stream"].items()},
                tables["reference"],
                cohort_KE,
            )
        # A damaged file raises errors of many types, such as NotImplementedError for an unknown compression.
        except Exception as error:
            raise SeparativeError(f"{path}: not a file of stored system outputs ({error})") from error


def _columns(outputs: Mapping[Key, SystemOutput]) -> Tables:
    with_activity = {key: o for key, o in outputs.items() if o.activity is not None}
    return {
        "embedding": {key: o.embeddings for key, o in outputs.items()},
        "active": {key: o.active for key, o in outputs.items()},
        "activity": {key: np.asarray(o.activity, np.float16) for key, o in with_activity.items()},
        "segment": {key: np.array([o.segment_seconds]) for key, o in with_activity.items()},
    }


def _outputs(tables: Tables, kind: str) -> dict[Key, SystemOutput]:
    embedding, active, activity, segment = (
        tables[f"{kind} {name}"] for name in ("embedding", "active", "activity", "segment")
    )
    return {
        key: SystemOutput(
            embedding_CE,
            active[key],
            activity=activity[key].astype(np.float32) if key in activity else None,
            segment_seconds=float(segment[key][0]) if key in segment else 0.0,
        )
        for key, embedding_CE in embedding.items()
    }


def _pack(name: str, table: Mapping[Key, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Store arrays of different shapes as three arrays: keys, shapes, and all elements in a row."""
    rows = list(table.values())
    return {
        f"{name}/keys": np.array(list(table), dtype=np.str_).reshape(-1, 2),
        f"{name}/shapes": np.array([row.shape for row in rows], dtype=np.int64),
        f"{name}/flat": np.concatenate([row.ravel() for row in rows]) if rows else np.zeros(0),
    }


def _unpack(stored: Mapping[str, NDArray[Any]], name: str) -> dict[Key, NDArray[Any]]:
    keys, shapes, flat = (stored[f"{name}/{part}"] for part in ("keys", "shapes", "flat"))
    rows = np.split(flat, np.cumsum(shapes.prod(1))[:-1]) if len(keys) else []
    return {
        (str(side), str(condition)): row.reshape(shape)
        for (side, condition), row, shape in zip(keys, rows, shapes, strict=True)
    }
