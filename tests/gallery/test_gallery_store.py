"""The gallery's database: concurrent and killed writers, locks and full disks."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from gallery_helpers import unit

from separative.errors import GalleryError
from separative.gallery.store import EnrolledRecording, GalleryStore

WRITER = """
import sys
import numpy as np
from pathlib import Path
from separative.gallery.store import EnrolledRecording, GalleryStore

folder, writer, count = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
store, rng = GalleryStore(folder, model="m", size=16), np.random.default_rng(int(writer))
for number in range(count):
    row = rng.standard_normal(16).astype(np.float32)
    recording = EnrolledRecording("x.wav", f"{writer}-{number}", 3.0, row, row[None], row[:1])
    with store.write_transaction():
        store.add_recording(store.save_speaker(f"{writer}-{number}", row), recording)
    print(number, flush=True)
"""


def start_writer(folder: Path, number: int, count: int) -> subprocess.Popen[str]:
    """Start a process that enrols ``count`` speakers and prints a line after each."""
    command = [sys.executable, "-c", WRITER, str(folder), str(number), str(count)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_concurrent_writers_lose_nothing(tmp_path: Path) -> None:
    writers = [start_writer(tmp_path / "g", number, 100) for number in range(8)]
    assert [child.wait(120) for child in writers] == [0] * 8
    for child in writers:
        child.stdout.close()
    store = GalleryStore(tmp_path / "g", model="m", size=16)
    speakers = store.speakers()
    assert len(speakers) == 800 and all(s.recordings == 1 for s in speakers)
    ids, embed_NE, deleted, change = store.changed_since(0)
    assert len(ids) == len(embed_NE) == change == 800 and deleted == []
    store.close()


def test_a_killed_writer_loses_no_committed_speaker(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for number in range(20):
        child = start_writer(tmp_path / "g", number, 10**6)
        printed = [child.stdout.readline()]
        time.sleep(rng.uniform(0, 0.05))
        os.kill(child.pid, signal.SIGKILL)
        printed += child.stdout.readlines()
        child.stdout.close()
        child.wait()
        store = GalleryStore(tmp_path / "g", model="m", size=16)
        kept = {s.name for s in store.speakers() if s.recordings == 1}
        store.close()
        # Every printed speaker is stored. One more may have been committed and not yet printed.
        done = {f"{number}-{i}" for i in range(len(printed) - (not printed[-1].endswith("\n")))}
        assert done <= kept
        assert len({name for name in kept if name.startswith(f"{number}-")} - done) <= 1


def test_a_locked_database_raises_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("separative.gallery.store.LOCK_TIMEOUT_SECONDS", 0.1)
    store = GalleryStore(tmp_path / "g", model="m", size=16)
    # A transaction that outgrows its memory cache takes the same exclusive lock.
    other = sqlite3.connect(store.path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    reads = [
        store.speakers,
        store.names,
        store.count,
        lambda: store.speaker_id("a"),
        lambda: store.changed_since(0),
    ]
    for read in reads:
        with pytest.raises(
            GalleryError, match=r"cannot read .*gallery\.sqlite now; try again later \(database is locked\)"
        ):
            read()
    with pytest.raises(GalleryError, match=r"nothing was changed \(database is locked\)"):
        store.set_setting("change", "1")
    other.execute("ROLLBACK")
    other.close()
    assert store.speakers() == [] and store.changed_since(0)[3] == 0
    store.close()


def test_a_full_disk_rolls_back_the_transaction(tmp_path: Path) -> None:
    store = GalleryStore(tmp_path / "g", model="m", size=16)
    row = unit(1)[0]
    store.save_speaker("a", row)
    store.connection.execute("PRAGMA max_page_count=12")
    big = EnrolledRecording("x", "h", 1.0, row, np.zeros((9000, 16), np.float32), np.zeros(9000, np.float32))
    with pytest.raises(GalleryError, match=r"nothing was changed .*full"), store.write_transaction():
        store.add_recording(store.save_speaker("b", row), big)
    assert store.names() == ["a"] and store.setting("change") == "1"
    store.close()
