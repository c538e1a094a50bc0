"""Audio files inside tar archives, and at URLs that fsspec can open (``s3://``, ``hf://``, ...)."""

from __future__ import annotations

import logging
import os
import tarfile
import weakref
from functools import lru_cache
from pathlib import Path
from threading import Lock

from separative.errors import AudioError, SeparativeError
from separative.files import as_url, open_binary, parse_json

log = logging.getLogger(__name__)

# Number of archives that are kept open.
OPEN_ARCHIVES = 64
# An archive of a million members has an index of 40 MB.
MAX_INDEX_BYTES = 256 << 20


def file_bytes(path: Path) -> bytes:
    """Return the bytes of an audio file: local, in a tar archive or at a URL.

    Raises:
        AudioError: the archive has no such member, or the URL cannot be opened.
        OSError: no such file.

    >>> file_bytes(Path("ann.wav"))[:4]
    b'RIFF'
    """
    data = None if path.is_file() else archived_bytes(path)
    return path.read_bytes() if data is None else data


def archived_bytes(path: Path) -> bytes | None:
    """Return the bytes of ``ARCHIVE.tar/member`` or of a file at a URL; None for any other path.

    Raises:
        AudioError: the archive has no such member, or the URL cannot be opened.

    >>> with tarfile.open("speech.tar", "w") as tar:
    ...     tar.add("ann.wav")
    >>> archived_bytes(Path("speech.tar/ann.wav")) == Path("ann.wav").read_bytes()
    True
    >>> archived_bytes(Path("ann.wav")) is None
    True
    """
    try:
        archive = next((parent for parent in path.parents if parent.suffix == ".tar"), None)
        if archive is not None and (as_url(archive) or archive.is_file()):
            opened = _open_archive(str(archive), file_stamp(archive), os.getpid())
            return opened.read(path.relative_to(archive).as_posix())
        if as_url(path):
            with open_binary(path) as file:
                return file.read()
    # fsspec raises ImportError if the package for a URL scheme is missing, ValueError for an unknown scheme.
    except (OSError, ImportError, ValueError, KeyError, tarfile.TarError) as error:
        raise AudioError(f"{path}: cannot be read there ({error})") from error
    return None


def file_stamp(path: Path) -> tuple[int, int] | None:
    """Return size and modification time (ns) of a file, or of the archive that contains it.

    The result is None if neither is a local file.

    >>> file_stamp(Path("ann.wav")) == file_stamp(Path("ann.wav/member"))
    True
    >>> file_stamp(Path("missing.wav")) is None
    True
    """
    for place in (path, *path.parents):
        if place.is_file():
            status = place.stat()
            return status.st_size, status.st_mtime_ns
    return None


def index_path(archive: Path) -> Path:
    """Return the path of an archive's index: a JSON object with the offset and size of each member.

    >>> index_path(Path("shard-00000.tar")).name
    'shard-00000.json'
    """
    return archive.with_suffix(".json")


# The stamp is an argument so that a replaced archive is opened again. The process is one because processes
# that share an open file would move each other's position.
@lru_cache(OPEN_ARCHIVES)
def _open_archive(path: str, stamp: tuple[int, int] | None, process: int) -> _Archive:
    return _Archive(Path(path))


class _Archive:
    """An open archive; any thread can read members by name."""

    def __init__(self, path: Path) -> None:
        self.lock = Lock()
        self.path = path
        self.file = open_binary(path)
        weakref.finalize(self, self.file.close)
        self.size = self.file.seek(0, os.SEEK_END)
        # None if another program wrote this archive: there is no index, or the JSON file is something else.
        self.index = _read_index(index_path(path))
        self.members = self._scan() if self.index is None else self.index

    def read(self, name: str) -> bytes:
        """Return the bytes of a member.

        The index is trusted only where the header in the archive has the same name and size: an index that is
        left from another archive would give the sound of another utterance.

        Raises:
            KeyError: no such member.
            OSError: the archive is truncated.
        """
        with self.lock:
            if self.index is not None and not self._is_indexed(name):
                self.index, self.members = None, self._scan()
                if name in self.members:
                    index = index_path(self.path)
                    log.warning("%s: does not fit its archive and is ignored; delete it", index)
            if name not in self.members:
                raise KeyError(f"no member '{name}'")
            start, size = self.members[name]
            if start + size > self.size:
                raise OSError(f"the archive ends inside member '{name}'")
            self.file.seek(start)
            data = self.file.read(size)
        if len(data) < size:
            raise OSError(f"the archive ends inside member '{name}'")
        return data

    def _is_indexed(self, name: str) -> bool:
        """Return True if the archive has the header of this member where the index states it."""
        if name not in self.members:
            return False
        start, size = self.members[name]
        if start < tarfile.BLOCKSIZE:
            return False
        self.file.seek(start - tarfile.BLOCKSIZE)
        try:
            block = self.file.read(tarfile.BLOCKSIZE)
            header = tarfile.TarInfo.frombuf(block, tarfile.ENCODING, "surrogateescape")
        except tarfile.TarError:
            return False
        return (header.name, header.size) == (name, size)

    def _scan(self) -> dict[str, tuple[int, int]]:
        """Read the headers of all members, which takes a pass over the whole archive."""
        self.file.seek(0)
        with tarfile.open(fileobj=self.file) as tar:
            return {member.name: (member.offset_data, member.size) for member in tar if member.isfile()}


def _read_index(path: Path) -> dict[str, tuple[int, int]] | None:
    """Read an index; None if there is none, or if the file holds something else."""
    try:
        with open_binary(path) as file:
            content = file.read(MAX_INDEX_BYTES + 1)
    except (FileNotFoundError, IsADirectoryError):
        return None
    if len(content) > MAX_INDEX_BYTES:
        return None
    try:
        record = parse_json(content, path)
    except SeparativeError:
        return None
    if not isinstance(record, dict):
        return None
    members: dict[str, tuple[int, int]] = {}
    for name, place in record.items():
        if not isinstance(place, list) or [type(value) for value in place] != [int, int] or min(place) < 0:
            return None
        members[name] = (place[0], place[1])
    return members
