"""The gallery: enrol, remove, search, identify, export. Safe for several processes and threads."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, Any

import numpy as np

from separative.errors import (
    GalleryBusyError,
    GalleryDamagedError,
    GalleryError,
    NotEnrolledError,
)
from separative.gallery.enrolment import (
    EnrolmentQuality,
    check_quality,
    digest_audio,
    extract_recording,
    measure_quality,
    speaker_embedding,
)
from separative.gallery.export import ExportedSpeaker, read_export, read_voiceprints, write_export
from separative.gallery.records import (
    EnrolledRecording,
    EnrolledSpeaker,
    check_name,
    check_recording,
    check_vector,
)
from separative.gallery.reembed import reembed_gallery
from separative.gallery.search import EmbeddingIndex
from separative.gallery.store import GalleryStore
from separative.inference import Audio, Diarization, Speaker, diarize
from separative.inference.identities import Identification, identify_from_scores
from separative.inference.recording import MIN_SPEECH_SECONDS
from separative.metrics import log_odds
from separative.types import Floats, Progress

if TYPE_CHECKING:
    from separative.model import SeparativeEncoder

# The index preselects this many more than requested, because 8-bit codes may swap near neighbours.
EXTRA_CANDIDATES = 20
# Probabilities are computed over this many of the nearest speakers, even if fewer candidates are returned.
SCORED_CANDIDATES = 100
# A thread waits for other threads this many times as long as for another process.
THREAD_PATIENCE = 5
NO_SPEECH = "no speech was found in it; use a recording of the speaker's voice"


class Gallery:
    """Enrolled speakers in a folder, all embedded by the same model.

    Args:
        folder: folder of a gallery, or a new or empty folder.
        model: model that embeds recordings; it must be the one that the gallery was made with.
        create: False to require an existing gallery.
        lock_seconds: seconds to wait while another process uses the gallery; None for the default.

    Raises:
        GalleryError: the folder holds other files, or belongs to another model.
        GalleryDamagedError: the gallery's file is damaged. Every method may raise it.
        GalleryBusyError: another process uses the gallery for longer than ``lock_seconds``, or other threads
            use it for much longer. Every method may raise it.

    >>> from separative import load_model
    >>> with Gallery("gallery", load_model()) as gallery:
    ...     quality = gallery.add("ann", "ann.wav")
    ...     recording = gallery.embed_recording("ann-2.wav")[1]
    ...     gallery.search(recording.query, count=1)[0][0], len(gallery)
    ('ann', 1)
    """

    def __init__(
        self,
        folder: str | Path,
        model: SeparativeEncoder,
        *,
        create: bool = True,
        lock_seconds: float | None = None,
    ) -> None:
        self.folder, self.model, self._thread_lock = Path(folder), model, RLock()
        self._hash, size = str(model.card.get("sha256")), model.config.embedding
        self._store = GalleryStore(
            self.folder, model=self._hash, size=size, create=create, timeout=lock_seconds
        )
        self._index, self._indexed_change = EmbeddingIndex(size), 0
        try:
            self._check_model()
        except BaseException:
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
        with self._lock():
            return self._store.count()

    def list(self) -> list[EnrolledSpeaker]:
        """All speakers, sorted by name."""
        with self._lock():
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
        name = check_name(name)
        quality, recording = self.embed_recording(
            source, keep_audio=keep_audio, force=force, label=label, progress=progress
        )
        return replace(quality, warnings=self.enrol(name, [recording], metadata))

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
            NotEnrolledError: the quality is too low, or the recording holds no speech (also with ``force``);
                the error lists the reasons.
        """
        diarization = diarize(self.model, source, progress=progress)
        diarization = diarization if label is None else replace(diarization, name=label)
        if not diarization.speakers:
            raise NotEnrolledError(diarization.name, (NO_SPEECH,))
        quality = measure_quality(diarization, 0, single_speaker=True)
        check_quality(quality, diarization.name, force)
        hash_, content = digest_audio(source, keep_audio)
        return quality, extract_recording(diarization, 0, hash_, content)

    def enrol(
        self,
        name: str,
        recordings: Sequence[EnrolledRecording],
        metadata: dict[str, Any] | None = None,
        added: str | None = None,
    ) -> tuple[str, ...]:
        """Enrol a speaker with recordings from :meth:`embed_recording`: with all of them or with none.

        The embedding of an enrolled speaker is computed again from the old and the new recordings together.

        Args:
            metadata: JSON values to store; merged with those of an enrolled speaker.
            added: time of enrolment; by default now.

        Returns:
            Warnings: another speaker has nearly the same name, or one of the recordings.

        Raises:
            GalleryError: the name is empty or not one line, the metadata are not JSON, there is no recording,
                a recording holds NaN or other invalid values, or the speaker already has the recording.
        """
        name = check_name(name)
        if not recordings:
            raise GalleryError(f"'{name}' has no recordings; a speaker needs at least one")
        added = added or datetime.now(UTC).isoformat(timespec="seconds")
        for recording in recordings:
            check_recording(recording, self._store.size)
        with self._lock(), self._store.write_transaction():
            self._check_model()
            known = self._store.speaker_id(name)
            warnings = self._store.name_warnings(name) if known is None else []
            for recording in recordings:
                warnings += self._store.recording_warnings(name, recording)
            earlier = self._store.recordings(known) if known is not None else []
            embedding_E = speaker_embedding(self.model, [*earlier, *recordings])
            speaker = self._store.save_speaker(name, embedding_E, added=added, metadata=metadata)
            for recording in recordings:
                self._store.add_recording(speaker, recording)
        return tuple(warnings)

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
        name = check_name(name)
        count = len(diarization.speakers)
        if count == 0:
            raise NotEnrolledError(diarization.name, (NO_SPEECH,))
        if not 0 <= speaker < count:
            raise GalleryError(
                f"{diarization.name}: no speaker {speaker}; it has {count} speakers, numbered from 0"
            )
        quality = measure_quality(diarization, speaker, single_speaker=False)
        check_quality(quality, diarization.name, force)
        hash_ = hashlib.sha256(diarization.speakers[speaker].embedding.tobytes()).hexdigest()
        recording = extract_recording(diarization, speaker, hash_, None)
        return replace(quality, warnings=self.enrol(name, [recording], metadata))

    def remove(self, *names: str) -> int:
        """Remove speakers and everything stored of them; all of them or none. Returns their number.

        Raises:
            UnknownSpeakerError: a name is not in the gallery.
            GalleryError: the speakers were removed, but the file cannot be rebuilt now, so that its unused
                parts may hold copies of their names and embeddings until the next change.
        """
        # Two spellings of one name are the same speaker.
        unique = list(dict.fromkeys(check_name(name) for name in names))
        with self._lock():
            self._store.delete_speakers(unique)
            self._update_index()
        return len(unique)

    def rename(self, name: str, new_name: str) -> tuple[str, ...]:
        """Give a speaker another name; recordings and metadata stay.

        Returns:
            Warnings: another speaker has nearly the same name.

        Raises:
            UnknownSpeakerError: no speaker has the old name.
            GalleryError: another speaker has the new name, or it is empty or not one line.

        >>> from separative import load_model
        >>> with Gallery("gallery", load_model()) as gallery:
        ...     quality = gallery.add("ann", "ann.wav")
        ...     gallery.rename("ann", "Ann Lee")
        ...     gallery.list()[0].name
        ()
        'Ann Lee'
        """
        name, new_name = check_name(name), check_name(new_name)
        with self._lock():
            self._store.rename_speaker(name, new_name)
            return tuple(self._store.name_warnings(new_name))

    def embeddings(self, count: int = 1000) -> tuple[Sequence[str], Floats]:
        """Names and embeddings [N,E] (unit norm) of the first ``count`` speakers by name."""
        with self._lock():
            return self._store.first_embeddings(count)

    def search(self, embedding: Floats, count: int = 10) -> Sequence[tuple[str, float]]:
        """Names and cosines of the ``count`` speakers nearest to an embedding [E], the nearest first.

        Raises:
            GalleryError: the embedding has another shape, or NaN or infinite values.
        """
        check_vector(embedding, self._store.size, "the embedding")
        with self._lock(), self._store.read_transaction():
            self._update_index()
            ids = self._index.nearest(embedding, count + EXTRA_CANDIDATES)
            names, embedding_NE = self._store.embeddings([int(i) for i in ids])
            if len(names) != len(ids):
                raise GalleryDamagedError(f"{self._store.path} is damaged (speakers are missing)")
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
        with self._lock(), self._store.read_transaction():
            speakers = [
                ExportedSpeaker(s.name, s.added, s.metadata, self._store.recordings_of(s.name))
                for s in self._store.speakers()
            ]
        write_export(path, self._hash, speakers)
        return Path(path)

    def import_(self, path: str | Path) -> int:
        """Add all speakers of an exported file, or none. Recordings that are already stored are skipped.

        If the model was taught, a file with its teacher's vectors (``.npz`` or ``.parquet``) can be imported
        too; see :func:`~separative.gallery.export.read_voiceprints`.

        Returns:
            Number of speakers in the file.

        Raises:
            GalleryError: the file is missing, damaged, not an export of a gallery, or belongs to another
                model.
        """
        vectors = Path(path).suffix in (".npz", ".parquet")
        speakers = (
            read_voiceprints(path, self.model) if vectors else read_export(path, self._hash, self._store.size)
        )
        with self._lock(), self._store.write_transaction():
            for speaker in speakers:
                known = self._store.speaker_id(speaker.name)
                stored = self._store.recording_hashes(known) if known is not None else set()
                if new := [recording for recording in speaker.recordings if recording.hash not in stored]:
                    self.enrol(speaker.name, new, speaker.metadata, speaker.added)
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
        reembed_gallery(Path(folder), model, progress)
        return Gallery(folder, model)

    @contextmanager
    def _lock(self) -> Iterator[None]:
        """Keep other threads out. Several of them may be waiting, so each waits longer than for a process."""
        if not self._thread_lock.acquire(timeout=THREAD_PATIENCE * self._store.timeout):
            raise GalleryBusyError(f"{self.folder} is in use; nothing was changed, try again later")
        try:
            yield
        finally:
            self._thread_lock.release()

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
            ids, embedding_NE, deleted, latest = self._store.changed_since(self._indexed_change)
            self._index.update(ids, embedding_NE, deleted)
            self._indexed_change = latest
            if len(self._index) != self._store.count():
                raise GalleryDamagedError(f"{self._store.path} is damaged (speakers are missing)")
