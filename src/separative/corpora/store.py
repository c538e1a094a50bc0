"""Decoded waveforms at one sampling rate, stored once and shared by the processes that draw mixtures."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import time
from collections import OrderedDict
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from separative import audio
from separative.corpora.manifest import Utterance
from separative.errors import AudioError, CorpusError
from separative.types import Progress, Wave

FORMAT = 1
FRAMES_PER_SECOND = 100
# Largest share of bad files that is accepted.
BAD_SHARE = 0.01
# Memory for decoded utterances, if they are not stored in a folder.
MEMORY_BYTES = 256 << 20
# -120 dB full scale, below the noise of any analogue-to-digital converter.
SILENT_PEAK = 1e-6
STALE_SECONDS = 3600.0
# Number of utterances decoded at a time: it bounds the memory, and keeps every core busy.
BUILD_CHUNK = 256

Samples = npt.NDArray[np.int16]


@dataclass(frozen=True, slots=True)
class _Decoded:
    """Integer samples, the value of one integer step, and the power from which a frame is active."""

    samples_N: Samples
    scale: float
    threshold: float


class WaveStore:
    """Decoded utterances at one sampling rate, read by sample position.

    Samples are stored as 16-bit integers relative to the peak of their utterance (error below -96 dB of the
    peak). With ``folder``, all utterances are decoded once into a memory-mapped file, which other processes
    and later runs share. A change of any path, size or modification time, or of the rate, makes a new file.
    Without ``folder``, utterances are decoded when they are first read, and those used last stay in memory.
    The samples are the same in both cases.

    Args:
        utterances: utterances to store; equal ones are stored once.
        rate: hertz.
        folder: folder for the decoded file; created if it is missing.
        progress: called with (done, total) while decoding.

    Attributes:
        bad: unreadable, empty or silent files found so far, with the reason; their utterances have length 0.

    Raises:
        CorpusError: over 1 % of the files are bad; the message names the first one and the number.

    >>> from separative import load_corpus
    >>> corpus = load_corpus("speech")
    >>> store = WaveStore(corpus, rate=8000, folder=Path("cache"))
    >>> first = corpus.utterances[0]
    >>> store.read(first, start=100, count=4000).shape
    (4000,)
    >>> bool(0.5 < store.active(first).mean() < 1.0)
    True
    """

    def __init__(
        self,
        utterances: Iterable[Utterance],
        rate: int,
        folder: Path | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.rate = rate
        self.hop = rate // FRAMES_PER_SECOND
        self.bad: dict[Path, str] = {}
        self._utterances = tuple(dict.fromkeys(utterances))
        self._row = {utterance: row for row, utterance in enumerate(self._utterances)}
        self._file_count = len({utterance.path for utterance in self._utterances})
        self._recent: OrderedDict[int, _Decoded] = OrderedDict()
        self._recent_bytes = 0
        self._folder: Path | None = None
        if folder is not None:
            self._folder = Path(folder) / f"waves-{self._key()}"
            if not (self._folder / "index.npz").is_file():
                self._build(self._folder, progress)
            self._open()

    def length(self, utterance: Utterance) -> int:
        """Number of samples; 0 for an utterance of a bad file."""
        return len(self._get(utterance).samples_N)

    def read(self, utterance: Utterance, start: int, count: int) -> Wave:
        """Samples ``[start, start + count)`` as float32 ``[count]``.

        Raises:
            CorpusError: the utterance does not have all of these samples.
        """
        stored = self._get(utterance)
        if start < 0 or start + count > len(stored.samples_N):
            raise CorpusError(
                f"{utterance.id}: samples {start} to {start + count} requested, "
                f"but it has {len(stored.samples_N)}"
            )
        return stored.samples_N[start : start + count] * np.float32(stored.scale)

    def active(self, utterance: Utterance, start: int = 0, count: int | None = None) -> npt.NDArray[np.bool_]:
        """Speech activity in the whole 10 ms frames of ``[start, start + count)``: bool ``[count // hop]``.

        The threshold is that of :func:`audio.adaptive_speech_threshold` for the whole utterance.
        """
        stored = self._get(utterance)
        end = len(stored.samples_N) if count is None else start + count
        return _frame_power(stored.samples_N[start:end], self.hop) >= stored.threshold

    def _get(self, utterance: Utterance) -> _Decoded:
        row = self._row[utterance]
        if self._folder is not None:
            end = self._offset[row] + self._length[row]
            wave = self._samples[self._offset[row] : end]
            return _Decoded(wave, float(self._scale[row]), float(self._threshold[row]))
        if row in self._recent:
            self._recent.move_to_end(row)
            return self._recent[row]
        decoded, reason = _decode(utterance, self.rate)
        self._note_bad(utterance, reason)
        self._recent[row] = decoded
        self._recent_bytes += decoded.samples_N.nbytes
        while self._recent_bytes > MEMORY_BYTES and len(self._recent) > 1:
            self._recent_bytes -= self._recent.popitem(last=False)[1].samples_N.nbytes
        return decoded

    def _note_bad(self, utterance: Utterance, reason: str) -> None:
        """Record a bad file, if there is a reason.

        Raises:
            CorpusError: too many files are bad.
        """
        if not reason:
            return
        self.bad.setdefault(utterance.path, reason)
        # One bad file is always accepted, also in a corpus of ten files.
        if len(self.bad) > max(1.0, BAD_SHARE * self._file_count):
            raise CorpusError(
                f"{next(iter(self.bad.values()))}; {len(self.bad)} of {self._file_count} files are bad, over "
                f"{BAD_SHARE:.0%}: repair or remove them (`separative corpus check` lists all)"
            )

    def _key(self) -> str:
        """Hash of everything that the decoded file depends on."""
        digest = hashlib.sha256(f"{FORMAT} {self.rate}".encode())
        for utterance in self._utterances:
            digest.update(f"\n{utterance.path} {utterance.start} {utterance.seconds}".encode())
            if (stamp := audio.file_stamp(utterance.path)) is not None:
                digest.update(f" {stamp[0]} {stamp[1]}".encode())
        return digest.hexdigest()[:16]

    def _build(self, target: Path, progress: Progress | None) -> None:
        """Decode all utterances into a temporary folder, then rename it to ``target``."""
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(target.parent)
        building = Path(tempfile.mkdtemp(prefix="building-", dir=target.parent))
        try:
            self._write(building, progress)
            # If another process has built the same store in the meantime, that one is used.
            if not target.exists():
                building.rename(target)
        except OSError:
            if not (target / "index.npz").is_file():
                raise
        finally:
            shutil.rmtree(building, ignore_errors=True)

    def _write(self, folder: Path, progress: Progress | None) -> None:
        """Write the samples of all utterances and their index."""
        total = len(self._utterances)
        length_U = np.zeros(total, np.int64)
        scale_U, threshold_U = np.zeros(total), np.zeros(total)
        with (folder / "samples.i16").open("wb") as file, ThreadPoolExecutor(os.cpu_count()) as pool:
            for first in range(0, total, BUILD_CHUNK):
                chunk = self._utterances[first : first + BUILD_CHUNK]
                results = pool.map(_decode, chunk, [self.rate] * len(chunk))
                for row, (decoded, reason) in enumerate(results, first):
                    self._note_bad(self._utterances[row], reason)
                    file.write(decoded.samples_N.tobytes())
                    length_U[row] = len(decoded.samples_N)
                    scale_U[row], threshold_U[row] = decoded.scale, decoded.threshold
                if progress is not None:
                    progress(min(first + BUILD_CHUNK, total), total)
        bad = np.array(json.dumps({str(path): reason for path, reason in self.bad.items()}))
        np.savez(folder / "index.npz", length=length_U, scale=scale_U, floor=threshold_U, bad=bad)

    def _open(self) -> None:
        assert self._folder is not None
        with np.load(self._folder / "index.npz") as index:
            self._length, self._scale, self._threshold = index["length"], index["scale"], index["floor"]
            self.bad = {Path(path): reason for path, reason in json.loads(str(index["bad"])).items()}
        self._offset = np.concatenate([[0], np.cumsum(self._length)])
        self._samples: Any = np.zeros(0, np.int16)
        if self._offset[-1]:
            self._samples = np.memmap(self._folder / "samples.i16", np.int16, mode="r").view(np.ndarray)

    def __getstate__(self) -> dict[str, Any]:
        # A worker process maps the file itself; pickling the array would copy all samples.
        return {name: value for name, value in self.__dict__.items() if name != "_samples"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if self._folder is not None:
            self._open()


def _remove_abandoned(parent: Path) -> None:
    """Remove temporary folders of killed processes: those that were last written to over an hour ago."""
    for folder in parent.glob("building-*"):
        with suppress(FileNotFoundError):
            written = max(path.stat().st_mtime for path in (folder, *folder.glob("*")))
            if time.time() - written > STALE_SECONDS:
                shutil.rmtree(folder, ignore_errors=True)


def _decode(utterance: Utterance, rate: int) -> tuple[_Decoded, str]:
    """Return the decoded utterance and ''; or no samples and the reason why the file is bad."""
    empty = _Decoded(np.zeros(0, np.int16), 0.0, 0.0)
    try:
        wave_N, _ = audio.read(utterance.path, rate, start=utterance.start, seconds=utterance.seconds)
    except AudioError as error:
        return empty, str(error)
    peak = float(np.abs(wave_N).max(initial=0.0))
    if peak < SILENT_PEAK:
        return empty, f"{utterance.path}: {'silent throughout' if len(wave_N) else 'no samples'}"
    samples_N = np.rint(wave_N * (32767.0 / peak)).astype(np.int16)
    threshold = audio.adaptive_speech_threshold(_frame_power(samples_N, rate // FRAMES_PER_SECOND))
    return _Decoded(samples_N, peak / 32767.0, threshold), ""


def _frame_power(samples_N: Samples, hop: int) -> npt.NDArray[np.float32]:
    """Return the mean power of each whole frame, in squared integer steps."""
    frames = samples_N[: len(samples_N) // hop * hop].reshape(-1, hop).astype(np.float32)
    power: npt.NDArray[np.float32] = np.einsum("fh,fh->f", frames, frames) / hop
    return power
