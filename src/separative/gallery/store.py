"""The gallery's one file: speakers, what was heard in each of their recordings, and nothing of those removed.

SQLite in a folder: transactions keep writers apart and survive being killed; what is deleted is overwritten
with zeros (``secure_delete``), and the rollback journal, unlike a write-ahead log, ends with its transaction.
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
from separative.types import Floats

FORMAT = "1"
FILE = "gallery.sqlite"
# Seconds that a writer waits for its turn.
PATIENCE = 60.0

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
    """A speaker of the gallery: ``seconds`` of speech in so many ``recordings``, ``added`` when (UTC)."""

    name: str
    recordings: int
    seconds: float
    added: str
    metadata: dict[str, Any]


@dataclass(frozen=True)
class EnrolledRecording:
    """What one recording says of a speaker: the query, and segments of theirs with the log-odds of speech, for
    the cross-attention to gather from; ``hash`` of the sound, ``sound`` itself (FLAC) where it is kept."""

    source: str
    hash: str
    seconds: float
    query_E: Floats
    memory_ME: Floats
    logit_M: Floats
    sound: bytes | None = None


class Rows:
    """Typed access to the file; every method is one transaction, or part of the one that is open."""

    def __init__(self, folder: Path, *, model: str, size: int, create: bool = True) -> None:
        self.path = folder / FILE
        if not self.path.is_file():
            if not create:
                raise GalleryError(f"no gallery at '{folder}': add a speaker to make one")
            if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
                raise GalleryError(f"{folder} holds something else: name a new folder for the gallery")
            folder.mkdir(parents=True, exist_ok=True)
        self.size = size
        # Threads of a server take turns under a lock of theirs.
        self.db = sqlite3.connect(self.path, timeout=PATIENCE, isolation_level=None, check_same_thread=False)
        try:
            self.db.execute("PRAGMA secure_delete=ON")
            self.db.execute("PRAGMA foreign_keys=ON")
            self.db.execute("PRAGMA temp_store=MEMORY")
            with self.writing():
                for statement in SCHEMA.split(";"):
                    self.db.execute(statement)
                self.db.executemany(
                    "INSERT OR IGNORE INTO fact VALUES (?, ?)",
                    [("format", FORMAT), ("model", model), ("size", str(size)), ("change", "0")],
                )
        except sqlite3.DatabaseError as error:
            self.db.close()
            raise GalleryError(f"{self.path} is no gallery that can be read: {error}") from error
        if self.fact("format") != FORMAT:
            found = self.fact("format")
            self.db.close()
            raise GalleryError(f"{self.path} is a gallery of format {found}, not {FORMAT}")

    def close(self) -> None:
        self.db.close()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """One transaction: all of it, or nothing. Waits until no other process writes."""
        if self.db.in_transaction:
            yield
            return
        try:
            self.db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self.db.execute("COMMIT")
            except BaseException:
                if self.db.in_transaction:
                    self.db.execute("ROLLBACK")
                raise
        except sqlite3.OperationalError as error:
            # Locked for too long, disk full, read-only.
            raise GalleryError(f"{self.path}: nothing was written ({error})") from error

    def fact(self, name: str) -> str:
        return str(self._found("SELECT value FROM fact WHERE name = ?", [name])[0][0])

    def set_fact(self, name: str, value: str) -> None:
        with self.writing():
            self.db.execute("UPDATE fact SET value = ? WHERE name = ?", [value, name])

    def next_change(self) -> int:
        """Number every change, so that others know what is new; inside a transaction."""
        self.db.execute("UPDATE fact SET value = CAST(value AS INTEGER) + 1 WHERE name = 'change'")
        return int(self.fact("change"))

    def speaker(self, name: str) -> int | None:
        found = self._found("SELECT id FROM speaker WHERE name = ?", [name])
        return int(found[0][0]) if found else None

    def names(self) -> list[str]:
        return [row[0] for row in self._found("SELECT name FROM speaker ORDER BY name")]

    def count(self) -> int:
        return int(self._found("SELECT COUNT(*) FROM speaker")[0][0])

    def listed(self) -> list[EnrolledSpeaker]:
        """All speakers by name."""
        found = self._found(
            "SELECT name, COUNT(recording.id), COALESCE(SUM(seconds), 0), added, metadata FROM speaker"
            " LEFT JOIN recording ON speaker.id = recording.speaker GROUP BY speaker.id ORDER BY name"
        )
        return [EnrolledSpeaker(n, c, s, a, json.loads(m)) for n, c, s, a, m in found]

    def recordings(self, speaker: int) -> list[EnrolledRecording]:
        """What was heard of a speaker, in the order of enrolment."""
        return [
            EnrolledRecording(source, hash_, seconds, *self._arrays(query, memory, logit), sound)
            for source, hash_, seconds, query, memory, logit, sound in self._found(
                "SELECT source, hash, seconds, query, memory, logit, sound FROM recording"
                " WHERE speaker = ? ORDER BY id",
                [speaker],
            )
        ]

    def hashes(self, speaker: int) -> set[str]:
        """Of all recordings that a speaker is enrolled with."""
        return {row[0] for row in self._found("SELECT hash FROM recording WHERE speaker = ?", [speaker])}

    def put_speaker(
        self, name: str, embed_E: Floats, *, added: str = "", metadata: dict[str, Any] | None = None
    ) -> int:
        """A new speaker or a new embedding of one; metadata of a known one are added to."""
        with self.writing():
            known = self.speaker(name)
            change, blob = self.next_change(), np.asarray(embed_E, np.float32).tobytes()
            if known is None:
                row = [name, added, json.dumps(metadata or {}), blob, change]
                made = self.db.execute(
                    "INSERT INTO speaker (name, added, metadata, embedding, change) VALUES (?, ?, ?, ?, ?)",
                    row,
                )
                return int(made.lastrowid or 0)
            self.db.execute(
                "UPDATE speaker SET embedding = ?, change = ? WHERE id = ?", [blob, change, known]
            )
            if metadata:
                old = self._found("SELECT metadata FROM speaker WHERE id = ?", [known])
                new = json.dumps(json.loads(old[0][0]) | metadata)
                self.db.execute("UPDATE speaker SET metadata = ? WHERE id = ?", [new, known])
            return known

    def put_recording(self, speaker: int, heard: EnrolledRecording) -> None:
        """Raises GalleryError for a recording that the speaker is enrolled with already."""
        with self.writing():
            try:
                self.db.execute(
                    "INSERT INTO recording (speaker, source, hash, seconds, query, memory, logit, sound)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                    [
                        speaker,
                        heard.source,
                        heard.hash,
                        heard.seconds,
                        heard.query_E.astype(np.float32).tobytes(),
                        heard.memory_ME.astype(np.float16).tobytes(),
                        heard.logit_M.astype(np.float16).tobytes(),
                        heard.sound,
                    ],
                )
            except sqlite3.IntegrityError as error:
                raise GalleryError(f"{heard.source}: the speaker is enrolled with it already") from error

    def forget_recordings(self, speaker: int) -> None:
        with self.writing():
            self.db.execute("DELETE FROM recording WHERE speaker = ?", [speaker])

    def remove(self, names: Sequence[str]) -> None:
        """Speakers and all that was heard of them."""
        with self.writing():
            for name in names:
                known = self.speaker(name)
                if known is None:
                    raise UnknownSpeakerError(f"no speaker '{name}' in {self.path.parent}")
                self.db.execute("DELETE FROM speaker WHERE id = ?", [known])
                self.db.execute("INSERT INTO gone VALUES (?, ?)", [known, self.next_change()])

    def changed_since(self, change: int) -> tuple[NDArray[np.int64], Floats, list[int], int]:
        """Ids and embeddings [N,E] that are new or other since that change, ids that are gone, and now."""
        with self.reading():
            found = self._found("SELECT id, embedding FROM speaker WHERE change > ? ORDER BY id", [change])
            gone = [row[0] for row in self._found("SELECT id FROM gone WHERE change > ?", [change])]
            now = int(self.fact("change"))
        ids = np.array([row[0] for row in found], np.int64)
        embed_NE = np.frombuffer(b"".join(row[1] for row in found), np.float32).reshape(-1, self.size)
        return ids, embed_NE, gone, now

    @contextmanager
    def reading(self) -> Iterator[None]:
        """All reads of the block see one state."""
        if self.db.in_transaction:
            yield
            return
        self.db.execute("BEGIN")
        try:
            yield
        finally:
            self.db.execute("COMMIT")

    def embeddings(self, ids: Sequence[int]) -> tuple[list[str], Floats]:
        """Names and embeddings [N,E] of those of the ids that are still there."""
        return self._named(f"WHERE id IN ({','.join('?' * len(ids))})", list(ids))

    def some(self, count: int) -> tuple[list[str], Floats]:
        """Names and embeddings [N,E] of the first ``count`` by name."""
        return self._named("ORDER BY name LIMIT ?", [count])

    def _named(self, which: str, values: list[int]) -> tuple[list[str], Floats]:
        found = self._found(f"SELECT name, embedding FROM speaker {which}", values)
        embed_NE = np.frombuffer(b"".join(row[1] for row in found), np.float32).reshape(-1, self.size)
        return [row[0] for row in found], embed_NE

    def _found(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """All rows that answer a question.

        Raises:
            GalleryError: another process has kept the file to itself for longer than PATIENCE.
        """
        try:
            return self.db.execute(statement, values).fetchall()
        except sqlite3.OperationalError as error:
            raise GalleryError(f"{self.path} cannot be read now ({error})") from error

    def _arrays(self, query: bytes, memory: bytes, logit: bytes) -> tuple[Floats, Floats, Floats]:
        return (
            np.frombuffer(query, np.float32),
            np.frombuffer(memory, np.float16).reshape(-1, self.size).astype(np.float32),
            np.frombuffer(logit, np.float16).astype(np.float32),
        )
