"""The one temporary folder of a server: private, and gone with it however it ends."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import IO

PREFIX = "separative-serve-"


class Scratch:
    """A folder that only its owner may read, with ``recordings`` and ``jobs`` in it.

    What a server that was killed left behind is removed by the next one: its lock is free.
    """

    def __init__(self) -> None:
        for stale in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
            _remove_if_free(stale)
        self.folder = Path(tempfile.mkdtemp(prefix=PREFIX))
        self._held = (self.folder / "lock").open("w")
        _lock(self._held)
        self.recordings, self.jobs = self.folder / "recordings", self.folder / "jobs"
        self.recordings.mkdir()
        self.jobs.mkdir()

    def bytes(self) -> int:
        """Of all files; a recording that a job reads too counts once."""
        held = {}
        # Folders and files may be removed meanwhile: os.walk passes over folders that are gone, rglob fails.
        for folder, _, names in os.walk(self.folder):
            for name in names:
                with suppress(FileNotFoundError):
                    status = Path(folder, name).stat()
                    held[status.st_ino] = status.st_size
        return sum(held.values())

    def close(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        self._held.close()


def _remove_if_free(folder: Path) -> None:
    try:
        with (folder / "lock").open("r+") as file:
            _lock(file)
            shutil.rmtree(folder, ignore_errors=True)
    except OSError:  # in use, another user's, or not complete yet
        return


def _lock(file: IO[str]) -> None:
    """Raises OSError if another process has it."""
    if sys.platform == "win32":
        # There, a folder with open files cannot be removed anyway.
        return
    import fcntl

    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
