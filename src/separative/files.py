"""Files that are there whole or not at all: written beside their place, then moved into it; files of text,
read or refused in a sentence; and files that lie elsewhere, at an address."""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

from separative.errors import SeparativeError


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """A new, empty file to write to; it takes the place of ``path`` when the block ends without an error.

    Until then ``path`` is as it was, and so it stays if the block fails; the other file is gone then. It lies
    in the same folder (made if missing), hidden, with the same suffix, under a name that nobody else uses.

    Raises:
        OSError: the folder cannot be written in, or ``path`` is a folder.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{secrets.token_hex(6)}{path.suffix}")
    # Not by tempfile, whose files only their owner may read.
    beside.touch(exist_ok=False)
    try:
        yield beside
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def sweep(folder: Path) -> None:
    """Remove what a process that was killed inside :func:`replacing` left in a folder and below it.

    For folders that nobody else is writing in.
    """
    for path in folder.rglob(".*"):
        if re.fullmatch(r"\..+\.[0-9a-f]{12}(\..*)?", path.name) and path.is_file():
            path.unlink()


def replace_file(path: str | Path, content: bytes) -> None:
    """Write ``content`` so that ``path`` holds either the old or the new bytes, even if the machine stops."""
    with atomic_path(path) as beside, beside.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def write_json(path: str | Path, record: Any) -> None:
    """:func:`replace_file` with a record as indented JSON; file names that are no UTF-8 survive in it."""
    replace_file(path, (json.dumps(record, indent=1) + "\n").encode())


def address(path: Path) -> str | None:
    """The address (``s3://bucket/speech``) that a path was made from, which drops a slash; else None."""
    found = re.match(r"([a-z][a-z0-9+.-]+):/+(.*)", str(path))
    return f"{found[1]}://{found[2]}" if found else None


def read_lines(path: str | Path) -> list[str]:
    """Lines of a text file in UTF-8.

    Raises:
        SeparativeError: it cannot be read, or is not such text.
    """
    try:
        return Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SeparativeError(f"{path} cannot be read: {error}") from error


def open_binary(path: Path) -> BinaryIO:
    """A file opened to read, on this machine or at any address that fsspec knows.

    Raises:
        OSError: it is not there.
        ImportError, ValueError: no package for that kind of address, or no such kind.
    """
    elsewhere = address(path)
    if elsewhere is None:
        return path.open("rb")
    import fsspec

    return cast(BinaryIO, fsspec.open(elsewhere, "rb").open())
