"""Open an audio file as a whole: with a wrong size in its header corrected, and with all its streams."""

from __future__ import annotations

import logging
import os
from contextlib import ExitStack
from functools import lru_cache
from io import SEEK_END, BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import soundfile

from separative.audio.archive import file_stamp
from separative.audio.containers import MAX_LINKS, Contents, Part, count_flac_streams, inspect
from separative.audio.foreign import HEAD_BYTES, MediaKind, media_installed, media_kind, shared_kind
from separative.audio.media import UNKNOWN_FRAMES, MediaFile
from separative.errors import AudioError, printable
from separative.types import Wave

log = logging.getLogger(__name__)

# libsndfile's error codes for a known container with a codec that it lacks.
UNKNOWN_CODEC = (4, 18, 64, 161)


def is_complete(path: str | Path) -> bool:
    """Return False if an Ogg file has no last page, or if a file is shorter than its header states.

    Formats other than Ogg, WAV, AIFF, CAF, MP4 and its kin give True: a FLAC or MP3 file that is cut short
    fails when it is read.

    >>> data = Path("ann.wav").read_bytes()
    >>> _ = Path("part.wav").write_bytes(data[: len(data) // 2])
    >>> is_complete("ann.wav"), is_complete("part.wav")
    (True, False)
    """
    path = Path(path)
    with path.open("rb") as file:
        kind = media_kind(file.read(HEAD_BYTES))
    if kind is not None and media_installed():
        with ExitStack() as opened:
            media = _open_media(path, kind, None, opened)
            return bool(media.frames and media.complete)
    return _contents(str(path), file_stamp(path)).complete


def remark(path: str | Path) -> str:
    """Return what is wrong with a file although it can be read, or an empty string.

    A header may state less audio than the file holds, and a FLAC file may hold several streams, of which only
    the first is read. The file is read as a whole.

    Raises:
        OSError: no such file.

    >>> remark("ann.wav")
    ''
    """
    path = Path(path)
    if path.suffix.lower() == ".flac":
        with path.open("rb") as file:
            streams = count_flac_streams(file)
        if streams > 1:
            return f"it holds {streams} FLAC streams, of which only the first is read; split it into files"
    return _contents(str(path), file_stamp(path)).remark


@lru_cache(4096)
def _contents(path: str, stamp: tuple[int, int] | None) -> Contents:
    """Inspect a local file. The stamp is an argument so that a changed file is inspected again."""
    with Path(path).open("rb") as file:
        return inspect(file, stamp[0] if stamp else 0)


def warn_once(path: Path, sentence: str) -> None:
    """Log a warning about a file, unless this process has logged it before and the file has not changed.

    >>> warn_once(Path("ann.wav"), "its channels have opposite phase")
    """
    _log_once(str(path), file_stamp(path), sentence)


@lru_cache(4096)
def _log_once(path: str, stamp: tuple[int, int] | None, sentence: str) -> None:
    log.warning("%s", printable(f"{path}: {sentence}"))


class _SoundFile(soundfile.SoundFile):  # type: ignore[misc]
    """A file in which only :meth:`seek` seeks; soundfile seeks after every read of a file that is seekable.

    A stream of unknown length cannot be seeked. A FLAC file with fewer samples than its header states would
    fail there instead of giving the samples that it has.
    """

    def seekable(self) -> bool:
        return False


class _Joined:
    """The streams of one file, read one after another, with the methods of a sound file that we use."""

    def __init__(self, path: Path, parts: list[_SoundFile]) -> None:
        self.parts, self.current, first = parts, 0, parts[0]
        if any((p.samplerate, p.channels) != (first.samplerate, first.channels) for p in parts):
            raise AudioError(
                f"{path}: holds {len(parts)} streams of different rates or channels; split it into files"
            )
        self.samplerate, self.channels = first.samplerate, first.channels
        self.format, self.subtype = first.format, first.subtype
        self.frames = min(sum(part.frames for part in parts), UNKNOWN_FRAMES)

    def read(self, count: int, **options: Any) -> Wave:
        while True:
            block: Wave = self.parts[self.current].read(count, **options)
            if len(block) or self.current + 1 == len(self.parts):
                return block
            self.current += 1

    def seek(self, frame: int) -> None:
        self.current = 0
        while self.current + 1 < len(self.parts) and frame >= self.parts[self.current].frames:
            frame -= self.parts[self.current].frames
            self.current += 1
        self.parts[self.current].seek(frame)


def native_name(path: Path) -> str | bytes:
    """Return a file name as the system stores it: it need not be UTF-8, except on Windows.

    >>> native_name(Path("ann.wav"))
    b'ann.wav'
    """
    return str(path) if os.name == "nt" else os.fsencode(path)


def open_streams(path: Path, data: bytes | None, opened: ExitStack) -> Any:
    """Open a file, or its bytes, for decoding; what is wrong with it although it can be read is logged.

    libsndfile decodes what it knows, FFmpeg the rest.

    Args:
        data: the bytes of a file that is not a local one.
        opened: closes what is opened.

    Raises:
        AudioError: streams that cannot be joined.
        soundfile.LibsndfileError: not audio.

    >>> with ExitStack() as opened:
    ...     open_streams(Path("ann.wav"), None, opened).samplerate
    16000
    """
    with _open_bytes(path, data) as file:
        head = file.read(HEAD_BYTES)
    if (kind := media_kind(head)) is not None:
        return _open_media(path, kind, data, opened)
    try:
        return _open_sound(path, data, opened)
    except soundfile.LibsndfileError as error:
        kind = shared_kind(head)
        if kind is None or error.code not in UNKNOWN_CODEC or not media_installed():
            raise
        return _open_media(path, kind, data, opened)


def _open_bytes(path: Path, data: bytes | None) -> BinaryIO:
    return path.open("rb") if data is None else BytesIO(data)


def _open_media(path: Path, kind: MediaKind, data: bytes | None, opened: ExitStack) -> MediaFile:
    key = (str(path), file_stamp(path), kind) if data is None else None
    file = MediaFile(path, kind, lambda: _open_bytes(path, data), opened, key)
    if file.frames < UNKNOWN_FRAMES and not file.complete:
        warn_once(
            path, f"cut short, it is read as far as it goes: {file.frames / file.samplerate:.1f} s are there"
        )
    if file.tracks > 1:
        warn_once(
            path,
            f"it holds {file.tracks} audio tracks, of which only the first is read; "
            "write another to a file with: ffmpeg -i IN -map 0:a:1 OUT.wav",
        )
    return file


def _open_sound(path: Path, data: bytes | None, opened: ExitStack) -> Any:
    contents = _contents(str(path), file_stamp(path)) if data is None else inspect(BytesIO(data), len(data))
    if contents.remark:
        warn_once(path, contents.remark)
    if not contents.patches and not contents.links:
        return opened.enter_context(_SoundFile(native_name(path) if data is None else BytesIO(data)))
    raw: Any = opened.enter_context(_open_bytes(path, data))
    size = raw.seek(0, SEEK_END)
    ranges = contents.links or ((0, size),)
    if len(ranges) > MAX_LINKS:
        raise AudioError(f"{path}: holds over {MAX_LINKS} streams one after another; split it into files")
    parts = [
        opened.enter_context(_SoundFile(Part(raw, start, end, contents.patches))) for start, end in ranges
    ]
    return parts[0] if len(parts) == 1 else _Joined(path, parts)
