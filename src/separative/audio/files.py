"""Sound files: what is in them, reading a part of them, writing them whole or not at all."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import soundfile
from scipy.io import wavfile

from separative.audio.archive import content
from separative.audio.waves import Resampler, resample
from separative.errors import AudioError, choose
from separative.files import atomic_path
from separative.types import Wave

log = logging.getLogger(__name__)

Channels = Literal["mean", "first", "each"]

# Containers of a suffix and the sample format used where the caller names none.
FORMATS = {
    ".wav": ("WAV", "PCM_16"),
    ".flac": ("FLAC", "PCM_16"),
    ".ogg": ("OGG", "VORBIS"),
    ".opus": ("OGG", "OPUS"),
    ".mp3": ("MP3", "MPEG_LAYER_III"),
}
# libsndfile reports this many frames or more when a stream does not say how long it is.
UNKNOWN_FRAMES = 2**62
# Decoding by blocks keeps a damaged header from claiming memory for frames that are not there.
BLOCK_FRAMES = 1 << 20
# What libsndfile calls an error that is the system's.
SYSTEM_ERROR = 2
# A rate beyond these is a damaged header, and resampling from it would take unbounded memory.
RATES = (1_000, 768_000)
# Floating point files of integers reach 2^31; beyond, sums of squares would overflow.
LARGEST = 1e12
# MP3 frames borrow bits from earlier ones: after a bare seek some 5,000 frames decode to something else.
MP3_PREROLL = 16384


@dataclass(frozen=True, slots=True)
class AudioInfo:
    """A sound file's header: ``rate`` in hertz, ``frames`` per channel, ``format`` as WAV/PCM_16."""

    path: Path
    rate: int
    channels: int
    frames: int
    format: str

    @property
    def seconds(self) -> float:
        return self.frames / self.rate


