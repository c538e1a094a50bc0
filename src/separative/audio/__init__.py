"""Audio files and waveforms: decode, resample, measure and write. No other package uses an audio codec."""

from separative.audio.archive import file_bytes, file_stamp
from separative.audio.codecs import recode
from separative.audio.encode import write, writer
from separative.audio.files import AudioInfo, Channels, info, read, stream
from separative.audio.streams import is_complete, remark
from separative.audio.waves import (
    PhaseCheck,
    Resampler,
    adaptive_speech_threshold,
    level_db,
    resample,
    speech_gate,
    with_level,
)

__all__ = [
    "AudioInfo",
    "Channels",
    "PhaseCheck",
    "Resampler",
    "adaptive_speech_threshold",
    "file_bytes",
    "file_stamp",
    "info",
    "is_complete",
    "level_db",
    "read",
    "recode",
    "remark",
    "resample",
    "speech_gate",
    "stream",
    "with_level",
    "write",
    "writer",
]
