"""A pile of speech: any folder of recordings of unknown speakers, made fit for training.

Long recordings are cut at silences. What holds no speech, two speakers, or the same samples as another
recording is set aside. Every piece that is left becomes an utterance without a label.
"""

from __future__ import annotations

import csv
import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from separative import audio
from separative.corpora.folders import audio_files
from separative.corpora.manifest import Corpus, Utterance
from separative.errors import AudioError, CorpusError
from separative.files import atomic_path
from separative.types import Progress, Wave

Judge = Callable[[Wave, int], str]
"""Says why a waveform [N] at a sample rate is of no use; an empty string if it is of use."""

# A recording is read in blocks of this length, so that hours of audio need little memory.
BLOCK_SECONDS = 60.0
# Shorter pauses do not divide speech.
PAUSE_SECONDS = 0.5
SHORTEST_SECONDS = 1.0
LONGEST_SECONDS = 20.0
FRAME_SECONDS = 0.01
TOO_SHORT, DUPLICATE, UNREADABLE = "less than 1 s of speech", "the same samples as", "cannot be read"


@dataclass(frozen=True, slots=True)
class PilePiece:
    """What became of one piece of a recording.

    Attributes:
        path: the file.
        start: seconds from the start of the file.
        seconds: length.
        reason: why the piece is set aside; empty if it is kept.

    >>> PilePiece(Path("ann.wav"), 0.0, 2.0, "").reason
    ''
    """

    path: Path
    start: float
    seconds: float
    reason: str


@dataclass(frozen=True)
class Pile:
    """A pile of speech and what was done with each piece of it.

    >>> pile = read_pile(Path("speech"))
    >>> len(pile.corpus) == len(pile.pieces) and pile.corpus.speakers
    ()
    """

    corpus: Corpus
    pieces: tuple[PilePiece, ...]

    def summary(self) -> str:
        """Say in one line how many pieces are kept, and how many are set aside for which reason.

        >>> read_pile(Path("speech")).summary()
        '16 pieces kept, ... minutes'
        """
        minutes = sum(piece.seconds for piece in self.pieces if not piece.reason) / 60
        reasons = Counter(piece.reason.partition(":")[0] for piece in self.pieces if piece.reason)
        listed = "".join(f"; {count} set aside: {reason}" for reason, count in reasons.most_common())
        return f"{len(self.corpus)} pieces kept, {minutes:.1f} minutes{listed}"

    def write_log(self, path: Path) -> None:
        """Write one line for each piece into a CSV file: path, start, seconds, reason.

        >>> read_pile(Path("speech")).write_log(Path("pile.csv"))
        >>> Path("pile.csv").read_text().splitlines()[0]
        'path,start,seconds,reason'
        """
        with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            rows = csv.writer(file)
            rows.writerow(["path", "start", "seconds", "reason"])
            for piece in self.pieces:
                rows.writerow(
                    [piece.path, f"{piece.start:.2f}", f"{piece.seconds:.2f}", piece.reason or "kept"]
                )


