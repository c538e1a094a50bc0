"""Diarize each channel of a recording on its own, as for a telephone call with one speaker per channel."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from separative import audio
from separative.errors import AudioError, SilentError
from separative.inference.cluster import keep_speakers
from separative.inference.diarize import Diarization, diarize, read_header
from separative.inference.evidence import Candidate
from separative.inference.exclusive import exclusive_turns
from separative.inference.output import describe_diarization, describe_turns
from separative.inference.recording import Audio, check_waveform
from separative.inference.sources import open_source
from separative.rttm import turns_to_frames
from separative.types import Floats, Progress, Wave

if TYPE_CHECKING:
    from separative.inference.sources import AnyAudio
    from separative.model import SeparativeEncoder

log = logging.getLogger(__name__)

FRAME_SECONDS = 0.1
"""Length of the frames in which the power of the channels is compared."""

CROSSTALK_DB = 15.0
"""A speaker is crosstalk if another channel is louder by this much in most frames of the speaker's turns."""


def diarize_channels(
    model: SeparativeEncoder,
    source: AnyAudio,
    *,
    rate: int | None = None,
    start: float = 0.0,
    end: float | None = None,
    speakers: int | None = None,
    min_speakers: int | None = None,
    max_speakers: int | None = None,
    cache: str | Path | None = None,
    progress: Progress | None = None,
) -> tuple[Diarization, ...]:
    """Find who spoke when in each channel of a recording.

    Every channel has speakers of its own, named by the number of the channel from 1: "1-speaker1",
    "1-speaker2", "2-speaker1" and so on. A speaker who is at least CROSSTALK_DB louder in another channel is
    crosstalk and is dropped. Otherwise the same person in two channels is two speakers. A silent channel is
    left out with a warning.

    Args:
        source: an audio file, an open file, or an array or tensor [channels, N].
        rate, start, end: as for :func:`separative.load_audio`.
        speakers, min_speakers, max_speakers: number of speakers in each channel, as for :func:`diarize`.
        cache: as for :func:`diarize`; each channel has a file of its own (:func:`channel_cache`).
        progress: called with (done, total) samples of all channels together.

    Returns:
        One diarization for each channel that is not silent. Its ``channel_policy`` is the number of the
        channel, counted from 0.

    Raises:
        AudioError: as for :func:`diarize`; and all channels are silent (``SilentError``).
        SeparativeError: a number of speakers is less than one, or the limits contradict each other.

    Example:
        >>> import numpy as np, separative
        >>> ann, bob = (separative.audio.read(name)[0] for name in ("ann.wav", "bob.wav"))
        >>> call = np.stack([ann, np.resize(bob, len(ann))])
        >>> channels = diarize_channels(separative.load_model(), (call, 16000), speakers=1)
        >>> [speaker.name for channel in channels for speaker in channel.speakers]
        ['1-speaker1', '2-speaker1']
    """
    source = open_source(source, rate, start, end)
    name, _, count = read_header(source)
    found: list[Diarization] = []
    for channel in range(count):

        def report(done: int, total: int, channel: int = channel) -> None:
            if progress is not None:
                progress(channel * total + done, count * total)

        try:
            diarization = diarize(
                model,
                source,
                speakers=speakers,
                min_speakers=min_speakers,
                max_speakers=max_speakers,
                channels=channel,
                cache=None if cache is None else channel_cache(cache, channel),
                progress=report,
            )
        except SilentError:
            if channel == count - 1 and not found:
                raise
            log.warning("%s: channel %d of %d is silent", name, channel + 1, count)
            continue
        found.append(diarization)
    power_TC = _frame_powers(source)
    return tuple(_name_speakers(_drop_crosstalk(diarization, power_TC)) for diarization in found)


def channel_cache(cache: str | Path, channel: int) -> Path:
    """Return the file in which :func:`diarize_channels` saves the windows of one channel, counted from 0.

    Example:
        >>> channel_cache("call.npz", 0).name
        'call-1.npz'
    """
    cache = Path(cache)
    return cache.with_name(f"{cache.stem}-{channel + 1}{cache.suffix}")


