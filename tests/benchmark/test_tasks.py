"""Tasks run in the order of their requirements, a few at a time; failures and stops are handled cleanly."""

import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from separative.benchmark import tasks
from separative.benchmark.folder import ResultsFolder
from separative.benchmark.tasks import Task, run_tasks
from separative.errors import SeparativeError

MARK = "import pathlib, sys; pathlib.Path(sys.argv[1]).touch()"
SAVE_ON_STOP = """
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

    def run(tasks, jobs=2, report=lines.append):
        with ResultsFolder(tmp_path / "out").lock() as lock:
            return run_tasks(tasks, jobs=jobs, threads=1, keep_open=lock, report=report)

    run.lines = lines
    return run


def task(folder: Path, row: str, code: str = MARK, requires=(), more=()) -> Task:
    """A task that runs Python code with the file ``row`` as its first argument.

    As in a benchmark, the task is finished when this process has seen its command end, not earlier.
    """
    done = folder / f"{row}.done"
    return Task(
        row,
        "working",
        done.is_file,
        lambda: [sys.executable, "-c", code, str(folder / row), *map(str, more)],
        lambda seconds: done.touch(),
        folder / f"{row}.log",
        list(requires),
    )


def test_command_is_made_after_required_tasks_are_finished(tmp_path, run) -> None:
    first = task(tmp_path, "first")
    second = task(tmp_path, "second", requires=[first])
    make_command = second.command

    def command():
        assert first.is_done()
        return make_command()

    second.command = command
    assert run([second, first]) == {} and second.is_done()
    assert [line.partition(":")[0] for line in run.lines] == ["first", "first", "second", "second"]
    assert run([second, first]) == {}
    assert len(run.lines) == 4, "finished tasks must not run again"


def test_failed_row_stops_only_the_rows_that_require_it(tmp_path, run) -> None:
    broken = task(tmp_path, "broken", "import sys; print('fine so far'); sys.exit('no memory')")
    rows = [broken, task(tmp_path, "independent"), task(tmp_path, "later", requires=[broken])]
    rows.append(task(tmp_path, "silent", "raise SystemExit(3)"))
    rows.append(task(tmp_path, "killed", "import os; os.kill(os.getpid(), 9)"))

    def cannot():
        raise SeparativeError("its recipe is wrong")

    rows.append(Task("unmade", "working", lambda: False, cannot, lambda s: None, tmp_path / "unmade.log"))
    failed = run(rows)
    assert failed == {
        "broken": "no memory (exit code 1)",
        "later": "requires row 'broken', which failed",
        "silent": "no message (exit code 3)",
        "killed": "killed by signal 9",
        "unmade": "its recipe is wrong",
    }
    assert rows[1].is_done()


def test_output_of_a_running_command_is_reported(tmp_path, run, monkeypatch) -> None:
    monkeypatch.setattr(tasks, "REPORT_SECONDS", 0.0)
    # The command ends only after its output was reported, however slow the machine is.
    seen = tmp_path / "seen"
    code = "import os, sys, time; print('step 1', flush=True)\n"
    code += "while not os.path.exists(sys.argv[2]): time.sleep(0.02)"

    def report(line: str) -> None:
        run.lines.append(line)
        if "step 1" in line:
            seen.touch()

    assert run([task(tmp_path, "slow", code, more=[seen])], report=report) == {}
    assert run.lines[:2] == ["slow: working", "slow: … step 1"] and len(run.lines) == 3


def test_at_most_jobs_processes_run_at_a_time(tmp_path, run) -> None:
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
def test_processes_can_save_after_a_stop(tmp_path, run, number) -> None:
    one = task(tmp_path, "saves", SAVE_ON_STOP, more=[tmp_path / "started"])

    def stop():
        while not (tmp_path / "started").exists():
            time.sleep(0.02)
        os.kill(os.getpid(), number)

    thread = threading.Thread(target=stop)
    thread.start()
    with pytest.raises(KeyboardInterrupt, match="the same command resumes"):
        run([one])
    thread.join()
    assert (tmp_path / "saves").read_text() == "saved"


def test_results_folder_is_locked(tmp_path) -> None:
    folder = ResultsFolder(tmp_path)
    with folder.lock(), pytest.raises(SeparativeError, match="in use by another benchmark"), folder.lock():
        pass
    with folder.lock():
        pass
