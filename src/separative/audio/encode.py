"""Write audio files: a whole file, or block by block. A file appears only when it is complete."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import soundfile
from scipy.io import wavfile

from separative.audio.streams import native_name
from separative.errors import AudioError, choose
from separative.files import atomic_path
from separative.types import Wave

log = logging.getLogger(__name__)

# libsndfile's container for each suffix, and the default subtype (sample format).
FORMATS = {
    ".wav": ("WAV", "PCM_16"),
    ".flac": ("FLAC", "PCM_16"),
    ".ogg": ("OGG", "VORBIS"),
    ".opus": ("OGG", "OPUS"),
    ".mp3": ("MP3", "MPEG_LAYER_III"),
}
# libsndfile's error code for an error of the operating system.
SYSTEM_ERROR = 2


def write(path: str | Path, wave: Wave, rate: int, *, subtype: str | None = None) -> None:
    """Write an audio file; the suffix determines the format.

    Samples beyond ±1 are an error, since they would be clipped, except for the subtypes FLOAT and DOUBLE
    (WAV), which store them.

    Args:
        path: ends in .wav, .flac, .ogg, .opus or .mp3; missing folders are created.
        wave: float32 ``[N]`` or ``[channels, N]``.
        rate: hertz.
        subtype: libsndfile's name of the sample format. Default: VORBIS for .ogg, OPUS for .opus, PCM_16
            for .wav and .flac.

    Raises:
        AudioError: unknown suffix, a rate or subtype that the format does not support, no samples, NaN or
            infinite samples, samples beyond ±1.
        OSError: the disk is full, or no permission.

    >>> from separative import audio
    >>> audio.write("tone.flac", np.sin(np.arange(16000, dtype=np.float32)), 16000)
    >>> audio.info("tone.flac").seconds
    1.0
    """
    path = Path(path)
    suffix = choose(path.suffix.lower(), FORMATS, f"audio file suffix of {path}:", AudioError)
    container, default = FORMATS[suffix]
    subtype = subtype or default
    choose(subtype, soundfile.available_subtypes(container), f"{container} subtype", AudioError)
    if wave.size == 0:
        raise AudioError(f"{path}: not written, the waveform is empty")
    _check_finite(path, wave)
    peak = float(np.abs(wave).max())
    if peak > 1.0 and subtype not in ("FLOAT", "DOUBLE"):
        raise AudioError(
            f"{path}: not written, samples reach {peak:.4g} and {subtype} would clip at 1; "
            "scale them down or write WAV with subtype FLOAT"
        )
    try:
        with atomic_path(path) as temporary:
            if subtype in ("FLOAT", "DOUBLE"):
                # libsndfile writes the time of day into these files, so equal samples would give other bytes.
                dtype = np.float32 if subtype == "FLOAT" else np.float64
                wavfile.write(temporary, rate, wave.T.astype(dtype))
            else:
                soundfile.write(native_name(temporary), wave.T, rate, format=container, subtype=subtype)
    except soundfile.LibsndfileError as error:
        raise _write_error(path, error) from error


@contextmanager
def writer(path: str | Path, rate: int, channels: int = 1) -> Iterator[Callable[[Wave], None]]:
    """Write an audio file of 16 bits block by block.

    Yields a function that takes the next samples, ``[N]`` or ``[channels, N]``. Samples beyond ±1 are
    clipped, because the blocks before them cannot be scaled down any more; a warning reports their number.

    Args:
        path: ends in .wav or .flac.
        rate: hertz.
        channels: number of channels.

    Raises:
        AudioError: unknown suffix, NaN or infinite samples.
        OSError: the disk is full, or no permission.

    >>> from separative import audio
    >>> with audio.writer("long.wav", 8000) as write_block:
    ...     for _ in range(3):
    ...         write_block(np.zeros(8000, np.float32))
    >>> audio.info("long.wav").seconds
    3.0
    """
    path = Path(path)
    suffix = choose(path.suffix.lower(), (".wav", ".flac"), f"audio file suffix of {path}:", AudioError)
    container, subtype = FORMATS[suffix]
    clipped = 0

    def write_block(wave_N: Wave) -> None:
        nonlocal clipped
        _check_finite(path, wave_N)
        clipped += int((np.abs(wave_N) > 1).sum())
        file.write(np.clip(wave_N, -1, 1).T)

    try:
        with (
            atomic_path(path) as temporary,
            soundfile.SoundFile(
                native_name(temporary), "w", rate, channels, subtype, format=container
            ) as file,
        ):
            yield write_block
    except soundfile.LibsndfileError as error:
        raise _write_error(path, error) from error
    if clipped:
        log.warning("%s: %d samples beyond full scale were clipped", path, clipped)


def _check_finite(path: Path, wave: Wave) -> None:
    if not np.isfinite(wave).all():
        raise AudioError(f"{path}: not written, the waveform holds NaN or infinite samples")


def _write_error(path: Path, error: soundfile.LibsndfileError) -> Exception:
    if error.code == SYSTEM_ERROR:
        return OSError(f"{path}: not written, the operating system refuses it: is the disk full?")
    return AudioError(f"{path}: not written ({error.error_string.removeprefix('Error : ')})")
