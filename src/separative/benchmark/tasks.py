"""Run commands that depend on one another, a few at a time, and stop them cleanly on a signal."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from separative.errors import SeparativeError
from separative.training.run_log import StopSignal

POLL_SECONDS = 0.1
# Longest time a process may take to end after a stop: a training finishes its step and saves a checkpoint.
PATIENCE_SECONDS = 120.0
# How often the last line printed by a running command is reported, for example the progress of a training.
REPORT_SECONDS = 60.0

ReportLine = Callable[[str], None]
"""Called with a line of progress."""


@dataclass(eq=False)
class Task:
    """One command of one row.

    Attributes:
        row: name of the row.
        description: what the command does, for progress reports.
        is_done: whether the task is finished, perhaps by an earlier benchmark.
        command: makes the command; called after all required tasks are finished.
        finish: called with the seconds that the command took; must make :attr:`is_done` true.
        log: file to which the output of the command is appended.
        requires: tasks that must be finished first.

    >>> task = Task("CSC", "training", lambda: True, lambda: ["true"], print, Path("log.txt"))
    >>> task.is_done(), task.requires
    (True, [])
    """

    row: str
    description: str
    is_done: Callable[[], bool]
    command: Callable[[], Sequence[str]]
    finish: Callable[[float], None]
    log: Path
    requires: list[Task] = field(default_factory=list)


@dataclass
class _Running:
    task: Task
    process: subprocess.Popen[bytes]
    output: IO[bytes]
    started: float
    reported: float
    last: str = ""


def run_tasks(
    tasks: Sequence[Task], *, jobs: int, threads: int, keep_open: int, report: ReportLine
) -> dict[str, str]:
    """Run all tasks that are not finished, in order; return the reasons for failures by row name.

    If a row fails, only the rows that require it are skipped.

    Args:
        tasks: the tasks; earlier ones are started first.
        jobs: number of processes at a time.
        threads: number of threads of each process.
        keep_open: a file descriptor that the processes inherit.
        report: called with a line when a task starts, ends or fails, and regularly with its progress.

    Raises:
        KeyboardInterrupt: SIGINT or SIGTERM was received; raised after the processes have saved and ended.

    >>> done = Path("done")
    >>> task = Task("CSC", "training", done.exists, lambda: ["true"], lambda s: done.touch(), Path("log.txt"))
    >>> with Path("lock").open("w") as lock:
    ...     run_tasks([task], jobs=1, threads=1, keep_open=lock.fileno(), report=print)
    CSC: training
    CSC: finished training, 0.0 minutes (1 of 1)
    {}
    """
    waiting = [task for task in tasks if not task.is_done()]
    total = len(waiting)
    failed: dict[str, str] = {}
    running: list[_Running] = []
    with StopSignal() as stop:
        try:
            while (waiting or running) and not stop.requested:
                waiting = _drop_failed(waiting, failed, report)
                for task in [t for t in waiting if all(other.is_done() for other in t.requires)]:
                    if len(running) == jobs:
                        break
                    waiting.remove(task)
                    try:
                        running.append(_start(task, threads, keep_open))
                        report(f"{task.row}: {task.description}")
                    except (SeparativeError, OSError) as error:
                        failed[task.row] = str(error)
                        report(f"{task.row}: failed: {error}")
                time.sleep(POLL_SECONDS)
                for one in running:
                    _report_progress(one, report)
                for one in [r for r in running if r.process.poll() is not None]:
                    running.remove(one)
                    task, problem = one.task, _end(one)
                    if problem:
                        failed[task.row] = problem
                        report(f"{task.row}: failed {task.description}: {problem}")
                    else:
                        minutes = (time.monotonic() - one.started) / 60
                        count = f"{total - len(waiting) - len(running)} of {total}"
                        report(f"{task.row}: finished {task.description}, {minutes:.1f} minutes ({count})")
        finally:
            _stop_all(running)
        if stop.requested:
            raise KeyboardInterrupt("stopped; finished work is kept, and the same command resumes")
    return failed


def _drop_failed(waiting: Sequence[Task], failed: dict[str, str], report: ReportLine) -> list[Task]:
    """Mark the rows that require a failed row as failed; return the tasks of the other rows."""
    for task in waiting:
        broken = next((other.row for other in task.requires if other.row in failed), None)
        if broken is not None and task.row not in failed:
            failed[task.row] = f"requires row '{broken}', which failed"
            report(f"{task.row}: {failed[task.row]}")
    return [task for task in waiting if task.row not in failed]


def _start(task: Task, threads: int, keep_open: int) -> _Running:
    command = task.command()
    task.log.parent.mkdir(parents=True, exist_ok=True)
    output = task.log.open("ab")
    output.write(f"$ {' '.join(command)}\n".encode())
    output.flush()
    # In a session of its own the process does not receive Ctrl-C; this process stops it instead.
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        pass_fds=() if sys.platform == "win32" else (keep_open,),
        # Unbuffered: otherwise the last line of the log would be what was printed before the error.
        env=os.environ
        | {"OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "PASSIVE", "PYTHONUNBUFFERED": "1"},
    )
    now = time.monotonic()
    return _Running(task, process, output, started=now, reported=now)


def _report_progress(one: _Running, report: ReportLine) -> None:
    """Report the last line printed by the command if it is new, at most every ``REPORT_SECONDS``."""
    if time.monotonic() - one.reported < REPORT_SECONDS:
        return
    one.reported = time.monotonic()
    last = _last_line(one.task.log)
    if last not in (one.last, "") and not last.startswith("$ "):
        one.last = last
        report(f"{one.task.row}: … {last}")


def _last_line(log: Path) -> str:
    lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else ""


def _end(one: _Running) -> str:
    """Finish the task of a process that has ended; return why it failed, or an empty string."""
    one.output.close()
    code = one.process.returncode
    if code == 0:
        one.task.finish(time.monotonic() - one.started)
        return ""
    if code < 0:
        return f"killed by signal {-code}"
    last = _last_line(one.task.log)
    message = "no message" if last.startswith("$ ") else last.removeprefix("separative: ")
    return f"{message} (exit code {code})"


def _stop_all(running: Sequence[_Running]) -> None:
    """Ask all processes to end; kill those that take too long."""
    for one in running:
        one.process.terminate()
    deadline = time.monotonic() + PATIENCE_SECONDS
    for one in running:
        try:
            one.process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            if sys.platform == "win32":
                one.process.kill()
            else:
                os.killpg(one.process.pid, signal.SIGKILL)
            one.process.wait()
        one.output.close()
