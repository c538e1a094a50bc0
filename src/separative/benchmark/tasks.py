"""Running commands that need each other, a few at a time; a stop ends them all in good order."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from separative.errors import SeparativeError
from separative.training.run_log import Stop

POLL_SECONDS = 0.1
# How long a process that was asked to end may take: a training saves, which includes a step under way.
PATIENCE_SECONDS = 120.0
# How often is told what a running command last printed: how far a training is, or the decoding before it.
TELL_SECONDS = 60.0

Tell = Callable[[str], None]


@dataclass(eq=False)
class Task:
    """One command for one row.

    Attributes:
        row, words: what is told of it.
        done: is it done already, by an earlier benchmark perhaps?
        command: makes the command, once what it ``needs`` is done.
        finish: called with the seconds it took; leaves what makes it ``done``.
        log: what it prints is added there.
    """

    row: str
    words: str
    done: Callable[[], bool]
    command: Callable[[], Sequence[str]]
    finish: Callable[[float], None]
    log: Path
    needs: list[Task] = field(default_factory=list)


@dataclass
class _Running:
    task: Task
    process: subprocess.Popen[bytes]
    output: IO[bytes]
    started: float
    told: float
    last: str = ""


def run_tasks(
    tasks: Sequence[Task], *, jobs: int, threads: int, keep_open: int, tell: Tell
) -> dict[str, str]:
    """Run every task that is not done, earlier ones first; returns why rows failed.

    A row that fails does not keep others from being run, save those that need it.

    Args:
        jobs: processes at a time; each may use ``threads`` threads.
        keep_open: a file descriptor that the processes inherit.
        tell: called with a line whenever something starts, ends or fails, and now and then on how far it is.

    Raises:
        KeyboardInterrupt: stopped by SIGINT or SIGTERM, after the processes have saved and ended.
    """
    waiting = [task for task in tasks if not task.done()]
    total, failed = len(waiting), {}
    running: list[_Running] = []
    with Stop() as stop:
        try:
            while (waiting or running) and not stop.asked:
                for task in [t for t in waiting if any(need.row in failed for need in t.needs)]:
                    broken = next(need.row for need in task.needs if need.row in failed)
                    if task.row not in failed:
                        failed[task.row] = f"needs the row '{broken}', which failed"
                        tell(f"{task.row}: {failed[task.row]}")
                waiting = [task for task in waiting if task.row not in failed]
                for task in [t for t in waiting if all(need.done() for need in t.needs)]:
                    if len(running) == jobs:
                        break
                    waiting.remove(task)
                    try:
                        running.append(_start(task, threads, keep_open))
                        tell(f"{task.row}: {task.words}")
                    except (SeparativeError, OSError) as error:
                        failed[task.row] = str(error)
                        tell(f"{task.row}: failed: {error}")
                time.sleep(POLL_SECONDS)
                for one in running:
                    _tell_last(one, tell)
                for one in [r for r in running if r.process.poll() is not None]:
                    running.remove(one)
                    problem = _end(one)
                    left = f"{total - len(waiting) - len(running)} of {total}"
                    if problem:
                        failed[one.task.row] = problem
                        tell(f"{one.task.row}: failed {one.task.words}: {problem}")
                    else:
                        minutes = (time.monotonic() - one.started) / 60
                        tell(f"{one.task.row}: done {one.task.words}, {minutes:.1f} minutes ({left})")
        finally:
            _stop_all(running)
        if stop.asked:
            raise KeyboardInterrupt("stopped; all that was done is kept, the same command goes on from there")
    return failed


def _start(task: Task, threads: int, keep_open: int) -> _Running:
    command = task.command()
    task.log.parent.mkdir(parents=True, exist_ok=True)
    output = task.log.open("ab")
    output.write(f"$ {' '.join(command)}\n".encode())
    output.flush()
    # A session of its own: Ctrl-C reaches this process only, which then asks each of the others to end.
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        pass_fds=(keep_open,),
        env=os.environ | {"OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "PASSIVE"},
    )
    now = time.monotonic()
    return _Running(task, process, output, started=now, told=now)


def _tell_last(one: _Running, tell: Tell) -> None:
    """What the command last printed, if it is time for that and something new."""
    if time.monotonic() - one.told < TELL_SECONDS:
        return
    one.told = time.monotonic()
    last = _last_line(one.task.log)
    if last not in (one.last, "") and not last.startswith("$ "):
        one.last = last
        tell(f"{one.task.row}: … {last}")


def _last_line(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else ""


def _end(one: _Running) -> str:
    """Why a process failed; empty if it did not, and its task is finished then."""
    one.output.close()
    code = one.process.returncode
    if code == 0:
        one.task.finish(time.monotonic() - one.started)
        return ""
    last = _last_line(one.task.log)
    said = "without a word" if last.startswith("$ ") else last.removeprefix("separative: ")
    return f"killed by signal {-code}" if code < 0 else f"{said} (exit code {code})"


def _stop_all(running: Sequence[_Running]) -> None:
    for one in running:
        one.process.terminate()
    deadline = time.monotonic() + PATIENCE_SECONDS
    for one in running:
        try:
            one.process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            os.killpg(one.process.pid, signal.SIGKILL)
            one.process.wait()
        one.output.close()
