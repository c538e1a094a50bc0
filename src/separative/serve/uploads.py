"""The temporary folder of a server, and the recordings that were uploaded to it."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from starlette.concurrency import run_in_threadpool

from separative import audio
from separative.audio.foreign import foreign_file
from separative.errors import AudioError
from separative.files import lock_file
from separative.inference.formats import one_line
from separative.serve.guard import RefusedError, slow_message
from separative.serve.limits import Limits

PREFIX = "separative-serve-"
# Seconds after which an upload below the lowest rate must make room for another one.
DISPLACE_SECONDS = 2.0
MAX_LABEL_LENGTH = 200


class ScratchFolder:
    """Temporary folder that only its owner can read, with subfolders ``recordings`` and ``jobs``.

    A new server removes the folders of servers that were killed. It recognises them by their free lock.

    >>> scratch = ScratchFolder()
    >>> scratch.recordings.is_dir(), scratch.bytes()
    (True, 0)
    >>> scratch.close()
    >>> scratch.folder.exists()
    False
    """

    def __init__(self) -> None:
        for stale in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
            _remove_if_unlocked(stale)
        self.folder = Path(tempfile.mkdtemp(prefix=PREFIX))
        self._lock_file = (self.folder / "lock").open("w", encoding="utf-8")
        with suppress(OSError):
            lock_file(self._lock_file, inherited=True)
        self.recordings, self.jobs = self.folder / "recordings", self.folder / "jobs"
        self.recordings.mkdir()
        self.jobs.mkdir()

    def bytes(self) -> int:
        """Size of all files. A recording with links from jobs counts once."""
        sizes = {}
        # Other threads may remove folders meanwhile: os.walk skips missing folders, rglob would fail.
        for folder, _, names in os.walk(self.folder):
            for name in names:
                with suppress(FileNotFoundError):
                    status = Path(folder, name).stat()
                    sizes[status.st_ino] = status.st_size
        return sum(sizes.values())

    def close(self) -> None:
        """Remove the folder."""
        self._lock_file.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def _remove_if_unlocked(folder: Path) -> None:
    try:
        with (folder / "lock").open("r+", encoding="utf-8") as file:
            lock_file(file, inherited=True)
    except OSError:
        # The folder is in use, belongs to another user, has no lock file yet, or there are no locks here.
        return
    # After the lock file is closed: Windows does not remove open files.
    shutil.rmtree(folder, ignore_errors=True)


@dataclass
class UploadedRecording:
    """A recording on the server.

    Attributes:
        name: label from the client; never used as a path.
        used: time of the last use (``time.monotonic``).

    >>> from pathlib import Path
    >>> from separative import audio
    >>> UploadedRecording("3f2a", "ann", Path("ann.wav"), audio.info("ann.wav")).header.rate
    16000
    """

    id: str
    name: str
    path: Path
    header: audio.AudioInfo
    used: float = field(default_factory=time.monotonic)


class _Slot:
    """A running upload: its bytes so far, and a timer that ends it."""

    def __init__(self) -> None:
        self.begun, self.count = time.monotonic(), 0
        self.timer: asyncio.Timeout | None = None

    @property
    def rate(self) -> float:
        """Bytes per second."""
        return self.count / max(time.monotonic() - self.begun, 1e-6)


class Uploads:
    """All recordings on the server, by id.

    >>> import asyncio
    >>> from pathlib import Path
    >>> async def chunks():
    ...     yield Path("ann.wav").read_bytes()
    >>> scratch = ScratchFolder()
    >>> uploads = Uploads(scratch, Limits())
    >>> asyncio.run(uploads.receive("ann.wav", chunks(), None)).header.rate
    16000
    >>> scratch.close()
    """

    def __init__(self, scratch: ScratchFolder, limits: Limits) -> None:
        self.scratch, self.limits = scratch, limits
        self._uploaded: dict[str, UploadedRecording] = {}
        # Running uploads, and the bytes reserved for them.
        self._running: set[_Slot] = set()
        self._reserved = 0

    def __len__(self) -> int:
        return len(self._uploaded)

    async def receive(
        self, name: str | Callable[[], str], chunks: AsyncIterator[bytes], size: int | None
    ) -> UploadedRecording:
        """Write an upload to a file and keep it if it is a recording within the limits.

        If all slots are taken, the slowest upload below the lowest rate makes room.

        Args:
            name: label of the recording, or a function that returns it after the upload.
            size: announced size in bytes, if known.

        Raises:
            RefusedError: the upload is too large, too long, too slow or no recording, or there are too many.
            OSError: the file cannot be written.
        """
        limits = self.limits
        too_large = RefusedError(
            413, f"the recording is too large; at most {limits.megabytes:g} megabytes are allowed"
        )
        if size is not None and size > limits.bytes:
            raise too_large
        if len(self._running) >= limits.uploads and not self._displace_slow():
            raise RefusedError(429, f"{len(self._running)} uploads are running; try again later", retry=2)
        # Without an announced size, the upload may be as large as the limit.
        reserved = limits.bytes if size is None else size
        slot = _Slot()
        self._running.add(slot)
        self._reserved += reserved
        id_ = secrets.token_hex(16)
        path = self.scratch.recordings / id_
        accepted = False
        try:
            await run_in_threadpool(self.check_space)
            async with asyncio.timeout(limits.upload_seconds) as slot.timer:
                with path.open("xb") as file:
                    async for chunk in chunks:
                        slot.count += len(chunk)
                        if slot.count > limits.bytes:
                            raise too_large
                        file.write(chunk)
            slot.timer = None
            label = clean_label(name if isinstance(name, str) else name())
            header = await run_in_threadpool(check_recording, path, label, limits)
            uploaded = self._uploaded[id_] = UploadedRecording(id_, label, path, header)
            accepted = True
            return uploaded
        except TimeoutError as error:
            if slot not in self._running:
                raise RefusedError(408, slow_message(limits), retry=10) from error
            raise RefusedError(
                408, f"the upload took more than {limits.upload_seconds:g} seconds; upload a smaller file"
            ) from error
        finally:
            self._running.discard(slot)
            self._reserved -= reserved
            if not accepted:
                path.unlink(missing_ok=True)

    def _displace_slow(self) -> bool:
        """End the slowest running upload if it is below the lowest rate; returns True if one was ended."""
        oldest = time.monotonic() - DISPLACE_SECONDS
        slow = [
            slot
            for slot in self._running
            if slot.timer is not None and slot.begun < oldest and slot.rate < self.limits.bytes_per_second
        ]
        if not slow:
            return False
        slowest = min(slow, key=lambda slot: slot.rate)
        assert slowest.timer is not None
        slowest.timer.reschedule(0)
        self._running.discard(slowest)
        return True

    def check_space(self, needed: int = 0) -> None:
        """Check that running uploads and ``needed`` more bytes stay within the limit.

        Raises:
            RefusedError: the server's storage is full (status 429).
        """
        if self.scratch.bytes() + self._reserved + needed > self.limits.gigabytes * 1e9:
            raise RefusedError(
                429, "the server's storage for recordings and results is full; try again later", retry=60
            )

    def get(self, id_: str) -> UploadedRecording:
        """The recording with an id.

        Raises:
            RefusedError: there is no such recording (status 404).
        """
        uploaded = self._uploaded.get(id_)
        if uploaded is None:
            raise RefusedError(404, "no such recording; it may have been removed, upload it again")
        uploaded.used = time.monotonic()
        return uploaded

    def remove(self, id_: str) -> None:
        """Remove a recording. Jobs that use it keep a link to the file."""
        self.get(id_)
        uploaded = self._uploaded.pop(id_, None)
        if uploaded is not None:
            uploaded.path.unlink(missing_ok=True)

    def expire(self) -> None:
        """Remove recordings that were not used for ``keep_minutes``."""
        oldest = time.monotonic() - 60 * self.limits.keep_minutes
        for uploaded in list(self._uploaded.values()):
            if uploaded.used < oldest and self._uploaded.pop(uploaded.id, None) is not None:
                uploaded.path.unlink(missing_ok=True)


def check_recording(path: Path, label: str, limits: Limits) -> audio.AudioInfo:
    """Read the header of a recording and check it against the limits.

    Raises:
        RefusedError: the file is no recording (status 415), or exceeds a limit (413).

    >>> from pathlib import Path
    >>> check_recording(Path("ann.wav"), "ann.wav", Limits()).channels
    1
    >>> check_recording(Path("ann.wav"), "ann.wav", Limits(minutes=0.01))
    Traceback (most recent call last):
    separative.serve.guard.RefusedError: ann.wav lasts 0 minutes; at most 0.01 minutes are allowed
    """
    try:
        header = audio.info(path, max_seconds=60 * limits.minutes)
    except AudioError as error:
        # The file on the server has another name than the label, so its suffix and command would be wrong.
        known = foreign_file(path, label)
        message = f"{label}: {known}" if known else str(error).replace(str(path), label)
        raise RefusedError(415, message) from error
    if header.seconds > 60 * limits.minutes:
        # A damaged header can state any duration.
        stated = f"{header.seconds / 60:.0f}" if header.seconds < 1e6 else "very many"
        raise RefusedError(
            413, f"{label} lasts {stated} minutes; at most {limits.minutes:g} minutes are allowed"
        )
    if header.channels > limits.channels:
        raise RefusedError(
            413, f"{label} has {header.channels} channels; at most {limits.channels} are allowed"
        )
    samples = header.frames * header.channels
    if header.rate > limits.max_rate or samples > limits.samples:
        raise RefusedError(
            413,
            f"{label} has {samples / 1e6:.0f} million samples at {header.rate} Hz; at most"
            f" {limits.samples / 1e6:.0f} million at {limits.max_rate} Hz are allowed",
        )
    return header


def clean_label(name: str) -> str:
    """Turn a file name from a client into one printable line without folders.

    >>> clean_label("../talks/monday\\n.wav")
    'monday .wav'
    """
    last = name.replace("\\", "/").rstrip("/").rpartition("/")[2]
    return one_line(last)[:MAX_LABEL_LENGTH] or "recording"
