"""Use any program as a system under test: it reads WAV files and writes embeddings."""

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
    """A system under test that runs a command to embed WAV files.

    Each call writes its waveforms as mono 32-bit float WAV files and a text file with their paths, one per
    line. Then it runs the command once. The placeholder ``{list}`` stands for the path of the text file,
    ``{out}`` for the file that the command must write: a ``.npy`` array of floats, [files, E], or
    [files, candidates, E] where a row of NaN marks a missing candidate. Embeddings need not have unit length.
    Starting a program is slow, so call it with many waveforms at a time (:attr:`batch`).

    Args:
        name: name in the table.
        command: program and arguments, run without a shell and with the environment of this process.
        rate: sampling rate of the waveforms in hertz.
        folder: where the WAV files, the list and the output of the last call are kept; by default in a
            temporary folder that is removed.

    Attributes:
        batch: recommended number of waveforms per call: 250 MB of files at 4 s and 16 kHz.
        seconds: wall-clock time spent in the command, including program start.
        audio_seconds: total length of the waveforms.

    Raises:
        SeparativeError: the command has no ``{list}`` or ``{out}``. When called: the command cannot be
            started or fails (the message has the last line it printed), or its output is missing, is not an
            array of floats, has another number of files or another size than before, is infinite, or has no
            candidate for a file.

    >>> import sys
    >>> code = "import sys, numpy; numpy.save(sys.argv[2], numpy.ones((1, 4)))"
    >>> system = CommandSystem("ones", [sys.executable, "-c", code, "{list}", "{out}"])
    >>> [(output,)] = system([np.zeros(16000, np.float32)])
    >>> output.embeddings.tolist()
    [[0.5, 0.5, 0.5, 0.5]]
    """

    batch = 1024

    def __init__(
        self, name: str, command: Sequence[str], *, rate: int = 16000, folder: str | Path | None = None
    ) -> None:
        for wanted in ("{list}", "{out}"):
            if not any(wanted in word for word in command):
                raise SeparativeError(f"{name}: the command must contain {wanted}: {' '.join(command)}")
        self.name, self.command, self.rate = name, tuple(command), rate
        self.folder = None if folder is None else Path(folder)
        self.rows: tuple[str, ...] = (name,)
        self.seconds = self.audio_seconds = 0.0
        self._size: tuple[int, int] | None = None

    @property
    def real_time_factor(self) -> float:
        """Seconds of computing per second of audio, over all calls so far; NaN before the first call."""
        return self.seconds / self.audio_seconds if self.audio_seconds else float("nan")

    def __call__(self, waves: Sequence[Wave]) -> list[tuple[SystemOutput, ...]]:
        temporary = tempfile.TemporaryDirectory(prefix="separative-") if self.folder is None else None
        with temporary or nullcontext(str(self.folder)) as name:
            folder = Path(name).resolve()
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
        return [(self._output(embedding_CE, i),) for i, embedding_CE in enumerate(embedding_FCE)]

    def _run(self, listed: Path, out: Path) -> None:
        words = [w.replace("{list}", str(listed)).replace("{out}", str(out)) for w in self.command]
        started = time.perf_counter()
        try:
            done = subprocess.run(words, capture_output=True, text=True, errors="replace")
        except OSError as error:
            raise SeparativeError(f"{self.name}: cannot run '{words[0]}': {error.strerror}") from error
        self.seconds += time.perf_counter() - started
        if done.returncode:
            last = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()[-1]
            raise SeparativeError(f"{self.name}: the command failed with exit code {done.returncode}: {last}")

    def _read(self, out: Path, files: int) -> Wave:
        """The output of the command as float32 [files, C, E]."""
        try:
            found = np.load(out, allow_pickle=False)
        except FileNotFoundError as error:
            raise SeparativeError(f"{self.name}: the command succeeded but did not write {{out}}") from error
        # A damaged file raises errors of many types, such as MemoryError for an absurd size.
        except Exception as error:
            raise SeparativeError(
                f"{self.name}: the output is not a .npy array of numbers ({error})"
            ) from error
        if not isinstance(found, np.ndarray) or found.dtype.kind != "f" or found.ndim not in (2, 3):
            shape = getattr(found, "shape", ())
            raise SeparativeError(
                f"{self.name}: the output must be floats [files, E] or [files, candidates, E], not {shape}"
            )
        embedding_FCE: Wave = (found if found.ndim == 3 else found[:, None]).astype(np.float32)
        if len(embedding_FCE) != files:
            raise SeparativeError(
                f"{self.name}: the output has {len(embedding_FCE)} embeddings for {files} WAV files"
            )
        candidates, size = embedding_FCE.shape[1:]
        if self._size not in (None, (candidates, size)) or not candidates * size:
            expected = "at least 1 x 1" if self._size is None else "{} x {} as before".format(*self._size)
            raise SeparativeError(
                f"{self.name}: the output has {candidates} candidates x {size} values per file, "
                f"not {expected}"
            )
        self._size = candidates, size
        return embedding_FCE

    def _output(self, embedding_CE: Wave, index: int) -> SystemOutput:
        present_C = ~np.isnan(embedding_CE).all(1)
        if not present_C.any():
            raise SeparativeError(
                f"{self.name}: no embedding of WAV file {index}: all its candidates are NaN"
            )
        length_C = np.linalg.norm(embedding_CE[present_C].astype(np.float64), axis=1)
        if not (np.isfinite(length_C).all() and length_C.all()):
            raise SeparativeError(
                f"{self.name}: an embedding of WAV file {index} is all zeros or has NaN or infinite values"
            )
        unit_CE = (embedding_CE[present_C] / length_C[:, None]).astype(np.float32)
        # A missing candidate repeats the first one, so that it changes no trial even if all are compared.
        missing = len(embedding_CE) - len(unit_CE)
        active_C = np.arange(len(embedding_CE)) < len(unit_CE)
        return SystemOutput(np.concatenate([unit_CE, np.repeat(unit_CE[:1], missing, axis=0)]), active_C)
