"""How far a run is, when it ends, and how it is asked to end."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType
from typing import Any


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
