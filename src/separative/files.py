"""Reading and writing files: atomic replacement, JSON, text lines, new folders, and files at URLs."""

from __future__ import annotations

import codecs
import errno
import gzip
import json
import os
import re
import secrets
import sys
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

from separative.errors import SeparativeError

# Bounds for files from elsewhere, so that a damaged or hostile file cannot take all memory.
MAX_JSON_BYTES = 16 << 20
MAX_LINE_BYTES = 4 << 20
MAX_TEXT_BYTES = 1 << 30
MAX_EMPTY_LINES = 1_000_000
# Manifests compress to about 1/20. Deflate reaches 1/1000, for content that repeats.
MAX_GZIP_RATIO = 200
GZIP_SLACK_BYTES = 8 << 20


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary file to write to; it replaces ``path`` when the block ends without an error.

    Until then ``path`` keeps its content. If the block fails, the temporary file is removed and ``path`` is
    unchanged. The temporary file is hidden, has the same suffix and a random name, and is in the same folder,
    which is created if it is missing.

    Raises:
        OSError: the folder is not writable, or ``path`` is a folder.

    >>> with atomic_path("notes.txt") as temporary:
    ...     _ = temporary.write_text("complete")
    ...     Path("notes.txt").exists()
    False
    >>> Path("notes.txt").read_text()
    'complete'
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}{path.suffix}")
    # The module tempfile would create files that only their owner can read.
    temporary.touch(exist_ok=False)
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def remove_stale_files(folder: Path) -> None:
    """Remove the temporary files of :func:`atomic_path` that a killed process left in a folder or below it.

    Call it only for folders that no other process writes to.

    >>> _ = Path(".results.json.0123456789ab.json").write_text("incomplete")
    >>> remove_stale_files(Path("."))
    >>> Path(".results.json.0123456789ab.json").exists()
    False
    """
    for path in folder.rglob(".*"):
        if re.fullmatch(r"\..+\.[0-9a-f]{12}(\..*)?", path.name) and path.is_file():
            path.unlink()


def new_folder(path: Path, content: str, error: type[SeparativeError] = SeparativeError) -> None:
    """Check that ``path`` does not exist or is an empty folder; nothing is created.

    Args:
        content: what the folder is for; the error message names it.
        error: class of the exception.

    Raises:
        SeparativeError: ``path`` is a file or a folder with something in it.

    >>> new_folder(Path("run"), "the run")
    >>> new_folder(Path("speech"), "the run")
    Traceback (most recent call last):
    separative.errors.SeparativeError: speech exists and is not an empty folder; choose a new folder ...
    """
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise error(f"{path} exists and is not an empty folder; choose a new folder for {content}")


def replace_file(path: str | Path, content: bytes) -> None:
    """Write ``content`` so that ``path`` holds either the old or the new bytes, even after a power failure.

    >>> replace_file("plan.yaml", b"rows: []")
    >>> Path("plan.yaml").read_bytes()
    b'rows: []'
    """
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Write the names in a folder to the disk, so that new and renamed files are there after a power failure.

    >>> sync_folder(Path("speech"))
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return  # Windows does not open folders.
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def lock_file(file: IO[Any], inherited: bool = False) -> None:
    """Lock an open file until it is closed or the process ends, however it ends. Does not wait.

    Args:
        file: a file that is open for writing.
        inherited: child processes that inherit the open file keep the lock if this process ends first.
            Windows has no such locks; there the lock ends with this process.

    Raises:
        BlockingIOError: another process has locked the file.
        OSError: the system or the file system has no locks.

    >>> with open("notes.txt", "w") as file, open("notes.txt", "w") as other:
    ...     lock_file(file, inherited=True)
    ...     lock_file(other, inherited=True)
    Traceback (most recent call last):
    BlockingIOError: ...
    """
    try:
        if sys.platform == "win32":
            import msvcrt

            file.seek(0)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            (fcntl.flock if inherited else fcntl.lockf)(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except ImportError as error:
        raise OSError(errno.ENOLCK, "this system has no locks") from error
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN, errno.EDEADLK):
            raise BlockingIOError(error.errno, "locked by another process") from error
        raise


def write_json(path: str | Path, record: Any) -> None:
    """Write a record as indented JSON with :func:`replace_file`.

    Non-ASCII characters are escaped, so file names that are not valid UTF-8 can be read back.

    >>> write_json("card.json", {"rate": 16000})
    >>> read_json(Path("card.json"))
    {'rate': 16000}
    """
    replace_file(path, (json.dumps(record, indent=1) + "\n").encode())


def parse_json(text: str | bytes, where: str | Path, error: type[SeparativeError] = SeparativeError) -> Any:
    """Parse JSON text; whatever is wrong with it is an ``error`` that names ``where``.

    Args:
        text: JSON; bytes are UTF-8, with or without a byte order mark.
        where: the file, or the file and the line, for the message.
        error: class of the exception.

    Raises:
        SeparativeError: not UTF-8, not JSON, nested too deeply, or a number with thousands of digits.

    >>> parse_json(b'{"rate": 16000}', "card.json")
    {'rate': 16000}
    >>> parse_json("[" * 100_000, "card.json")
    Traceback (most recent call last):
    separative.errors.SeparativeError: card.json: its JSON is nested too deeply
    """
    try:
        return json.loads(text.decode("utf-8-sig") if isinstance(text, bytes) else text)
    except UnicodeDecodeError as cause:
        raise error(f"{where}: not UTF-8 text ({cause.reason} at byte {cause.start})") from cause
    except json.JSONDecodeError as cause:
        raise error(f"{where}: not JSON ({cause})") from cause
    except RecursionError as cause:
        raise error(f"{where}: its JSON is nested too deeply") from cause
    except ValueError as cause:
        # Python converts no integer of more than 4300 digits.
        raise error(f"{where}: its JSON holds a number with too many digits") from cause


