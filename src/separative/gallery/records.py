"""What a gallery stores of a speaker and of a recording, with the checks of names, numbers and digests."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from separative.errors import GalleryError
from separative.names import normalise_name
from separative.types import Floats

DIGEST_BYTES = 16
# Unicode categories of characters that a name must not hold: control characters, halves of surrogate pairs
# (they come from file names that are not UTF-8), and separators of lines and paragraphs.
FORBIDDEN_CATEGORIES = ("Cc", "Cs", "Zl", "Zp")


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


def check_name(name: str) -> str:
    r"""Return the normalised name of a speaker: no blanks at its ends, Unicode form NFC.

    Raises:
        GalleryError: the name is empty, not text, or not one line.

    >>> check_name(" Ann Lee ")
    'Ann Lee'
    >>> check_name("Ann\nLee")
    Traceback (most recent call last):
    separative.errors.GalleryError: 'Ann\nLee' is no name for a speaker: it must be one line of valid text
    """
    if not isinstance(name, str):
        raise GalleryError(f"a name of a speaker must be text, not {type(name).__name__}")
    plain = normalise_name(name)
    if not plain:
        raise GalleryError("the speaker's name is empty; give a name")
    if any(unicodedata.category(character) in FORBIDDEN_CATEGORIES for character in plain):
        raise GalleryError(f"{plain!a} is no name for a speaker: it must be one line of valid text")
    return plain


def check_vector(values: ArrayLike, size: int, what: str) -> Floats:
    """Return an embedding [E] as float32.

    Raises:
        GalleryError: it has another shape, or values that are NaN, infinite or all 0.

    >>> check_vector([0.6, 0.8], 2, "the query")
    array([0.6, 0.8], dtype=float32)
    >>> check_vector([0.6, np.nan], 2, "the query")
    Traceback (most recent call last):
    separative.errors.GalleryError: the query holds NaN or infinite values
    """
    try:
        vector_E = np.asarray(values, np.float32)
    except (TypeError, ValueError, OverflowError) as error:
        raise GalleryError(f"{what} is no array of numbers") from error
    if vector_E.shape != (size,):
        raise GalleryError(
            f"{what} has shape {vector_E.shape}; the gallery's embeddings have shape ({size},)"
        )
    if not np.isfinite(vector_E).all():
        raise GalleryError(f"{what} holds NaN or infinite values")
    if not vector_E.any():
        raise GalleryError(f"{what} is 0 throughout, so it has no direction")
    return vector_E


def check_recording(recording: EnrolledRecording, size: int) -> None:
    """Check that the arrays of a recording fit together and to embeddings of ``size`` dimensions.

    Raises:
        GalleryError: an array has another shape, or a value is NaN or infinite.

    >>> recording = EnrolledRecording("ann.wav", "3f2a", 3.0, np.ones(2), np.zeros((3, 2)), np.zeros(3))
    >>> check_recording(recording, 2)
    >>> check_recording(recording, 4)
    Traceback (most recent call last):
    separative.errors.GalleryError: ann.wav: its query has shape (2,); the gallery's embeddings have ...
    """
    source = recording.source
    check_vector(recording.query, size, f"{source}: its query")
    memory_ME, logit_M = np.asarray(recording.memory), np.asarray(recording.memory_logit)
    if memory_ME.shape[1:] != (size,) or logit_M.shape != memory_ME.shape[:1]:
        raise GalleryError(
            f"{source}: its memory has shapes {memory_ME.shape} and {logit_M.shape};"
            f" they must be (M, {size}) and (M,)"
        )
    # The file stores the memory in half precision.
    if not (_half_is_finite(memory_ME) and _half_is_finite(logit_M)):
        raise GalleryError(f"{source}: its memory holds NaN or infinite values")
    if not (np.isfinite(recording.speech_seconds) and recording.speech_seconds >= 0):
        raise GalleryError(
            f"{source}: {recording.speech_seconds} is no duration of speech; it must be 0 s or more"
        )


def metadata_json(metadata: Mapping[str, Any] | None) -> str:
    """Metadata of a speaker as JSON.

    Raises:
        GalleryError: it is no object of JSON values.

    >>> metadata_json({"team": "blue"})
    '{"team": "blue"}'
    >>> metadata_json({"age": float("nan")})
    Traceback (most recent call last):
    separative.errors.GalleryError: the metadata cannot be stored as JSON (Out of range float values ...)
    """
    if metadata is not None and not isinstance(metadata, Mapping):
        raise GalleryError(
            f"the metadata must be an object with keys and values, not {type(metadata).__name__}"
        )
    try:
        return json.dumps(dict(metadata or {}), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise GalleryError(f"the metadata cannot be stored as JSON ({error})") from error


def row_digest(*values: object) -> bytes:
    """Digest of the values of a row, to detect damage. Bytes, text, numbers and None are kept apart.

    >>> row_digest("a", b"b") == row_digest("a", b"b"), row_digest("a", b"b") == row_digest(b"a", "b")
    (True, False)
    """
    parts: list[bytes] = []
    form = []
    for value in values:
        if isinstance(value, bytes):
            parts.append(value)
            # Bytes are described by their length, as a tuple, so that they cannot be confused with a number.
            form.append(repr((len(value),)))
        else:
            form.append(repr(value))
    parts.append(" ".join(form).encode("utf-8", "replace"))
    return blake2b(b"".join(parts), digest_size=DIGEST_BYTES).digest()


def add_digest(total: bytes, digest: bytes, sign: int = 1) -> bytes:
    """Add a digest to a sum of digests, or subtract it. The sum does not depend on the order.

    >>> one, two, zero = row_digest(1), row_digest(2), bytes(DIGEST_BYTES)
    >>> add_digest(add_digest(zero, one), two) == add_digest(add_digest(zero, two), one)
    True
    >>> add_digest(one, one, -1) == zero
    True
    """
    value = int.from_bytes(total, "big") + sign * int.from_bytes(digest, "big")
    return (value % (1 << (8 * DIGEST_BYTES))).to_bytes(DIGEST_BYTES, "big")


def _half_is_finite(values: ArrayLike) -> bool:
    with np.errstate(over="ignore"):
        return bool(np.isfinite(np.asarray(values).astype(np.float16)).all())
