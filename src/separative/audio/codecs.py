"""Encode and decode a waveform with a real codec of libsndfile, as a call or an upload does."""

from __future__ import annotations

import io

import numpy as np
import soundfile

from separative.audio.waves import resample
from separative.errors import AudioError, choose
from separative.types import Wave

# libsndfile's container and subtype, the rate in hertz (None: the rate of the waveform) and whether the codec
# takes a compression level.
CODECS: dict[str, tuple[str, str, int | None, bool]] = {
    "opus": ("OGG", "OPUS", None, True),
    "mp3": ("MP3", "MPEG_LAYER_III", None, True),
    "gsm": ("WAV", "GSM610", 8000, False),
    "ulaw": ("WAV", "ULAW", 8000, False),
    "alaw": ("WAV", "ALAW", 8000, False),
}
# Rates that Opus and MP3 support.
RATES = (8000, 12000, 16000, 24000, 48000)


def recode(waveform: Wave, rate: int, codec: str, compression: float = 0.95) -> Wave:
    """Encode and decode a waveform [N]: same rate and length, aligned to a few milliseconds.

    Args:
        waveform: float32 [N]; full scale is ±1, samples beyond are clipped.
        rate: sample rate in hertz.
        codec: ``opus``, ``mp3``, or at 8 kHz ``gsm`` (6.10), ``ulaw`` and ``alaw`` (G.711).
        compression: 0 (most bits) to 0.99 (fewest), for Opus (256 to 8 kbit/s) and MP3 (48 to 17 kbit/s).

    Raises:
        AudioError: unknown codec, no samples, or compression out of range.

    >>> tone = 0.1 * np.sin(np.arange(16000) * 0.2).astype(np.float32)
    >>> recode(tone, 16000, "opus").shape
    (16000,)
    """
    choose(codec, CODECS, "codec", AudioError)
    if len(waveform) == 0 or not 0.0 <= compression <= 0.99:
        raise AudioError("recode needs samples, and a compression from 0 to 0.99")
    container, subtype, coded_rate, leveled = CODECS[codec]
    if coded_rate is None:
        coded_rate = next((r for r in RATES if r >= rate), RATES[-1])
    if subtype == "MPEG_LAYER_III" and coded_rate == 8000:
        coded_rate = 16000
    low_N = np.clip(resample(waveform, rate, coded_rate), -1.0, 1.0)
    file = io.BytesIO()
    level = {"compression_level": compression} if leveled else {}
    soundfile.write(file, low_N, coded_rate, format=container, subtype=subtype, **level)
    file.seek(0)
    decoded_N, _ = soundfile.read(file, dtype="float32")
    back_N = resample(decoded_N, coded_rate, rate)[: len(waveform)]
    return np.pad(back_N, (0, len(waveform) - len(back_N)))
