"""The answers of another system on real recordings, read from a folder."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from separative.errors import SeparativeError
from separative.evaluation.lone_windows import lone_windows
from separative.evaluation.recording_rows import RecordingFigures, score_turns
from separative.evaluation.references import ReferenceRecording, cut_turns, read_turns
from separative.files import read_json
from separative.rttm import Turn
from separative.types import Floats

WINDOWS, COSTS = "windows.npz", "cost.json"


class RttmSystem:
    """A system that has written its answers into a folder.

    The folder holds ``<recording>.rttm`` for each recording; a file without turns says that no speaker was
    found. There may be two more files:

    - ``windows.npz`` has the arrays ``window`` (ids of the windows of
      :func:`separative.evaluation.write_windows`) and ``embedding`` [W, E]. A row of NaN says that a window
      could not be embedded.
    - ``cost.json`` has, by name of the recording, the seconds of computing and the peak memory in MB:
      ``{"trn01": {"seconds": 1.9, "peak_memory_mb": 512.3}}``. Either may be missing.

    Args:
        folder: the folder.

    Raises:
        SeparativeError: there is no such folder, or one of the two files is damaged.

    >>> Path("answers").mkdir(exist_ok=True)
    >>> RttmSystem("answers").has_windows
    False
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise SeparativeError(f"{self.folder}: no such folder; it must hold <recording>.rttm files")
        self._embeddings = _read_windows(self.folder / WINDOWS)
        self._costs = _read_costs(self.folder / COSTS)

    @property
    def has_windows(self) -> bool:
        """Whether there are embeddings of windows."""
        return self._embeddings is not None

    def measure(self, recording: ReferenceRecording) -> tuple[list[Turn], RecordingFigures]:
        """Read the turns of one recording, and score them.

        Raises:
            SeparativeError: the RTTM file is missing, damaged or about other recordings, or a window has no
                embedding.
        """
        path = self.folder / f"{recording.name}.rttm"
        turns = cut_turns(read_turns(path, recording.name), recording.seconds, path)
        figures = score_turns(recording, turns)
        cost = self._costs.get(recording.name, {})
        figures.run_seconds, figures.peak_memory_mb = cost.get("seconds"), cost.get("peak_memory_mb")
        if self._embeddings is not None and (windows := lone_windows(recording)):
            missing = next((window.id for window in windows if window.id not in self._embeddings), None)
            if missing is not None:
                raise SeparativeError(
                    f"{self.folder / WINDOWS}: no embedding of window '{missing}'; write the list of windows"
                    " again with --windows, and embed all of them"
                )
            figures.windows = windows
            figures.embeddings = np.stack([self._embeddings[w.id] for w in windows])
        return turns, figures


def _read_windows(path: Path) -> dict[str, Floats] | None:
    """Embeddings by id of the window; None if there is no file."""
    if not path.is_file():
        return None
    try:
        # The file is opened here: NumPy would leave a damaged one open.
        with path.open("rb") as file, np.load(file) as stored:
            names, embedding = stored["window"], stored["embedding"]
        if names.ndim != 1 or embedding.ndim != 2 or len(names) != len(embedding):
            raise ValueError(f"window has shape {names.shape}, embedding {embedding.shape}")
        if embedding.dtype.kind != "f":
            raise ValueError(f"embedding holds {embedding.dtype}, not floating-point numbers")
        return dict(zip(map(str, names.tolist()), embedding.astype(np.float64), strict=True))
    except (OSError, ValueError, KeyError, AttributeError, EOFError, zipfile.BadZipFile) as error:
        raise SeparativeError(
            f"{path}: not a file with the arrays 'window' [W] and 'embedding' [W, E] ({error})"
        ) from error


def _read_costs(path: Path) -> dict[str, dict[str, float]]:
    """Costs by name of the recording; none if there is no file."""
    if not path.is_file():
        return {}
    record: Any = read_json(path, limit=64 << 20)
    for name, cost in record.items() if isinstance(record, dict) else [("", None)]:
        valid = isinstance(cost, dict) and all(
            key in ("seconds", "peak_memory_mb") and isinstance(value, int | float) and 0 <= value < np.inf
            for key, value in cost.items()
        )
        if not valid:
            raise SeparativeError(
                f"{path}: '{name}' must have the numbers 'seconds' and 'peak_memory_mb', or one of them"
            )
    costs: dict[str, dict[str, float]] = record
    return costs
