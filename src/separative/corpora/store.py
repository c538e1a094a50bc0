"""Decoded waveforms at one sampling rate, stored once and shared by the processes that draw mixtures."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import tempfile
import time
import zlib
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from separative import audio
from separative.corpora.decoded import BLOCK, FRAMES_PER_SECOND, BlockSums, Decoded, decode, frame_power
from separative.corpora.manifest import Utterance
from separative.errors import CorpusError
from separative.files import sync_folder
from separative.types import Progress, Wave

log = logging.getLogger(__name__)

FORMAT = 2
# Largest share of bad files that is accepted.
BAD_SHARE = 0.01
# Memory for decoded utterances, if they are not stored in a folder.
MEMORY_BYTES = 256 << 20
STALE_SECONDS = 3600.0
# Number of utterances decoded at a time: it bounds the memory, and keeps every core busy.
BUILD_CHUNK = 256


class WaveStore:
    """Decoded utterances at one sampling rate, read by sample position.

    Samples are stored as 16-bit integers relative to the peak of their utterance (error below -96 dB of the
    peak). With ``folder``, all utterances are decoded once into a memory-mapped file, which other processes
    and later runs share. A change of any path, size or modification time, or of the rate, makes a new file.
    Without ``folder``, utterances are decoded when they are first read, and those used last stay in memory.
    The samples are the same in both cases.

    The stored file has checksums. Samples that are damaged on the disk are decoded again, and a damaged or
    incomplete store is made again. Files that could not be read when the store was made are tried again by
    each later run; if one can be read then, the store is made again.

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
        self._recent: OrderedDict[int, Decoded] = OrderedDict()
        self._recent_bytes = 0
        self._folder: Path | None = None
        if folder is not None:
            self._folder = Path(folder) / f"waves-{self._key()}"
            if not self._is_usable(self._folder):
                self._build(self._folder, progress)
                self._open()

    def length(self, utterance: Utterance) -> int:
        """Number of samples; 0 for an utterance of a bad file."""
        if self._folder is not None:
            return int(self._length[self._row[utterance]])
        return len(self._get(utterance).samples_N)

    def read(self, utterance: Utterance, start: int, count: int) -> Wave:
        """Samples ``[start, start + count)`` as float32 ``[count]``.

        Raises:
            CorpusError: the utterance does not have all of these samples.
        """
        length = self.length(utterance)
        if start < 0 or start + count > length:
            raise CorpusError(
                f"{utterance.id}: samples {start} to {start + count} requested, but it has {length}"
            )
        stored = self._get(utterance, start, start + count)
        return stored.samples_N[start : start + count] * np.float32(stored.scale)

    def active(self, utterance: Utterance, start: int = 0, count: int | None = None) -> npt.NDArray[np.bool_]:
        """Speech activity in the whole 10 ms frames of ``[start, start + count)``: bool ``[count // hop]``.

        The threshold is that of :func:`audio.adaptive_speech_threshold` for the whole utterance.
        """
        end = self.length(utterance) if count is None else start + count
        stored = self._get(utterance, start, end)
        return frame_power(stored.samples_N[start:end], self.hop) >= stored.threshold

    def _get(self, utterance: Utterance, start: int = 0, end: int = 0) -> Decoded:
        """Return an utterance of which the samples ``[start, end)`` are used, and therefore verified."""
        row = self._row[utterance]
        if self._folder is not None:
            first, last = self._offset[row], self._offset[row] + self._length[row]
            self._verify(int(first + start), int(min(first + end, last)))
            wave = self._samples[first:last]
            return Decoded(wave, float(self._scale[row]), float(self._threshold[row]))
        if row in self._recent:
            self._recent.move_to_end(row)
            return self._recent[row]
        decoded, reason = decode(utterance, self.rate)
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
            channel = "" if utterance.channel is None else f" {utterance.channel}"
            described = f"\n{utterance.path} {utterance.start} {utterance.seconds}{channel}"
            # A file name need not be UTF-8.
            digest.update(described.encode(errors="surrogateescape"))
            if (stamp := audio.file_stamp(utterance.path)) is not None:
                digest.update(f" {stamp[0]} {stamp[1]}".encode())
        return digest.hexdigest()[:16]

    def _is_usable(self, folder: Path) -> bool:
        """Open the store of an earlier run; False if it is missing or damaged, or can be more complete."""
        self._folder = folder
        if not folder.is_dir():
            return False
        try:
            self._open()
        # A damaged zip file can raise almost any error.
        except Exception as error:
            log.warning("%s: damaged (%s); the corpus is decoded again", folder, error)
            return False
        retry = [u for u in self._utterances if u.path in self.bad and not self.length(u)]
        readable = [
            u.path for u, (_, reason) in zip(retry, self._decode_all(retry), strict=True) if not reason
        ]
        if readable:
            log.warning(
                "%s: could not be read before and can be now; the corpus is decoded again", readable[0]
            )
        return not readable

    def _decode_all(self, utterances: Sequence[Utterance]) -> Iterator[tuple[Decoded, str]]:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            yield from pool.map(decode, utterances, [self.rate] * len(utterances))

    def _build(self, target: Path, progress: Progress | None) -> None:
        """Decode all utterances into a temporary folder, then rename it to ``target``."""
        self.bad = {}
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(target.parent)
        # A store that is not usable; if another process has replaced it in the meantime, that one is used.
        before = _identity(target)
        building = Path(tempfile.mkdtemp(prefix="building-", dir=target.parent))
        try:
            self._write(building, progress)
            if before is not None and _identity(target) == before:
                target.rename(building.with_name(f"{building.name}-old"))
            if not target.exists():
                building.rename(target)
                sync_folder(target.parent)
        except OSError:
            if _identity(target) in (None, before):
                raise
        finally:
            shutil.rmtree(building, ignore_errors=True)
            shutil.rmtree(building.with_name(f"{building.name}-old"), ignore_errors=True)

    def _write(self, folder: Path, progress: Progress | None) -> None:
        """Write the samples of all utterances and their index, to the disk."""
        total = len(self._utterances)
        length_U = np.zeros(total, np.int64)
        scale_U, threshold_U = np.zeros(total), np.zeros(total)
        sums = BlockSums()
        with (folder / "samples.i16").open("wb") as file:
            for first in range(0, total, BUILD_CHUNK):
                chunk = self._utterances[first : first + BUILD_CHUNK]
                for row, (decoded, reason) in enumerate(self._decode_all(chunk), first):
                    self._note_bad(self._utterances[row], reason)
                    data = decoded.samples_N.tobytes()
                    file.write(data)
                    sums.add(data)
                    length_U[row] = len(decoded.samples_N)
                    scale_U[row], threshold_U[row] = decoded.scale, decoded.threshold
                if progress is not None:
                    progress(min(first + BUILD_CHUNK, total), total)
            file.flush()
            os.fsync(file.fileno())
        bad = np.array(json.dumps({str(path): reason for path, reason in self.bad.items()}))
        with (folder / "index.npz").open("wb") as file:
            np.savez(file, length=length_U, scale=scale_U, floor=threshold_U, sums=sums.all(), bad=bad)
            file.flush()
            os.fsync(file.fileno())
        sync_folder(folder)

    def _open(self) -> None:
        """Open the stored file and its index; reading the index verifies its own checksums.

        Raises:
            CorpusError: the file and the index do not fit each other or the corpus.
        """
        assert self._folder is not None
        # NumPy does not close a damaged file that it has opened itself.
        with (self._folder / "index.npz").open("rb") as file, np.load(file) as index:
            self._length, self._scale, self._threshold = index["length"], index["scale"], index["floor"]
            self._sums = index["sums"]
            self.bad = {Path(path): reason for path, reason in json.loads(str(index["bad"])).items()}
        self._offset = np.concatenate([[0], np.cumsum(self._length)])
        path, total = self._folder / "samples.i16", int(self._offset[-1])
        if len(self._length) != len(self._utterances) or path.stat().st_size != 2 * total:
            raise CorpusError(f"{path}: does not have the size that its index states")
        self._samples: Any = np.zeros(0, np.int16)
        if total:
            self._samples = np.memmap(path, np.int16, mode="r").view(np.ndarray)
        self._verified = np.zeros(len(self._sums), np.bool_)

    def _verify(self, start: int, end: int) -> None:
        """Compare the stored samples ``[start, end)`` with their checksums, once; decode damaged ones again.

        Raises:
            CorpusError: the samples are damaged, and the audio file cannot replace them.
        """
        for block in range(start // BLOCK, -(-end // BLOCK)):
            if self._verified[block]:
                continue
            if not self._is_intact(block):
                self._repair(block)
            self._verified[block] = True

    def _is_intact(self, block: int) -> bool:
        return zlib.crc32(self._samples[block * BLOCK : (block + 1) * BLOCK]) == int(self._sums[block])

    def _repair(self, block: int) -> None:
        """Decode the utterances of a damaged block again and write their samples in place."""
        assert self._folder is not None
        path = self._folder / "samples.i16"
        log.warning("%s: damaged on the disk; decoding a part of it again", path)
        first = int(np.searchsorted(self._offset, block * BLOCK, "right")) - 1
        last = int(np.searchsorted(self._offset, (block + 1) * BLOCK, "left"))
        cure = f"{path}: damaged on the disk; delete the folder {self._folder}"
        try:
            with path.open("r+b") as file:
                rows = range(first, min(last, len(self._utterances)))
                for row, (decoded, _) in zip(
                    rows, self._decode_all([self._utterances[row] for row in rows]), strict=True
                ):
                    if len(decoded.samples_N) != self._length[row]:
                        raise CorpusError(cure)
                    file.seek(2 * int(self._offset[row]))
                    file.write(decoded.samples_N.tobytes())
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise CorpusError(cure) from error
        if not self._is_intact(block):
            raise CorpusError(cure)

    def __getstate__(self) -> dict[str, Any]:
        # A worker process maps the file itself; pickling the array would copy all samples.
        return {name: value for name, value in self.__dict__.items() if name not in ("_samples", "_verified")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if self._folder is not None:
            self._open()


def _identity(folder: Path) -> int | None:
    """Return a number that another folder in the same place would not have; None if there is no folder."""
    try:
        return folder.stat().st_ino
    except FileNotFoundError:
        return None


def _remove_abandoned(parent: Path) -> None:
    """Remove temporary folders of killed processes: those that were last written to over an hour ago."""
    for folder in parent.glob("building-*"):
        with suppress(FileNotFoundError):
            written = max(path.stat().st_mtime for path in (folder, *folder.glob("*")))
            if time.time() - written > STALE_SECONDS:
                shutil.rmtree(folder, ignore_errors=True)