class _SoundFile(soundfile.SoundFile):  # type: ignore[misc]
    """soundfile seeks after every read, which fails in a stream of unstated length."""

    def seekable(self) -> bool:
        return self.frames < UNKNOWN_FRAMES and bool(super().seekable())


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Open for reading; whatever goes wrong while it is open becomes an AudioError naming the file."""
    there = path.is_file()
    inside = None if there else content(path)
    if inside is None and not there:
        raise AudioError(f"{path}: {'is a folder, not a sound file' if path.is_dir() else 'no such file'}")
    try:
        with _SoundFile(str(path) if inside is None else BytesIO(inside)) as file:
            if not RATES[0] <= file.samplerate <= RATES[1]:
                raise AudioError(f"{path}: a sampling rate of {file.samplerate} Hz is not plausible")
            yield file
    # soundfile: RuntimeError from the decoder, TypeError for header-less names such as .raw.
    except (soundfile.LibsndfileError, RuntimeError, TypeError, OSError) as error:
        reason = getattr(error, "error_string", str(error)).removeprefix("Error : ").rstrip(".")
        raise AudioError(f"{path}: not readable as WAV, FLAC, OGG or MP3 audio ({reason})") from error


def info(path: str | Path, *, longest: float | None = None) -> AudioInfo:
    """Read the header of a sound file; a stream of unstated length is decoded once to count its frames.

    Args:
        longest: seconds beyond which such a stream is counted no further: its length is then a little more.

    Raises:
        AudioError: the file is missing, not audio, or has no frames.
    """
    path = Path(path)
    with _opened(path) as file:
        frames = int(file.frames)
        if frames >= UNKNOWN_FRAMES:
            limit = UNKNOWN_FRAMES if longest is None else math.ceil(longest * file.samplerate) + 1
            frames = sum(len(block) for block in _blocks(file, limit))
        if frames == 0:
            raise AudioError(f"{path}: empty, it holds no audio frames")
        return AudioInfo(
            path, int(file.samplerate), int(file.channels), frames, f"{file.format}/{file.subtype}"
        )


def read(
    path: str | Path,
    rate: int | None = None,
    *,
    channels: Channels = "mean",
    start: float = 0.0,
    seconds: float | None = None,
) -> tuple[Wave, int]:
    """Decode a sound file, or the stretch of it from ``start`` for ``seconds``, and resample it.

    Args:
        path: WAV, FLAC, OGG (Opus, Vorbis) or MP3, any rate, any number of channels.
        rate: hertz wanted; None keeps the file's own.
        channels: ``mean`` averages all, ``first`` takes one, ``each`` keeps all.
        start, seconds: in seconds; only this stretch is decoded. The result ends where the file does; else it
            has exactly ``round(seconds * rate)`` samples. A stretch is resampled by itself, so its first and
            last 10 ms differ slightly from a cut of the whole resampled file.

    Returns:
        float32 ``[N]``, or ``[channels, N]`` for ``each``; and its rate in hertz.

    Raises:
        AudioError: missing, not audio, empty, cut short (fewer frames than its header promises), NaN or
            infinite samples, ``start`` at or beyond the end. A WAV or Ogg file cut short still decodes to
            what is left.
    """
    path = Path(path)
    choose(channels, get_args(Channels), "channel policy", AudioError)
    with _opened(path) as file:
        from_rate = int(file.samplerate)
        first = round(start * from_rate)
        # One frame more than needed, so that resampling never yields one sample too few.
        wanted = UNKNOWN_FRAMES if seconds is None else math.ceil(seconds * from_rate) + 1
        samples = _decode(file, path, first, wanted)
    if reason := _impossible(samples):
        raise AudioError(f"{path}: {reason}")
    wave = _channels(samples, channels)
    to_rate = from_rate if rate is None else rate
    wave = resample(np.ascontiguousarray(wave), from_rate, to_rate)
    return (wave if seconds is None else wave[..., : round(seconds * to_rate)]), to_rate


def stream(
    path: str | Path, rate: int | None = None, *, channels: Channels = "mean", seconds: float = 10.0
) -> Iterator[Wave]:
    """Decode a sound file block by block, whatever its length, ``seconds`` each but the last.

    Together the blocks are what :func:`read` returns, to within the resampler's rounding.

    Raises:
        AudioError: as of :func:`read`, when the place that is damaged is reached.
    """
    path = Path(path)
    choose(channels, get_args(Channels), "channel policy", AudioError)
    with _opened(path) as file:
        from_rate = int(file.samplerate)
        to_rate = from_rate if rate is None else rate
        change = Resampler(from_rate, to_rate, file.channels if channels == "each" else 1)
        size, frames = round(seconds * to_rate), 0
        nothing = _channels(np.zeros((0, file.channels), np.float32), channels)
        kept = nothing
        damage: Exception | None = None
        # By the second, and told of after what came before: that is not lost with a damaged place.
        blocks = _blocks(file, UNKNOWN_FRAMES, from_rate)
        while True:
            try:
                samples = next(blocks, None)
            except (RuntimeError, OSError) as error:
                samples, damage = None, error
            if samples is not None and (reason := _impossible(samples)):
                samples, damage = None, AudioError(f"{path}: {reason}")
            if samples is None:
                break
            frames += len(samples)
            kept = np.concatenate([kept, change(_channels(samples, channels))], axis=-1)
            whole = kept.shape[-1] - kept.shape[-1] % size
            for start in range(0, whole, size):
                yield kept[..., start : start + size]
            kept = kept[..., whole:]
        kept = np.concatenate([kept, change(nothing, last=True)], axis=-1)
        for start in range(0, kept.shape[-1], size):
            yield kept[..., start : start + size]
        if damage is not None:
            raise damage
        if frames == 0:
            raise AudioError(f"{path}: empty, it holds no audio frames")
        if frames < file.frames < UNKNOWN_FRAMES:
            raise AudioError(f"{path}: cut short, {frames} of {file.frames} frames can be decoded")


def _impossible(samples: Wave) -> str:
    """What is wrong with samples that no recording has, or nothing."""
    if not np.isfinite(samples).all():
        return "holds NaN or infinite samples"
    peak = float(np.abs(samples).max(initial=0.0))
    return f"damaged, a sample of {peak:.1g} is in it" if peak > LARGEST else ""


def _channels(samples: Wave, channels: Channels) -> Wave:
    """``[frames, channels]`` as ``[channels, frames]``, or ``[frames]`` of the first or the mean of all."""
    if channels == "each":
        return samples.T
    mono: Wave = samples[:, 0] if channels == "first" or samples.shape[1] == 1 else samples.mean(axis=1)
    return mono


def _decode(file: Any, path: Path, first: int, wanted: int) -> Wave:
    """Frames ``[first, first + wanted)`` as ``[frames, channels]``, fewer only where the file ends."""
    known = file.frames < UNKNOWN_FRAMES
    if file.frames == 0:
        raise AudioError(f"{path}: empty, it holds no audio frames")
    if known:
        wanted = min(wanted, file.frames - first)
        # Sought to before `first`, and dropped again below.
        before = min(first, MP3_PREROLL) if file.format == "MP3" else 0
    else:
        # A stream of unstated length cannot be sought in: decode from its beginning.
        before = first
    if first < 0 or wanted <= 0:
        raise _no_audio(file, path, first)
    if known and first:
        file.seek(first - before)
    blocks = list(_blocks(file, before + wanted))
    samples = (blocks[0] if len(blocks) == 1 else np.concatenate(blocks or [np.empty((0, 1), np.float32)]))[
        before:
    ]
    if known and len(samples) < wanted:
        raise AudioError(f"{path}: cut short, {first + len(samples)} of {file.frames} frames can be decoded")
    if len(samples) == 0:
        raise _no_audio(file, path, first)
    return samples


def _no_audio(file: Any, path: Path, first: int) -> AudioError:
    return AudioError(
        f"{path}: no audio at {first / file.samplerate:.2f} s, before its start or after its end"
    )


def _blocks(file: Any, limit: int, size: int = BLOCK_FRAMES) -> Iterator[Wave]:
    """Decoded blocks ``[frames, channels]`` until ``limit`` frames or the end of the stream."""
    done = 0
    while done < limit:
        block: Wave = file.read(min(size, limit - done), dtype="float32", always_2d=True)
        if len(block) == 0:
            return
        done += len(block)
        yield block


@contextmanager
def writing(path: str | Path, rate: int) -> Iterator[Callable[[Wave], None]]:
    """A sound file of one channel and 16 bits, written block by block; it appears whole or not at all.

    Yields a function that takes the next samples [N]. Samples beyond ±1 are limited, and a warning says how
    many: what is written piece by piece cannot be turned down afterwards.

    Raises:
        AudioError: unknown suffix, NaN, or samples that the format cannot hold.
        OSError: the system does not write it: no room, no permission.
    """
    path = Path(path)
    container, _ = FORMATS[
        choose(path.suffix.lower(), (".wav", ".flac"), f"sound file suffix of {path}:", AudioError)
    ]
    limited = 0

    def put(wave_N: Wave) -> None:
        nonlocal limited
        if not np.isfinite(wave_N).all():
            raise AudioError(f"{path}: not written, the waveform holds NaN or Inf")
        limited += int((np.abs(wave_N) > 1).sum())
        file.write(np.clip(wave_N, -1, 1))

    try:
        with (
            atomic_path(path) as beside,
            soundfile.SoundFile(beside, "w", rate, 1, "PCM_16", format=container) as file,
        ):
            yield put
    except soundfile.LibsndfileError as error:
        raise _unwritten(path, error) from error
    if limited:
        log.warning("%s: %d samples beyond full scale were limited", path, limited)


def write(path: str | Path, wave: Wave, rate: int, *, subtype: str | None = None) -> None:
    """Write a sound file, format from its suffix; the file appears whole or not at all.

    Nothing is clipped silently: samples beyond ±1 are an error, except for ``subtype`` FLOAT or DOUBLE (WAV),
    which store them as they are.

    Args:
        path: ends in .wav, .flac, .ogg, .opus or .mp3; missing folders are made.
        wave: float32 ``[N]`` or ``[channels, N]``.
        rate: hertz.
        subtype: libsndfile's name; PCM_16 by default, VORBIS for .ogg (OPUS on request), OPUS for .opus.

    Raises:
        AudioError: unknown suffix, a rate or subtype the format lacks, no samples, NaN, or samples beyond ±1.
        OSError: the system does not write it: no room, no permission.
    """
    path = Path(path)
    suffix = choose(path.suffix.lower(), FORMATS, f"sound file suffix of {path}:", AudioError)
    container, default = FORMATS[suffix]
    subtype = subtype or default
    choose(subtype, soundfile.available_subtypes(container), f"{container} subtype", AudioError)
    if wave.size == 0 or not np.isfinite(wave).all():
        raise AudioError(
            f"{path}: not written, the waveform {'holds NaN or Inf' if wave.size else 'is empty'}"
        )
    peak = float(np.abs(wave).max())
    if peak > 1.0 and subtype not in ("FLOAT", "DOUBLE"):
        raise AudioError(
            f"{path}: not written, samples reach {peak:.4g} and {subtype} would clip at 1; "
            "scale them down or write WAV with subtype FLOAT"
        )
    try:
        with atomic_path(path) as beside:
            if subtype in ("FLOAT", "DOUBLE"):
                # libsndfile stamps the time of writing into these: the same samples would give other bytes.
                wavfile.write(beside, rate, wave.T.astype(np.float32 if subtype == "FLOAT" else np.float64))
            else:
                soundfile.write(beside, wave.T, rate, format=container, subtype=subtype)
    except soundfile.LibsndfileError as error:
        raise _unwritten(path, error) from error


def _unwritten(path: Path, error: soundfile.LibsndfileError) -> Exception:
    if error.code == SYSTEM_ERROR:
        return OSError(f"{path}: not written, the system refuses it: is the disk full?")
    return AudioError(f"{path}: not written ({error.error_string.removeprefix('Error : ')})")


OGG_LAST_PAGE = 0x04  # flag of the header type byte, RFC 3533 section 6
OGG_LARGEST_PAGE = 65307
# Writers that cannot seek back leave one of these in place of the size (piped WAV).
UNSTATED_SIZES = {0, 0xFFFFFFFF, 0x7FFFFFFF}


def is_whole(path: str | Path) -> bool:
    """False if a WAV file is shorter than its header says or an Ogg stream lacks its last page; else True.

    A FLAC or MP3 file cut short fails when it is read.
    """
    path = Path(path)
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(8)
        if head[:4] == b"RIFF":
            stated = int.from_bytes(head[4:8], "little")
            # Chunks are padded to even length, and some writers forget the padding byte of the last one.
            return stated in UNSTATED_SIZES or size + 1 >= stated + 8
        if head[:4] == b"OggS":
            file.seek(max(0, size - OGG_LARGEST_PAGE))
            tail = file.read()
            page = tail.rfind(b"OggS")
            if page < 0 or page + 27 > len(tail) or not tail[page + 5] & OGG_LAST_PAGE:
                return False
            segments = tail[page + 26]
            lengths = tail[page + 27 : page + 27 + segments]
            return len(lengths) == segments and len(tail) >= page + 27 + segments + sum(lengths)
    return True
