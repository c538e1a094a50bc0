"""Read audio files: the header, a whole file or a part of it, or block by block."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import soundfile

from separative.audio.archive import archived_bytes
from separative.audio.foreign import HEAD_BYTES, describe_foreign, foreign_file
from separative.audio.media import UNKNOWN_FRAMES
from separative.audio.streams import open_streams, warn_once
from separative.audio.waves import PhaseCheck, Resampler, resample
from separative.errors import AudioError, choose
from separative.types import Wave

Channels = Literal["mean", "first", "each"]


# Decoding in blocks: a damaged header cannot make us allocate memory for frames that do not exist.
BLOCK_FRAMES = 1 << 20
# A sampling rate outside this range is a damaged header; resampling from it would take unbounded memory.
RATES = (1_000, 768_000)
# Longest time of a request: 30 years. Larger numbers would overflow.
LONGEST_SECONDS = 1e9
# Floating-point files that store integers reach 2^31. Squares of much larger samples would overflow.
LARGEST_SAMPLE = 1e12
# MP3 frames use bits of earlier frames: after a seek, about 5,000 samples would be decoded wrongly.
MP3_PREROLL = 16384


@dataclass(frozen=True, slots=True)
class AudioInfo:
    """The header of an audio file.

    Attributes:
        path: the file.
        rate: hertz.
        channels: number of channels.
        frames: samples per channel.
        format: container and codec, as libsndfile or FFmpeg names them.

    >>> info("ann.wav").format
    'WAV/PCM_16'
    """

    path: Path
    rate: int
    channels: int
    frames: int
    format: str

    @property
    def seconds(self) -> float:
        return self.frames / self.rate


def info(path: str | Path, *, max_seconds: float | None = None) -> AudioInfo:
    """Read the header of an audio file; a stream that does not state its length is decoded to measure it.

    Args:
        max_seconds: stop measuring such a stream after this time; the result is then slightly longer.

    Raises:
        AudioError: the file is missing, not audio, or has no frames.

    >>> header = info("mixture.wav")
    >>> header.rate, header.channels, header.frames == len(read("mixture.wav")[0])
    (16000, 1, True)
    """
    path = Path(path)
    with _open(path) as file:
        frames = int(file.frames)
        if frames >= UNKNOWN_FRAMES:
            limit = UNKNOWN_FRAMES if max_seconds is None else math.ceil(max_seconds * file.samplerate) + 1
            frames = sum(len(block) for block in _blocks(file, limit))
        if frames == 0:
            raise _empty(path)
        return AudioInfo(
            path, int(file.samplerate), int(file.channels), frames, f"{file.format}/{file.subtype}"
        )


def read(
    path: str | Path,
    rate: int | None = None,
    *,
    channels: Channels | int = "mean",
    start: float = 0.0,
    seconds: float | None = None,
) -> tuple[Wave, int]:
    """Decode an audio file, or the part of it from ``start`` for ``seconds``, and resample it.

    Only that part is decoded. It has exactly ``round(seconds * rate)`` samples, or fewer if the file ends
    before. Because the part is resampled alone, its first and last 10 ms differ slightly from the same part
    of the resampled file.

    Args:
        path: WAV, FLAC, OGG (Opus, Vorbis), MP3 or another format that libsndfile reads, with any rate and
            number of channels. All streams of a chained Ogg file are read. With the extra ``media`` also
            M4A, MP4, WebM and what else FFmpeg decodes; of several audio tracks, the first is read.
        rate: sampling rate of the result in hertz; None keeps that of the file.
        channels: ``mean`` averages all channels, ``first`` takes the first, ``each`` keeps all, a number
            takes that channel, counted from 0. A warning is logged if the channels cancel in the mean.
        start, seconds: seconds.

    Returns:
        float32 ``[N]``, or ``[channels, N]`` for ``each``; and its rate in hertz.

    Raises:
        AudioError: missing, not audio, empty, cut short (fewer frames than the header states), NaN or
            infinite samples, ``start`` at or after the end, no such channel, an invalid number. A WAV or Ogg
            file that is cut short is decoded as far as it goes (see :func:`is_complete`).

    >>> wave, rate = read("ann.wav", 8000, start=0.5, seconds=1.0)
    >>> wave.shape, wave.dtype, rate
    ((8000,), dtype('float32'), 8000)
    """
    path = Path(path)
    _check_request(path, rate, channels, start, seconds)
    with _open(path) as file:
        _check_channel(path, file, channels)
        from_rate = int(file.samplerate)
        first = round(start * from_rate)
        # One frame more than needed, so that resampling never gives one sample too few.
        wanted = UNKNOWN_FRAMES if seconds is None else math.ceil(seconds * from_rate) + 1
        samples = _decode(file, path, first, wanted)
    if reason := _invalid(samples):
        raise AudioError(f"{path}: {reason}")
    to_rate = from_rate if rate is None else rate
    selected = _select(samples, channels)
    if channels == "mean" and samples.shape[1] > 1:
        phase = PhaseCheck()
        phase.add(samples, selected)
        _warn_of_phase(path, phase)
    wave = resample(np.ascontiguousarray(selected), from_rate, to_rate)
    return (wave if seconds is None else wave[..., : round(seconds * to_rate)]), to_rate


def stream(
    path: str | Path, rate: int | None = None, *, channels: Channels | int = "mean", seconds: float = 10.0
) -> Iterator[Wave]:
    """Decode an audio file of any length block by block; each block but the last lasts ``seconds``.

    Together the blocks equal the result of :func:`read`, except for rounding errors of the resampler.

    Raises:
        AudioError: as for :func:`read`, and for blocks shorter than one sample. An error in the middle of a
            file is raised after the samples before it have been yielded.

    >>> [len(block) / 16000 for block in stream("noise.wav", seconds=1.5)]
    [1.5, 1.5, 1.0]
    """
    path = Path(path)
    _check_request(path, rate, channels, 0.0, seconds)
    with _open(path) as file:
        _check_channel(path, file, channels)
        from_rate = int(file.samplerate)
        to_rate = from_rate if rate is None else rate
        resampler = Resampler(from_rate, to_rate, file.channels if channels == "each" else 1)
        size, frames = round(seconds * to_rate), 0
        if size == 0:
            raise AudioError(
                f"{path}: blocks of {seconds:g} s hold no sample at {to_rate} Hz; pass longer blocks"
            )
        phase = PhaseCheck()
        nothing = _select(np.zeros((0, file.channels), np.float32), channels)
        pending = nothing
        damage: Exception | None = None
        for samples in _blocks_until_damage(file, path):
            if isinstance(samples, Exception):
                damage = samples
                break
            frames += len(samples)
            selected = _select(samples, channels)
            if channels == "mean" and file.channels > 1:
                phase.add(samples, selected)
                # Ten seconds are enough to know; a short recording is judged at its end.
                if frames == 10 * from_rate:
                    _warn_of_phase(path, phase)
            pending = np.concatenate([pending, resampler(selected)], axis=-1)
            whole = pending.shape[-1] - pending.shape[-1] % size
            for start in range(0, whole, size):
                yield pending[..., start : start + size]
            pending = pending[..., whole:]
        pending = np.concatenate([pending, resampler(nothing, last=True)], axis=-1)
        for start in range(0, pending.shape[-1], size):
            yield pending[..., start : start + size]
        _warn_of_phase(path, phase)
        if damage is not None:
            raise damage
        if frames == 0:
            raise _empty(path)
        if frames < file.frames < UNKNOWN_FRAMES:
            raise _cut_short(path, frames, file.frames)


@contextmanager
def _open(path: Path) -> Iterator[Any]:
    """Open for reading; any error while the file is open becomes an AudioError that names it."""
    try:
        exists = path.is_file()
    except OSError as error:
        raise AudioError(f"{path}: cannot be read ({(error.strerror or str(error)).lower()})") from error
    data = None if exists else archived_bytes(path)
    if data is None and not exists:
        raise AudioError(f"{path}: {_why_not_a_file(path)}")
    try:
        with ExitStack() as opened:
            file = open_streams(path, data, opened)
            if not RATES[0] <= file.samplerate <= RATES[1]:
                raise AudioError(f"{path}: a sampling rate of {file.samplerate} Hz is not plausible")
            yield file
    # soundfile raises RuntimeError from the decoder, and TypeError for formats without a header such as .raw.
    except (soundfile.LibsndfileError, RuntimeError, TypeError, OSError) as error:
        reason = getattr(error, "error_string", str(error)).removeprefix("Error : ").rstrip(".")
        known = describe_foreign(data[:HEAD_BYTES], path.name) if data else foreign_file(path, path.name)
        words = known or f"not readable as WAV, FLAC, OGG or MP3 audio ({reason})"
        raise AudioError(f"{path}: {words}") from error


def _why_not_a_file(path: Path) -> str:
    if path.is_dir():
        return "is a folder, not an audio file"
    if path.exists():
        # Decoders move back and forth in a file, which a pipe or a terminal cannot do.
        return "is a pipe or a device, not a file; save the audio to a file first and pass that"
    if str(path) == "-":
        return "standard input is not read here; save the audio to a file first and pass that"
    return "no such file"


def _check_request(
    path: Path, rate: int | None, channels: Channels | int, start: float, seconds: float | None
) -> None:
    """Raise AudioError for a policy, a rate or a time that no file can satisfy."""
    if not isinstance(channels, int) or isinstance(channels, bool):
        choose(str(channels), get_args(Channels), "channel policy", AudioError)
    if rate is not None and not 1 <= rate <= RATES[1]:
        raise AudioError(f"{path}: a rate of {rate} Hz is not possible; pass 1 to {RATES[1]} Hz")
    for name, value in (("start", start), ("seconds", 0.0 if seconds is None else seconds)):
        if not abs(value) <= LONGEST_SECONDS or (name == "seconds" and value < 0):
            raise AudioError(f"{path}: {name} is {value}, not a number of seconds")


def _check_channel(path: Path, file: Any, channels: Channels | int) -> None:
    if isinstance(channels, int) and not 0 <= channels < file.channels:
        raise AudioError(f"{path}: no channel {channels}; it has {file.channels}, counted from 0")


def _warn_of_phase(path: Path, phase: PhaseCheck) -> None:
    if (lost_db := phase.lost_db()) is not None:
        cancelled = (
            f"its channels have opposite phase and cancel each other: their mean is {lost_db:.0f} dB weaker"
        )
        warn_once(path, f"{cancelled}; use one channel with --channels first")


def _invalid(samples: Wave) -> str:
    """Return why decoded samples cannot be those of a recording, or an empty string."""
    if not np.isfinite(samples).all():
        return "holds NaN or infinite samples"
    peak = float(np.abs(samples).max(initial=0.0))
    return f"damaged, it holds a sample of {peak:.1g}" if peak > LARGEST_SAMPLE else ""


def _select(samples: Wave, channels: Channels | int) -> Wave:
    """Apply a channel policy to ``[frames, channels]``; returns ``[channels, frames]`` or ``[frames]``."""
    if channels == "each":
        return samples.T
    if isinstance(channels, int):
        return samples[:, channels]
    mono: Wave = samples[:, 0] if channels == "first" or samples.shape[1] == 1 else samples.mean(axis=1)
    return mono


def _decode(file: Any, path: Path, first: int, wanted: int) -> Wave:
    """Decode frames ``[first, first + wanted)`` as ``[frames, channels]``; fewer if the file ends before."""
    known = file.frames < UNKNOWN_FRAMES
    if file.frames == 0:
        raise _empty(path)
    if known:
        wanted = min(wanted, file.frames - first)
        # Frames to decode before `first`; they are dropped below.
        before = min(first, MP3_PREROLL) if file.format == "MP3" else 0
    else:
        # A stream of unknown length cannot be seeked: decode from its beginning.
        before = first
    if first < 0 or wanted <= 0:
        raise _no_audio(file, path, first)
    if known and first:
        try:
            file.seek(first - before)
        except soundfile.LibsndfileError as error:
            at = first / file.samplerate
            raise AudioError(f"{path}: cut short, it cannot be decoded at {at:.2f} s") from error
    blocks = list(_blocks(file, before + wanted))
    whole = blocks[0] if len(blocks) == 1 else np.concatenate(blocks or [np.empty((0, 1), np.float32)])
    samples = whole[before:]
    if known and len(samples) < wanted:
        raise _cut_short(path, first + len(samples), file.frames)
    if len(samples) == 0:
        raise _no_audio(file, path, first)
    return samples


def _blocks(file: Any, limit: int, size: int = BLOCK_FRAMES) -> Iterator[Wave]:
    """Yield decoded blocks ``[frames, channels]`` up to ``limit`` frames or the end of the stream."""
    done = 0
    while done < limit:
        block: Wave = file.read(min(size, limit - done), dtype="float32", always_2d=True)
        if len(block) == 0:
            return
        done += len(block)
        yield block


def _blocks_until_damage(file: Any, path: Path) -> Iterator[Wave | Exception]:
    """Yield blocks of one second; if the file is damaged, the error is the last item."""
    try:
        for samples in _blocks(file, UNKNOWN_FRAMES, int(file.samplerate)):
            if reason := _invalid(samples):
                yield AudioError(f"{path}: {reason}")
                return
            yield samples
    except (RuntimeError, OSError, AudioError) as error:
        yield error


def _empty(path: Path) -> AudioError:
    return AudioError(f"{path}: empty, it holds no audio frames")


def _cut_short(path: Path, decoded: int, stated: int) -> AudioError:
    return AudioError(f"{path}: cut short, {decoded} of {stated} frames can be decoded")


def _no_audio(file: Any, path: Path, first: int) -> AudioError:
    return AudioError(
        f"{path}: no audio at {first / file.samplerate:.2f} s, before its start or after its end"
    )
