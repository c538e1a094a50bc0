"""The one pass through the model that every verb of this room shares."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from separative.errors import AudioError
from separative.inference.recording import MIN_SPEECH, Audio, ChannelPolicy, Loaded, Recording, Stream, load
from separative.types import Wave

if TYPE_CHECKING:
    from separative.model import Separated, SeparativeEncoder


def separate(model: SeparativeEncoder, source: Audio, *, channels: ChannelPolicy = "mean") -> Recording:
    """Every stream of a recording, audible or not: embedding, activity, and waveform at the input's level.

    Raises:
        AudioError: see :func:`separative.inference.recording.load`.
    """
    return run(model, [load(source, model.rate, channels)])[0]


def embed(model: SeparativeEncoder, source: Audio, *, channels: ChannelPolicy = "mean") -> Recording:
    """As :func:`separate`, without waveforms (half of the time): at least one speaker is audible.

    Raises:
        AudioError: as :func:`separate`, or no stream holds MIN_SPEECH seconds of speech.
    """
    recordings = run(model, [load(source, model.rate, channels)], separate=False)
    need_speech(recordings)
    return recordings[0]


def embed_many(
    model: SeparativeEncoder, sources: Iterable[Audio], *, batch: int = 8, channels: ChannelPolicy = "mean"
) -> Iterator[Recording]:
    """:func:`embed` for many recordings, ``batch`` at a time, in their order; results as if done singly.

    None is refused for want of speech: a recording may have no audible speaker.

    Raises:
        AudioError: on reaching a recording that cannot be taken.
    """
    rest = iter(sources)
    while some := list(islice(rest, batch)):
        yield from run(model, [load(source, model.rate, channels) for source in some], separate=False)


def run(
    model: SeparativeEncoder, loaded: Sequence[Loaded], *, shared: bool = False, separate: bool = True
) -> list[Recording]:
    """One padded batch through the model.

    ``shared``: all recordings are views of one memory. ``separate``: also the speakers' waveforms.
    """
    heard = forward(model, [item.wave_N for item in loaded], shared=shared, separate=separate)
    activity_BCS = heard.activity_BCS.sigmoid().cpu().numpy()
    real_BS = heard.valid_BS.cpu().numpy() > 0
    estimate_BCN, attended_BCE, query_BCE = (
        x.float().cpu().numpy() for x in (heard.estimate_BCN, heard.attended_BCE, heard.query_BCE)
    )
    recordings = []
    for b, item in enumerate(loaded):
        samples = len(item.wave_N)
        seconds = samples / model.rate
        speakers = []
        for c in range(model.streams):
            activity_S = activity_BCS[b, c, real_BS[b]]
            # The last segment may reach beyond the end of the recording.
            speech = min(float((activity_S > 0.5).sum()) * model.segment_seconds, seconds)
            # Copies, so that one speaker kept does not keep the whole padded batch in memory.
            speakers.append(
                Stream(
                    c,
                    attended_BCE[b, c].copy(),
                    query_BCE[b, c].copy(),
                    activity_S,
                    model.segment_seconds,
                    speech,
                    estimate_BCN[b, c, :samples].copy(),
                    speech >= MIN_SPEECH,
                )
            )
        speakers.sort(key=lambda t: (-t.speech_seconds, t.stream))
        recordings.append(
            Recording(item.name, model.rate, seconds, tuple(speakers), item.channels, item.channel_policy)
        )
    return recordings


def forward(
    model: SeparativeEncoder, waves: Sequence[Wave], *, shared: bool = False, separate: bool = True
) -> Separated:
    """Pad waveforms to one batch and run the model without gradients, on the device it lives on."""
    import torch

    device = next(model.parameters()).device
    length_B = torch.tensor([len(wave_N) for wave_N in waves])
    mix_BN = torch.zeros(len(waves), int(length_B.max()))
    for row_N, wave_N in zip(mix_BN, waves, strict=True):
        row_N[: len(wave_N)] = torch.from_numpy(np.ascontiguousarray(wave_N, dtype=np.float32))
    group_B = torch.zeros(len(waves), dtype=torch.long) if shared else torch.arange(len(waves))
    with torch.inference_mode():
        heard: Separated = model(
            mix_BN.to(device),
            group_B=group_B.to(device),
            length_B=length_B.to(device),
            separate=separate,
        )
    return heard


def need_speech(recordings: Sequence[Recording]) -> None:
    """Refuse recordings among whose streams none is audible."""
    if not any(recording.speakers for recording in recordings):
        names = ", ".join(recording.name for recording in recordings)
        most = max(recording.streams[0].speech_seconds for recording in recordings)
        raise AudioError(f"{names}: {most:.2f} s of speech found; an embedding needs {MIN_SPEECH} s")