def read_pile(folder: str | Path, *, judge: Judge | None = None, progress: Progress | None = None) -> Pile:
    """Read every audio file below a folder and cut it into pieces for training.

    A file of up to 20 s is one piece. A longer one is cut where nothing is said for half a second. Names of
    files and folders are not used.

    Args:
        folder: the folder.
        judge: says what holds no speech or several speakers; by default only energy decides.
        progress: called with (done, total) files.

    Raises:
        CorpusError: the folder does not exist or holds no audio file, or no piece is of use.

    >>> pile = read_pile(Path("speech"), judge=lambda wave, rate: "" if len(wave) > 5 * rate else "short")
    >>> {piece.reason for piece in pile.pieces} == {"", "short"}
    True
    """
    root = Path(folder)
    if not root.is_dir():
        raise CorpusError(f"{root}: no such folder; a pile of speech is a folder with audio files")
    files = list(audio_files(root))
    if not files:
        raise CorpusError(f"{root}: no audio files; a pile of speech is a folder with audio files")
    pieces: list[PilePiece] = []
    first: dict[bytes, PilePiece] = {}
    for done, path in enumerate(files, 1):
        try:
            for start, wave_N, rate in _cut_file(path):
                seconds = len(wave_N) / rate
                piece = PilePiece(path, start, seconds, "")
                reason = TOO_SHORT if _speech_seconds(wave_N, rate) < SHORTEST_SECONDS else ""
                if not reason:
                    other = first.setdefault(
                        hashlib.blake2b(wave_N.tobytes(), digest_size=16).digest(), piece
                    )
                    reason = "" if other is piece else f"{DUPLICATE}: {other.path}"
                if not reason and judge is not None:
                    reason = judge(wave_N, rate)
                pieces.append(PilePiece(path, start, seconds, reason))
        except AudioError as error:
            problem = str(error).removeprefix(f"{path}: ")
            pieces.append(PilePiece(path, 0.0, 0.0, f"{UNREADABLE}: {problem}"))
        if progress is not None:
            progress(done, len(files))
    kept = tuple(
        Utterance(
            f"{piece.path.relative_to(root).as_posix()}@{piece.start:.2f}",
            piece.path,
            piece.seconds,
            start=piece.start,
            corpus=root.resolve().name,
            split="train",
        )
        for piece in pieces
        if not piece.reason
    )
    pile = Pile(Corpus(kept), tuple(pieces))
    if not kept:
        raise CorpusError(f"{root}: no speech of use ({pile.summary()})")
    return pile


def _cut_file(path: Path) -> Iterator[tuple[float, Wave, int]]:
    """Yield start, waveform and sample rate of each piece of a file."""
    header = audio.info(path)
    if header.seconds <= LONGEST_SECONDS:
        wave_N, rate = audio.read(path)
        yield 0.0, wave_N, rate
        return
    start = 0.0
    while start < header.seconds:
        wave_N, rate = audio.read(path, start=start, seconds=min(BLOCK_SECONDS, header.seconds - start))
        for low, high in cut_at_silences(wave_N, rate):
            yield start + low / rate, wave_N[low:high], rate
        start += BLOCK_SECONDS


def cut_at_silences(wave: Wave, rate: int) -> list[tuple[int, int]]:
    """Spans of speech between pauses of half a second or more, by energy; none is longer than 20 s.

    Args:
        wave: [N]
        rate: hertz.

    >>> tone = np.sin(np.arange(16000)).astype(np.float32)
    >>> silence = np.zeros(16000, np.float32)
    >>> cut_at_silences(np.concatenate([tone, silence, tone]), 16000)
    [(0, 16000), (32000, 48000)]
    """
    frame = round(FRAME_SECONDS * rate)
    active = np.flatnonzero(_active_frames(wave, frame))
    if not len(active):
        return []
    breaks = np.flatnonzero(np.diff(active) > PAUSE_SECONDS / FRAME_SECONDS) + 1
    spans: list[tuple[int, int]] = []
    for run in np.split(active, breaks):
        low, high = int(run[0]) * frame, (int(run[-1]) + 1) * frame
        parts = -(-(high - low) // round(LONGEST_SECONDS * rate))
        edges = np.linspace(low, high, parts + 1).astype(int).tolist()
        spans += pairwise(edges)
    return spans


def _speech_seconds(wave_N: Wave, rate: int) -> float:
    frame = round(FRAME_SECONDS * rate)
    return float(_active_frames(wave_N, frame).sum()) * FRAME_SECONDS


def _active_frames(wave_N: Wave, frame: int) -> np.ndarray:
    """Which whole frames of ``frame`` samples have the energy of speech: bool [T]."""
    count = len(wave_N) // frame
    frames = wave_N[: count * frame].reshape(count, frame).astype(np.float64) * 2**15
    power_T = np.square(frames).mean(axis=1)
    active: np.ndarray = power_T >= audio.adaptive_speech_threshold(power_T)
    return active
