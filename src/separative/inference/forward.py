"""Separate and embed recordings: one forward pass of the model over a padded batch of short ones."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from separative.errors import AudioError
from separative.inference.recording import (
    MIN_SPEECH_SECONDS,
    ChannelPolicy,
    LoadedRecording,
    Recording,
    SpeechRule,
    Stream,
    load,
)
from separative.inference.sources import open_source
from separative.types import Wave

if TYPE_CHECKING:
    from separative.inference.sources import AnyAudio
    from separative.model import EncoderOutput, SeparativeEncoder


def separate(
    model: SeparativeEncoder,
    source: AnyAudio,
    *,
    rate: int | None = None,
    start: float = 0.0,
    end: float | None = None,
    channels: ChannelPolicy = "mean",
) -> Recording:
    """Separate a recording: waveform, embedding and speech activity of every stream.

    Waveforms have the level of the input. Inaudible streams are included. A recording of over
    MAX_RECORDING_SECONDS is separated in windows and has one stream per speaker
    (:func:`separative.inference.long_recordings.separate_long`).

    Args:
        source: an audio file, an open file, an array or a tensor.
        rate, start, end: as for :func:`separative.load_audio`.
        channels: how several channels become one.

    Raises:
        AudioError: see :func:`separative.inference.recording.load`.

    Example:
        >>> import separative
        >>> recording = separative.separate(separative.load_model(), "mixture.wav")
        >>> [len(speaker.waveform) for speaker in recording.speakers]
        [103016, 103016]
    """
    # This module uses `forward`.
    from separative.inference.long_recordings import is_long, separate_long

    source = open_source(source, rate, start, end)
    if is_long(source):
        return separate_long(model, source, channels)
    return process_batch(model, [load(source, model.rate, channels)])[0]


def embed(
    model: SeparativeEncoder,
    source: AnyAudio,
    *,
    rate: int | None = None,
    start: float = 0.0,
    end: float | None = None,
    channels: ChannelPolicy = "mean",
) -> Recording:
    """Embed the speakers of a recording. Like :func:`separate` without waveforms, in half of the time.

    Memory hardly grows with the length of a recording of over MAX_RECORDING_SECONDS. Arguments are those of
    :func:`separate`.

    Raises:
        AudioError: see :func:`separative.inference.recording.load`; or no stream has MIN_SPEECH_SECONDS of
            speech.

    Example:
        >>> import separative
        >>> model = separative.load_model()
        >>> ann, again, bob = (separative.embed(model, f"{name}.wav").speakers[0].embedding
        ...                    for name in ("ann", "ann-2", "bob"))
        >>> bool(ann @ again > ann @ bob)
        True
    """
    from separative.inference.long_recordings import embed_long, is_long

    source = open_source(source, rate, start, end)
    if is_long(source):
        recordings = [embed_long(model, source, channels)[0]]
    else:
        recordings = process_batch(model, [load(source, model.rate, channels)], separate=False)
    require_speech(recordings)
    return recordings[0]


def embed_many(
    model: SeparativeEncoder,
    sources: Iterable[AnyAudio],
    *,
    rate: int | None = None,
    batch: int = 8,
    channels: ChannelPolicy = "mean",
) -> Iterator[Recording]:
    """Embed many recordings, ``batch`` at a time, and yield the results in order.

    Results equal those of :func:`embed`, except that a recording without an audible speaker is not refused.
    Recordings are loaded when their batch is reached, so ``sources`` may be a generator, for example of a
    folder: ``Path("speech").rglob("*.wav")``.

    Args:
        sources: recordings as for :func:`embed`.
        rate: sampling rate of arrays and tensors in hertz.
        batch: number of recordings in a forward pass.
        channels: how several channels become one.

    Raises:
        AudioError: when a recording is reached that cannot be loaded, after the results before it.

    Example:
        >>> import separative
        >>> recordings = separative.embed_many(separative.load_model(), ["bob.wav", "mixture.wav"])
        >>> [len(recording.speakers) for recording in recordings]
        [1, 2]
    """
    from separative.inference.long_recordings import embed_long, is_long

    remaining = iter(sources)
    while some := list(islice(remaining, batch)):
        loaded: list[LoadedRecording | Recording] = []
        failure = None
        for given in some:
            try:
                source = open_source(given, rate, 0.0, None)
                if is_long(source):
                    loaded.append(embed_long(model, source, channels)[0])
                else:
                    loaded.append(load(source, model.rate, channels))
            except AudioError as error:
                failure = error
                break
        short = [item for item in loaded if isinstance(item, LoadedRecording)]
        embedded = iter(process_batch(model, short, separate=False) if short else ())
        for item in loaded:
            yield item if isinstance(item, Recording) else next(embedded)
        if failure is not None:
            raise failure


def process_batch(
    model: SeparativeEncoder,
    recordings: Sequence[LoadedRecording],
    *,
    shared: bool = False,
    separate: bool = True,
) -> list[Recording]:
    """Run loaded recordings through the model in one padded batch.

    Args:
        shared: treat all recordings as views of one condition group, so that the cross-attention of each
            reads the segments of all.
        separate: also compute waveforms.

    Example:
        >>> import separative
        >>> model = separative.load_model()
        >>> views = [load(path, model.rate) for path in ("bob.wav", "mixture.wav")]
        >>> [recording.seconds for recording in process_batch(model, views, shared=True, separate=False)]
        [6.7870625, 6.4385]
    """
    output = forward(model, [item.waveform for item in recordings], shared=shared, separate=separate)
    activity_BCS = output.activity_BCS.sigmoid().cpu().numpy()
    real_BS = output.valid_BS.cpu().numpy() > 0
    estimate_BCN, attended_BCE, query_BCE = (
        x.float().cpu().numpy() for x in (output.estimate_BCN, output.attended_BCE, output.query_BCE)
    )
    results, rule = [], SpeechRule.of(model)
    for b, item in enumerate(recordings):
        samples = len(item.waveform)
        seconds = samples / model.rate
        streams = []
        active_CS = activity_BCS[b][:, real_BS[b]]
        speech_C = rule.decide((active_CS > 0.5).sum(1), (active_CS > rule.certain).sum(1))
        for c, activity_S in enumerate(active_CS):
            # The last segment may extend beyond the end of the recording.
            speech = min(float((activity_S > 0.5).sum()) * model.segment_seconds, seconds)
            # Copies, because a view of one row would keep the whole padded batch in memory.
            streams.append(
                Stream(
                    c,
                    attended_BCE[b, c].copy(),
                    query_BCE[b, c].copy(),
                    activity_S.copy(),
                    model.segment_seconds,
                    speech,
                    estimate_BCN[b, c, :samples].copy(),
                    bool(speech_C[c]) and speech >= MIN_SPEECH_SECONDS,
                )
            )
        streams.sort(key=lambda stream: (-stream.speech_seconds, stream.stream))
        results.append(
            Recording(item.name, model.rate, seconds, tuple(streams), item.channels, item.channel_policy)
        )
    return results


def forward(
    model: SeparativeEncoder, waves: Sequence[Wave], *, shared: bool = False, separate: bool = True
) -> EncoderOutput:
    """Pad waveforms to one batch and run the model on its device, without gradients.

    ``shared`` and ``separate`` as in :func:`process_batch`.

    Example:
        >>> import numpy as np, separative
        >>> output = forward(separative.load_model(), [np.zeros(16000), np.zeros(8000)])
        >>> output.estimate_BCN.shape, output.attended_BCE.shape
        (torch.Size([2, 2, 16000]), torch.Size([2, 2, 128]))
    """
    import torch

    device = next(model.parameters()).device
    length_B = torch.tensor([len(wave_N) for wave_N in waves])
    mix_BN = torch.zeros(len(waves), int(length_B.max()))
    for row_N, wave_N in zip(mix_BN, waves, strict=True):
        row_N[: len(wave_N)] = torch.from_numpy(np.ascontiguousarray(wave_N, dtype=np.float32))
    group_B = torch.zeros(len(waves), dtype=torch.long) if shared else torch.arange(len(waves))
    with torch.inference_mode():
        output: EncoderOutput = model(
            mix_BN.to(device),
            group_B=group_B.to(device),
            length_B=length_B.to(device),
            separate=separate,
        )
    return output


def require_speech(recordings: Sequence[Recording]) -> None:
    """Raise an error if none of the recordings has an audible stream.

    Raises:
        AudioError: no stream has MIN_SPEECH_SECONDS of speech.

    Example:
        >>> from dataclasses import replace
        >>> import separative
        >>> recording = separative.separate(separative.load_model(), "bob.wav")
        >>> require_speech([replace(recording, streams=recording.streams[1:])])
        Traceback (most recent call last):
        separative.errors.AudioError: bob.wav: 0.00 s of speech found; an embedding needs 0.5 s
    """
    if not any(recording.speakers for recording in recordings):
        names = ", ".join(recording.name for recording in recordings)
        most = max(
            (stream.speech_seconds for recording in recordings for stream in recording.streams), default=0.0
        )
        if most >= MIN_SPEECH_SECONDS:
            raise AudioError(f"{names}: no speech found, only sounds that resemble it for {most:.2f} s")
        raise AudioError(f"{names}: {most:.2f} s of speech found; an embedding needs {MIN_SPEECH_SECONDS} s")
