"""Decoded speech at one rate, stored once and shared: the source of every crop that training draws."""

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
BAD_SHARE = 0.01
LRU_BYTES = 256 << 20
# -120 dB full scale, below any converter's noise.
SILENT_PEAK = 1e-6
STALE_SECONDS = 3600.0
# Files in flight at once while building: bounds the memory, large enough to keep every core busy.
BUILD_CHUNK = 256

Samples = npt.NDArray[np.int16]


@dataclass(frozen=True, slots=True)
class _Decoded:
    """Integer samples, what one integer step is worth, and the frame power from which a frame is active."""

    samples_N: Samples
    scale: float
    floor: float


class WaveStore:
    """Utterances as float32 waveforms at one rate, read by sample position.

    Samples are 16-bit integers relative to the utterance's own peak (error below -96 dB of the peak), the
    same with and without ``folder``. With it, all are decoded once into a memory-mapped file that other
    processes and later runs share; a change of any path, size, date or of the rate makes a new one. Without
    it, utterances are decoded when first read and the latest are kept in memory.

    Args:
        utterances: what can be read; equal ones are stored once.
        rate: hertz.
        folder: where the decoded file lies; made if missing.
        progress: called with (done, total) while decoding.

    Attributes:
        bad: unreadable, empty or silent files so far, with the reason; their utterances have length 0.

    Raises:
        CorpusError: over 1 % of the files are bad; names the first and the count.
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
        self._files = len({utterance.path for utterance in self._utterances})
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
        """Samples ``[start, start + count)`` as float32 ``[count]``; these must lie inside the utterance."""
        stored = self._get(utterance)
        if start < 0 or start + count > len(stored.samples_N):
            raise CorpusError(
                f"{utterance.id}: it has {len(stored.samples_N)} samples, not {start} to {start + count}"
            )
        return stored.samples_N[start : start + count] * np.float32(stored.scale)

    def active(self, utterance: Utterance, start: int = 0, count: int | None = None) -> npt.NDArray[np.bool_]:
        """Which whole 10 ms frames of ``[start, start + count)`` hold speech: bool ``[count // hop]``.

        A frame is active if its energy is within D of the utterance's loud (95th percentile) frames; D is
        60 % of the distance between loud and quiet (10th percentile) frames, kept within 10 to 35 dB, so that
        neither a noisy recording nor one with digital silence is all speech or none.
        """
        stored = self._get(utterance)
        end = len(stored.samples_N) if count is None else start + count
        return _frame_power(stored.samples_N[start:end], self.hop) >= stored.floor

    def _get(self, utterance: Utterance) -> _Decoded:
        row = self._row[utterance]
        if self._folder is not None:
            end = self._offset[row] + self._length[row]
            wave = self._samples[self._offset[row] : end]
            return _Decoded(wave, float(self._scale[row]), float(self._floor[row]))
        if row in self._recent:
            self._recent.move_to_end(row)
            return self._recent[row]
        decoded = self._note(utterance, *_decode(utterance, self.rate))
        self._recent[row] = decoded
        self._recent_bytes += decoded.samples_N.nbytes
        while self._recent_bytes > LRU_BYTES and len(self._recent) > 1:
            self._recent_bytes -= self._recent.popitem(last=False)[1].samples_N.nbytes
        return decoded

    def _note(self, utterance: Utterance, decoded: _Decoded, reason: str) -> _Decoded:
        if reason:
            self.bad.setdefault(utterance.path, reason)
            self._check()
        return decoded

    def _check(self) -> None:
        # One bad file is never over the limit: a corpus of ten files may hold one.
        if len(self.bad) > max(1.0, BAD_SHARE * self._files):
            raise CorpusError(
                f"{next(iter(self.bad.values()))}; {len(self.bad)} of {self._files} files are bad, over "
                f"{BAD_SHARE:.0%}: mend or remove them (`separative corpus check` lists all)"
            )

    def _key(self) -> str:
        digest = hashlib.sha256(f"{FORMAT} {self.rate}".encode())
        for utterance in self._utterances:
            digest.update(f"\n{utterance.path} {utterance.start} {utterance.seconds}".encode())
            if (stamp := audio.stamp(utterance.path)) is not None:
                digest.update(f" {stamp[0]} {stamp[1]}".encode())
        return digest.hexdigest()[:16]

    def _build(self, target: Path, progress: Progress | None) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        for left in target.parent.glob("building-*"):
            # Of a process that was killed, if nobody has written to it for long.
            with suppress(FileNotFoundError):
                written = max(path.stat().st_mtime for path in (left, *left.glob("*")))
                if time.time() - written > STALE_SECONDS:
                    shutil.rmtree(left, ignore_errors=True)
        building = Path(tempfile.mkdtemp(prefix="building-", dir=target.parent))
        total = len(self._utterances)
        length_U = np.zeros(total, np.int64)
        scale_U, floor_U = np.zeros(total), np.zeros(total)
        try:
            with (
                (building / "samples.i16").open("wb") as file,
                ThreadPoolExecutor(os.cpu_count()) as pool,
            ):
                for first in range(0, total, BUILD_CHUNK):
                    chunk = self._utterances[first : first + BUILD_CHUNK]
                    results = pool.map(_decode, chunk, [self.rate] * len(chunk))
                    for row, (utterance, (decoded, reason)) in enumerate(
                        zip(chunk, results, strict=True), first
                    ):
                        self._note(utterance, decoded, reason)
                        file.write(decoded.samples_N.tobytes())
                        length_U[row] = len(decoded.samples_N)
                        scale_U[row], floor_U[row] = decoded.scale, decoded.floor
                    if progress is not None:
                        progress(min(first + BUILD_CHUNK, total), total)
            bad = json.dumps({str(path): reason for path, reason in self.bad.items()})
            np.savez(building / "index.npz", length=length_U, scale=scale_U, floor=floor_U, bad=np.array(bad))
            if not target.exists():
                # Whole or not at all; if another process has just made the same one, that one serves.
                building.rename(target)
        except OSError:
            if not (target / "index.npz").is_file():
                raise
        finally:
            shutil.rmtree(building, ignore_errors=True)

    def _open(self) -> None:
        assert self._folder is not None
        with np.load(self._folder / "index.npz") as index:
            self._length, self._scale, self._floor = index["length"], index["scale"], index["floor"]
            self.bad = {Path(path): reason for path, reason in json.loads(str(index["bad"])).items()}
        self._offset = np.concatenate([[0], np.cumsum(self._length)])
        self._samples: Any = np.zeros(0, np.int16)
        if self._offset[-1]:
            self._samples = np.memmap(self._folder / "samples.i16", np.int16, mode="r").view(np.ndarray)

    def __getstate__(self) -> dict[str, Any]:
        # A worker process maps the file itself: pickling would copy the whole of it.
        return {name: value for name, value in self.__dict__.items() if name != "_samples"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if self._folder is not None:
            self._open()


def _decode(utterance: Utterance, rate: int) -> tuple[_Decoded, str]:
    """The utterance and '', or an empty one and the reason why it is bad."""
    empty = _Decoded(np.zeros(0, np.int16), 0.0, 0.0)
    try:
        wave_N, _ = audio.read(utterance.path, rate, start=utterance.start, seconds=utterance.seconds)
    except AudioError as error:
        return empty, str(error)
    peak = float(np.abs(wave_N).max(initial=0.0))
    if peak < SILENT_PEAK:
        return empty, f"{utterance.path}: {'silent throughout' if len(wave_N) else 'no samples'}"
    samples_N = np.rint(wave_N * (32767.0 / peak)).astype(np.int16)
    return _Decoded(samples_N, peak / 32767.0, _floor(samples_N, rate // FRAMES_PER_SECOND)), ""


def _frame_power(samples_N: Samples, hop: int) -> npt.NDArray[np.float32]:
    frames = samples_N[: len(samples_N) // hop * hop].reshape(-1, hop).astype(np.float32)
    power: npt.NDArray[np.float32] = np.einsum("fh,fh->f", frames, frames) / hop
    return power


def _floor(samples_N: Samples, hop: int) -> float:
    """Frame power (in squared integer steps) from which a frame of this utterance is active."""
    power_F = _frame_power(samples_N, hop)
    if not len(power_F):
        return 0.0
    quiet_db, loud_db = np.percentile(10.0 * np.log10(power_F + 1e-3), [10, 95])
    down_db = np.clip(0.6 * (loud_db - quiet_db), 10.0, 35.0)
    # Above zero, so that digital silence never counts as speech.
    return max(float(10.0 ** ((loud_db - down_db) / 10.0)), 1e-6)
