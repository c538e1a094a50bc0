"""Separated waveforms of the speakers of a diarized recording, in a second pass over it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from separative import audio
from separative.inference.diarize import Diarization
from separative.inference.forward import forward
from separative.inference.full_band import read_own_format, restore_band
from separative.inference.identities import file_parts
from separative.inference.recording import BlockReader
from separative.inference.speakers import INSET, Speaker
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
    original_rate: bool = False,
    progress: Progress | None = None,
) -> list[Path]:
    """Write the separated waveform of each speaker as ``<stem>-<speaker>.wav``; returns the paths.

    Each file is as long as the recording, which is read and separated again (:func:`speaker_waveforms`).

    Args:
        stem: beginning of the file names; by default the stem of the recording's name.
        active_only: mute each waveform outside its speaker's turns.
        original_rate: write the rate and the channels of the recording, not one channel at the rate of the
            model (:func:`original_waveforms`).
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
    parts = file_parts([speaker.name for speaker in diarization.speakers])
    paths = [Path(folder) / f"{stem}-{part}.wav" for part in parts]
    write_waves(
        model, diarization, paths, active_only=active_only, original_rate=original_rate, progress=progress
    )
    return paths


def write_waves(
    model: SeparativeEncoder,
    diarization: Diarization,
    paths: Sequence[Path],
    *,
    active_only: bool = False,
    original_rate: bool = False,
    progress: Progress | None = None,
) -> None:
    """Write the separated waveform of each speaker to a file of its own, see :func:`write_speakers`.

    Args:
        paths: one for each speaker; they end in .wav or .flac.

    Raises:
        AudioError: as for :func:`write_speakers`.

    Example:
        >>> import separative
        >>> model = separative.load_model()
        >>> write_waves(model, separative.diarize(model, "ann.wav"), [Path("only-ann.flac")])
        >>> separative.audio.info("only-ann.flac").rate
        16000
    """
    rate, channels = diarization.rate, 1
    waves = speaker_waveforms(model, diarization, progress=progress)
    if original_rate:
        rate, channels = read_own_format(diarization.source, diarization.channel_policy)
        waves = original_waveforms(model, diarization, progress=progress)
    with ExitStack() as files:
        writers = [files.enter_context(audio.writer(path, rate, channels)) for path in paths]
        start = 0
        for wave_KX in waves:
            second_N = (start + np.arange(wave_KX.shape[-1])) / rate
            for write, speaker, wave_X in zip(writers, diarization.speakers, wave_KX, strict=True):
                if active_only:
                    wave_X = wave_X * turn_gate(diarization, speaker, second_N)
                write(wave_X)
            start += wave_KX.shape[-1]


def speaker_waveforms(
    model: SeparativeEncoder, diarization: Diarization, *, progress: Progress | None = None
) -> Iterator[Wave]:
    """Yield the waveforms of all speakers in consecutive pieces [K, N].

    Windows that overlap by half are separated, and each stream is added to the speaker it was assigned to.
    Neighbouring windows are cross-faded. The pieces together are as long as the recording.

    Args:
        progress: called with (done, total) windows.

    Example:
        >>> import separative
        >>> model = separative.load_model()
        >>> diarization = separative.diarize(model, "meeting.wav", speakers=2)
        >>> pieces = list(speaker_waveforms(model, diarization))
        >>> {len(piece) for piece in pieces}, sum(piece.shape[1] for piece in pieces)
        ({2}, 314625)
    """
    for piece_JN in _pieces(model, diarization, progress):
        yield piece_JN[:-1]


