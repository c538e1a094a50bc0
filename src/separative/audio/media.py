"""Decode media files with FFmpeg (package ``av``, extra ``media``): the first audio track of M4A, WebM, ...

The track is laid out by its time stamps: time 0 is where the first track of the file starts, samples that
only prime the decoder are left out, and pauses in the stamps are silence.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Hashable, Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from separative.audio.clock import LONGEST_GAP, TrackClock
from separative.audio.foreign import MediaKind, without_extra
from separative.audio.frames import FrameConverter, channel_count
from separative.errors import AudioError
from separative.types import Wave

# Stamps are rounded, to a millisecond in Matroska. A smaller difference is no pause and no overlap.
TOLERANCE_SECONDS = 0.05
# Decoded before the first frame that is wanted, so that the decoder has the frames that it depends on.
PREROLL_SECONDS = 0.5
# The last frames may be damaged or without a duration; the rest up to the stated end is silence.
MISSING_SECONDS = 0.5
# Damaged packets before the first good one.
DAMAGED_AT_START = 50
MAX_CHANNELS = 64
# Decoders that know by a checksum that a frame is damaged, and return it all the same unless told otherwise.
LOSSLESS = ("flac", "tta", "wavpack", "ape", "tak")
# Frames of silence at a time.
SILENCE_FRAMES = 1 << 16
# libsndfile reports this many frames or more when a stream does not state its length; we do so too.
UNKNOWN_FRAMES = 2**62
# Codec tags of encrypted tracks: common encryption, FairPlay, Audible.
ENCRYPTED = ("enca", "drms", "aavd")
# Objects in the header of an encrypted ASF file, and where they are searched for.
ASF_ENCRYPTION = ("fbb3112223bdd211b4b700a0c955fc6e", "14e68a292226174cb935dae07ee9289c")
ASF_HEADER_BYTES = 1 << 16


class _Length(NamedTuple):
    frames: int
    complete: bool = True
    # The time stamps jump, so that a time of the track is not found by its stamp.
    jumped: bool = False


MOST_LENGTHS = 4096
_LENGTHS: dict[Hashable, _Length] = {}


class MediaFile:
    """The first audio track of a media file, with the methods of a sound file that we use.

    Args:
        path: name for messages.
        kind: what the file is.
        open_bytes: opens the bytes of the file again.
        opened: closes what is opened.
        key: names the file and its state; the length of a file is measured once per key.

    Raises:
        AudioError: the extra is missing, or the file has no audio track that can be decoded.

    >>> from separative.audio.foreign import shared_kind
    >>> with ExitStack() as opened:
    ...     file = MediaFile(Path("ann.wav"), shared_kind(b"RIFF"), lambda: open("ann.wav", "rb"), opened)
    ...     file.samplerate, file.channels, file.read(100).shape
    (16000, 1, (100, 1))
    """

    def __init__(
        self,
        path: Path,
        kind: MediaKind,
        open_bytes: Callable[[], BinaryIO],
        opened: ExitStack,
        key: Hashable = None,
    ) -> None:
        try:
            import av
        except ImportError as error:
            raise AudioError(f"{path}: {without_extra(kind, path.name)}") from error
        self._av: Any = av
        self.path, self.kind, self._open_bytes = path, kind, open_bytes
        self.format = kind.demuxer.upper()
        # What was opened last is closed with the file, or when a pass from elsewhere replaces it.
        self._pass = opened.enter_context(ExitStack())
        self.samplerate, self.channels, self.tracks, self._origin, self.at = 0, 0, 0, 0.0, 0
        self._key = key
        self._measured: _Length | None = None
        with self._errors():
            self._start(None)

    # --- opening

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Turn errors of FFmpeg into an AudioError that names the file."""
        try:
            yield
        except AudioError as error:
            if str(error).startswith(f"{self.path}: "):
                raise
            raise AudioError(f"{self.path}: {error}") from error
        except (self._av.FFmpegError, ValueError, OverflowError, MemoryError) as error:
            reason = str(getattr(error, "strerror", None) or error).rstrip(".").lower()
            raise AudioError(
                f"{self.path}: is a damaged or incomplete {self.kind.name} ({reason})"
            ) from error

    def _open(self, opened: ExitStack) -> Any:
        """Open the container; nothing but its own bytes is read."""
        source = opened.enter_context(closing(_Source(self._open_bytes())))
        if self.kind.demuxer == "asf":
            head = source.read(ASF_HEADER_BYTES)
            source.seek(0)
            if any(bytes.fromhex(mark) in head for mark in ASF_ENCRYPTION):
                raise _encrypted()
        options = {"protocol_whitelist": "none", "codec_whitelist": _audio_decoders(self._av)}
        return opened.enter_context(
            self._av.open(
                source,
                format=self.kind.demuxer,
                container_options=options,
                metadata_errors="replace",
                buffer_size=1 << 17,
            )
        )

    def _track(self, container: Any) -> Any:
        """Return the first audio track; all others are not decoded."""
        tracks = container.streams.audio
        if not tracks:
            video = "is a video without sound" if container.streams.video else "holds no audio track"
            raise AudioError(f"{video}; nothing in it can be read")
        track = tracks[0]
        for other in container.streams:
            if other.index != track.index:
                other.discard = self._av.stream.Discard.all
        decoder = track.codec_context
        if decoder is None:
            raise AudioError("FFmpeg has no decoder for the codec of its audio; convert it to WAV first")
        if _tag(decoder) in ENCRYPTED:
            raise _encrypted()
        decoder.thread_count = 1
        if decoder.name in LOSSLESS:
            decoder.options = {"err_detect": "crccheck+explode"}
        self.tracks = len(tracks)
        return track

    def _start(self, at: int | None) -> None:
        """Begin a pass: from the start of the track, or (``at``) shortly before a frame."""
        self._pass.close()
        container = self._open(self._pass)
        track = self._track(container)
        base = float(track.time_base)
        if at is not None:
            stamp = at / self.samplerate - PREROLL_SECONDS + self._origin
            container.seek(int(stamp / base), stream=track, backward=True)
        frames = self._decode(container, track)
        self._pass.enter_context(closing(frames))
        first = next(frames, None)
        if first is None:
            raise AudioError("its audio track is empty or cannot be decoded")
        stamp_of_first = self._stamp(first)
        if at is None:
            self.samplerate, self.channels = int(first.sample_rate), channel_count(first)
            self.subtype = str(track.codec_context.name).upper()
            if not 0 < self.channels <= MAX_CHANNELS or self.samplerate <= 0:
                raise AudioError(f"damaged, it has {self.channels} channels at {self.samplerate} Hz")
            self._origin = self._time_zero(container, track, stamp_of_first)
            clock = TrackClock(self._origin)
        else:
            clock = TrackClock(self._origin, (stamp_of_first or 0.0) - self._origin)
        self.at = round(clock.end * self.samplerate)
        self._blocks = self._lay_out(first, frames, clock, self.at)
        self._rest: Wave = np.zeros((0, self.channels), np.float32)

    def _time_zero(self, container: Any, track: Any, first: float | None) -> float:
        """Return the stamp at which the first track starts; pictures of the cover are no track.

        The first frame that the decoder returns may be later than the start of its track.
        """
        if first is None:
            return 0.0
        cover = self._av.stream.Disposition.attached_pic
        starts = [
            float(other.start_time * other.time_base)
            for other in (track, *container.streams.video)
            if other.start_time is not None and not other.disposition & cover
        ]
        # Tracks of one recording start together; another start is that of a damaged or unrelated track.
        return min([first, *(start for start in starts if first - start < LONGEST_GAP)])

    def _stamp(self, frame: Any) -> float | None:
        if not self.kind.stamped or frame.pts is None:
            return None
        return float(frame.pts * frame.time_base)

    # --- decoding

    def _decode(self, container: Any, track: Any) -> Generator[Any]:
        """Yield the decoded frames of the track."""
        damaged, good, failed = 0, False, None
        for packet in container.demux(track):
            if failed is not None and packet.size:
                raise AudioError(self._damage()) from failed
            if packet.has_sidedata("encryption_info") or packet.has_sidedata("encryption_init_info"):
                raise _encrypted()
            if packet.is_corrupt:  # The file ends inside this packet.
                continue
            try:
                frames = packet.decode()
            except self._av.error.InvalidDataError as error:
                damaged += 1
                # A recording of a broadcast starts in the middle of a frame, one that was stopped ends there.
                failed = error if good or damaged > DAMAGED_AT_START else None
                continue
            for frame in frames:
                good = True
                yield frame

    def _damage(self) -> str:
        if not self.samplerate:
            return f"is a damaged {self.kind.name}, its audio cannot be decoded"
        return f"damaged, it cannot be decoded after {self.at / self.samplerate:.2f} s"

    def _lay_out(self, first: Any, frames: Iterator[Any], clock: TrackClock, at: int) -> Iterator[Wave]:
        """Yield the samples ``[n, channels]`` of the track from frame ``at`` on, with its pauses."""
        tolerance = TOLERANCE_SECONDS * self.samplerate
        convert = FrameConverter(self._av, first)
        frame: Any = first
        while frame is not None:
            stamp = self._stamp(frame)
            for samples in convert(frame):
                start = clock.place(stamp, len(samples) / self.samplerate) * self.samplerate
                late, stamp = start - at, None
                if late > (0 if frame is first else tolerance):
                    at += (gap := round(late))
                    for _ in range(gap // SILENCE_FRAMES):
                        yield np.zeros((SILENCE_FRAMES, self.channels), np.float32)
                    yield np.zeros((gap % SILENCE_FRAMES, self.channels), np.float32)
                elif late < -tolerance:
                    samples = samples[round(-late) :]
                at += len(samples)
                yield samples
            frame = next(frames, None)

    @property
    def frames(self) -> int:
        """Number of samples per channel, from the headers of all packets.

        For some formats it is not known before the whole file was decoded once.
        """
        return self._length().frames

    @property
    def complete(self) -> bool:
        """False if the file ends before the audio that its header states."""
        return self._length().complete

    def _length(self) -> _Length:
        length = self._measured or _LENGTHS.get(self._key)
        if length is None and self.kind.headerless:
            return _Length(UNKNOWN_FRAMES)
        if length is None:
            with self._errors(), ExitStack() as opened:
                container = self._open(opened)
                length = self._measure(container, self._track(container))
            self._remember(length)
        else:
            self._measured = length
        return length

    def _remember(self, length: _Length) -> None:
        self._measured = length
        if self._key is not None:
            if len(_LENGTHS) >= MOST_LENGTHS:
                _LENGTHS.clear()
            _LENGTHS[self._key] = length

    def _measure(self, container: Any, track: Any) -> _Length:
        base, last, clock = float(track.time_base), 0.0, TrackClock(self._origin)
        for packet in container.demux(track):
            if packet.size == 0:
                continue
            seconds = (packet.duration or 0) * base
            if not seconds and not self.kind.stamped:
                return _Length(UNKNOWN_FRAMES)
            stamp = packet.pts * base if self.kind.stamped and packet.pts is not None else None
            # Priming samples are before the start of the time line.
            early = 0.0 if stamp is None else max(0.0, min(seconds, -(stamp + clock.shift)))
            clock.place(None if stamp is None else stamp + early, (seconds or last) - early)
            last = seconds or last
        stated = float((track.duration or 0) * base) if self.kind.indexed else 0.0
        complete = clock.jumped or clock.end > stated - MISSING_SECONDS
        # No packet has a duration in some damaged files.
        return _Length(round(clock.end * self.samplerate) or UNKNOWN_FRAMES, complete, clock.jumped)

    def read(self, count: int, dtype: str = "float32", always_2d: bool = True) -> Wave:
        """Return the next frames ``[n, channels]``, fewer than ``count`` at the end."""
        count = min(count, self.frames - self.at)
        parts: list[Wave] = []
        have = 0
        while have < count:
            part = self._rest if len(self._rest) else self._next_block(count - have)
            if part is None:
                if self.frames >= UNKNOWN_FRAMES and self.at + have > 0:
                    self._remember(_Length(self.at + have))
                break
            parts.append(part[: count - have])
            self._rest = part[count - have :]
            have += len(parts[-1])
        self.at += have
        return np.concatenate(parts) if parts else np.zeros((0, self.channels), np.float32)

    def _next_block(self, wanted: int) -> Wave | None:
        with self._errors():
            block = next(self._blocks, None)
        if block is not None:
            return block
        # A short rest at the end of the track.
        if wanted <= MISSING_SECONDS * self.samplerate and self.frames < UNKNOWN_FRAMES:
            return np.zeros((wanted, self.channels), np.float32)
        return None

    def seek(self, frame: int) -> None:
        """Continue with this frame."""
        with self._errors():
            exact = self.kind.indexed and self.frames < UNKNOWN_FRAMES and not self._length().jumped
            if exact and frame > 2 * PREROLL_SECONDS * self.samplerate:
                self._start(frame)
            if not exact or self.at > frame:
                self._start(None)
        while self.at < frame and len(self.read(min(frame - self.at, SILENCE_FRAMES))):
            pass


class _Source:
    """A file for FFmpeg, which follows damaged positions; positions outside of the file are refused."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.read, self.tell, self.close = file.read, file.tell, file.close

    def seek(self, offset: int, whence: int = 0) -> int:
        try:
            return self._file.seek(offset, whence)
        except (OSError, ValueError, OverflowError):
            return -1


def _tag(decoder: Any) -> str:
    try:
        return str(decoder.codec_tag)
    except UnicodeDecodeError:  # WAV and AVI have numbers in its place.
        return ""


def _encrypted() -> AudioError:
    return AudioError("is encrypted (DRM) and cannot be decoded; pass a recording without protection")


@lru_cache(1)
def _audio_decoders(av: Any) -> str:
    """Return the names of all audio decoders, so that no other decoder sees the file."""
    names = []
    for name in sorted(av.codecs_available):
        try:
            codec = av.Codec(name, "r")
        except ValueError:  # It only encodes.
            continue
        names += [name] if codec.type == "audio" else []
    return ",".join(names)
