"""Conversion of a gallery to another model, from the stored audio."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from separative.errors import GalleryError
from separative.gallery.enrolment import extract_recording, speaker_embedding
from separative.gallery.records import EnrolledRecording
from separative.gallery.store import GalleryStore
from separative.inference import diarize
from separative.types import Progress

if TYPE_CHECKING:
    from separative.model import SeparativeEncoder


def reembed_gallery(folder: Path, model: SeparativeEncoder, progress: Progress | None = None) -> None:
    """Process all stored audio of a gallery with another model; see :meth:`separative.Gallery.reembed`.

    >>> from separative import Gallery, load_model
    >>> model = load_model()
    >>> with Gallery("gallery", model) as gallery:
    ...     quality = gallery.add("ann", "ann.wav", keep_audio=True)
    >>> reembed_gallery(Path("gallery"), model)
    """
    store = GalleryStore(Path(folder), model="", size=1, create=False)
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
                raise GalleryError(f"{folder} was changed by another process; nothing was written, try again")
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


def reembed_recording(model: SeparativeEncoder, recording: EnrolledRecording) -> EnrolledRecording:
    """Process the stored audio of a recording with another model.

    Raises:
        GalleryError: the model finds no speech in it.

    >>> from dataclasses import replace
    >>> from separative import load_model
    >>> from separative.gallery.enrolment import read_audio_bytes
    >>> from separative.inference import diarize
    >>> model = load_model()
    >>> recording = extract_recording(diarize(model, "ann.wav"), 0, "3f2a", read_audio_bytes("ann.wav"))
    >>> bool((reembed_recording(model, recording).query == recording.query).all())
    True
    """
    assert recording.audio is not None
    with tempfile.TemporaryDirectory() as folder:
        # The label of the recording may not be a valid file name, so it is not used as one.
        path = Path(folder) / "audio"
        path.write_bytes(recording.audio)
        diarization = replace(diarize(model, path), name=recording.source)
    if not diarization.speakers:
        raise GalleryError(
            f"{recording.source}: the new model finds no speech in it; remove the speaker, or enrol them with"
            " another recording"
        )
    return extract_recording(diarization, 0, recording.hash, recording.audio)
