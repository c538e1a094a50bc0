"""Output of the commands: tables and JSON on standard output, progress on standard error."""

from __future__ import annotations

import codecs
import io
import json
import logging
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from separative.inference import Recording
    from separative.training import Status

LINE_SECONDS = 60.0
"""Interval of the progress lines that replace the bars if standard error is not a terminal."""

FIRST_LINE_SECONDS = 10.0
"""Seconds until the first of these lines."""

log = logging.getLogger(__name__)


class Stopped(Exception):  # noqa: N818 (not an error)
    """The user interrupted the command; the message says what was kept."""


@contextmanager
def exit_on_interrupt(then: str = "") -> Iterator[None]:
    """Turn an interruption into :class:`Stopped`, with its message followed by ``then``."""
    try:
        yield
    except KeyboardInterrupt as stop:
        raise Stopped(f"{stop}{then}" if str(stop) else "interrupted") from stop


def print_json(record: Any) -> None:
    """Print a record as JSON, with paths as text.

    Other characters than ASCII are escaped, unless the output is UTF-8 and can hold them.
    """
    text = json.dumps(record, indent=1, default=str, ensure_ascii=False)
    try:
        text.encode("utf-8")
        utf8 = codecs.lookup(getattr(sys.stdout, "encoding", None) or "ascii").name == "utf-8"
    except (UnicodeEncodeError, LookupError):
        utf8 = False
    print(text if utf8 else json.dumps(record, indent=1, default=str))


def printable(text: object) -> str:
    """Return text for a person to read; bytes of a file name that are not UTF-8 become �."""
    return str(text).encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def error_sentence(error: Exception) -> str:
    """What a user is shown of an error: one of the system begins with its file."""
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{(error.strerror or str(error)).lower()}"
    return str(error)


def use_safe_output() -> None:
    """Escape the characters that standard output and error cannot encode, instead of failing after the work.

    Windows encodes the output to a file or a pipe with an old code page, and Linux in a Latin-1 locale.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table with aligned columns."""
    cells = [[printable(cell) for cell in row] for row in (columns, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def check_recordings(paths: Iterable[Path], channels: str) -> None:
    """Read the headers of all files before a model is loaded, and report how channels are combined.

    Raises:
        AudioError: a file is missing, not audio or empty.
    """
    from separative.audio import info

    for path in paths:
        count = info(path).channels
        if count > 1:
            used = f"each of its {count}" if channels == "each" else f"the {channels} of {count}"
            log.warning("%s: using %s channels", printable(path), used)


def stream_rows(recording: Recording) -> list[tuple[object, ...]]:
    """Rows of the table of :func:`print_streams` for one recording."""
    # Levels are levels of waveforms, which `embed` does not compute.
    return [
        (
            recording.name,
            t.stream,
            f"{t.speech_seconds:.2f}",
            *([f"{t.level_db:.1f}"] if t.waveform.size else []),
            "yes" if t.audible else "no",
        )
        for t in recording.streams
    ]


def print_streams(rows: list[tuple[object, ...]]) -> None:
    """Print a table of streams, one row each."""
    if rows:
        # Levels of long recordings are not known: their waveforms are not in memory.
        most = max(map(len, rows))
        level = ["level, dB"] if most == 5 else []
        rows = [row if len(row) == most else (*row[:3], "", *row[3:]) for row in rows]
        print_table(("recording", "stream", "speech, s", *level, "speaker"), rows)


def nearest_match(matches: list[dict[str, Any]]) -> str:
    """The known speaker that is most similar, with score and probability, for the table of `diarize`."""
    if not matches:
        return "too little speech"
    best = matches[0]
    worth = "" if best["probability"] is None else f", probability {best['probability']:.3g}"
    return f"{best['name']} ({best['score']:.2f}{worth})"


class Bars(AbstractContextManager["Bars"]):
    """Progress bars, one per kind of work, each shown from its first report until the end."""

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
        # With --quiet, only errors are logged.
        self._quiet = not log.isEnabledFor(logging.WARNING)
        self._terminal = console.is_terminal and not self._quiet
        self._reported = time.monotonic() - LINE_SECONDS + FIRST_LINE_SECONDS

    def __enter__(self) -> Bars:
        # Without a terminal, rich would still print an empty line.
        if self._terminal:
            self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._terminal:
            self._progress.stop()

    def minutes(self, words: str, rate: int) -> Callable[[int, int], None]:
        """Callback for work that reports (done, total) samples at ``rate`` hertz; shows minutes of audio."""
        return self.count(words, "min", 60 * rate)

    def count(self, words: str, unit: str = "", per_unit: int = 1) -> Callable[[int, int], None]:
        """Callback for work that reports (done, total); shows the rate and the expected time of the end.

        Args:
            words: what is done.
            unit: unit in which the work is shown; by default, parts are counted.
            per_unit: number of parts in a unit.
        """
        report = self._report(words)
        first: tuple[float, int] | None = None

        def update(done: int, total: int) -> None:
            # The rate counts from the first report, so that it leaves out opening files, loading weights
            # and the work of an earlier, interrupted run.
            nonlocal first
            first = first or (time.monotonic(), done)
            seconds, parts = time.monotonic() - first[0], done - first[1]
            note = f"{done}/{total}"
            if unit:
                note = f"{done / per_unit:.1f}/{total / per_unit:.1f} {unit}"
            if seconds > 1 and parts > 0 and done < total:
                rate = parts / seconds
                shown = f"{rate * 60 / per_unit:.3g} {unit}/min" if unit else f"{rate:.3g}/s"
                note += f" · {shown} · ends {_clock((total - done) / rate)}"
            report(done / max(total, 1), note)

        return update

    def training(self, words: str) -> Callable[[Status], None]:
        """Callback for :func:`separative.training.train`; shows step, speed, loss and the expected end."""
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
            report(status.fraction, " · ".join(note))

        return update

    def _report(self, words: str) -> Callable[[float, str], None]:
        task = self._progress.add_task(words, total=1.0, visible=False, start=False, note="")

        def report(share: float, note: str) -> None:
            if not self._progress.tasks[task].started:
                self._progress.start_task(task)
            self._progress.update(task, completed=share, note=note, visible=True)
            if not self._terminal and not self._quiet and time.monotonic() - self._reported > LINE_SECONDS:
                self._reported = time.monotonic()
                print(f"{words}: {note}", file=sys.stderr, flush=True)

        return report


def _clock(seconds: float) -> str:
    return time.strftime("%H:%M", time.localtime(time.time() + seconds))
