"""Embed and separate recordings that are too long for one piece: in windows, as :func:`diarize` does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from separative import audio
from separative.errors import AudioError
from separative.inference.cluster import mean_embedding
from separative.inference.diarize import Diarization, diarize, read_header
from separative.inference.recording import (
    MAX_RECORDING_SECONDS,
    MIN_SPEECH_SECONDS,
    Audio,
    BlockReader,
    ChannelPolicy,
    Recording,
    Stream,
    check_waveform,
)
from separative.inference.separated import speaker_waveforms
from separative.types import Progress, Wave

if TYPE_CHECKING:
    from separative.model import SeparativeEncoder

SAMPLES, SAMPLE_SECONDS = 6, 10.0
"""Number and length of the pieces in which the noise and the band of a long recording are measured."""


def is_long(source: Audio | Any) -> bool:
    """Whether a recording is longer than MAX_RECORDING_SECONDS.

    Raises:
        AudioError: the file cannot be read, or the waveform is invalid.

    Example:
        >>> import numpy as np
        >>> is_long("ann.wav"), is_long((np.zeros(61 * 8000, np.float32), 8000))
        (False, True)
    """
    if isinstance(source, tuple):
        wave, rate = check_waveform(source)
        return bool(wave.shape[-1] > MAX_RECORDING_SECONDS * rate)
    if not isinstance(source, str | Path):
        return False
    return audio.info(source, max_seconds=MAX_RECORDING_SECONDS).seconds > MAX_RECORDING_SECONDS


def embed_long(
    model: SeparativeEncoder,
    source: Audio,
    channels: ChannelPolicy = "mean",
    *,
    progress: Progress | None = None,
) -> tuple[Recording, Diarization]:
    """Embed every speaker of a long recording; memory hardly grows with its length.

    Args:
        progress: called with (done, total) samples.

    Returns:
        One stream per speaker, without waveforms, and the diarization from which they come. There may be more
        speakers than the model has streams. The embedding of a speaker is the mean over all windows, with the
        cross-attention over the whole recording.

    Raises:
        AudioError: as for :func:`separative.diarize`; or only a part of the file can be read.

    Example:
        >>> import separative
        >>> recording, diarization = embed_long(separative.load_model(), "meeting.wav")
        >>> len(recording.streams) == len(diarization.speakers), recording.streams[0].waveform.size
        (True, 0)
    """
    diarization = diarize(model, source, channels=channels, progress=progress)
    if diarization.damage:
        raise AudioError(diarization.damage)
    windows = diarization.windows
    speech_WC = (windows.activity > 0.5).sum(-1).astype(np.float32)
    streams = []
    for number, speaker in enumerate(diarization.speakers):
        own_WC = diarization.window_speaker == number
        weight_U = speech_WC[own_WC]
        query_E = mean_embedding(windows.query[own_WC], weight_U) if weight_U.any() else speaker.embedding
        streams.append(
            Stream(
                number,
                speaker.embedding,
                query_E,
                speaker.activity,
                diarization.segment_seconds,
                speaker.speech_seconds,
                np.zeros(0, np.float32),
                speaker.speech_seconds >= MIN_SPEECH_SECONDS,
            )
        )
    recording = Recording(
        diarization.name,
        model.rate,
        diarization.seconds,
        tuple(streams),
        diarization.channels,
        diarization.channel_policy,
    )
    return recording, diarization


def separate_long(model: SeparativeEncoder, source: Audio, channels: ChannelPolicy = "mean") -> Recording:
    """Separate a long recording: one stream per speaker, joined over the windows by the embeddings.

    The waveforms are in memory: 230 MB per speaker and hour at 16 kHz.
    :func:`separative.write_speakers` writes them to files piece by piece.

    Raises:
        AudioError: as for :func:`embed_long`.

    Example:
        >>> import separative
        >>> recording = separate_long(separative.load_model(), "meeting.wav")
        >>> {len(stream.waveform) for stream in recording.streams}
        {314625}
    """
    recording, diarization = embed_long(model, source, channels)
    if not recording.streams:
        return recording
    wave_KN = np.concatenate(list(speaker_waveforms(model, diarization)), axis=1)
    streams = [
        replace(stream, waveform=wave_N) for stream, wave_N in zip(recording.streams, wave_KN, strict=True)
    ]
    return replace(recording, streams=tuple(streams))


def sample_waveform(model: SeparativeEncoder, source: Audio, channels: ChannelPolicy = "mean") -> Wave:
    """Return pieces from all parts of a long recording as one waveform [N] of a minute at most.

    Example:
        >>> import numpy as np, separative
        >>> model = separative.load_model()
        >>> wave = np.random.default_rng(0).standard_normal(100 * 8000).astype(np.float32)
        >>> len(sample_waveform(model, (wave, 8000))) / model.rate
        60.0
    """
    _, seconds, _ = read_header(source)
    size = round(SAMPLE_SECONDS * model.rate)
    whole = max(1, int(seconds / SAMPLE_SECONDS))
    chosen = set(np.linspace(0, whole - 1, min(SAMPLES, whole)).round().astype(int).tolist())
    pieces, rest_N, number = [], np.zeros(0, np.float32), 0
    for block_N in BlockReader(source, model.rate, channels):
        rest_N = np.concatenate([rest_N, block_N])
        while len(rest_N) >= size:
            if number in chosen:
                pieces.append(rest_N[:size].copy())
            rest_N, number = rest_N[size:], number + 1
    return np.concatenate(pieces) if pieces else rest_N
