"""Sound files inside tar archives, and at addresses that fsspec can open (``s3://``, ``hf://``, ...)."""

from __future__ import annotations

import json
import os
import tarfile
import weakref
from functools import lru_cache
from pathlib import Path
from threading import Lock

from separative.errors import AudioError
from separative.files import address, open_binary

# Archives that are open at once.
OPEN = 64


def file_bytes(path: Path) -> bytes:
    """The bytes of a sound file, wherever it is.

    Raises:
        AudioError: as :func:`content`.
        OSError: no such file.
    """
    inside = None if path.is_file() else content(path)
    return path.read_bytes() if inside is None else inside


def content(path: Path) -> bytes | None:
    """The bytes of ``ARCHIVE.tar/member`` or of a file at an address; None for any other path.

    Raises:
        AudioError: the archive has no such member, or the address cannot be opened.
    """
    try:
        archive = next((parent for parent in path.parents if parent.suffix == ".tar"), None)
        if archive is not None and (address(archive) or archive.is_file()):
            opened = _archive(str(archive), stamp(archive), os.getpid())
            return opened.read(path.relative_to(archive).as_posix())
        if address(path):
            with open_binary(path) as file:
                return file.read()
    # fsspec: ImportError where a protocol's package is missing, ValueError for a protocol it does not know.
    except (OSError, ImportError, ValueError, KeyError, tarfile.TarError) as error:
        raise AudioError(f"{path}: cannot be read there ({error})") from error
    return None


def stamp(path: Path) -> tuple[int, int] | None:
    """Size and time of a file, or of the archive that holds it: others if it changes. None elsewhere."""
    for place in (path, *path.parents):
        if place.is_file():
            status = place.stat()
            return status.st_size, status.st_mtime_ns
    return None


def index_of(archive: Path) -> Path:
    """Where the places of an archive's members are written down, beside it."""
    return archive.with_suffix(".json")


@lru_cache(OPEN)
def _archive(path: str, stamp: tuple[int, int] | None, process: int) -> _Archive:
    # One that has been replaced is another; and processes would move each other's place in a shared one.
    return _Archive(Path(path))


class _Archive:
    """An open archive, read by member name from any thread."""

    def __init__(self, path: Path) -> None:
        self.lock = Lock()
        self.file = open_binary(path)
        weakref.finalize(self, self.file.close)
        try:
            with open_binary(index_of(path)) as index:
                self.places = {name: (start, size) for name, (start, size) in json.load(index).items()}
        except (FileNotFoundError, AttributeError, ValueError, TypeError):
            # An archive of other makers, perhaps with something else under that name: its headers are read,
            # which passes over the whole of it.
            with tarfile.open(fileobj=self.file) as tar:
                self.places = {member.name: (member.offset_data, member.size) for member in tar}

    def read(self, name: str) -> bytes:
        if name not in self.places:
            raise KeyError(f"no member '{name}'")
        start, size = self.places[name]
        with self.lock:
            self.file.seek(start)
            data = self.file.read(size)
        if len(data) < size:
            raise OSError("the archive ends inside it")
        return data
