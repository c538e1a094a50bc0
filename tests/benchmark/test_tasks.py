"""Commands run in the order of their needs, a few at a time; failures stay apart; a stop is orderly."""

import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from separative.benchmark import tasks
from separative.benchmark.folder import Folder
from separative.benchmark.tasks import Task, run_tasks
from separative.errors import SeparativeError

MARK = "import pathlib, sys; pathlib.Path(sys.argv[1]).touch()"
WHILE_ASKED = """
import pathlib, signal, sys, time
def save(*_):
    pathlib.Path(sys.argv[1]).write_text("saved")
    sys.exit(130)
signal.signal(signal.SIGTERM, save)
pathlib.Path(sys.argv[2]).touch()
time.sleep(60)
"""


@pytest.fixture
def run(tmp_path):
    lines = []

    def run(tasks, jobs=2):
        with Folder(tmp_path / "out").alone() as lock:
            return run_tasks(tasks, jobs=jobs, threads=1, keep_open=lock, tell=lines.append)

    run.lines = lines
    return run


def task(folder: Path, row: str, code: str = MARK, needs=(), more=()) -> Task:
    mark = folder / row
    return Task(
        row,
        "working",
        mark.is_file,
        lambda: [sys.executable, "-c", code, str(mark), *map(str, more)],
        lambda seconds: None,
        folder / f"{row}.log",
        list(needs),
    )


def test_a_command_is_made_when_what_it_needs_is_done(tmp_path, run) -> None:
    first = task(tmp_path, "first")
    second = task(tmp_path, "second", needs=[first])
    made = second.command

    def command():
        assert first.done()
        return made()

    second.command = command
    assert run([second, first]) == {} and second.done()
    assert [line.partition(":")[0] for line in run.lines] == ["first", "first", "second", "second"]
    assert run([second, first]) == {}
    assert len(run.lines) == 4, "done already: nothing runs"


def test_a_failure_takes_along_only_what_needs_it(tmp_path, run) -> None:
    broken = task(tmp_path, "broken", "import sys; print('fine so far'); sys.exit('out of words')")
    rows = [broken, task(tmp_path, "sound"), task(tmp_path, "later", needs=[broken])]
    rows.append(task(tmp_path, "silent", "raise SystemExit(3)"))
    rows.append(task(tmp_path, "killed", "import os; os.kill(os.getpid(), 9)"))

    def cannot():
        raise SeparativeError("its recipe is wrong")

    rows.append(Task("unmade", "working", lambda: False, cannot, lambda s: None, tmp_path / "unmade.log"))
    failed = run(rows)
    assert failed == {
        "broken": "out of words (exit code 1)",
        "later": "needs the row 'broken', which failed",
        "silent": "without a word (exit code 3)",
        "killed": "killed by signal 9",
        "unmade": "its recipe is wrong",
    }
    assert rows[1].done()


def test_what_a_command_prints_is_told_now_and_then(tmp_path, run, monkeypatch) -> None:
    monkeypatch.setattr(tasks, "TELL_SECONDS", 0.5)
    code = "import time; print('step 1', flush=True); time.sleep(2); " + MARK
    assert run([task(tmp_path, "slow", code)]) == {}
    assert run.lines[:2] == ["slow: working", "slow: … step 1"] and len(run.lines) == 3


def test_no_more_processes_than_jobs(tmp_path, run) -> None:
    together = (
        "import pathlib, sys, time; here = pathlib.Path(sys.argv[2]); own = here / str(time.monotonic_ns());"
        "own.touch(); time.sleep(0.15); count = len(list(here.iterdir())); own.unlink();"
        "pathlib.Path(sys.argv[1]).write_text(str(count))"
    )
    (tmp_path / "running").mkdir()
    tasks = [task(tmp_path, f"row{n}", together, more=[tmp_path / "running"]) for n in range(4)]
    assert run(tasks, jobs=1) == {}
    assert {(tmp_path / f"row{n}").read_text() for n in range(4)} == {"1"}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_lets_processes_save(tmp_path, run, number) -> None:
    one = task(tmp_path, "saves", WHILE_ASKED, more=[tmp_path / "started"])
    one.done = lambda: False

    def stop():
        while not (tmp_path / "started").exists():
            time.sleep(0.02)
        os.kill(os.getpid(), number)

    thread = threading.Thread(target=stop)
    thread.start()
    with pytest.raises(KeyboardInterrupt, match="the same command goes on"):
        run([one])
    thread.join()
    assert (tmp_path / "saves").read_text() == "saved"


def test_a_folder_has_one_benchmark_at_a_time(tmp_path) -> None:
    folder = Folder(tmp_path)
    with folder.alone(), pytest.raises(SeparativeError, match="still works there"), folder.alone():
        pass
    with folder.alone():
        pass
