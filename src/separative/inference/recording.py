"""A recording on its way in (:class:`Loaded`) and on its way out (:class:`Recording`)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from separative import audio
from separative.errors import AudioError, choose
from separative.types import Wave

Audio = str | Path | tuple[Wave, int]
"""A sound file, or a waveform ([N] or [channels,N]) with its rate in hertz."""

ChannelPolicy = Literal["mean", "first"]

LONGEST = 60.0
"""Seconds of the longest recording that is taken in one piece."""

MIN_SPEECH = 0.5
"""Seconds of speech below which a stream has no embedding worth scoring."""


@dataclass(frozen=True)
class Stream:
    """One stream of a recording.

    ``embedding_E`` gathered by the cross-attention, ``query_E`` before it, both of unit norm · ``activity_S``
    probability of speech in each segment of ``segment_seconds`` · ``speech_seconds`` how long it is above one
    half · ``audible``: at least MIN_SPEECH seconds of speech; the embedding of an inaudible stream means
    nothing · ``waveform_N`` empty where only embeddings were asked for. ``stream`` is the model's own number.
    """

    stream: int
    embedding_E: Wave
    query_E: Wave
    activity_S: Wave
    segment_seconds: float
    speech_seconds: float
    waveform_N: Wave
    audible: bool

    @property
    def level_db(self) -> float:
        """Of the waveform, dB full scale."""
        return audio.level_db(self.waveform_N)


@dataclass(frozen=True)
class Recording:
    """What was heard in a recording; ``speakers`` has one entry per stream, the most talkative first.

    ``rate`` in hertz is the model's, ``seconds`` the length, ``channels`` how many the input had and
    ``channel_policy`` how they became one.
    """

    name: str
    rate: int
    seconds: float
    streams: tuple[Stream, ...]
    channels: int
    channel_policy: ChannelPolicy

    @property
    def speakers(self) -> tuple[Stream, ...]:
        """The audible streams, one per speaker."""
        return tuple(t for t in self.streams if t.audible)

    @property
    def note(self) -> str:
        """What was done to the channels, in words; empty for mono."""
        if self.channels == 1:
            return ""
        how = "the mean of" if self.channel_policy == "mean" else "the first of"
        return f"{self.name}: {how} {self.channels} channels is used"


@dataclass(frozen=True)
class Loaded:
    """A decoded recording at the model's rate, one channel."""

    name: str
    wave_N: Wave
    channels: int
    channel_policy: ChannelPolicy


def load(
    source: Audio, rate: int, channels: ChannelPolicy = "mean", *, longest: float | None = LONGEST
) -> Loaded:
    """Decode (or take) a recording, make it one channel and resample it to ``rate`` hertz.

    Raises:
        AudioError: unreadable, longer than ``longest`` seconds, shorter than MIN_SPEECH, silent, NaN, an
            unknown policy.
    """
    choose(channels, get_args(ChannelPolicy), "channel policy", AudioError)
    if isinstance(source, tuple):
        name, (wave, own_rate) = "the waveform", source
        count = 1 if wave.ndim == 1 else len(wave)
        seconds = wave.shape[-1] / own_rate
        if not np.isfinite(wave).all():
            raise AudioError(f"{name} holds NaN or infinite samples")
    else:
        name, header = str(source), audio.info(source, longest=longest)
        count, seconds = header.channels, header.seconds
    # Judged by the header: nothing that will be refused is decoded.
    if longest is not None and seconds > longest:
        raise AudioError(
            f"{name} lasts over {longest:.0f} s; recordings up to that are taken whole: diarize it"
        )
    if isinstance(source, tuple):
        mono_N = wave if wave.ndim == 1 else wave.mean(0) if channels == "mean" else wave[0]
        wave_N = audio.resample(np.ascontiguousarray(mono_N, dtype=np.float32), own_rate, rate)
    else:
        wave_N, _ = audio.read(source, rate, channels=channels)
    if len(wave_N) < MIN_SPEECH * rate:
        raise AudioError(
            f"{name} lasts {len(wave_N) / rate:.2f} s; an embedding needs {MIN_SPEECH} s of speech"
        )
    if not wave_N.any():
        raise AudioError(f"{name} is silent throughout; an embedding needs {MIN_SPEECH} s of speech")
    return Loaded(name, wave_N, count, channels)


class Blocks:
    """The recording block by block; it ends where it is damaged, and ``damage`` says how."""

    def __init__(self, source: Audio, rate: int, channels: ChannelPolicy) -> None:
        self.source, self.rate, self.channels = source, rate, channels
        self.damage = ""

    def __iter__(self) -> Iterator[Wave]:
        if isinstance(self.source, tuple):
            yield load(self.source, self.rate, self.channels, longest=None).wave_N
            return
        found = False
        try:
            for block_N in audio.stream(self.source, self.rate, channels=self.channels):
                yield block_N
                found = True
        except AudioError as error:
            if not found:
                raise
            self.damage = str(error)
