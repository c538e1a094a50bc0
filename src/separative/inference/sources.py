"""Arrays, tensors, open files and excerpts as recordings: everything that is not simply a path."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from separative import audio
from separative.errors import AudioError
from separative.inference.recording import Audio, check_samples, check_waveform
from separative.types import Wave

if TYPE_CHECKING:
    from torch import Tensor

    AnyAudio = Audio | IO[bytes] | Wave | Tensor


class Waveform(tuple[Wave, int]):
    """A waveform with its sampling rate, ``(samples, rate)``, and the name of its recording.

    It is a recording for every function that takes one.

    Args:
        samples: [N] or [channels, N].
        rate: in hertz.
        name: name for results and messages.

    Example:
        >>> waveform = Waveform(np.zeros(8000, np.float32), 16000, "silence")
        >>> samples, rate = waveform
        >>> len(samples), rate, waveform.seconds, waveform
        (8000, 16000, 0.5, Waveform('silence', 0.5 s, 16000 Hz))
    """

    name: str

    def __new__(cls, samples: Wave, rate: int, name: str = "the waveform") -> Waveform:
        made = super().__new__(cls, (samples, rate))
        made.name = name
        return made

    def __getnewargs__(self) -> tuple[Wave, int, str]:
        """Arguments of the copy of a waveform."""
        return self[0], self[1], self.name

    @property
    def seconds(self) -> float:
        """Length in seconds."""
        return int(self[0].shape[-1]) / self[1]

    def __repr__(self) -> str:
        return f"Waveform({self.name!r}, {self.seconds:.1f} s, {self[1]} Hz)"


def load_audio(
    source: Any, *, rate: int | None = None, start: float = 0.0, end: float | None = None
) -> Waveform:
    """Load a recording, or an excerpt of one, from a file, an open file, an array or a tensor.

    The result keeps all channels and the sampling rate. It can be passed to every function that takes a
    recording, for example as an excerpt in the lists of :func:`separative.verify`.

    Args:
        source: a path; an open binary file, which is read from its position; an array or tensor [N] or
            [channels, N] of floating-point samples between -1 and 1; or a tuple of samples and rate.
        rate: sampling rate of an array or a tensor in hertz.
        start, end: begin and end of the excerpt in seconds; by default all of the recording. Times of results
            count from ``start``.

    Raises:
        AudioError: the recording cannot be read, ``rate`` is missing or given for a file, or the excerpt is
            empty.

    Example:
        >>> load_audio("meeting.wav", start=2.0, end=5.0)
        Waveform('meeting.wav', 3.0 s, 16000 Hz)
        >>> with open("ann.wav", "rb") as file:
        ...     load_audio(file).seconds
        6.4385
        >>> load_audio(np.zeros(8000, np.float32), rate=8000)
        Waveform('the waveform', 1.0 s, 8000 Hz)
    """
    opened = open_source(source, rate, start, end)
    if isinstance(opened, Waveform):
        return opened
    if isinstance(opened, tuple):
        return Waveform(*check_waveform(opened))
    return _read(Path(opened), start, end, str(opened))


def open_source(source: Any, rate: int | None, start: float, end: float | None) -> Audio:
    """Return a recording that the other modules can read: the same path or tuple, or a :class:`Waveform`.

    Arguments and errors are those of :func:`load_audio`.

    Example:
        >>> open_source("ann.wav", None, 0.0, None)
        'ann.wav'
        >>> open_source("ann.wav", None, 1.0, 2.0)
        Waveform('ann.wav', 1.0 s, 16000 Hz)
    """
    if not 0 <= start < np.inf or (end is not None and not start < end):
        raise AudioError(
            f"an excerpt from {start:g} s to {'the end' if end is None else f'{end:g} s'} is empty; pass"
            " 0 <= start < end, in seconds"
        )
    whole = start == 0 and end is None
    if isinstance(source, str | Path):
        _refuse_rate(rate, f"{source} is a file, which states its sampling rate")
        return source if whole else _read(Path(source), start, end, str(source))
    if hasattr(source, "read"):
        _refuse_rate(rate, "an open file states its sampling rate")
        return _read_open_file(source, start, end)
    if isinstance(source, tuple):
        _refuse_rate(rate, "the tuple contains its sampling rate")
        if not whole or (len(source) == 2 and hasattr(source[0], "detach")):
            name = getattr(source, "name", "the waveform")
            samples, own_rate = check_waveform((_to_array(source[0]), *source[1:]))
            return _cut(Waveform(samples, own_rate, name), start, end)
        return source
    if not isinstance(source, list) and not hasattr(source, "__array__"):
        raise AudioError(
            f"cannot read a recording from {type(source).__name__}; pass a file, or a waveform with its"
            " sampling rate as (wave, rate)"
        )
    if rate is None:
        raise AudioError(
            f"the sampling rate of the {type(source).__name__} is missing; pass rate=16000, for example"
        )
    return _cut(Waveform(*check_waveform((_to_array(source), rate))), start, end)


def _refuse_rate(rate: int | None, reason: str) -> None:
    if rate is not None:
        raise AudioError(f"{reason}; leave out rate={rate}")


def _to_array(samples: Any) -> Wave:
    """Samples as an array, also those of a tensor on any device and of any floating-point precision."""
    if hasattr(samples, "detach"):
        tensor = samples.detach().cpu()
        samples = (tensor.float() if tensor.is_floating_point() else tensor).numpy()
    return check_samples(samples)


def _cut(waveform: Waveform, start: float, end: float | None) -> Waveform:
    samples, rate = waveform
    last = samples.shape[-1] if end is None else round(end * rate)
    part = samples[..., round(start * rate) : last]
    if part.shape[-1] == 0:
        raise AudioError(
            f"{waveform.name} is {waveform.seconds:g} s long; the excerpt from {start:g} s is empty"
        )
    return Waveform(part, rate, waveform.name)


def _read(path: Path, start: float, end: float | None, name: str) -> Waveform:
    seconds = None if end is None else end - start
    samples, rate = audio.read(path, channels="each", start=start, seconds=seconds)
    return Waveform(samples[0] if len(samples) == 1 else samples, rate, name)


def _read_open_file(file: IO[bytes], start: float, end: float | None) -> Waveform:
    name = getattr(file, "name", "the open file")
    name = str(name) if isinstance(name, str | Path) else "the open file"
    # Decoders need a file that they can search.
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / f"recording{Path(name).suffix}"
        try:
            with path.open("wb") as copy:
                shutil.copyfileobj(file, copy)
        except TypeError as error:
            raise AudioError(f"{name} is open for text; open it with mode 'rb'") from error
        try:
            return _read(path, start, end, name)
        except AudioError as error:
            raise AudioError(str(error).replace(str(path), name)) from error
