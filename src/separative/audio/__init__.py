"""Bytes to waveforms and back: decode, resample, level, write; the only room that touches a codec."""

from separative.audio.archive import file_bytes, stamp
from separative.audio.files import AudioInfo, Channels, info, is_whole, read, stream, write, writing
from separative.audio.waves import Resampler, level_db, resample, with_level

__all__ = [
    "AudioInfo",
    "Channels",
    "Resampler",
    "file_bytes",
    "info",
    "is_whole",
    "level_db",
    "read",
    "resample",
    "stamp",
    "stream",
    "with_level",
    "write",
    "writing",
]