def original_waveforms(
    model: SeparativeEncoder, diarization: Diarization, *, progress: Progress | None = None
) -> Iterator[Wave]:
    """Yield the waveforms of all speakers at the rate of the recording, in pieces [K, channels, N].

    The waveforms of :func:`speaker_waveforms` become masks for all channels. Frequencies above the band of
    the model belong to the speakers in their turns (:func:`separative.inference.full_band.restore_band`).

    Args:
        progress: called with (done, total) windows.

    Example:
        >>> import separative
        >>> model = separative.load_model()
        >>> wave, rate = separative.audio.read("meeting.wav", 24000)
        >>> diarization = separative.diarize(model, (np.stack([wave, wave / 2]), rate), speakers=2)
        >>> pieces = list(original_waveforms(model, diarization))
        >>> np.concatenate(pieces, axis=-1).shape == (2, 2, len(wave))
        True
    """
    speakers = diarization.speakers

    def gate(second_T: Floats) -> Floats:
        return np.stack([turn_gate(diarization, speaker, second_T) for speaker in speakers])

    if speakers:
        yield from restore_band(
            _pieces(model, diarization, progress),
            diarization.rate,
            diarization.source,
            diarization.channel_policy,
            gate,
        )


def turn_gate(diarization: Diarization, speaker: Speaker, seconds: Floats) -> Wave:
    """Return 1 within the speaker's turns and 0 outside, at these times [N], with fades of FADE_SECONDS.

    Turns were shortened by INSET at both ends, where speech may still begin or end. They are extended again.

    Example:
        >>> import separative
        >>> diarization = separative.diarize(separative.load_model(), "ann.wav")
        >>> speaker = diarization.speakers[0]
        >>> first = speaker.turns[0]
        >>> turn_gate(diarization, speaker, np.array([(first.start + first.end) / 2, 100.0])).tolist()
        [1.0, 0.0]
    """
    inset = INSET * diarization.windows.grid.segment / diarization.rate
    gate_N = np.zeros(len(seconds), np.float32)
    for turn in speaker.turns if len(seconds) else ():
        first, last = turn.start - inset, turn.end + inset
        if last + FADE_SECONDS > seconds[0] and first - FADE_SECONDS < seconds[-1]:
            inside_N = np.minimum(seconds - first, last - seconds) / FADE_SECONDS
            gate_N = np.maximum(gate_N, np.clip(1 + inside_N, 0, 1).astype(np.float32))
    return gate_N


def _pieces(
    model: SeparativeEncoder, diarization: Diarization, progress: Progress | None = None
) -> Iterator[Wave]:
    """The waveforms of all speakers, and the mixture in the last row, in consecutive pieces [K + 1, N]."""
    grid, count = diarization.windows.grid, len(diarization.speakers)
    size = grid.window * grid.segment
    half = size // 2
    rise_N = fade_in(half)
    left = round(diarization.seconds * diarization.rate)
    previous_JN: Wave | None = None
    blocks = BlockReader(diarization.source, diarization.rate, diarization.channel_policy)
    labels = diarization.window_speaker
    total = len(labels) // _stride(grid) + 1
    for number, (wave_N, estimate_CN) in enumerate(_separate(model, split_windows(blocks, size, half))):
        label_C = labels[min(number * _stride(grid), len(labels) - 1)]
        piece_JN = np.zeros((count + 1, size), np.float32)
        piece_JN[-1, : len(wave_N)] = wave_N
        for c, k in enumerate(label_C):
            if k >= 0:
                piece_JN[k, : len(wave_N)] += estimate_CN[c, : len(wave_N)]
        first_JN = piece_JN[:, :half]
        if previous_JN is not None:
            first_JN = previous_JN * rise_N[::-1] + first_JN * rise_N
        yield first_JN[:, :left]
        left = max(0, left - half)
        previous_JN = piece_JN[:, half:]
        if progress is not None:
            progress(number + 1, total)
    if previous_JN is not None and left:
        yield previous_JN[:, :left]


def _separate(model: SeparativeEncoder, waves: Iterator[Wave]) -> Iterator[tuple[Wave, Floats]]:
    """Each window with its separated streams; a few windows in one forward pass."""
    while batch := list(islice(waves, BATCH)):
        estimate_BCN = forward(model, batch).estimate_BCN.float().cpu().numpy()
        yield from zip(batch, estimate_BCN, strict=True)


def _stride(grid: WindowGrid) -> int:
    """Windows of the first pass from one window of this pass to the next."""
    return grid.window // (2 * grid.hop)
