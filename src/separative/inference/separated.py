"""Separated waveforms of the speakers of a diarized recording, in a second pass over it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from separative import audio
from separative.inference.diarize import INSET, Diarization, Speaker
from separative.inference.forward import forward
from separative.inference.recording import BlockReader
from separative.inference.windows import BATCH, WindowGrid, fade_in, split_windows
from separative.types import Floats, Progress, Wave

if TYPE_CHECKING:
    from separative.model import SeparativeEncoder

FADE_SECONDS = 0.02
"""Length of the fade between silence and speech, in seconds."""


def write_speakers(
    model: SeparativeEncoder,
    diarization: Diarization,
    folder: str | Path,
    stem: str | None = None,
    *,
    active_only: bool = False,
    progress: Progress | None = None,
) -> list[Path]:
    """Write the separated waveform of each speaker as ``<stem>-<speaker>.wav``; returns the paths.

    Each file is as long as the recording, which is read and separated again (:func:`speaker_waveforms`).

    Args:
        stem: beginning of the file names; by default the stem of the recording's name.
        active_only: mute each waveform outside its speaker's turns.
        progress: called with (done, total) windows.

    Raises:
        AudioError: the recording changed or cannot be read, or a file cannot be written.

    Example:
        >>> import separative
        >>> model = separative.load_model()
        >>> diarization = separative.diarize(model, "meeting.wav", speakers=2)
        >>> [path.name for path in write_speakers(model, diarization, "speakers")]
        ['meeting-speaker1.wav', 'meeting-speaker2.wav']
    """
    stem = stem or Path(diarization.name).stem
    paths = [Path(folder) / f"{stem}-{speaker.name}.wav" for speaker in diarization.speakers]
    pieces = len(diarization.window_speaker) // _stride(diarization.windows.grid) + 1
    with ExitStack() as files:
        writers = [files.enter_context(audio.writer(path, diarization.rate)) for path in paths]
        start = 0
        for done, wave_KN in enumerate(speaker_waveforms(model, diarization), 1):
            for write, speaker, wave_N in zip(writers, diarization.speakers, wave_KN, strict=True):
                if active_only:
                    wave_N = wave_N * _gate(diarization, speaker, start, len(wave_N))
                write(wave_N)
            start += wave_KN.shape[1]
            if progress is not None:
                progress(done, pieces)
    return paths


def speaker_waveforms(model: SeparativeEncoder, diarization: Diarization) -> Iterator[Wave]:
    """Yield the waveforms of all speakers in consecutive pieces [K, N].

    Windows that overlap by half are separated, and each stream is added to the speaker it was assigned to.
    Neighbouring windows are cross-faded. The pieces together are as long as the recording.

    Example:
        >>> import separative
        >>> model = separative.load_model()
        >>> diarization = separative.diarize(model, "meeting.wav", speakers=2)
        >>> pieces = list(speaker_waveforms(model, diarization))
        >>> {len(piece) for piece in pieces}, sum(piece.shape[1] for piece in pieces)
        ({2}, 314625)
    """
    grid, count = diarization.windows.grid, len(diarization.speakers)
    size = grid.window * grid.segment
    half = size // 2
    rise_N = fade_in(half)
    left = round(diarization.seconds * diarization.rate)
    previous_KN: Wave | None = None
    blocks = BlockReader(diarization.source, diarization.rate, diarization.channel_policy)
    labels = diarization.window_speaker
    for number, (wave_N, estimate_CN) in enumerate(_separate(model, split_windows(blocks, size, half))):
        label_C = labels[min(number * _stride(grid), len(labels) - 1)]
        speaker_KN = np.zeros((count, size), np.float32)
        for c, k in enumerate(label_C):
            if k >= 0:
                speaker_KN[k, : len(wave_N)] += estimate_CN[c, : len(wave_N)]
        first_KN = speaker_KN[:, :half]
        if previous_KN is not None:
            first_KN = previous_KN * rise_N[::-1] + first_KN * rise_N
        yield first_KN[:, :left]
        left = max(0, left - half)
        previous_KN = speaker_KN[:, half:]
    if previous_KN is not None and left:
        yield previous_KN[:, :left]


def _gate(diarization: Diarization, speaker: Speaker, start: int, count: int) -> Wave:
    """1 within the speaker's turns and 0 outside, with fades of FADE_SECONDS.

    Turns were shortened by INSET at both ends, where speech may still begin or end. They are extended again.
    """
    inset = INSET * diarization.windows.grid.segment / diarization.rate
    time_N = (start + np.arange(count)) / diarization.rate
    gate_N = np.zeros(count, np.float32)
    for turn in speaker.turns:
        first, last = turn.start - inset, turn.end + inset
        if last + FADE_SECONDS > time_N[0] and first - FADE_SECONDS < time_N[-1]:
            inside_N = np.minimum(time_N - first, last - time_N) / FADE_SECONDS
            gate_N = np.maximum(gate_N, np.clip(1 + inside_N, 0, 1).astype(np.float32))
    return gate_N


def _separate(model: SeparativeEncoder, waves: Iterator[Wave]) -> Iterator[tuple[Wave, Floats]]:
    """Each window with its separated streams; a few windows in one forward pass."""
    while batch := list(islice(waves, BATCH)):
        estimate_BCN = forward(model, batch).estimate_BCN.float().cpu().numpy()
        yield from zip(batch, estimate_BCN, strict=True)


def _stride(grid: WindowGrid) -> int:
    """Windows of the first pass from one window of this pass to the next."""
    return grid.window // (2 * grid.hop)
