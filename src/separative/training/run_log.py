"""What a run writes down: one JSON object a line, and TensorBoard events."""

from __future__ import annotations

import json
import signal
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
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


@dataclass(frozen=True)
class Status:
    """Where a run stands. ``share`` of it done (0 to 1); ``speed`` in seconds of mixture per second;
    ``remaining`` seconds expected; ``values`` the newest averages and validation figures."""

    step: int
    share: float
    minutes: float
    speed: float
    remaining: float
    values: dict[str, float]


Progress = Callable[[Status], None]


@dataclass
class Clock:
    """How much of a run is done, by steps or minutes, whichever limit is nearer; both go on over a resume
    (from step ``first``, after ``before`` minutes)."""

    steps: int | None
    minutes: float | None
    first: int = 0
    before: float = 0.0

    def __post_init__(self) -> None:
        self.started = time.monotonic()
        self.resumed = self.share(self.first)

    @property
    def elapsed(self) -> float:
        """Minutes, those before a resume included."""
        return self.before + (time.monotonic() - self.started) / 60

    def share(self, step: int) -> float:
        by_steps = step / self.steps if self.steps else 0.0
        by_minutes = self.elapsed / self.minutes if self.minutes else 0.0
        return min(1.0, max(by_steps, by_minutes))

    def status(self, step: int, values: dict[str, float]) -> Status:
        """For the progress bar."""
        share, elapsed = self.share(step), self.elapsed
        # At the pace since the resume: what was done before it took time that is not counted here.
        remaining = 60 * (elapsed - self.before) * (1 - share) / max(share - self.resumed, 1e-9)
        return Status(step, share, elapsed, values.get("speed", 0.0), remaining, dict(values))


class Stop:
    """While open, SIGINT and SIGTERM set ``asked`` instead of ending the process (main thread only)."""

    def __init__(self) -> None:
        self.asked = False
        self.old: dict[int, Any] = {}

    def _ask(self, _number: int, _frame: FrameType | None) -> None:
        self.asked = True

    def __enter__(self) -> Stop:
        for number in (signal.SIGINT, signal.SIGTERM):
            try:
                self.old[number] = signal.signal(number, self._ask)
            except ValueError:
                break  # not the main thread: its owner handles signals
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self.old.items():
            signal.signal(number, handler)
