"""What a system said of a whole trial list, apart from any score: kept, it is never asked again."""

from __future__ import annotations

import zipfile
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

FORMAT = 1

Key = tuple[str, str]  # side, condition
Tables = dict[str, dict[Key, NDArray[Any]]]


@dataclass
class CollectedOutputs:
    """What one row of a system said of every side in every condition.

    Attributes:
        voices: candidates; the most talkative first, if the system says how much each speaks.
        together: those of an enrolment side that shared its memory with its speaker's other enrolments.
        figures: by metric and side, of each source K in dB (or the metric's own unit).
        stream: the candidate that holds each source, by separation.
        reference: which segments each source speaks in, boolean [K,S]; sources beside candidates' activity.
        cohort_KE: unit-norm embeddings of speakers outside the list, for score normalisation.
    """

    voices: dict[Key, SystemOutput] = field(default_factory=dict)
    together: dict[Key, SystemOutput] = field(default_factory=dict)
    figures: dict[str, dict[Key, Floats]] = field(default_factory=dict)
    stream: dict[Key, tuple[int, ...]] = field(default_factory=dict)
    reference: dict[Key, NDArray[np.bool_]] = field(default_factory=dict)
    cohort_KE: NDArray[np.float32] | None = None

    def save(self, path: str | Path) -> Path:
        """Write one ``.npz`` file without pickled objects, whole or not at all; waveforms are not kept."""
        tables: Tables = {"stream": {k: np.array(v) for k, v in self.stream.items()}}
        tables["reference"] = dict(self.reference)
        tables |= {f"figure {name}": dict(table) for name, table in self.figures.items()}
        for kind, voices in (("voices", self.voices), ("together", self.together)):
            tables |= {f"{kind} {name}": table for name, table in _columns(voices).items()}
        arrays: dict[str, NDArray[Any]] = {"format": np.array(FORMAT)}
        if self.cohort_KE is not None:
            arrays["cohort"] = self.cohort_KE
        for name, table in tables.items():
            arrays |= _pack(name, table)
        with atomic_path(path) as beside, beside.open("wb") as file:
            np.savez_compressed(file, **arrays)  # type: ignore[arg-type]  # NumPy's stubs: allow_pickle
        return Path(path)

    @staticmethod
    def load(path: str | Path) -> CollectedOutputs:
        """Read what :meth:`save` wrote.

        Raises:
            SeparativeError: no such file, or not answers of this format.
        """
        try:
            with Path(path).open("rb") as file, np.load(file, allow_pickle=False) as stored:
                if int(stored["format"]) != FORMAT:
                    raise ValueError(f"format {stored['format']}")
                tables = {
                    name.removesuffix("/keys"): _unpack(stored, name.removesuffix("/keys"))
                    for name in stored.files
                    if name.endswith("/keys")
                }
                cohort_KE = stored["cohort"] if "cohort" in stored.files else None
            return CollectedOutputs(
                _voices(tables, "voices"),
                _voices(tables, "together"),
                {n.removeprefix("figure "): t for n, t in tables.items() if n.startswith("figure ")},
                {key: tuple(map(int, row)) for key, row in tables["stream"].items()},
                tables["reference"],
                cohort_KE,
            )
        except (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
            raise SeparativeError(f"{path}: not the stored answers of a system ({error})") from error


def _columns(voices: Mapping[Key, SystemOutput]) -> Tables:
    spoken = {key: v for key, v in voices.items() if v.activity_CS is not None}
    return {
        "embedding": {key: v.embedding_CE for key, v in voices.items()},
        "active": {key: v.active_C for key, v in voices.items()},
        "activity": {key: np.asarray(v.activity_CS, np.float16) for key, v in spoken.items()},
        "segment": {key: np.array([v.segment_seconds]) for key, v in spoken.items()},
    }


def _voices(tables: Tables, kind: str) -> dict[Key, SystemOutput]:
    embedding, active, activity, segment = (
        tables[f"{kind} {name}"] for name in ("embedding", "active", "activity", "segment")
    )
    return {
        key: SystemOutput(
            embedding_CE,
            active[key],
            activity_CS=activity[key].astype(np.float32) if key in activity else None,
            segment_seconds=float(segment[key][0]) if key in segment else 0.0,
        )
        for key, embedding_CE in embedding.items()
    }


def _pack(name: str, table: Mapping[Key, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Arrays of any sizes as three: their keys, their shapes, and all of their elements in a row."""
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
