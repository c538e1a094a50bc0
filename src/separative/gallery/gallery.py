"""The gallery: enrol, remove, search, identify, export. Safe for several processes and threads."""

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
    EnrolmentQuality,
    extract_recording,
    measure_quality,
    read_audio_bytes,
    recording_from_json,
    recording_to_json,
    reembed_recording,
    speaker_embedding,
)
from separative.gallery.identify import Identification, identify_from_scores
from separative.gallery.search import EmbeddingIndex
from separative.gallery.store import EnrolledRecording, EnrolledSpeaker, GalleryStore
from separative.inference import Audio, Diarization, Speaker, diarize
from separative.inference.recording import MIN_SPEECH_SECONDS
from separative.metrics import log_odds
from separative.types import Floats, Progress

if TYPE_CHECKING:
    from separative.model import SeparativeEncoder

EXPORT_FORMAT = 1
# The index preselects this many more than requested, because 8-bit codes may swap near neighbours.
EXTRA_CANDIDATES = 20
# Probabilities are computed over this many of the nearest speakers, even if fewer candidates are returned.
SCORED_CANDIDATES = 100


class Gallery:
    """Enrolled speakers in a folder, all embedded by the same model.

    Args:
        folder: folder of a gallery, or a new or empty folder.
        model: model that embeds recordings; it must be the one that the gallery was made with.
        create: False to require an existing gallery.

    Raises:
        GalleryError: the folder holds other files, is damaged, or belongs to another model.

    >>> from separative import load_model
    >>> with Gallery("gallery", load_model()) as gallery:
    ...     quality = gallery.add("ann", "ann.wav")
    ...     recording = gallery.embed_recording("ann-2.wav")[1]
    ...     gallery.search(recording.query, count=1)[0][0], len(gallery)
    ('ann', 1)
    """

    def __init__(self, folder: str | Path, model: SeparativeEncoder, *, create: bool = True) -> None:
        self.folder, self.model, self._lock = Path(folder), model, RLock()
        self._hash, size = str(model.card.get("sha256")), model.config.embedding
        self._store = GalleryStore(self.folder, model=self._hash, size=size, create=create)
        self._index, self._indexed_change = EmbeddingIndex(size), 0
        try:
            self._check_model()
        except GalleryError:
            self._store.close()
            raise

    def __enter__(self) -> Gallery:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the database."""
        self._store.close()

    def __len__(self) -> int:
        return self._store.count()

    def list(self) -> list[EnrolledSpeaker]:
        """All speakers, sorted by name."""
        with self._lock:
            return self._store.speakers()

    def add(
        self,
        name: str,
        source: Audio,
        *,
        metadata: dict[str, Any] | None = None,
        keep_audio: bool = False,
        force: bool = False,
        label: str | None = None,
        progress: Progress | None = None,
    ) -> EnrolmentQuality:
        """Enrol a speaker, or add a recording to an enrolled one. The recording must hold this speaker alone.

        Calls :meth:`embed_recording` and :meth:`enrol`, which describe the arguments and errors.
        """
        quality, recording = self.embed_recording(
            source, keep_audio=keep_audio, force=force, label=label, progress=progress
        )
        self.enrol(name, [recording], metadata)
        return quality

    def embed_recording(
        self,
        source: Audio,
        *,
        keep_audio: bool = False,
        force: bool = False,
        label: str | None = None,
        progress: Progress | None = None,
    ) -> tuple[EnrolmentQuality, EnrolledRecording]:
        """Process a recording of one speaker; returns its quality and what :meth:`enrol` needs.

        Args:
            source: audio file of any length, or a waveform with its sample rate.
            keep_audio: store the audio too, so that another model can embed it later (:meth:`reembed`).
            force: accept the recording even if its quality is too low.
            label: name of the recording; by default the file name.
            progress: called with (done, total) samples.

        Raises:
            AudioError: the recording is unreadable, or holds too little speech for an embedding.
            NotEnrolledError: the quality is too low; the error lists the reasons.
            GalleryError: the recording holds no speech.
        """
        diarization = diarize(self.model, source, progress=progress)
        diarization = diarization if label is None else replace(diarization, name=label)
        if not diarization.speakers:
            raise GalleryError(f"{diarization.name}: no speech found; enrol with another recording")
        quality = measure_quality(diarization, 0, single_speaker=True)
        _check_quality(quality, diarization.name, force)
        content = read_audio_bytes(source)
        hash_ = hashlib.sha256(content).hexdigest()
        return quality, extract_recording(diarization, 0, hash_, content if keep_audio else None)

    def enrol(
        self,
        name: str,
        recordings: Sequence[EnrolledRecording],
        metadata: dict[str, Any] | None = None,
        added: str | None = None,
    ) -> None:
        """Enrol a speaker with recordings from :meth:`embed_recording`: with all of them or with none.

        The embedding of an enrolled speaker is computed again from the old and the new recordings together.

        Args:
            metadata: JSON values to store; merged with those of an enrolled speaker.
            added: time of enrolment; by default now.

        Raises:
            GalleryError: the name is empty, or the speaker already has one of the recordings.
        """
        if not name.strip():
            raise GalleryError("the speaker's name is empty; give a name")
        added = added or datetime.now(UTC).isoformat(timespec="seconds")
        with self._lock, self._store.write_transaction():
            self._check_model()
            known = self._store.speaker_id(name)
            earlier = self._store.recordings(known) if known is not None else []
            embedding_E = speaker_embedding(self.model, [*earlier, *recordings])
            speaker = self._store.save_speaker(name, embedding_E, added=added, metadata=metadata)
            for recording in recordings:
                self._store.add_recording(speaker, recording)

    def add_from_diarization(
        self,
        name: str,
        diarization: Diarization,
        speaker: int,
        *,
        metadata: dict[str, Any] | None = None,
        force: bool = False,
    ) -> EnrolmentQuality:
        """Enrol one speaker of a recording with several speakers, by index.

        Raises:
            GalleryError: as for :meth:`add`, or the recording has no such speaker.
        """
        count = len(diarization.speakers)
        if not 0 <= speaker < count:
            raise GalleryError(
                f"{diarization.name}: no speaker {speaker}; it has {count} speakers, numbered from 0"
            )
        quality = measure_quality(diarization, speaker, single_speaker=False)
        _check_quality(quality, diarization.name, force)
        hash_ = hashlib.sha256(diarization.speakers[speaker].embedding.tobytes()).hexdigest()
        self.enrol(name, [extract_recording(diarization, speaker, hash_, None)], metadata)
        return quality

    def remove(self, *names: str) -> None:
        """Remove speakers and everything stored of them; all of them or none.

        Raises:
            UnknownSpeakerError: a name is not in the gallery.
        """
        with self._lock:
            self._store.delete_speakers(names)
            self._update_index()

    def embeddings(self, count: int = 1000) -> tuple[Sequence[str], Floats]:
        """Names and embeddings [N,E] (unit norm) of the first ``count`` speakers by name."""
        with self._lock:
            return self._store.first_embeddings(count)

    def search(self, embedding: Floats, count: int = 10) -> Sequence[tuple[str, float]]:
        """Names and cosines of the ``count`` speakers nearest to an embedding [E], the nearest first."""
        with self._lock:
            self._update_index()
            ids = self._index.nearest(embedding, count + EXTRA_CANDIDATES)
            names, embedding_NE = self._store.embeddings([int(i) for i in ids])
        score_N = embedding_NE @ embedding
        return [(names[i], float(score_N[i])) for i in np.argsort(-score_N, kind="stable")[:count]]

    def identify(self, embedding: Floats, *, count: int = 10, prior: float = 0.5) -> Identification:
        """Identify the speaker of an embedding [E] among the enrolled speakers.

        Args:
            count: number of candidates to return. It does not change their probabilities.
            prior: probability that the speaker is enrolled, before the embedding is known.
        """
        scores = self.search(embedding, max(count, SCORED_CANDIDATES))
        found = identify_from_scores(self.model, scores, max(1, len(self)), prior)
        return replace(found, candidates=found.candidates[:count])

    def identify_speaker(self, speaker: Speaker, *, count: int = 10, prior: float = 0.5) -> Identification:
        """Identify a speaker of a recording.

        With less than MIN_SPEECH_SECONDS of speech, the speaker is unknown and there are no candidates.
        """
        if speaker.speech_seconds < MIN_SPEECH_SECONDS:
            log_odds(prior)
            return Identification(None, None, ())
        return self.identify(speaker.embedding, count=count, prior=prior)

    def export(self, path: str | Path) -> Path:
        """Write all speakers with their recordings, including stored audio, to a JSON file."""
        with self._lock, self._store.read_transaction():
            speakers = [
                {
                    "name": speaker.name,
                    "added": speaker.added,
                    "metadata": speaker.metadata,
                    "recordings": [recording_to_json(r) for r in self._recordings(speaker.name)],
                }
                for speaker in self._store.speakers()
            ]
        write_json(path, {"format": EXPORT_FORMAT, "model": self._hash, "speakers": speakers})
        return Path(path)

    def import_(self, path: str | Path) -> int:
        """Add all speakers of an exported file, or none. Recordings that are already stored are skipped.

        Returns:
            Number of speakers in the file.

        Raises:
            GalleryError: the file is missing, is not an export of a gallery, or belongs to another model.
        """
        try:
            record = json.loads(Path(path).read_text(encoding="utf-8"))
            if record["format"] != EXPORT_FORMAT or record["model"] != self._hash:
                raise GalleryError(
                    f"{path} is an export of another format or model; export it again with this model"
                )
            speakers = [
                (str(s["name"]), s["metadata"], s["added"], [recording_from_json(r) for r in s["recordings"]])
                for s in record["speakers"]
            ]
            if any(r.query.shape != (self._store.size,) for *_, recordings in speakers for r in recordings):
                raise GalleryError(f"{path} is damaged: its embeddings have another size; export it again")
        except (OSError, KeyError, TypeError, ValueError) as error:
            if isinstance(error, GalleryError):
                raise
            raise GalleryError(f"{path} is not an export of a gallery: {error}") from error
        with self._lock, self._store.write_transaction():
            for name, metadata, added, recordings in speakers:
                known = self._store.speaker_id(name)
                stored = self._store.recording_hashes(known) if known is not None else set()
                if new := [recording for recording in recordings if recording.hash not in stored]:
                    self.enrol(name, new, metadata, added)
        return len(speakers)

    @staticmethod
    def reembed(folder: str | Path, model: SeparativeEncoder, *, progress: Progress | None = None) -> Gallery:
        """Process all stored audio of a gallery with another model, to which the gallery then belongs.

        Args:
            progress: called with (done, total) speakers.

        Raises:
            GalleryError: the audio of a recording was not stored, the model finds no speech in it, or the
                gallery was changed in the meantime. The gallery then stays as it was.
        """
        store = GalleryStore(Path(folder), model="", size=1, create=False)
        store.size = int(store.setting("size"))
        try:
            change = store.setting("change")
            stored = {name: store.recordings(store.speaker_id(name) or 0) for name in store.names()}
            for name, recordings in stored.items():
                lost = [r.source for r in recordings if r.audio is None] if recordings else ["all recordings"]
                if lost:
                    raise GalleryError(
                        f"speaker '{name}': the audio of {lost[0]} was not stored; remove the speaker, and"
                        " enrol them again after the change of model"
                    )
            reembedded = {}
            for number, (name, recordings) in enumerate(stored.items(), 1):
                reembedded[name] = [reembed_recording(model, recording) for recording in recordings]
                if progress is not None:
                    progress(number, len(stored))
            with store.write_transaction():
                if store.setting("change") != change:
                    raise GalleryError(
                        f"{folder} was changed by another process; nothing was written, try again"
                    )
                store.size = model.config.embedding
                store.set_setting("model", str(model.card.get("sha256")))
                store.set_setting("size", str(store.size))
                for name, recordings in reembedded.items():
                    speaker = store.save_speaker(name, speaker_embedding(model, recordings))
                    store.delete_recordings(speaker)
                    for recording in recordings:
                        store.add_recording(speaker, recording)
        finally:
            store.close()
        return Gallery(folder, model)

    def _recordings(self, name: str) -> Sequence[EnrolledRecording]:
        known = self._store.speaker_id(name)
        if known is None:
            raise UnknownSpeakerError(f"no speaker '{name}' in {self.folder}")
        return self._store.recordings(known)

    def _check_model(self) -> None:
        made_by = self._store.setting("model")
        if made_by != self._hash:
            raise GalleryError(
                f"{self.folder} was made with another model ({made_by[:12]}, not {self._hash[:12]}); use that"
                " model, or convert the gallery with: separative gallery reembed"
            )

    def _update_index(self) -> None:
        """Apply the changes of all processes since the last update."""
        if int(self._store.setting("change")) != self._indexed_change:
            # Another process may have converted the gallery to another model.
            self._check_model()
            ids, embedding_NE, deleted, self._indexed_change = self._store.changed_since(self._indexed_change)
            self._index.update(ids, embedding_NE, deleted)


def _check_quality(quality: EnrolmentQuality, source: str, force: bool) -> None:
    """Raise NotEnrolledError for low quality (unless forced), and AudioError for too little speech."""
    if quality.reasons and not force:
        raise NotEnrolledError(source, quality.reasons)
    if quality.speech_seconds < MIN_SPEECH_SECONDS:
        raise AudioError(
            f"{source}: {quality.speech_seconds:.2f} s of speech found; an embedding needs"
            f" {MIN_SPEECH_SECONDS} s"
        )