def read_json(
    path: str | Path, error: type[SeparativeError] = SeparativeError, limit: int = MAX_JSON_BYTES
) -> Any:
    """Read a JSON file, as written by :func:`write_json`.

    The result can be of any JSON type: check it before use.

    Args:
        error: class of the exception.
        limit: size in bytes from which a file is refused; parsed JSON takes about 20 times as much memory.

    Raises:
        SeparativeError: the file is missing, damaged or too large; the message names it.

    >>> read_json(Path("ann.wav"))
    Traceback (most recent call last):
    separative.errors.SeparativeError: ann.wav: not UTF-8 text (invalid ...)
    """
    try:
        with Path(path).open("rb") as file:
            content = file.read(limit + 1)
    except (OSError, ValueError) as cause:
        reason = (getattr(cause, "strerror", None) or str(cause)).lower()
        raise error(f"{path}: cannot be read ({reason})") from cause
    if len(content) > limit:
        raise error(f"{path}: larger than {limit >> 20} MiB, the limit for this kind of file")
    return parse_json(content, path, error)


def iterate_lines(path: str | Path, error: type[SeparativeError] = SeparativeError) -> Iterator[str]:
    """Yield the lines of a UTF-8 text file, without line ends; a name that ends in .gz is decompressed.

    The file may be at a URL. Memory is bounded: one line is read at a time, and a line or a compressed file
    that would grow without limit is an error. A byte order mark is removed.

    Args:
        error: class of the exception.

    Raises:
        SeparativeError: the file cannot be opened, read or decompressed, is not UTF-8, has a line over 4 MiB
            or a million empty lines, or decompresses to over 200 times its size.

    >>> replace_file("names.txt", b"ann\\r\\nbob\\n")
    >>> list(iterate_lines("names.txt"))
    ['ann', 'bob']
    """
    path = Path(path)
    number = empty = size = 0
    limit = GZIP_SLACK_BYTES
    with ExitStack() as opened:
        try:
            stored = opened.enter_context(open_binary(path))
            file: Any = stored
            if path.name.endswith(".gz"):
                file = opened.enter_context(gzip.GzipFile(fileobj=stored, mode="rb"))
        # fsspec raises ImportError if the package for a scheme is missing, ValueError for an unknown scheme.
        except (OSError, ImportError, ValueError) as cause:
            reason = (getattr(cause, "strerror", None) or str(cause)).lower()
            raise error(f"{path}: cannot be {'opened' if as_url(path) else 'read'} ({reason})") from cause
        try:
            while line := file.readline(MAX_LINE_BYTES + 1):
                number += 1
                size += len(line)
                if len(line) > MAX_LINE_BYTES:
                    raise error(f"{path}, line {number}: longer than {MAX_LINE_BYTES >> 20} MiB")
                empty = empty + 1 if line.isspace() else 0
                if empty > MAX_EMPTY_LINES:
                    raise error(f"{path}, line {number}: over a million empty lines")
                if file is not stored and size > limit:
                    limit = MAX_GZIP_RATIO * stored.tell() + GZIP_SLACK_BYTES
                    if size > limit:
                        raise error(
                            f"{path}, line {number}: decompresses to over {MAX_GZIP_RATIO} times its size; "
                            "if it is not a mistake, decompress it with gunzip first"
                        )
                if number == 1:
                    line = line.removeprefix(codecs.BOM_UTF8)
                # Old programs end lines with a carriage return alone.
                yield from line.decode("utf-8").rstrip("\r\n").split("\r")
        except UnicodeDecodeError as cause:
            raise error(f"{path}, line {number}: not UTF-8 text ({cause.reason})") from cause
        except (OSError, EOFError, zlib.error) as cause:
            raise error(f"{path}, line {number + 1}: cannot be read ({cause})") from cause


def read_lines(path: str | Path, error: type[SeparativeError] = SeparativeError) -> list[str]:
    """Read the lines of a UTF-8 text file; see :func:`iterate_lines`.

    Raises:
        SeparativeError: as for :func:`iterate_lines`, and for more than 1 GiB of text.

    >>> replace_file("names.txt", b"ann\\nbob\\n")
    >>> read_lines("names.txt")
    ['ann', 'bob']
    """
    lines, size = [], 0
    for line in iterate_lines(path, error):
        size += len(line) + 1
        if size > MAX_TEXT_BYTES:
            raise error(f"{path}: holds more than {MAX_TEXT_BYTES >> 30} GiB of text")
        lines.append(line)
    return lines


def as_url(path: Path) -> str | None:
    """Return the URL that a path was made from, or None for a local path.

    ``Path`` merges the two slashes of a URL into one; they are restored.

    >>> as_url(Path("s3://bucket/speech"))
    's3://bucket/speech'
    >>> as_url(Path("folder/speech")) is None
    True
    """
    found = re.match(r"([a-z][a-z0-9+.-]+):/+(.*)", str(path))
    return f"{found[1]}://{found[2]}" if found else None


def open_binary(path: Path) -> BinaryIO:
    """Open a local file, or a file at a URL that fsspec supports, for reading.

    Raises:
        OSError: no such file.
        ImportError: the package for this URL scheme is not installed.
        ValueError: fsspec does not know the URL scheme.

    >>> with open_binary(Path("ann.wav")) as file:
    ...     file.read(4)
    b'RIFF'
    """
    url = as_url(path)
    if url is None:
        return path.open("rb")
    import fsspec

    return cast(BinaryIO, fsspec.open(url, "rb").open())
