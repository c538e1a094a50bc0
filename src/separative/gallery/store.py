"""Rows of a gallery's database: speakers and what is stored of each of their recordings.

Every row has a digest, and the facts hold the sum of the digests of all speakers, so that no damaged or
missing row is used.
"""

from __future__ import annotations

import json
import sqlite3
from array import array
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from separative.errors import GalleryError, UnknownSpeakerError
from separative.gallery.database import FILE, Database
from separative.gallery.records import (
    DIGEST_BYTES,
    EnrolledRecording,
    EnrolledSpeaker,
    add_digest,
    check_recording,
    check_vector,
    metadata_json,
    row_digest,
)
from separative.names import twin_key
from separative.types import Floats

__all__ = ["FILE", "EnrolledRecording", "EnrolledSpeaker", "GalleryStore"]

# Seconds to wait for a database that another process has locked.
LOCK_TIMEOUT_SECONDS = 20.0
# SQLite limits the number of values in one statement.
VALUES_PER_STATEMENT = 500


class SpeakerRow(NamedTuple):
    """A row of the table ``speaker``, without its id and digest.

    ``recordings``, ``seconds`` and ``content`` are the number, the speech and the sum of the digests of the
    speaker's recordings.

    >>> SpeakerRow("ann", "ann", "2026-05-01", "{}", b"", 1, 0, 0.0, b"").change
    1
    """

    name: str
    twin: str
    added: str
    metadata: str
    embedding: bytes
    change: int
    recordings: int
    seconds: float
    content: bytes


COLUMNS = ", ".join(SpeakerRow._fields)


