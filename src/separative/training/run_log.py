"""The log of a run: one JSON object per line and TensorBoard events; its progress, and signals to stop."""

from __future__ import annotations

import json
import signal
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from separative.errors import SeparativeError
from separative.files import parse_json, replace_file
from separative.training.events import EventLog


class RunLog:
    """Averages values over steps and writes them to ``log.jsonl`` and, with the extra, as TensorBoard events.

    ``events`` is None without the extra ``tensorboard``.

    When a run resumes, lines after ``first_step`` are removed: they were written after the last checkpoint.

    >>> log = RunLog(Path("."), first_step=0)
    >>> log.add({"loss": 1.0})
    >>> log.add({"loss": 2.0})
    >>> log.write(2, log.averages())
    >>> log.close()
    >>> Path("log.jsonl").read_text()
    '{"step": 2, "loss": 1.5}\\n'
    """

    def __init__(self, folder: Path, first_step: int) -> None:
        self.path = folder / "log.jsonl"
        kept = []
        if first_step and self.path.exists():
            for line in self.path.read_bytes().splitlines():
                try:
                    record = parse_json(line, self.path)
                except SeparativeError:
                    continue  # the line was cut by a crash
                step = record.get("step") if isinstance(record, dict) else None
                if isinstance(step, int | float) and step <= first_step:
                    kept.append(line + b"\n")
        replace_file(self.path, b"".join(kept))
        self.file = self.path.open("a", encoding="utf-8")
        self.events: EventLog | None = None
        with suppress(ImportError):
            self.events = EventLog(folder / "tensorboard", first_step or None)
        self.sums: dict[str, float] = defaultdict(float)
        self.counts: dict[str, int] = defaultdict(int)

    def add(self, values: dict[str, float]) -> None:
        """Add the values of one step to the averages."""
        for name, value in values.items():
            self.sums[name] += value
            self.counts[name] += 1

    def means(self) -> dict[str, float]:
        """Return the averages since the last call of :meth:`averages`."""
        return {name: self.sums[name] / self.counts[name] for name in self.sums}

    def averages(self) -> dict[str, float]:
        """Return the averages since the last call, and start new ones."""
        means = self.means()
        self.sums.clear()
        self.counts.clear()
        return means

    def write(self, step: int, values: dict[str, Any]) -> None:
        """Write one line, and one event for each number."""
        rounded = {k: float(f"{v:.6g}") if isinstance(v, float) else v for k, v in values.items()}
        self.file.write(json.dumps({"step": step, **rounded}) + "\n")
        self.file.flush()
        if self.events is not None:
            self.events.add_scalars(step, rounded)

    def close(self) -> None:
        """Close the files."""
        self.file.close()
        if self.events is not None:
            self.events.close()


class NullLog(RunLog):
    """The log of all processes but the first: it averages and writes nothing.

    >>> log = NullLog()
    >>> log.add({"loss": 1.0})
    >>> log.averages()
    {'loss': 1.0}
    """

    def __init__(self) -> None:
        self.sums, self.counts = defaultdict(float), defaultdict(int)

    def write(self, step: int, values: dict[str, Any]) -> None:
        pass

    def close(self) -> None:
        pass


@dataclass(frozen=True)
class Status:
    """The progress of a run.

    Attributes:
        step: number of finished steps.
        fraction: finished fraction of the run, 0 to 1.
        minutes: duration of the run so far, including the time before a resume.
        speed: seconds of mixture per second.
        remaining: expected seconds until the end.
        values: newest averages and validation figures by name.

    >>> Status(step=5, fraction=0.5, minutes=1.0, speed=80.0, remaining=60.0, values={"loss": 2.0}).step
    5
    """

    step: int
    fraction: float
    minutes: float
    speed: float
    remaining: float
    values: dict[str, float]


StatusCallback = Callable[[Status], None]
"""Called with the status after every step."""


@dataclass
class Clock:
    """The finished fraction of a run, by steps or minutes, whichever limit is nearer.

    Attributes:
        steps: limit in steps, or None.
        minutes: limit in minutes, or None.
        first: step at which the run resumed.
        before: minutes before it resumed.

    >>> clock = Clock(steps=100, minutes=None)
    >>> clock.fraction(25)
    0.25
    """

    steps: int | None
    minutes: float | None
    first: int = 0
    before: float = 0.0

    def __post_init__(self) -> None:
        self.started = time.monotonic()
        self.resumed = self.fraction(self.first)

    @property
    def elapsed(self) -> float:
        """Minutes so far, including those before a resume."""
        return self.before + (time.monotonic() - self.started) / 60

    def fraction(self, step: int) -> float:
        """Finished fraction of the run after ``step`` steps, 0 to 1."""
        by_steps = step / self.steps if self.steps else 0.0
        by_minutes = self.elapsed / self.minutes if self.minutes else 0.0
        return min(1.0, max(by_steps, by_minutes))

    def status(self, step: int, values: dict[str, float]) -> Status:
        """The status for the progress bar."""
        fraction, elapsed = self.fraction(step), self.elapsed
        # The expected time is based on the pace since the resume, as the time before is not comparable.
        remaining = 60 * (elapsed - self.before) * (1 - fraction) / max(fraction - self.resumed, 1e-9)
        return Status(step, fraction, elapsed, values.get("speed", 0.0), remaining, dict(values))


class StopSignal:
    """Context manager in which SIGINT and SIGTERM set ``requested`` instead of ending the process.

    Outside of the main thread it leaves signals alone.

    >>> with StopSignal() as stop:
    ...     signal.raise_signal(signal.SIGTERM)
    ...     stop.requested
    True
    """

    def __init__(self) -> None:
        self.requested = False
        self.previous: dict[int, Any] = {}

    def _handle(self, _number: int, _frame: FrameType | None) -> None:
        self.requested = True

    def __enter__(self) -> StopSignal:
        for number in (signal.SIGINT, signal.SIGTERM):
            try:
                self.previous[number] = signal.signal(number, self._handle)
            except ValueError:
                break  # not the main thread
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self.previous.items():
            signal.signal(number, handler)
