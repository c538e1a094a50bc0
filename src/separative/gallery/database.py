"""The gallery's only file, an SQLite database: its tables, its transactions, and checks for damage.

Transactions keep concurrent writers apart and survive a killed process. The rollback journal is deleted at
the end of each transaction; a write-ahead log would keep deleted content for longer.

Deleted content is overwritten with zeros (``secure_delete``). SQLite does not overwrite the copies that stay
in unused parts of pages when it moves rows between pages, so the file is rebuilt (``VACUUM``) after each
removal. If that is not possible at once, the next change or opening rebuilds the file.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

from separative.errors import GalleryBusyError, GalleryDamagedError, GalleryError
from separative.files import new_folder
from separative.gallery.records import DIGEST_BYTES, row_digest

FORMAT = "2"
FILE = "gallery.sqlite"
# A file up to this size is rebuilt in memory.
MAX_REBUILD_IN_MEMORY = 256 << 20

SCHEMA = """
CREATE TABLE fact (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE speaker (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    twin TEXT NOT NULL,
    added TEXT NOT NULL,
    metadata TEXT NOT NULL,
    embedding BLOB NOT NULL,
    change INTEGER NOT NULL,
    recordings INTEGER NOT NULL,
    seconds REAL NOT NULL,
    content BLOB NOT NULL,
    digest BLOB NOT NULL);
CREATE INDEX speaker_twin ON speaker (twin);
CREATE INDEX speaker_change ON speaker (change);
CREATE TABLE recording (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    speaker INTEGER NOT NULL REFERENCES speaker (id) ON DELETE CASCADE,
    source TEXT NOT NULL,
    hash TEXT NOT NULL,
    seconds REAL NOT NULL,
    query BLOB NOT NULL,
    memory BLOB NOT NULL,
    logit BLOB NOT NULL,
    sound BLOB,
    digest BLOB NOT NULL,
    UNIQUE (speaker, hash));
CREATE INDEX recording_hash ON recording (hash);
CREATE TABLE gone (id INTEGER PRIMARY KEY, change INTEGER NOT NULL);
"""
# `sum` is the sum of the digests of all speakers. `removed` is the change of the last removal, and `rebuilt`
# the last removal after which the file was rebuilt. `seal` is the digest of all other facts.
FACTS = {"change": "0", "count": "0", "sum": "0" * 2 * DIGEST_BYTES, "removed": "0", "rebuilt": "0"}


class Database:
    """An open gallery database.

    Args:
        folder: folder of the database; created if missing, unless ``create`` is False.
        model: SHA-256 of the model's weights, stored in a new database.
        size: number of embedding dimensions, stored in a new database.
        timeout: seconds to wait for a database that another process has locked.

    Raises:
        GalleryError: the folder holds other files, or a database of another format.
        GalleryDamagedError: the database is damaged. Every method may raise it.
        GalleryBusyError: another process has locked the database. Every method may raise it.

    >>> database = Database(Path("gallery"), model="3f2a", size=4, timeout=2.0)
    >>> database.setting("model"), database.setting("change")
    ('3f2a', '0')
    >>> database.close()
    """

    def __init__(self, folder: Path, *, model: str, size: int, create: bool = True, timeout: float) -> None:
        self.path = folder / FILE
        self.timeout = timeout
        # The facts during a write transaction. They are written at its end.
        self._facts: dict[str, str] | None = None
        if not self.path.is_file():
            if not create:
                raise GalleryError(f"no gallery at '{folder}'; create one with: separative gallery add")
            _create_file(self.path, FACTS | {"format": FORMAT, "model": model, "size": str(size)})
        # Threads of a server share the connection; the gallery's lock serialises them.
        self.connection = sqlite3.connect(
            self.path, timeout=self.timeout, isolation_level=None, check_same_thread=False
        )
        try:
            with self._typed_errors("read"):
                self._check_file()
            self.size = int(self.setting("size"))
            with suppress(GalleryError):
                self._rebuild_after_removal()
        except BaseException:
            self.connection.close()
            raise

    def close(self) -> None:
        """Close the database."""
        self.connection.close()

    def _check_file(self) -> None:
        """Set up the connection, and check the format, the tables and the structure of the speakers."""
        try:
            for setting in ("secure_delete", "foreign_keys", "cell_size_check"):
                self.connection.execute(f"PRAGMA {setting} = ON")
            self.connection.execute("PRAGMA temp_store = MEMORY")
            found = self.connection.execute("SELECT value FROM fact WHERE name = 'format'").fetchone()
        except sqlite3.DatabaseError as error:
            if _is_busy(error):
                raise
            raise GalleryDamagedError(
                f"{self.path} is not a readable gallery database: {error}; restore a copy, or import an"
                " export into a new gallery"
            ) from error
        if found is not None and found[0] != FORMAT:
            raise GalleryError(
                f"{self.path} has gallery format {found[0]}; this version reads format {FORMAT}: export it"
                " with the version that made it, and import the file"
            )
        if _tables(self.connection) != _expected_tables():
            raise self._damaged("its tables differ from those of a gallery")
        if self.connection.execute("PRAGMA journal_mode").fetchone()[0] != "delete":
            self.connection.execute("PRAGMA journal_mode = DELETE")
        problem = self.connection.execute("PRAGMA integrity_check(speaker)").fetchone()[0]
        if problem != "ok":
            raise self._damaged(problem)

    def _damaged(self, reason: object) -> GalleryDamagedError:
        return GalleryDamagedError(
            f"{self.path} is damaged ({reason}); restore a copy, or import an export into a new gallery"
        )

    @contextmanager
    def _typed_errors(self, action: str) -> Iterator[None]:
        """Turn errors of SQLite into errors of the gallery; ``action`` is ``read`` or ``write``."""
        end = "nothing was changed" if action == "write" else "try again later"
        now = "" if action == "write" else " now"
        try:
            yield
        except sqlite3.ProgrammingError:
            raise
        except sqlite3.DatabaseError as error:
            if _is_busy(error):
                raise GalleryBusyError(f"cannot {action} {self.path}{now}; {end} ({error})") from error
            # An error of the general class is one in a statement. All statements suit an undamaged file.
            if isinstance(error, sqlite3.OperationalError) and _code(error) != sqlite3.SQLITE_ERROR:
                raise GalleryError(f"cannot {action} {self.path}{now}; {end} ({error})") from error
            raise self._damaged(error) from error
        except UnicodeDecodeError as error:
            raise self._damaged(error) from error

    @contextmanager
    def write_transaction(self) -> Iterator[None]:
        """Write everything in the block, or nothing. Waits while another process writes.

        Raises:
            GalleryError: the database stays locked, the disk is full, or it is read-only.
        """
        if self.connection.in_transaction:
            yield
            return
        with self._typed_errors("write"):
            self.connection.execute("BEGIN IMMEDIATE")
            try:
                before = self._read_facts()
                self._facts = dict(before)
                yield
                if self._facts != before:
                    self._facts["seal"] = _seal(self._facts)
                    self.connection.executemany(
                        "UPDATE fact SET value = ? WHERE name = ?",
                        [(value, name) for name, value in self._facts.items()],
                    )
                self.connection.execute("COMMIT")
            except BaseException:
                if self.connection.in_transaction:
                    self.connection.execute("ROLLBACK")
                raise
            finally:
                self._facts = None
        self._rebuild_after_removal()

    @contextmanager
    def read_transaction(self) -> Iterator[None]:
        """Let all reads in the block see the same state."""
        if self.connection.in_transaction:
            yield
            return
        with self._typed_errors("read"):
            self.connection.execute("BEGIN")
            try:
                yield
            finally:
                if self.connection.in_transaction:
                    self.connection.execute("COMMIT")

    def _rebuild_after_removal(self) -> None:
        """Rebuild the file if speakers were removed since it was rebuilt, so that no copies of them stay.

        Raises:
            GalleryError: the file cannot be rebuilt now. The removed speakers stay removed.
        """
        facts = self._read_facts()
        if facts["removed"] == facts["rebuilt"]:
            return
        try:
            large = self.path.stat().st_size > MAX_REBUILD_IN_MEMORY
            self.connection.execute(f"PRAGMA temp_store = {'FILE' if large else 'MEMORY'}")
            self.connection.execute("VACUUM")
            self.connection.execute("PRAGMA temp_store = MEMORY")
            self.connection.execute("BEGIN IMMEDIATE")
            try:
                # Another process may have removed more speakers meanwhile.
                latest = self._read_facts() | {"rebuilt": facts["removed"]}
                self.connection.executemany(
                    "UPDATE fact SET value = ? WHERE name = ?",
                    [(latest["rebuilt"], "rebuilt"), (_seal(latest), "seal")],
                )
            finally:
                self.connection.execute("COMMIT")
        except (OSError, sqlite3.OperationalError) as error:
            kind = GalleryBusyError if isinstance(error, sqlite3.Error) and _is_busy(error) else GalleryError
            raise kind(
                f"the change was written, but {self.path} cannot be rebuilt now ({error}); until the next"
                " change, unused parts of the file may hold copies of removed names and embeddings"
            ) from error

    def setting(self, name: str) -> str:
        """Value of a fact: ``format``, ``model``, ``size``, ``change`` or another of FACTS."""
        return (self._facts or self._read_facts())[name]

    def set_setting(self, name: str, value: str) -> None:
        """Replace a value that :meth:`setting` returns."""
        with self.write_transaction():
            self._open_facts[name] = value

    @property
    def _open_facts(self) -> dict[str, str]:
        """The facts of the open write transaction."""
        assert self._facts is not None, "a write needs a write transaction"
        return self._facts

    def _read_facts(self) -> dict[str, str]:
        facts = dict(self._rows("SELECT name, value FROM fact"))
        if set(facts) != {*FACTS, "format", "model", "size", "seal"} or facts["seal"] != _seal(facts):
            raise self._damaged("checksum mismatch of its facts")
        return facts

    def _next_change(self) -> int:
        """Count one more change, so that readers know what to update. Call it inside a transaction."""
        facts = self._open_facts
        facts["change"] = str(int(facts["change"]) + 1)
        return int(facts["change"])

    def _rows(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """All rows of a query."""
        with self._typed_errors("read"):
            return self.connection.execute(statement, values).fetchall()


def _create_file(path: Path, facts: Mapping[str, str]) -> None:
    """Create a database, unless another process has just done so. No process sees an incomplete file."""
    folder, start = path.parent, f".{path.name}."
    # A process that was killed while it created the database leaves a temporary file.
    if not folder.is_dir() or any(
        not other.name.startswith((start, path.name)) for other in folder.iterdir()
    ):
        new_folder(folder, "the gallery", GalleryError)
    temporary = folder / f"{start}{secrets.token_hex(6)}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(_new_database(facts))
        try:
            os.link(temporary, path)
        except FileExistsError:
            return
        except OSError:
            # Some file systems have no links.
            if not path.exists():
                temporary.replace(path)
    except OSError as error:
        raise GalleryError(f"cannot create {path} ({error.strerror or error})") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _new_database(facts: Mapping[str, str]) -> bytes:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(SCHEMA)
        connection.executemany(
            "INSERT INTO fact VALUES (?, ?)", sorted({**facts, "seal": _seal(facts)}.items())
        )
        connection.commit()
        return connection.serialize()


@cache
def _expected_tables() -> frozenset[tuple[Any, ...]]:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(SCHEMA)
        return _tables(connection)


def _tables(connection: sqlite3.Connection) -> frozenset[tuple[Any, ...]]:
    """Definitions of all tables and indices."""
    return frozenset(connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_master").fetchall())


def _seal(facts: Mapping[str, str]) -> str:
    """Digest of all facts except the seal."""
    return row_digest(*(text for item in sorted(facts.items()) if item[0] != "seal" for text in item)).hex()


def _code(error: sqlite3.Error) -> int:
    """Primary result code of SQLite. Errors of the Python module have none."""
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF


def _is_busy(error: sqlite3.Error) -> bool:
    return _code(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
