"""The one temporary folder of a server: private, and gone with it however it ends."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from starlette.concurrency import run_in_threadpool

from separative import audio
from separative.errors import AudioError
from separative.serve.guard import RefusedError
from separative.serve.limits import Limits

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


LONGEST_NAME = 200


@dataclass
class Held:
    """A recording that was taken: ``name`` is what its owner calls it, a label and never a path."""

    id: str
    name: str
    path: Path
    header: audio.AudioInfo
    used: float = field(default_factory=time.monotonic)


class Recordings:
    """All recordings that the server holds, by id."""

    def __init__(self, scratch: Scratch, limits: Limits) -> None:
        self.scratch, self.limits = scratch, limits
        self._held: dict[str, Held] = {}
        self._coming = self._announced = 0

    def __len__(self) -> int:
        return len(self._held)

    async def take(self, name: str, chunks: AsyncIterator[bytes], size: int | None) -> Held:
        """Write an upload to a file and keep it, if it is a recording within the limits.

        Args:
            size: in bytes, as far as it was announced.

        Raises:
            RefusedError: too large, too long, no sound, too many at once, too slow.
            OSError: it cannot be written.
        """
        limits = self.limits
        too_large = RefusedError(413, f"recordings up to {limits.megabytes:g} megabytes are taken")
        if size is not None and size > limits.bytes:
            raise too_large
        if self._coming >= limits.uploads:
            raise RefusedError(429, f"{self._coming} uploads are on their way already; try again", retry=2)
        # What does not say how large it is may be as large as it likes, up to the limit.
        announced = limits.bytes if size is None else size
        self._coming += 1
        self._announced += announced
        id_ = secrets.token_hex(16)
        path, label = self.scratch.recordings / id_, label_of(name)
        kept = False
        try:
            await run_in_threadpool(self.room)
            async with asyncio.timeout(limits.upload_seconds):
                count = 0
                with path.open("xb") as file:
                    async for chunk in chunks:
                        count += len(chunk)
                        if count > limits.bytes:
                            raise too_large
                        file.write(chunk)
            header = await run_in_threadpool(judge, path, label, limits)
            held = self._held[id_] = Held(id_, label, path, header)
            kept = True
            return held
        except TimeoutError as error:
            raise RefusedError(408, f"the upload took over {limits.upload_seconds:g} seconds") from error
        finally:
            self._coming -= 1
            self._announced -= announced
            if not kept:
                path.unlink(missing_ok=True)

    def room(self, wanted: int = 0) -> None:
        """Is there room for uploads on their way, and ``wanted`` bytes more?

        Raises:
            RefusedError: the server holds as much as it may (status 429).
        """
        if self.scratch.bytes() + self._announced + wanted > self.limits.gigabytes * 1e9:
            raise RefusedError(429, "the server holds as much as it may; try later", retry=60)

    def get(self, id_: str) -> Held:
        """Raises RefusedError, status 404."""
        held = self._held.get(id_)
        if held is None:
            raise RefusedError(404, "no such recording: it was removed, or never was here")
        held.used = time.monotonic()
        return held

    def remove(self, id_: str) -> None:
        """Jobs that have begun with it keep a link of their own."""
        self.get(id_)
        held = self._held.pop(id_, None)
        if held is not None:
            held.path.unlink(missing_ok=True)

    def expire(self) -> None:
        """Remove what nobody used for long."""
        before = time.monotonic() - 60 * self.limits.keep_minutes
        for held in list(self._held.values()):
            if held.used < before and self._held.pop(held.id, None) is not None:
                held.path.unlink(missing_ok=True)


def judge(path: Path, label: str, limits: Limits) -> audio.AudioInfo:
    """The header of a recording that may be decoded.

    Raises:
        RefusedError: no sound (status 415), or more than may be decoded (413).
    """
    try:
        header = audio.info(path, longest=60 * limits.minutes)
    except AudioError as error:
        raise RefusedError(415, str(error).replace(str(path), label)) from error
    if header.seconds > 60 * limits.minutes:
        # A header may claim centuries.
        claimed = f"{header.seconds / 60:.0f}" if header.seconds < 1e6 else "very many"
        raise RefusedError(
            413, f"{label} lasts {claimed} minutes; recordings up to {limits.minutes:g} minutes are taken"
        )
    if header.channels > limits.channels:
        raise RefusedError(413, f"{label} has {header.channels} channels; up to {limits.channels} are taken")
    samples = header.frames * header.channels
    if header.rate > limits.highest_rate or samples > limits.samples:
        raise RefusedError(
            413,
            f"{label} would decode to {samples / 1e6:.0f} million samples at {header.rate} Hz; up to"
            f" {limits.samples / 1e6:.0f} million at {limits.highest_rate} Hz are taken",
        )
    return header


def label_of(name: str) -> str:
    """A name to show and to print, of one line, without folders: browsers and tools send what they like."""
    last = name.replace("\\", "/").rstrip("/").rpartition("/")[2]
    plain = "".join(c if c.isprintable() else " " for c in last.encode("utf-8", "replace").decode())
    return " ".join(plain.split())[:LONGEST_NAME] or "recording"