class GalleryStore(Database):
    """Typed access to the rows of a gallery. Every method is one transaction, or part of the open one.

    Arguments and errors as for :class:`Database`; ``timeout`` is LOCK_TIMEOUT_SECONDS by default.

    >>> from pathlib import Path
    >>> import numpy as np
    >>> store = GalleryStore(Path("gallery"), model="3f2a", size=4)
    >>> store.save_speaker("ann", np.ones(4) / 2, added="2026-05-01")
    1
    >>> store.names(), store.count()
    (['ann'], 1)
    >>> store.close()
    """

    def __init__(
        self, folder: Path, *, model: str, size: int, create: bool = True, timeout: float | None = None
    ) -> None:
        seconds = LOCK_TIMEOUT_SECONDS if timeout is None else timeout
        super().__init__(folder, model=model, size=size, create=create, timeout=seconds)

    def speaker_id(self, name: str) -> int | None:
        """Id of a speaker, or None if no speaker has this name."""
        found = self._rows("SELECT id FROM speaker WHERE name = ?", [name])
        return int(found[0][0]) if found else None

    def names(self) -> list[str]:
        """Names of all speakers, sorted."""
        return [speaker.name for speaker in self.speakers()]

    def count(self) -> int:
        """Number of speakers."""
        return int(self.setting("count"))

    def speakers(self) -> list[EnrolledSpeaker]:
        """All speakers, sorted by name."""
        return [
            EnrolledSpeaker(row.name, row.recordings, row.seconds, row.added, json.loads(row.metadata))
            for _, row in self._all_speakers("ORDER BY name")
        ]

    def name_warnings(self, name: str) -> list[str]:
        """One sentence for each other name that differs from a name in capital letters and blanks only."""
        condition, values = "WHERE twin = ? AND name <> ? ORDER BY name", [twin_key(name), name]
        return [
            f"'{name}' and '{row.name}' differ only in capital letters and blanks; if they are the same"
            " speaker, use one name"
            for _, row in self._speaker_rows(condition, values)
        ]

    def recording_warnings(self, name: str, recording: EnrolledRecording) -> list[str]:
        """One sentence for each other speaker that is enrolled with the same recording."""
        condition = "WHERE id IN (SELECT speaker FROM recording WHERE hash = ?) AND name <> ? ORDER BY name"
        return [
            f"{recording.source} is also enrolled for '{row.name}'; if '{name}' is the same speaker, remove"
            " one of the two"
            for _, row in self._speaker_rows(condition, [recording.hash, name])
        ]

    def recordings(self, speaker: int) -> list[EnrolledRecording]:
        """Recordings of a speaker, in the order of enrolment."""
        found = []
        with self.read_transaction():
            row = self._speaker_row(speaker)
            if row is None:
                return []
            number, content = 0, bytes(DIGEST_BYTES)
            for *values, digest in self._rows(
                "SELECT source, hash, seconds, query, memory, logit, sound, digest FROM recording"
                " WHERE speaker = ? ORDER BY id",
                [speaker],
            ):
                if row_digest(speaker, *values) != digest:
                    raise self._damaged(f"checksum mismatch in a recording of '{row.name}'")
                number, content = number + 1, add_digest(content, digest)
                found.append(self._decode(*values))
            if (number, content) != (row.recordings, row.content):
                raise self._damaged(f"recordings of '{row.name}' are missing")
        return found

    def _decode(
        self, source: str, hash_: str, seconds: float, query: bytes, memory: bytes, logit: bytes, audio: Any
    ) -> EnrolledRecording:
        recording = EnrolledRecording(
            source,
            hash_,
            seconds,
            np.frombuffer(query, np.float32),
            np.frombuffer(memory, np.float16).reshape(-1, self.size).astype(np.float32),
            np.frombuffer(logit, np.float16).astype(np.float32),
            audio,
        )
        try:
            check_recording(recording, self.size)
        except GalleryError as error:
            raise self._damaged(error) from error
        return recording

    def recordings_of(self, name: str) -> list[EnrolledRecording]:
        """Recordings of a speaker by name.

        Raises:
            UnknownSpeakerError: no speaker has this name.
        """
        return self.recordings(self._known_id(name))

    def recording_hashes(self, speaker: int) -> set[str]:
        """Hashes of all recordings of a speaker."""
        return {recording.hash for recording in self.recordings(speaker)}

    def save_speaker(
        self, name: str, embedding: Floats, *, added: str = "", metadata: dict[str, Any] | None = None
    ) -> int:
        """Add a speaker, or replace the embedding of one and merge the metadata; returns the id.

        Raises:
            GalleryError: the embedding has another shape or is not finite, or the metadata are not JSON.
        """
        blob = check_vector(embedding, self.size, f"{name}: the embedding").tobytes()
        notes = metadata_json(metadata)
        with self.write_transaction():
            known, change = self.speaker_id(name), self._next_change()
            if known is None:
                row = SpeakerRow(
                    name, twin_key(name), added, notes, blob, change, 0, 0.0, bytes(DIGEST_BYTES)
                )
                return self._insert(row)
            old = self._known_row(known)
            if metadata:
                notes = metadata_json(json.loads(old.metadata) | metadata)
            self._update(
                known,
                old,
                old._replace(embedding=blob, change=change, metadata=notes if metadata else old.metadata),
            )
            return known

    def add_recording(self, speaker: int, recording: EnrolledRecording) -> None:
        """Add a recording to a speaker.

        Raises:
            GalleryError: the speaker already has this recording, or its arrays do not suit the gallery.
        """
        check_recording(recording, self.size)
        values = (
            recording.source.encode("utf-8", "replace").decode(),
            recording.hash,
            float(recording.speech_seconds),
            np.asarray(recording.query, np.float32).tobytes(),
            np.asarray(recording.memory).astype(np.float16).tobytes(),
            np.asarray(recording.memory_logit).astype(np.float16).tobytes(),
            recording.audio,
        )
        digest = row_digest(speaker, *values)
        with self.write_transaction():
            try:
                self.connection.execute(
                    "INSERT INTO recording (speaker, source, hash, seconds, query, memory, logit, sound,"
                    " digest) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    [speaker, *values, digest],
                )
            except sqlite3.IntegrityError as error:
                raise GalleryError(
                    f"{recording.source}: the speaker is already enrolled with this recording"
                ) from error
            old = self._known_row(speaker)
            new = old._replace(
                recordings=old.recordings + 1,
                seconds=old.seconds + float(recording.speech_seconds),
                content=add_digest(old.content, digest),
            )
            self._update(speaker, old, new)

    def delete_recordings(self, speaker: int) -> None:
        """Delete all recordings of a speaker, but not the speaker."""
        with self.write_transaction():
            old = self._known_row(speaker)
            deleted = self.connection.execute("DELETE FROM recording WHERE speaker = ?", [speaker]).rowcount
            if deleted != old.recordings:
                raise self._damaged(f"recordings of '{old.name}' are missing")
            self._update(speaker, old, old._replace(recordings=0, seconds=0.0, content=bytes(DIGEST_BYTES)))

    def delete_speakers(self, names: Sequence[str]) -> None:
        """Delete speakers and their recordings; all of them or none.

        Raises:
            UnknownSpeakerError: a name is not in the gallery.
        """
        with self.write_transaction():
            for name in names:
                known = self._known_id(name)
                self.delete_recordings(known)
                row, facts = self._known_row(known), self._open_facts
                self.connection.execute("DELETE FROM speaker WHERE id = ?", [known])
                facts["count"] = str(int(facts["count"]) - 1)
                self._count_digest(row_digest(*row), -1)
                change = facts["removed"] = str(self._next_change())
                self.connection.execute("INSERT INTO gone VALUES (?, ?)", [known, int(change)])

    def rename_speaker(self, old: str, new: str) -> None:
        """Give a speaker another name, which no other speaker has.

        Raises:
            UnknownSpeakerError: no speaker has the old name.
            GalleryError: another speaker has the new name.
        """
        with self.write_transaction():
            known = self._known_id(old)
            if new != old:
                row, change = self._known_row(known), self._next_change()
                try:
                    self._update(known, row, row._replace(name=new, twin=twin_key(new), change=change))
                except sqlite3.IntegrityError as error:
                    raise GalleryError(
                        f"'{new}' is enrolled already in {self.path.parent}; choose another name, or remove"
                        " one of the two speakers first"
                    ) from error
                # The old name must leave the file, as that of a removed speaker.
                self._open_facts["removed"] = str(change)

    def changed_since(self, change: int) -> tuple[NDArray[np.int64], Floats, list[int], int]:
        """What has changed since a change number.

        Returns:
            Ids [N] and embeddings [N,E] of new and changed speakers, ids of deleted speakers, and the latest
            change number.
        """
        with self.read_transaction():
            latest = int(self.setting("change"))
            if change == 0:
                return *self._embeddings(self._all_speakers(), self.count()), [], latest
            condition = "WHERE change > ?"
            count = int(self._rows(f"SELECT COUNT(*) FROM speaker {condition}", [change])[0][0])
            ids, embedding_NE = self._embeddings(self._speaker_rows(condition, [change]), count)
            deleted = [int(row[0]) for row in self._rows("SELECT id FROM gone WHERE change > ?", [change])]
        return ids, embedding_NE, deleted, latest

    def embeddings(self, ids: Sequence[int]) -> tuple[list[str], Floats]:
        """Names and embeddings [N,E] of speakers by id; ids of deleted speakers are skipped."""
        rows: list[tuple[int, SpeakerRow]] = []
        with self.read_transaction():
            for start in range(0, len(ids), VALUES_PER_STATEMENT):
                part = ids[start : start + VALUES_PER_STATEMENT]
                rows += self._speaker_rows(f"WHERE id IN ({','.join('?' * len(part))})", part)
        return [row.name for _, row in rows], self._embeddings(rows, len(rows))[1]

    def first_embeddings(self, count: int) -> tuple[list[str], Floats]:
        """Names and embeddings [N,E] of the first ``count`` speakers by name."""
        rows = list(self._speaker_rows("ORDER BY name LIMIT ?", [count]))
        return [row.name for _, row in rows], self._embeddings(rows, len(rows))[1]

    def _embeddings(
        self, rows: Iterable[tuple[int, SpeakerRow]], count: int
    ) -> tuple[NDArray[np.int64], Floats]:
        """Ids [N] and embeddings [N,E] of ``count`` rows."""
        ids, blob = array("q"), bytearray()
        for id_, row in rows:
            ids.append(id_)
            blob += row.embedding
        if len(blob) != 4 * count * self.size or len(ids) != count:
            raise self._damaged("its number of speakers is wrong")
        embedding_NE = np.frombuffer(blob, np.float32).reshape(count, self.size)
        if not np.isfinite(embedding_NE).all():
            raise self._damaged("an embedding is not finite")
        return np.array(ids, np.int64), embedding_NE

    def _all_speakers(self, order: str = "") -> Iterator[tuple[int, SpeakerRow]]:
        """All rows of speakers; checks at the end that none is missing."""
        with self.read_transaction():
            facts = self._facts or self._read_facts()
            count = total = 0
            for id_, row, digest in self._checked_rows(order, []):
                count, total = count + 1, total + int.from_bytes(digest, "big")
                yield id_, row
            sum_ = (total % (1 << (8 * DIGEST_BYTES))).to_bytes(DIGEST_BYTES, "big")
            if (str(count), sum_.hex()) != (facts["count"], facts["sum"]):
                raise self._damaged("speakers are missing")

    def _speaker_rows(self, condition: str, values: Sequence[Any]) -> Iterator[tuple[int, SpeakerRow]]:
        for id_, row, _ in self._checked_rows(condition, values):
            yield id_, row

    def _checked_rows(self, condition: str, values: Sequence[Any]) -> Iterator[tuple[int, SpeakerRow, bytes]]:
        """Ids, rows and digests of speakers; the digests fit the rows."""
        statement = f"SELECT id, {COLUMNS}, digest FROM speaker {condition}"
        with self._typed_errors("read"):
            for id_, *columns, digest in self.connection.execute(statement, values):
                if row_digest(*columns) != digest:
                    raise self._damaged("checksum mismatch in a speaker")
                yield id_, SpeakerRow(*columns), digest

    def _known_id(self, name: str) -> int:
        known = self.speaker_id(name)
        if known is None:
            raise UnknownSpeakerError(f"no speaker '{name}' in {self.path.parent}")
        return known

    def _speaker_row(self, speaker: int) -> SpeakerRow | None:
        return next((row for _, row in list(self._speaker_rows("WHERE id = ?", [speaker]))), None)

    def _known_row(self, speaker: int) -> SpeakerRow:
        row = self._speaker_row(speaker)
        if row is None:
            raise self._damaged("a speaker is missing")
        return row

    def _insert(self, row: SpeakerRow) -> int:
        digest, facts = row_digest(*row), self._open_facts
        marks = ", ".join("?" * (len(row) + 1))
        inserted = self.connection.execute(
            f"INSERT INTO speaker ({COLUMNS}, digest) VALUES ({marks})", [*row, digest]
        )
        facts["count"] = str(int(facts["count"]) + 1)
        self._count_digest(digest, 1)
        return int(inserted.lastrowid or 0)

    def _update(self, speaker: int, old: SpeakerRow, new: SpeakerRow) -> None:
        assignments = ", ".join(f"{name} = ?" for name in [*SpeakerRow._fields, "digest"])
        digest = row_digest(*new)
        self.connection.execute(f"UPDATE speaker SET {assignments} WHERE id = ?", [*new, digest, speaker])
        self._count_digest(row_digest(*old), -1)
        self._count_digest(digest, 1)

    def _count_digest(self, digest: bytes, sign: int) -> None:
        """Add the digest of a speaker to the sum of all, or subtract it."""
        facts = self._open_facts
        facts["sum"] = add_digest(bytes.fromhex(facts["sum"]), digest, sign).hex()
