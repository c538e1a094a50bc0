"""The voices of a recording that was diarized, one sound file a speaker, in one more pass over it."""

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
from separative.inference.recording import Blocks
from separative.inference.windows import BATCH, WindowGrid, fade_in, windows
from separative.types import Floats, Progress, Wave

if TYPE_CHECKING:
    from separative.model import SeparativeEncoder

FADE_SECONDS = 0.02
"""From one piece of a voice to the next, or from a speaker's silence to their speech."""


def write_voices(
    model: SeparativeEncoder,
    meeting: Diarization,
    folder: str | Path,
    stem: str | None = None,
    *,
    active_only: bool = False,
    progress: Progress | None = None,
) -> list[Path]:
    """Write each speaker's voice over the whole recording as ``<stem>-<speaker>.wav``; returns the paths.

    The recording is read and separated a second time: windows that overlap by half are faded into each other,
    each stream going to the speaker it was found to be. ``active_only``: silent outside a speaker's turns.

    Raises:
        AudioError: the recording changed or cannot be read, or a file cannot be written.
    """
    stem = stem or Path(meeting.name).stem
    paths = [Path(folder) / f"{stem}-{speaker.name}.wav" for speaker in meeting.speakers]
    with ExitStack() as files:
        puts = [files.enter_context(audio.writing(path, meeting.rate)) for path in paths]
        start = 0
        for done, voice_KN in enumerate(voices(model, meeting), 1):
            for put, speaker, voice_N in zip(puts, meeting.speakers, voice_KN, strict=True):
                put(voice_N * _gate(meeting, speaker, start, len(voice_N)) if active_only else voice_N)
            start += voice_KN.shape[1]
            if progress is not None:
                progress(done, len(meeting.label_WC) // _skip(meeting.views.grid) + 1)
    return paths


def voices(model: SeparativeEncoder, meeting: Diarization) -> Iterator[Wave]:
    """Stretches [K,N] of all speakers' voices one after another, together as long as the recording."""
    grid, count = meeting.views.grid, len(meeting.speakers)
    size = grid.window * grid.segment
    half = size // 2
    rise_N = fade_in(half)
    left = round(meeting.seconds * meeting.rate)
    before_KN: Wave | None = None
    blocks = Blocks(meeting.source, meeting.rate, meeting.channel_policy)
    for number, (wave_N, estimate_CN) in enumerate(_separated(model, windows(blocks, size, half))):
        label_C = meeting.label_WC[min(number * _skip(grid), len(meeting.label_WC) - 1)]
        voice_KN = np.zeros((count, size), np.float32)
        for c, k in enumerate(label_C):
            if k >= 0:
                voice_KN[k, : len(wave_N)] += estimate_CN[c, : len(wave_N)]
        first_KN = voice_KN[:, :half]
        if before_KN is not None:
            first_KN = before_KN * rise_N[::-1] + first_KN * rise_N
        yield first_KN[:, :left]
        left = max(0, left - half)
        before_KN = voice_KN[:, half:]
    if before_KN is not None and left:
        yield before_KN[:, :left]


def _gate(meeting: Diarization, speaker: Speaker, start: int, count: int) -> Wave:
    """1 within the speaker's turns, 0 outside, FADE_SECONDS from one to the other.

    Turns are longer here by what they were cut by at both ends: speech may begin and end there.
    """
    inset = INSET * meeting.segment_seconds
    time_N = (start + np.arange(count)) / meeting.rate
    gate_N = np.zeros(count, np.float32)
    for turn in speaker.turns:
        first, last = turn.start - inset, turn.end + inset
        if last + FADE_SECONDS > time_N[0] and first - FADE_SECONDS < time_N[-1]:
            inside_N = np.minimum(time_N - first, last - time_N) / FADE_SECONDS
            gate_N = np.maximum(gate_N, np.clip(1 + inside_N, 0, 1).astype(np.float32))
    return gate_N


def _separated(model: SeparativeEncoder, waves: Iterator[Wave]) -> Iterator[tuple[Wave, Floats]]:
    """Each window with its separated streams, a few windows in a pass."""
    while some := list(islice(waves, BATCH)):
        estimate_BCN = forward(model, some).estimate_BCN.float().cpu().numpy()
        yield from zip(some, estimate_BCN, strict=True)


def _skip(grid: WindowGrid) -> int:
    """From one window of :func:`voices` to the next, in windows of the first pass."""
    return grid.window // (2 * grid.hop)
