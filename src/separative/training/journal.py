"""What a run writes down: one JSON object a line, and TensorBoard events."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from separative.files import replace_file


class Journal:
    """Averages what happens between two lines; writes ``log.jsonl`` and TensorBoard events in a run's folder.

    On resume, lines of steps after ``first_step`` (written after the last checkpoint) are dropped.
    """

    def __init__(self, folder: Path, first_step: int) -> None:
        self.path = folder / "log.jsonl"
        kept = []
        if first_step and self.path.exists():
            for line in self.path.read_text(encoding="utf-8").splitlines():
                try:
                    if json.loads(line)["step"] <= first_step:
                        kept.append(line + "\n")
                except (json.JSONDecodeError, KeyError):
                    continue  # a line cut by a crash
        replace_file(self.path, "".join(kept).encode())
        self.file = self.path.open("a", encoding="utf-8")
        self.events = SummaryWriter(str(folder / "tensorboard"), purge_step=first_step or None)
        self.sums: dict[str, float] = defaultdict(float)
        self.counts: dict[str, int] = defaultdict(int)

    def add(self, values: dict[str, float]) -> None:
        """Take note of one step."""
        for name, value in values.items():
            self.sums[name] += value
            self.counts[name] += 1

    def averages(self) -> dict[str, float]:
        """Means since the last call, which starts afresh."""
        means = {name: self.sums[name] / self.counts[name] for name in self.sums}
        self.sums.clear()
        self.counts.clear()
        return means

    def write(self, step: int, values: dict[str, Any]) -> None:
        """One line, and one event per number."""
        rounded = {k: float(f"{v:.6g}") if isinstance(v, float) else v for k, v in values.items()}
        self.file.write(json.dumps({"step": step, **rounded}) + "\n")
        self.file.flush()
        for name, value in rounded.items():
            if isinstance(value, int | float) and name != "minutes":
                self.events.add_scalar(name, value, step)

    def close(self) -> None:
        self.file.close()
        self.events.close()


class Silent(Journal):
    """The journal of a process that is not the first: it averages, and writes nothing."""

    def __init__(self) -> None:
        self.sums, self.counts = defaultdict(float), defaultdict(int)

    def write(self, step: int, values: dict[str, Any]) -> None:
        pass

    def close(self) -> None:
        pass
