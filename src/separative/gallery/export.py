"""Files that move a gallery to another machine: JSON with a checksum of its content."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from separative.errors import GalleryError, SeparativeError
from separative.files import parse_json, write_json
from separative.gallery.records import EnrolledRecording, check_name, check_recording, metadata_json

if TYPE_CHECKING:
    from separative.model import SeparativeEncoder

EXPORT_FORMAT = 2
# If recordings of the same speaker are enrolled too, a teacher's vector has the weight of 10 s of speech.
VOICEPRINT_SECONDS = 10.0


@dataclass(frozen=True)
class ExportedSpeaker:
    """A speaker of an exported file.

    >>> ExportedSpeaker("ann", "2026-05-01T12:00:00+00:00", {}, ()).recordings
    ()
    """

    name: str
    added: str
    metadata: dict[str, Any]
    recordings: Sequence[EnrolledRecording]


def write_export(path: str | Path, model: str, speakers: Iterable[ExportedSpeaker]) -> None:
    """Write speakers to a JSON file.

    Args:
        model: SHA-256 of the weights of the gallery's model.

    Raises:
        OSError: the file cannot be written.

    >>> write_export("voices.json", "3f2a", [ExportedSpeaker("ann", "2026-05-01", {}, ())])
    >>> json.loads(Path("voices.json").read_text())["speakers"][0]["name"]
    'ann'
    """
    record = {
        "format": EXPORT_FORMAT,
        "model": model,
        "speakers": [
            {
                "name": speaker.name,
                "added": speaker.added,
                "metadata": speaker.metadata,
                "recordings": [recording_to_json(recording) for recording in speaker.recordings],
            }
            for speaker in speakers
        ],
    }
    write_json(path, record | {"sha256": _checksum(record)})


def read_export(path: str | Path, model: str, size: int) -> list[ExportedSpeaker]:
    """Read a file that :func:`write_export` wrote.

    Args:
        model: SHA-256 of the weights of the gallery's model.
        size: number of embedding dimensions.

    Raises:
        GalleryError: the file is missing, damaged, not an export of a gallery, or belongs to another model.

    >>> read_export("ann.wav", "3f2a", 4)
    Traceback (most recent call last):
    separative.errors.GalleryError: ann.wav is not an export of a gallery: its content: not UTF-8 text ...
    """
    try:
        record = parse_json(Path(path).read_bytes(), "its content")
        form, made_by = record["format"], record["model"]
        if form == EXPORT_FORMAT and made_by == model:
            speakers = [_speaker(entry, size) for entry in _typed(record["speakers"], list, "speakers")]
            intact = record["sha256"] == _checksum({k: v for k, v in record.items() if k != "sha256"})
    except OSError as error:
        raise GalleryError(f"{path} cannot be read ({error.strerror or error})") from error
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
        reason = f"key {error} is missing" if isinstance(error, KeyError) else str(error)
        raise GalleryError(f"{path} is not an export of a gallery: {reason}") from error
    if form != EXPORT_FORMAT or made_by != model:
        raise GalleryError(f"{path} is an export of another format or model; export it again with this model")
    if not intact:
        raise GalleryError(f"{path} is damaged: its content does not fit its checksum; export it again")
    return speakers


def read_voiceprints(path: str | Path, model: SeparativeEncoder) -> list[ExportedSpeaker]:
    """Read a teacher's vectors by speaker, and project them into the space of a model that it taught.

    Args:
        path: ``.npz`` or ``.parquet`` file, see :class:`~separative.model.teacher.TeacherVectors`; its ids
            are the names of the speakers.
        model: the model of the gallery.

    Raises:
        GalleryError: the model is not in the space of this teacher, or an id is no name for a speaker.
        ModelError: the file is missing, damaged or of another form.

    >>> from separative import load_model
    >>> from separative.model.teacher import Teacher, TeacherVectors
    >>> teacher = Teacher(name="mine", licence="MIT", sha256="5f" * 32)
    >>> path = TeacherVectors.from_rows(teacher, ["ann"], np.ones((1, 192))).save("voices.npz")
    >>> read_voiceprints(path, load_model())
    Traceback (most recent call last):
    separative.errors.GalleryError: voices.npz has vectors of the teacher 'mine', but the model of this ...
    """
    # torch is slow to import, and the other functions of a gallery do not need it.
    import torch

    from separative.model.teacher import TeacherVectors

    voices = TeacherVectors.load(path)
    space = model.card.get("space") or {}
    taught = space.get("sha256") == voices.teacher.sha256 and space.get("dimension") == voices.dimension
    if model.space is None or not taught:
        other = f"is in the space of '{space['name']}'" if space.get("name") else "has no teacher"
        raise GalleryError(
            f"{path} has vectors of the teacher '{voices.teacher.name}', but the model of this gallery"
            f" {other}: use a model that this teacher taught"
        )
    with torch.inference_mode():
        query_RE = model.space(torch.from_numpy(voices.vectors)).cpu().numpy()
    size, added = query_RE.shape[1], datetime.now(UTC).isoformat(timespec="seconds")
    speakers = []
    for name, vector_T, query_E in zip(voices.ids, voices.vectors, query_RE, strict=True):
        hash_ = hashlib.sha256(vector_T.tobytes()).hexdigest()
        nothing = np.zeros((0, size), np.float32), np.zeros(0, np.float32)
        recording = EnrolledRecording(Path(path).name, hash_, VOICEPRINT_SECONDS, query_E, *nothing)
        speakers.append(ExportedSpeaker(check_name(name), added, {}, (recording,)))
    return speakers


def recording_to_json(recording: EnrolledRecording) -> dict[str, Any]:
    """Convert a recording to JSON values; arrays and audio become base64 text.

    >>> recording = EnrolledRecording("ann.wav", "3f2a", 3.0, np.ones(2), np.zeros((3, 2)), np.zeros(3))
    >>> recording_from_json(recording_to_json(recording), 2).hash
    '3f2a'
    """

    def text(data: bytes) -> str:
        return base64.b64encode(data).decode()

    return {
        "source": recording.source,
        "hash": recording.hash,
        "seconds": recording.speech_seconds,
        "query": text(recording.query.astype(np.float32).tobytes()),
        "memory": text(recording.memory.astype(np.float16).tobytes()),
        "logit": text(recording.memory_logit.astype(np.float16).tobytes()),
        "sound": None if recording.audio is None else text(recording.audio),
    }


def recording_from_json(record: dict[str, Any], size: int) -> EnrolledRecording:
    """Reverse of :func:`recording_to_json`, for embeddings of ``size`` dimensions.

    Raises:
        KeyError, TypeError, ValueError: the record has another form.

    >>> recording_from_json({}, 2)
    Traceback (most recent call last):
    KeyError: 'source'
    """

    def data(key: str) -> bytes:
        return base64.b64decode(_typed(record[key], str, key), validate=True)

    recording = EnrolledRecording(
        _typed(record["source"], str, "source"),
        _typed(record["hash"], str, "hash"),
        float(_typed(record["seconds"], (int, float), "seconds")),
        np.frombuffer(data("query"), np.float32),
        np.frombuffer(data("memory"), np.float16).reshape(-1, size).astype(np.float32),
        np.frombuffer(data("logit"), np.float16).astype(np.float32),
        None if record["sound"] is None else data("sound"),
    )
    check_recording(recording, size)
    return recording


def _speaker(entry: Any, size: int) -> ExportedSpeaker:
    recordings = [
        recording_from_json(_typed(record, dict, "recordings"), size)
        for record in _typed(entry["recordings"], list, "recordings")
    ]
    metadata = _typed(entry["metadata"], dict, "metadata")
    metadata_json(metadata)
    return ExportedSpeaker(
        check_name(entry["name"]), _typed(entry["added"], str, "added"), metadata, recordings
    )


def _typed(value: Any, kind: type | tuple[type, ...], key: str) -> Any:
    if not isinstance(value, kind) or isinstance(value, bool):
        raise SeparativeError(f"'{key}' has a value of another type")
    return value


def _checksum(record: dict[str, Any]) -> str:
    """SHA-256 of a record. Line breaks and the order of keys make no difference."""
    text = json.dumps(record, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
