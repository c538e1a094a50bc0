"""The gallery's only file, an SQLite database: speakers and what is stored of each of their recordings.

Transactions keep concurrent writers apart and survive a killed process. Deleted content is overwritten with
zeros (``secure_delete``). The rollback journal is deleted at the end of each transaction; a write-ahead log
would keep deleted content for longer.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from separative.errors import GalleryError, UnknownSpeakerError
from separative.files import new_folder
from separative.types import Floats

FORMAT = "1"
FILE = "gallery.sqlite"
# Seconds to wait for a database that another process has locked.
LOCK_TIMEOUT_SECONDS = 60.0

SCHEMA = """
CREATE TABLE IF NOT EXISTS fact (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS speaker (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    added TEXT NOT NULL,
    metadata TEXT NOT NULL,
    embedding BLOB NOT NULL,
    change INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS speaker_change ON speaker (change);
CREATE TABLE IF NOT EXISTS recording (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    speaker INTEGER NOT NULL REFERENCES speaker (id) ON DELETE CASCADE,
    source TEXT NOT NULL,
    hash TEXT NOT NULL,
    seconds REAL NOT NULL,
    query BLOB NOT NULL,
    memory BLOB NOT NULL,
    logit BLOB NOT NULL,
    sound BLOB,
    UNIQUE (speaker, hash));
CREATE TABLE IF NOT EXISTS gone (id INTEGER PRIMARY KEY, change INTEGER NOT NULL);
"""


@dataclass(frozen=True)
class EnrolledSpeaker:
    """A speaker of a gallery.

    Attributes:
        recordings: number of recordings.
        speech_seconds: speech in all recordings together.
        added: time of the first enrolment (ISO 8601, UTC).
        metadata: JSON values stored with the speaker.

    >>> EnrolledSpeaker("ann", 2, 31.5, "2026-05-01T12:00:00+00:00", {"team": "blue"}).speech_seconds
    31.5
    """

    name: str
    recordings: int
    speech_seconds: float
    added: str
    metadata: dict[str, Any]


@dataclass(frozen=True)
class EnrolledRecording:
    """What a gallery stores of one recording of a speaker.

    Attributes:
        source: file name or label of the recording.
        hash: SHA-256 of the audio (or of the embedding, for a speaker taken from a diarization).
        speech_seconds: speech of the speaker.
        query: query of the cross-attention [E], unit norm.
        memory: segment embeddings [M,E] that queries attend to.
        memory_logit: log-odds of speech activity in each of these segments [M].
        audio: bytes of the audio file, or None if they were not kept.

    >>> import numpy as np
    >>> query, memory = np.ones(4, np.float32) / 2, np.zeros((3, 4), np.float32)
    >>> EnrolledRecording("ann.wav", "3f2a", 12.0, query, memory, np.zeros(3, np.float32)).audio is None
    True
    """

    source: str
    hash: str
    speech_seconds: float
    query: Floats
    memory: Floats
    memory_logit: Floats
    audio: bytes | None = None


class GalleryStore:
    """Typed access to the database. Every method is one transaction, or part of the open one.

    Args:
        folder: folder of the database; created if missing, unless ``create`` is False.
        model: SHA-256 of the model's weights, stored in a new database.
        size: number of embedding dimensions, stored in a new database.

    Raises:
        GalleryError: the folder holds other files, or a database of another format, or is damaged.

    >>> from pathlib import Path
    >>> import numpy as np
    >>> store = GalleryStore(Path("gallery"), model="3f2a", size=4)
    >>> store.save_speaker("ann", np.ones(4) / 2, added="2026-05-01")
    1
    >>> store.names(), store.count()
    (['ann'], 1)
    >>> store.close()
    """

    def __init__(self, folder: Path, *, model: str, size: int, create: bool = True) -> None:
        self.path = folder / FILE
        if not self.path.is_file():
            if not create:
                raise GalleryError(f"no gallery at '{folder}'; create one with: separative gallery add")
            new_folder(folder, "the gallery", GalleryError)
            folder.mkdir(parents=True, exist_ok=True)
        self.size = size
        # Threads of a server share the connection; the gallery's lock serialises them.
        self.connection = sqlite3.connect(
            self.path, timeout=LOCK_TIMEOUT_SECONDS, isolation_level=None, check_same_thread=False
        )
        try:
            self.connection.execute("PRAGMA secure_delete=ON")
            self.connection.execute("PRAGMA foreign_keys=ON")
            self.connection.execute("PRAGMA temp_store=MEMORY")
            with self.write_transaction():
                for statement in SCHEMA.split(";"):
                    self.connection.execute(statement)
                self.connection.executemany(
                    "INSERT OR IGNORE INTO fact VALUES (?, ?)",
                    [("format", FORMAT), ("model", model), ("size", str(size)), ("change", "0")],
                )
        except sqlite3.DatabaseError as error:
            self.connection.close()
            raise GalleryError(f"{self.path} is not a readable gallery database: {error}") from error
        if self.setting("format") != FORMAT:
            found = self.setting("format")
            self.connection.close()
            raise GalleryError(f"{self.path} has gallery format {found}; this version reads format {FORMAT}")

    def close(self) -> None:
        """Close the database."""
        self.connection.close()

    @contextmanager
    def write_transaction(self) -> Iterator[None]:
        """Write everything in the block, or nothing. Waits while another process writes.

        Raises:
            GalleryError: the database stays locked, the disk is full, or it is read-only.
        """
        if self.connection.in_transaction:
            yield
            return
        try:
            self.connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self.connection.execute("COMMIT")
            except BaseException:
                if self.connection.in_transaction:
                    self.connection.execute("ROLLBACK")
                raise
        except sqlite3.OperationalError as error:
            raise GalleryError(f"cannot write {self.path}; nothing was changed ({error})") from error

    @contextmanager
    def read_transaction(self) -> Iterator[None]:
        """Let all reads in the block see the same state."""
        if self.connection.in_transaction:
            yield
            return
        self.connection.execute("BEGIN")
        try:
            yield
        finally:
            self.connection.execute("COMMIT")

    def setting(self, name: str) -> str:
        """Value of ``format``, ``model``, ``size`` or ``change``."""
        return str(self._rows("SELECT value FROM fact WHERE name = ?", [name])[0][0])

    def set_setting(self, name: str, value: str) -> None:
        """Replace a value that :meth:`setting` returns."""
        with self.write_transaction():
            self.connection.execute("UPDATE fact SET value = ? WHERE name = ?", [value, name])

    def _next_change(self) -> int:
        """Count one more change, so that readers know what to update. Call it inside a transaction."""
        self.connection.execute("UPDATE fact SET value = CAST(value AS INTEGER) + 1 WHERE name = 'change'")
        return int(self.setting("change"))

    def speaker_id(self, name: str) -> int | None:
        """Id of a speaker, or None if no speaker has this name."""
        found = self._rows("SELECT id FROM speaker WHERE name = ?", [name])
        return int(found[0][0]) if found else None

    def names(self) -> list[str]:
        """Names of all speakers, sorted."""
        return [row[0] for row in self._rows("SELECT name FROM speaker ORDER BY name")]

    def count(self) -> int:
        """Number of speakers."""
        return int(self._rows("SELECT COUNT(*) FROM speaker")[0][0])

    def speakers(self) -> list[EnrolledSpeaker]:
        """All speakers, sorted by name."""
        rows = self._rows(
            "SELECT name, COUNT(recording.id), COALESCE(SUM(seconds), 0), added, metadata FROM speaker"
            " LEFT JOIN recording ON speaker.id = recording.speaker GROUP BY speaker.id ORDER BY name"
        )
        return [
            EnrolledSpeaker(name, recordings, seconds, added, json.loads(metadata))
            for name, recordings, seconds, added, metadata in rows
        ]

    def recordings(self, speaker: int) -> list[EnrolledRecording]:
        """Recordings of a speaker, in the order of enrolment."""
        rows = self._rows(
            "SELECT source, hash, seconds, query, memory, logit, sound FROM recording"
            " WHERE speaker = ? ORDER BY id",
            [speaker],
        )
        return [
            EnrolledRecording(
                source,
                hash_,
                seconds,
                np.frombuffer(query, np.float32),
                np.frombuffer(memory, np.float16).reshape(-1, self.size).astype(np.float32),
                np.frombuffer(logit, np.float16).astype(np.float32),
                audio,
            )
            for source, hash_, seconds, query, memory, logit, audio in rows
        ]

    def recording_hashes(self, speaker: int) -> set[str]:
        """Hashes of all recordings of a speaker."""
        return {row[0] for row in self._rows("SELECT hash FROM recording WHERE speaker = ?", [speaker])}

    def save_speaker(
        self, name: str, embedding: Floats, *, added: str = "", metadata: dict[str, Any] | None = None
    ) -> int:
        """Add a speaker, or replace the embedding of one and merge the metadata; returns the id."""
        with self.write_transaction():
            known = self.speaker_id(name)
            change, blob = self._next_change(), np.asarray(embedding, np.float32).tobytes()
            if known is None:
                inserted = self.connection.execute(
                    "INSERT INTO speaker (name, added, metadata, embedding, change) VALUES (?, ?, ?, ?, ?)",
                    [name, added, json.dumps(metadata or {}), blob, change],
                )
                return int(inserted.lastrowid or 0)
            self.connection.execute(
                "UPDATE speaker SET embedding = ?, change = ? WHERE id = ?", [blob, change, known]
            )
            if metadata:
                old = self._rows("SELECT metadata FROM speaker WHERE id = ?", [known])
                new = json.dumps(json.loads(old[0][0]) | metadata)
                self.connection.execute("UPDATE speaker SET metadata = ? WHERE id = ?", [new, known])
            return known

    def add_recording(self, speaker: int, recording: EnrolledRecording) -> None:
        """Add a recording to a speaker.

        Raises:
            GalleryError: the speaker already has this recording.
        """
        with self.write_transaction():
            try:
                self.connection.execute(
                    "INSERT INTO recording (speaker, source, hash, seconds, query, memory, logit, sound)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                    [
                        speaker,
                        recording.source,
                        recording.hash,
                        recording.speech_seconds,
                        recording.query.astype(np.float32).tobytes(),
                        recording.memory.astype(np.float16).tobytes(),
                        recording.memory_logit.astype(np.float16).tobytes(),
                        recording.audio,
                    ],
                )
            except sqlite3.IntegrityError as error:
                raise GalleryError(
                    f"{recording.source}: the speaker is already enrolled with this recording"
                ) from error

    def delete_recordings(self, speaker: int) -> None:
        """Delete all recordings of a speaker, but not the speaker."""
        with self.write_transaction():
            self.connection.execute("DELETE FROM recording WHERE speaker = ?", [speaker])

    def delete_speakers(self, names: Sequence[str]) -> None:
        """Delete speakers and their recordings; all of them or none.

        Raises:
            UnknownSpeakerError: a name is not in the gallery.
        """
        with self.write_transaction():
            for name in names:
                known = self.speaker_id(name)
                if known is None:
                    raise UnknownSpeakerError(f"no speaker '{name}' in {self.path.parent}")
                self.connection.execute("DELETE FROM speaker WHERE id = ?", [known])
                self.connection.execute("INSERT INTO gone VALUES (?, ?)", [known, self._next_change()])

    def changed_since(self, change: int) -> tuple[NDArray[np.int64], Floats, list[int], int]:
        """What has changed since a change number.

        Returns:
            Ids [N] and embeddings [N,E] of new and changed speakers, ids of deleted speakers, and the latest
            change number.
        """
        with self.read_transaction():
            changed = self._rows("SELECT id, embedding FROM speaker WHERE change > ? ORDER BY id", [change])
            deleted = [row[0] for row in self._rows("SELECT id FROM gone WHERE change > ?", [change])]
            latest = int(self.setting("change"))
        ids = np.array([row[0] for row in changed], np.int64)
        return ids, self._embeddings(changed), deleted, latest

    def embeddings(self, ids: Sequence[int]) -> tuple[list[str], Floats]:
        """Names and embeddings [N,E] of speakers by id; ids of deleted speakers are skipped."""
        return self._named_embeddings(f"WHERE id IN ({','.join('?' * len(ids))})", list(ids))

    def first_embeddings(self, count: int) -> tuple[list[str], Floats]:
        """Names and embeddings [N,E] of the first ``count`` speakers by name."""
        return self._named_embeddings("ORDER BY name LIMIT ?", [count])

    def _named_embeddings(self, condition: str, values: list[int]) -> tuple[list[str], Floats]:
        rows = self._rows(f"SELECT name, embedding FROM speaker {condition}", values)
        return [row[0] for row in rows], self._embeddings(rows)

    def _embeddings(self, rows: list[tuple[Any, ...]]) -> Floats:
        """Embeddings [N,E] from the second column of rows."""
        return np.frombuffer(b"".join(row[1] for row in rows), np.float32).reshape(-1, self.size)

    def _rows(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """All rows of a query.

        Raises:
            GalleryError: another process has locked the database for longer than LOCK_TIMEOUT_SECONDS.
        """
        try:
            return self.connection.execute(statement, values).fetchall()
        except sqlite3.OperationalError as error:
            raise GalleryError(f"cannot read {self.path} now; try again later ({error})") from error
