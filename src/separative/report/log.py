"""A training run's log: JSON lines to curves."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

from separative.errors import SeparativeError

Curves = dict[str, tuple[list[float], list[float]]]
AXES = ("minutes", "step")


def find_log(run: str | Path) -> Path:
    """The log itself, or the newest ``.jsonl`` file in a run's folder.

    Raises:
        SeparativeError: there is none.
    """
    run = Path(run)
    logs = sorted(run.glob("*.jsonl"), key=lambda p: p.stat().st_mtime) if run.is_dir() else [run]
    if not logs or not logs[-1].is_file():
        raise SeparativeError(f"{run}: no training log (.jsonl) there")
    return logs[-1]


def read_curves(path: Path) -> tuple[str, Curves]:
    """Every number of a log against ``minutes`` (or ``step``, where a log has no minutes).

    Returns the name of the horizontal axis and, by key, places and values.

    Raises:
        SeparativeError: a line is not a JSON object; names it. A last line cut short is left out.
    """
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    records: list[dict[str, Any]] = []
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            if number == len(lines) and not line.endswith("\n"):
                break
            raise SeparativeError(f"{path}, line {number}: not a JSON object ({error})") from error
        if not isinstance(record, dict):
            raise SeparativeError(f"{path}, line {number}: not a JSON object")
        records.append(record)
    axis = next((a for a in AXES if any(a in r for r in records)), AXES[-1])
    curves: Curves = defaultdict(lambda: ([], []))
    for record in (r for r in records if axis in r):
        for key, value in record.items():
            if key not in AXES and isinstance(value, int | float) and not isinstance(value, bool):
                curves[key][0].append(float(record[axis]))
                curves[key][1].append(float(value))
    return axis, dict(curves)
