"""Files that move a gallery to another machine: JSON with a checksum of its content."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from separative.errors import GalleryError, SeparativeError
from separative.files import parse_json, write_json
from separative.gallery.records import EnrolledRecording, check_name, check_recording, metadata_json

EXPORT_FORMAT = 2


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
