"""Any program as a system under test: wave files in, embeddings out, in an environment of its own."""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import numpy as np

from separative import audio
from separative.errors import SeparativeError
from separative.evaluation.systems import SystemOutput
from separative.types import Wave


class CommandSystem:
    """A command that maps wave files to embeddings.

    Each call writes its waves as mono 32-bit float WAV files and a text list of their paths, one a line, and
    runs the command once, ``{list}`` and ``{out}`` in its words replaced by the paths of that list and of the
    file to be written: a ``.npy`` of floats, ``[files, E]``, or ``[files, candidates, E]`` where a row of NaN
    says that there is no such candidate. Rows need no unit length. Starting a program is dear: call it with
    many waves at a time (:attr:`batch`).

    Args:
        name: in the table.
        command: program and arguments, run without a shell; the environment is this process's own.
        rate: hertz, of the waves that it is called with.
        folder: where wave files, list and output are kept (those of the last call); by default they are
            temporary.

    Attributes:
        batch: as many waves a call make starting the program negligible (250 MB of files at 4 s and 16 kHz).
        seconds, audio_seconds: wall-clock spent in the command, its start included, and length of the waves.

    Raises:
        SeparativeError: a command without ``{list}`` or ``{out}``; when called, a command that cannot be
            started or fails (with the last line it wrote), or output that is missing, no float array, of
            another number of files or another size than before, infinite, or without a candidate for a file.
    """

    batch = 1024

    def __init__(
        self, name: str, command: Sequence[str], *, rate: int = 16000, folder: str | Path | None = None
    ) -> None:
        for wanted in ("{list}", "{out}"):
            if not any(wanted in word for word in command):
                raise SeparativeError(f"{name}: the command has no {wanted}: {' '.join(command)}")
        self.name, self.command, self.rate = name, tuple(command), rate
        self.folder = None if folder is None else Path(folder)
        self.rows: tuple[str, ...] = (name,)
        self.seconds = self.audio_seconds = 0.0
        self._size: tuple[int, int] | None = None

    @property
    def real_time_factor(self) -> float:
        """Seconds of computing for a second of audio, over all calls so far; NaN before the first."""
        return self.seconds / self.audio_seconds if self.audio_seconds else float("nan")

    def __call__(self, waves: Sequence[Wave]) -> list[tuple[SystemOutput, ...]]:
        kept = tempfile.TemporaryDirectory(prefix="separative-") if self.folder is None else None
        with kept or nullcontext(str(self.folder)) as place:
            folder = Path(place).resolve()
            folder.mkdir(parents=True, exist_ok=True)
            paths = [folder / f"{i:06d}.wav" for i in range(len(waves))]
            for path, wave_N in zip(paths, waves, strict=True):
                audio.write(path, wave_N, self.rate, subtype="FLOAT")
            listed, out = folder / "list.txt", folder / "embeddings.npy"
            listed.write_text("".join(f"{path}\n" for path in paths), encoding="utf-8")
            out.unlink(missing_ok=True)
            self._run(listed, out)
            embedding_FCE = self._read(out, len(waves))
        self.audio_seconds += sum(len(wave_N) for wave_N in waves) / self.rate
        return [(self._voices(embedding_CE, i),) for i, embedding_CE in enumerate(embedding_FCE)]

    def _run(self, listed: Path, out: Path) -> None:
        words = [w.replace("{list}", str(listed)).replace("{out}", str(out)) for w in self.command]
        started = time.perf_counter()
        try:
            done = subprocess.run(words, capture_output=True, text=True, errors="replace")
        except OSError as error:
            raise SeparativeError(f"{self.name}: '{words[0]}' cannot be run: {error.strerror}") from error
        self.seconds += time.perf_counter() - started
        if done.returncode:
            said = (done.stderr.strip() or done.stdout.strip() or "without a word").splitlines()[-1]
            raise SeparativeError(f"{self.name}: its command failed with status {done.returncode}: {said}")

    def _read(self, out: Path, files: int) -> Wave:
        """The command's output as float32 ``[files, C, E]``."""
        try:
            found = np.load(out, allow_pickle=False)
        except FileNotFoundError as error:
            raise SeparativeError(f"{self.name}: its command ended well but wrote no {{out}}") from error
        except (ValueError, OSError, EOFError) as error:
            raise SeparativeError(f"{self.name}: its output is no .npy array of numbers ({error})") from error
        if not isinstance(found, np.ndarray) or found.dtype.kind != "f" or found.ndim not in (2, 3):
            shape = getattr(found, "shape", ())
            raise SeparativeError(
                f"{self.name}: its output must be floats [files, E] or [files, candidates, E], not {shape}"
            )
        embedding_FCE: Wave = (found if found.ndim == 3 else found[:, None]).astype(np.float32)
        if len(embedding_FCE) != files:
            raise SeparativeError(f"{self.name}: {len(embedding_FCE)} embeddings for {files} wave files")
        candidates, size = embedding_FCE.shape[1:]
        if self._size not in (None, (candidates, size)) or not candidates * size:
            before = "at least 1 x 1" if self._size is None else "{} x {} as before".format(*self._size)
            raise SeparativeError(
                f"{self.name}: {candidates} candidates x {size} numbers a file, not {before}"
            )
        self._size = candidates, size
        return embedding_FCE

    def _voices(self, embedding_CE: Wave, index: int) -> SystemOutput:
        there_C = ~np.isnan(embedding_CE).all(1)
        if not there_C.any():
            raise SeparativeError(
                f"{self.name}: no embedding of wave file {index}, all its candidates are NaN"
            )
        length_C = np.linalg.norm(embedding_CE[there_C].astype(np.float64), axis=1)
        if not (np.isfinite(length_C).all() and length_C.all()):
            raise SeparativeError(
                f"{self.name}: an embedding of wave file {index} is zero throughout or holds NaN or infinite "
                "numbers"
            )
        unit_CE = (embedding_CE[there_C] / length_C[:, None]).astype(np.float32)
        # One that is not there repeats the first, so that it changes no trial even if all are compared.
        missing = len(embedding_CE) - len(unit_CE)
        active_C = np.arange(len(embedding_CE)) < len(unit_CE)
        return SystemOutput(np.concatenate([unit_CE, np.repeat(unit_CE[:1], missing, axis=0)]), active_C)
