"""Cut the turns of speakers out of waveforms, with a list of where each piece was."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from separative import audio
from separative.errors import SeparativeError, choose
from separative.files import replace_file
from separative.inference.formats import one_line
from separative.inference.speakers import Speaker
from separative.rttm import Turn
from separative.types import Wave

CutBy = Literal["speakers", "turns"]
"""One file per speaker with all turns in a row, or one file per turn."""

FADE_SECONDS = 0.005
"""Fade at both ends of a turn, so that no click is left."""

COLUMNS = ("file", "speaker", "file_start", "start", "end", "confidence")
SHORTEST_SECONDS = 0.02


def write_cuts(
    speakers: Sequence[Speaker],
    waveforms: Sequence[Path],
    folder: str | Path,
    stem: str,
    *,
    by: CutBy = "speakers",
    parts: Sequence[str] | None = None,
) -> list[Path]:
    """Write only the turns of each speaker, and the list ``<stem>-cuts.csv``; returns the paths.

    The files are ``<stem>-<speaker>-cut.wav``, or ``<stem>-<speaker>-turn001.wav`` and so on. They have the
    rate and the channels of what they are cut from. The list has a row for each turn: the file, the speaker,
    where the turn starts in the file, start and end in the recording, and the confidence of the turn.

    Args:
        waveforms: for each speaker, the file to cut from: the separated voice, or the recording.
        by: one file per speaker, or one per turn.
        parts: for each speaker, what stands for the name in file names; by default the name.

    Raises:
        AudioError: a file cannot be read or written.
        SeparativeError: ``by`` is something else.

    Example:
        >>> import separative
        >>> model = separative.load_model()
        >>> meeting = separative.diarize(model, "meeting.wav", speakers=2)
        >>> voices = separative.write_speakers(model, meeting, "cut")
        >>> [path.name for path in write_cuts(meeting.speakers, voices, "cut", "meeting")]
        ['meeting-speaker1-cut.wav', 'meeting-speaker2-cut.wav', 'meeting-cuts.csv']
    """
    choose(by, get_args(CutBy), "way to cut", SeparativeError)
    folder, names = Path(folder), parts or [speaker.name for speaker in speakers]
    paths: list[Path] = []
    rows: list[tuple[str, Turn, float]] = []
    for speaker, source, name in zip(speakers, waveforms, names, strict=True):
        header = audio.info(source)
        pieces: list[Wave] = []
        written = 0
        for turn in speaker.turns:
            turn = turn._replace(end=min(turn.end, header.seconds))
            piece_CN = _cut(source, turn)
            if by == "turns":
                if piece_CN.size:
                    number = sum(row[1].speaker == speaker.name for row in rows) + 1
                    path = folder / f"{stem}-{name}-turn{number:03d}.wav"
                    audio.write(path, _limited(piece_CN), header.rate)
                    paths.append(path)
                    rows.append((path.name, turn, 0.0))
            elif piece_CN.size:
                pieces.append(piece_CN)
                rows.append((f"{stem}-{name}-cut.wav", turn, written / header.rate))
                written += piece_CN.shape[1]
        if pieces:
            path = folder / f"{stem}-{name}-cut.wav"
            with audio.writer(path, header.rate, header.channels) as write:
                for piece_CN in pieces:
                    write(piece_CN)
            paths.append(path)
    paths.append(_write_list(folder / f"{stem}-cuts.csv", rows))
    return paths


def _cut(source: Path, turn: Turn) -> Wave:
    """The turn [channels, N] with short fades; empty if hardly anything is left of it."""
    if turn.end - turn.start < SHORTEST_SECONDS:
        return np.zeros((1, 0), np.float32)
    wave_CN, rate = audio.read(source, channels="each", start=turn.start, seconds=turn.end - turn.start)
    wave_CN = np.atleast_2d(wave_CN)
    time_N = np.arange(wave_CN.shape[1])
    gain_N = np.minimum(time_N, time_N[::-1]) / (FADE_SECONDS * rate)
    faded_CN: Wave = (wave_CN * np.minimum(gain_N, 1)).astype(np.float32)
    return faded_CN


def _limited(wave_CN: Wave) -> Wave:
    """Without the samples beyond full scale that decoders of compressed files give."""
    limited_CN: Wave = np.clip(wave_CN, -1, 1)
    return limited_CN


def _write_list(path: Path, rows: Sequence[tuple[str, Turn, float]]) -> Path:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    for file, turn, start in sorted(rows, key=lambda row: (row[1].start, row[1].speaker)):
        confidence = "" if turn.confidence is None else f"{turn.confidence:.3f}"
        times = (f"{second:.3f}" for second in (start, turn.start, turn.end))
        table.writerow((one_line(file), one_line(turn.speaker), *times, confidence))
    replace_file(path, text.getvalue().encode())
    return path