def describe_channels(
    diarizations: Sequence[Diarization],
    matches: Sequence[Sequence[Sequence[Candidate]]] | None = None,
    *,
    embeddings: bool = True,
) -> dict[str, Any]:
    """Convert the diarizations of the channels of a recording to one record for JSON.

    It has the keys of :func:`describe_diarization`. Each speaker also has the number of their channel, from
    1, under ``channel``. ``channels_without_speech`` lists the numbers of the other channels, and
    ``count_probability`` has one list for each channel with speech.

    Args:
        diarizations: a result of :func:`diarize_channels`.
        matches: for each of them, a result of :func:`separative.identify`.
        embeddings: include the embedding of each speaker.

    Example:
        >>> import separative
        >>> record = describe_channels(diarize_channels(separative.load_model(), "ann.wav", speakers=1))
        >>> [(speaker["name"], speaker["channel"]) for speaker in record["speakers"]]
        [('1-speaker1', 1)]
    """
    speakers: list[dict[str, Any]] = []
    records = []
    for number, diarization in enumerate(diarizations):
        own = None if matches is None else matches[number]
        record = describe_diarization(diarization, own, embeddings=embeddings)
        records.append(record)
        channel = int(diarization.channel_policy) + 1
        speakers += [{"name": entry["name"], "channel": channel, **entry} for entry in record["speakers"]]
    with_speech = {entry["channel"] for entry in speakers}
    silent = [number for number in range(1, diarizations[0].channels + 1) if number not in with_speech]
    merged = {"channel_policy": "each", "channels_without_speech": silent, "speakers": speakers}
    merged["count_probability"] = [record["count_probability"] for record in records]
    merged["unlike_training"] = [
        f"channel {int(one.channel_policy) + 1}: {sentence}"
        for one in diarizations
        for sentence in one.unlike_training
    ]
    merged["exclusive_turns"] = describe_turns(exclusive_turns(*diarizations))
    return records[0] | merged


def _frame_powers(source: Audio) -> Floats:
    """Mean power of each channel [T, C] in frames of FRAME_SECONDS, as far as the recording can be read."""
    if isinstance(source, tuple):
        wave, rate = check_waveform(source)
        blocks: Iterable[Wave] = [np.atleast_2d(wave)]
        size = round(FRAME_SECONDS * rate)
    else:
        rate = audio.info(source).rate
        size = round(FRAME_SECONDS * rate)
        blocks = audio.stream(source, channels="each", seconds=100 * size / rate)
    powers = []
    # A damaged file is measured up to the damage, as the diarization was.
    with suppress(AudioError):
        for block_CN in blocks:
            full_CN = np.pad(block_CN, ((0, 0), (0, -block_CN.shape[1] % size)))
            powers.append(np.square(full_CN).reshape(len(full_CN), -1, size).mean(-1).T)
    return np.concatenate(powers)


def _drop_crosstalk(diarization: Diarization, power_TC: Floats) -> Diarization:
    """Remove the speakers of a channel who are louder in another channel."""
    own_T = power_TC[:, int(diarization.channel_policy)]
    louder_T = power_TC.max(1) > own_T * 10 ** (CROSSTALK_DB / 10)
    names = [speaker.name for speaker in diarization.speakers]
    active_KT = turns_to_frames(diarization.turns, names, len(louder_T), FRAME_SECONDS)
    kept_K = (active_KT & louder_T).sum(1) * 2 <= active_KT.sum(1)
    kept = [speaker for speaker, keep in zip(diarization.speakers, kept_K, strict=True) if keep]
    return replace(
        diarization, speakers=tuple(kept), window_speaker=keep_speakers(diarization.window_speaker, kept_K)
    )


def _name_speakers(diarization: Diarization) -> Diarization:
    """Number the speakers, with the number of the channel in front."""
    speakers = []
    for number, speaker in enumerate(diarization.speakers, 1):
        name = f"{int(diarization.channel_policy) + 1}-speaker{number}"
        turns = tuple(turn._replace(speaker=name) for turn in speaker.turns)
        speakers.append(replace(speaker, name=name, turns=turns))
    return replace(diarization, speakers=tuple(speakers))
