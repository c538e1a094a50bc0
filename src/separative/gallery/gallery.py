"""The gallery: enrol, remove, find, carry over; safe among several processes and threads."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, Any

import numpy as np

from separative.errors import AudioError, GalleryError, NotEnrolledError, UnknownSpeakerError
from separative.files import write_json
from separative.gallery.enrolment import (
    Gate,
    embedding,
    heard_again,
    heard_of,
    judge,
    packed,
    sound_of,
    unpacked,
)
from separative.gallery.identify import Identification, identify
from separative.gallery.search import EmbeddingIndex
from separative.gallery.store import EnrolledRecording, EnrolledSpeaker, Rows
from separative.inference import Audio, Diarization, Speaker, diarize
from separative.inference.recording import MIN_SPEECH
from separative.metrics import log_odds
from separative.types import Floats, Progress

if TYPE_CHECKING:
    from separative.model import SeparativeEncoder

Ranking = list[tuple[str, float]]
Named = tuple[list[str], Floats]

EXPORT_FORMAT = 1
# More than asked for are looked at exactly, since bytes may swap neighbours.
SPARE = 20
# So many of the nearest are weighed against each other and nobody, however many are named.
WEIGHED = 100


class Gallery:
    """Enrolled speakers in a folder, all heard by one model.

    Args:
        folder: of a gallery, or a new or empty one.
        model: that hears recordings; a gallery refuses any but the one it was made with.
        create: False to refuse a folder that is no gallery yet.

    Raises:
        GalleryError: the folder holds something else, is damaged, or of another model.
    """

    def __init__(self, folder: str | Path, model: SeparativeEncoder, *, create: bool = True) -> None:
        self.folder, self.model, self._lock = Path(folder), model, RLock()
        self._hash, size = str(model.card.get("sha256")), model.config.embedding
        self._rows = Rows(self.folder, model=self._hash, size=size, create=create)
        self._near, self._seen = EmbeddingIndex(size), 0
        try:
            self._check_model()
        except GalleryError:
            self._rows.close()
            raise

    def __enter__(self) -> Gallery:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._rows.close()

    def __len__(self) -> int:
        return self._rows.count()

    def list(self) -> list[EnrolledSpeaker]:
        """All speakers, by name."""
        with self._lock:
            return self._rows.listed()

    def add(
        self,
        name: str,
        source: Audio,
        *,
        metadata: dict[str, Any] | None = None,
        keep_sound: bool = False,
        force: bool = False,
        label: str | None = None,
        progress: Progress | None = None,
    ) -> Gate:
        """Enrol a speaker with a recording of theirs alone, or add one to a known speaker.

        :meth:`hear`, whose arguments it takes, and :meth:`enrol`; returns what the gate measured.

        Raises:
            AudioError, GalleryError: see there.
        """
        gate, heard = self.hear(source, keep_sound=keep_sound, force=force, label=label, progress=progress)
        self.enrol(name, [heard], metadata)
        return gate

    def hear(
        self,
        source: Audio,
        *,
        keep_sound: bool = False,
        force: bool = False,
        label: str | None = None,
        progress: Progress | None = None,
    ) -> tuple[Gate, EnrolledRecording]:
        """Listen to a recording of one speaker: what the gate measures, and what :meth:`enrol` takes.

        Args:
            source: a sound file of any length, or a waveform with its rate.
            keep_sound: also keep the recording, so that another model can hear it later.
            force: take it in spite of what the gate says.
            label: what the recording is called; by default the name of its file.
            progress: called with (done, total) samples while it is heard.

        Raises:
            AudioError: unreadable, or too little speech for any embedding.
            GalleryError: the gate's reasons.
        """
        meeting = diarize(self.model, source, progress=progress)
        meeting = meeting if label is None else replace(meeting, name=label)
        if not meeting.speakers:
            raise GalleryError(f"{meeting.name}: nobody is heard in it")
        gate = judge(meeting, 0, alone=True)
        self._pass(gate, meeting.name, force)
        sound = sound_of(source)
        return gate, heard_of(meeting, 0, hashlib.sha256(sound).hexdigest(), sound if keep_sound else None)

    def enrol(
        self,
        name: str,
        fresh: Sequence[EnrolledRecording],
        metadata: dict[str, Any] | None = None,
        added: str | None = None,
    ) -> None:
        """Enrol a speaker with what :meth:`hear` said of recordings: with all of them, or none.

        Every recording is a view: the cross-attention gathers the speaker's embedding anew over all of them.

        Args:
            metadata: what JSON can hold; joins that of a known speaker.
            added: when; now by default.

        Raises:
            GalleryError: an empty name, or a recording the speaker has already.
        """
        if not name.strip():
            raise GalleryError("a speaker needs a name")
        added = added or datetime.now(UTC).isoformat(timespec="seconds")
        with self._lock, self._rows.writing():
            self._check_model()
            known = self._rows.speaker(name)
            views = [*(self._rows.recordings(known) if known is not None else []), *fresh]
            embed_E = embedding(self.model, views)
            speaker = self._rows.put_speaker(name, embed_E, added=added, metadata=metadata)
            for heard in fresh:
                self._rows.put_recording(speaker, heard)

    def add_speaker(
        self,
        name: str,
        meeting: Diarization,
        speaker: int,
        *,
        metadata: dict[str, Any] | None = None,
        force: bool = False,
    ) -> Gate:
        """Enrol a speaker of a recording of several, by number.

        Raises:
            GalleryError: as :meth:`add`, or no such speaker in the recording.
        """
        if not 0 <= speaker < len(meeting.speakers):
            raise GalleryError(f"{meeting.name}: speaker {speaker} of {len(meeting.speakers)} is not there")
        gate = judge(meeting, speaker, alone=False)
        self._pass(gate, meeting.name, force)
        mark = hashlib.sha256(meeting.speakers[speaker].embedding_E.tobytes()).hexdigest()
        self.enrol(name, [heard_of(meeting, speaker, mark, None)], metadata)
        return gate

    def remove(self, *names: str) -> None:
        """Remove speakers and all that was heard of them, from every file of the gallery.

        Raises:
            GalleryError: no such speaker; nobody is removed then.
        """
        with self._lock:
            self._rows.remove(names)
            self._refresh()

    def embeddings(self, count: int = 1000) -> Named:
        """Names and embeddings [N,E] (unit norm) of the first ``count`` speakers by name."""
        with self._lock:
            return self._rows.some(count)

    def find(self, embed_E: Floats, count: int = 10) -> Ranking:
        """The nearest speakers by cosine, nearest first: names and scores."""
        with self._lock:
            self._refresh()
            ids = self._near.nearest(embed_E, count + SPARE)
            names, embed_NE = self._rows.embeddings([int(i) for i in ids])
        score_N = embed_NE @ embed_E
        return [(names[i], float(score_N[i])) for i in np.argsort(-score_N, kind="stable")[:count]]

    def identify(self, embed_E: Floats, *, count: int = 10, prior: float = 0.5) -> Identification:
        """Whose voice an embedding is: one of the enrolled speakers', or unknown.

        Args:
            count: candidates to name; how probable they are does not depend on it.
            prior: probability that it is any of them, before listening.
        """
        found = identify(self.model, self.find(embed_E, max(count, WEIGHED)), max(1, len(self)), prior)
        return replace(found, candidates=found.candidates[:count])

    def identify_speaker(self, speaker: Speaker, *, count: int = 10, prior: float = 0.5) -> Identification:
        """The same for a speaker of a recording; unknown, without candidates, after too little speech."""
        if speaker.speech_seconds < MIN_SPEECH:
            log_odds(prior)
            return Identification(None, None, ())
        return self.identify(speaker.embedding_E, count=count, prior=prior)

    def export(self, path: str | Path) -> Path:
        """Write all speakers, their recordings' evidence and kept sounds to one JSON file."""
        with self._lock, self._rows.reading():
            speakers = [
                {
                    "name": t.name,
                    "added": t.added,
                    "metadata": t.metadata,
                    "recordings": [packed(h) for h in self._rows.recordings(self._id(t.name))],
                }
                for t in self._rows.listed()
            ]
        write_json(path, {"format": EXPORT_FORMAT, "model": self._hash, "speakers": speakers})
        return Path(path)

    def import_(self, path: str | Path) -> int:
        """Take in what :meth:`export` wrote; recordings that are here already are left out. All or nothing.

        Returns:
            how many speakers were in the file.

        Raises:
            GalleryError: no such file, none of an export, or of another model.
        """
        try:
            record = json.loads(Path(path).read_text(encoding="utf-8"))
            if record["format"] != EXPORT_FORMAT or record["model"] != self._hash:
                raise GalleryError(f"{path} is an export of another format or model")
            speakers = [
                (str(t["name"]), t["metadata"], t["added"], [unpacked(r) for r in t["recordings"]])
                for t in record["speakers"]
            ]
            if any(h.query_E.shape != (self._rows.size,) for *_, some in speakers for h in some):
                raise GalleryError(f"{path} is damaged: its embeddings have another size")
        except (OSError, KeyError, TypeError, ValueError) as error:
            if isinstance(error, GalleryError):
                raise
            raise GalleryError(f"{path} is no export of a gallery: {error}") from error
        with self._lock, self._rows.writing():
            for name, metadata, added, recordings in speakers:
                known = self._rows.speaker(name)
                held = self._rows.hashes(known) if known is not None else set()
                if fresh := [heard for heard in recordings if heard.hash not in held]:
                    self.enrol(name, fresh, metadata, added)
        return len(speakers)

    @staticmethod
    def reembed(folder: str | Path, model: SeparativeEncoder, *, progress: Progress | None = None) -> Gallery:
        """Hear all kept recordings of a gallery again with another model, which it is of from then on.

        Args:
            progress: called with (done, total) speakers.

        Raises:
            GalleryError: a recording whose sound was not kept, or in which the model hears nobody; a gallery
                that others changed meanwhile; nothing is changed then.
        """
        rows = Rows(Path(folder), model="", size=1, create=False)
        rows.size = int(rows.fact("size"))
        size, made = model.config.embedding, str(model.card.get("sha256"))
        try:
            before = rows.fact("change")
            speakers = {name: rows.recordings(rows.speaker(name) or 0) for name in rows.names()}
            for name, recordings in speakers.items():
                lost = [h.source for h in recordings if h.sound is None] if recordings else ["all of it"]
                if lost:
                    raise GalleryError(
                        f"the sound of {lost[0]} ('{name}') was not kept: enrol that speaker anew"
                    )
            fresh = {}
            for number, (name, recordings) in enumerate(speakers.items(), 1):
                fresh[name] = [heard_again(model, heard) for heard in recordings]
                if progress is not None:
                    progress(number, len(speakers))
            with rows.writing():
                if rows.fact("change") != before:
                    raise GalleryError(f"{folder} was changed meanwhile: it stays as it is now, try again")
                rows.size = size
                rows.set_fact("model", made)
                rows.set_fact("size", str(size))
                for name, recordings in fresh.items():
                    known = rows.put_speaker(name, embedding(model, recordings))
                    rows.forget_recordings(known)
                    for heard in recordings:
                        rows.put_recording(known, heard)
        finally:
            rows.close()
        return Gallery(folder, model)

    def _id(self, name: str) -> int:
        known = self._rows.speaker(name)
        if known is None:
            raise UnknownSpeakerError(f"no speaker '{name}' in {self.folder}")
        return known

    def _pass(self, gate: Gate, source: str, force: bool) -> None:
        if gate.reasons and not force:
            raise NotEnrolledError(source, gate.reasons)
        if gate.seconds < MIN_SPEECH:
            raise AudioError(
                f"{source}: {gate.seconds:.2f} s of speech are found; an embedding needs {MIN_SPEECH} s"
            )

    def _check_model(self) -> None:
        made_by = self._rows.fact("model")
        if made_by != self._hash:
            raise GalleryError(
                f"{self.folder} was made with another model ({made_by[:12]}, not {self._hash[:12]}): use that"
                " one, or hear its recordings again with this one (gallery reembed)"
            )

    def _refresh(self) -> None:
        if int(self._rows.fact("change")) != self._seen:
            # Another process may have had all recordings heard by another model.
            self._check_model()
            ids, embed_NE, gone, self._seen = self._rows.changed_since(self._seen)
            self._near.update(ids, embed_NE, gone)
