"""What verbs put before the user: tables and JSON on standard output, progress on standard error."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from separative.training import Status

LINE_SECONDS = 60.0
"""Where standard error is no terminal, a line this often takes the place of the bars."""


class Stopped(Exception):  # noqa: N818 (not an error)
    """Interrupted by the user; the message says what was kept."""


@contextmanager
def exit_on_interrupt(then: str = "") -> Iterator[None]:
    """An interruption that says what it kept ends the verb with that sentence, and ``then``."""
    try:
        yield
    except KeyboardInterrupt as stop:
        raise Stopped(f"{stop}{then}" if str(stop) else "interrupted") from stop


def say_json(record: Any) -> None:
    """Print a record as JSON; paths as text."""
    print(json.dumps(record, indent=1, default=str, ensure_ascii=False))


def say_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table; where the output is no terminal, lines are as long as they must be."""
    cells = [[str(cell) for cell in row] for row in (columns, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def check_sounds(paths: Iterable[Path], channels: str) -> None:
    """Refuse unreadable sound files before a model is loaded, and say what happens to several channels.

    Raises:
        AudioError: a file is missing, not audio or empty.
    """
    from separative.audio import info

    for path in paths:
        count = info(path).channels
        if count > 1:
            print(f"separative: {path}: the {channels} of {count} channels is used", file=sys.stderr)


class Bars(AbstractContextManager["Bars"]):
    """Progress bars, one for each kind of work, shown from its first report on and gone at the end."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
        )
        console = Console(stderr=True)
        self._progress = Progress(*columns, console=console, transient=True)
        self._terminal, self._told = console.is_terminal, time.monotonic()

    def __enter__(self) -> Bars:
        # Where there is no terminal, rich would still print an empty line.
        if self._terminal:
            self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._terminal:
            self._progress.stop()

    def count(self, words: str) -> Callable[[int, int], None]:
        """For work that reports (done, total): shows the rate and the time of day at which it will end."""
        report = self._report(words)
        first: tuple[float, int] | None = None

        def update(done: int, total: int) -> None:
            # From the first report on: opening files, loading weights, and what an earlier run had done are
            # no part of the rate.
            nonlocal first
            first = first or (time.monotonic(), done)
            seconds, parts = time.monotonic() - first[0], done - first[1]
            note = f"{done}/{total}"
            if seconds > 1 and parts > 0 and done < total:
                rate = parts / seconds
                note += f" · {rate:.3g}/s · ends {_clock((total - done) / rate)}"
            report(done / max(total, 1), note)

        return update

    def training(self, words: str) -> Callable[[Status], None]:
        """For :func:`separative.training.train`: step, seconds of audio per second, loss, expected end."""
        report = self._report(words)

        def update(status: Status) -> None:
            figures = {
                "loss": "loss {:.3f}",
                "valid/eer_mixed": "EER {:.1f} %",
                "valid/si_sdri_db": "{:+.1f} dB",
            }
            shown = [text.format(status.values[key]) for key, text in figures.items() if key in status.values]
            note = [
                f"step {status.step}",
                f"{status.speed:.0f} s/s",
                *shown,
                f"ends {_clock(status.remaining)}",
            ]
            report(status.share, " · ".join(note))

        return update

    def _report(self, words: str) -> Callable[[float, str], None]:
        task = self._progress.add_task(words, total=1.0, visible=False, start=False, note="")

        def report(share: float, note: str) -> None:
            if not self._progress.tasks[task].started:
                self._progress.start_task(task)
            self._progress.update(task, completed=share, note=note, visible=True)
            if not self._terminal and time.monotonic() - self._told > LINE_SECONDS:
                self._told = time.monotonic()
                print(f"{words}: {note}", file=sys.stderr, flush=True)

        return report


def _clock(seconds: float) -> str:
    return time.strftime("%H:%M", time.localtime(time.time() + seconds))
