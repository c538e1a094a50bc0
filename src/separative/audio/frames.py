"""Samples of the frames that FFmpeg decodes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from separative.types import Wave


class FrameConverter:
    """Turns frames into float32 ``[n, channels]`` at the rate and with the channels of the first frame.

    Args:
        av: the package PyAV.
        first: the first frame of the track.

    >>> import av
    >>> frame = av.AudioFrame.from_ndarray(np.full((1, 4), 2**14, np.int16), format="s16", layout="stereo")
    >>> frame.sample_rate = 8000
    >>> list(FrameConverter(av, frame)(frame))
    [array([[0.5, 0.5],
           [0.5, 0.5]], dtype=float32)]
    """

    def __init__(self, av: Any, first: Any) -> None:
        self._av, self.channels = av, channel_count(first)
        self.layout, self.rate = first.layout, first.sample_rate
        self._shape: Any = None
        self._resampler: Any = None

    def __call__(self, frame: Any) -> Iterator[Wave]:
        shape = (frame.sample_rate, frame.layout.name)
        if shape == (self.rate, self.layout.name):
            yield from self._flush()
            yield _samples(frame, self.channels)
            return
        # The rate or the channels change within the track.
        if shape != self._shape:
            yield from self._flush()
            self._shape = shape
            self._resampler = self._av.AudioResampler(format="fltp", layout=self.layout, rate=self.rate)
        frame.pts = None
        for converted in self._resampler.resample(frame):
            yield _samples(converted, self.channels)

    def _flush(self) -> Iterator[Wave]:
        if self._resampler is not None:
            for converted in self._resampler.resample(None):
                yield _samples(converted, self.channels)
            self._resampler = self._shape = None


def _samples(frame: Any, channels: int) -> Wave:
    array: npt.NDArray[Any] = frame.to_ndarray()
    array = array.T if frame.format.is_planar else array.reshape(-1, channels)
    if array.dtype.kind == "f":
        return np.asarray(array, np.float32)
    if array.dtype == np.uint8:
        return (array.astype(np.float32) - np.float32(128)) / np.float32(128)
    return np.asarray(array / 2.0 ** (8 * array.dtype.itemsize - 1), np.float32)


def channel_count(frame: Any) -> int:
    """Return the number of channels of a frame.

    >>> import av
    >>> channel_count(av.AudioFrame(format="s16", layout="stereo", samples=8))
    2
    """
    return int(frame.layout.nb_channels)
