"""Separated waveforms at the rate and with the channels of the recording itself.

The model separates one channel up to half of its own sampling rate. Its waveforms give a mask for every
channel: the share of each speaker in the power at each time and frequency (a Wiener filter). Above the band
of the model, a speaker gets one share for all frequencies, and only in the speaker's turns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from separative import audio
from separative.errors import AudioError
from separative.inference.recording import Audio, ChannelPolicy, check_waveform
from separative.types import Floats, Wave

FRAME_SECONDS = 0.032
"""Length of the frames of the short-time spectrum; they overlap by half."""

UPPER_BAND = (0.25, 0.875)
"""Part of the model's band that decides a speaker's share above it; the masks end at its upper edge. Both are
shares of half of the model's sampling rate."""

Spectrum = NDArray[np.complexfloating[Any, Any]]

Gate = Callable[[Floats], Floats]
"""Activity of K speakers, 0 to 1, at times in seconds: from [T] to [K, T]."""


def read_own_format(source: Audio, channels: ChannelPolicy) -> tuple[int, int]:
    """Return the sampling rate and the number of channels of the waveforms of :func:`restore_band`.

    These are all channels of the recording. If ``channels`` is the number of a channel, it is that one.

    Example:
        >>> read_own_format("meeting.wav", "mean")
        (16000, 1)
    """
    if isinstance(source, tuple):
        wave, rate = check_waveform(source)
        count = 1 if wave.ndim == 1 else len(wave)
    else:
        header = audio.info(source)
        rate, count = header.rate, header.channels
    return round(rate), 1 if isinstance(channels, int) else count


def restore_band(
    pieces: Iterable[Wave], rate: int, source: Audio, channels: ChannelPolicy, gate: Gate
) -> Iterator[Wave]:
    """Yield the waveforms of K speakers at the recording's own rate, in consecutive pieces [K, channels, N].

    Together they are as long as the recording. At each time and frequency the shares of the speakers, and of
    everything that belongs to no speaker, add up to 1.

    Args:
        pieces: separated waveforms, and the mixture that was separated in the last row, in pieces [K + 1, N].
        rate: their sampling rate in hertz, that of the model.
        source: the recording.
        channels: how its channels were made one; the number of a channel restores that channel only.
        gate: when each speaker talks, for the frequencies above the model's band.

    Raises:
        AudioError: the recording cannot be read.

    Example:
        >>> import numpy as np, separative
        >>> recording = separative.separate(separative.load_model(), "mixture.wav")
        >>> mixture, _ = audio.read("mixture.wav")
        >>> rows = np.stack([*(speaker.waveform for speaker in recording.speakers), mixture])
        >>> pieces = restore_band([rows], 16000, "mixture.wav", "mean", lambda t: np.ones((2, len(t))))
        >>> np.concatenate(list(pieces), axis=-1).shape
        (2, 1, 103016)
    """
    own_rate, _ = read_own_format(source, channels)
    masker: _Masker | None = None
    resampler: audio.Resampler | None = None
    original = _own_blocks(source, channels)
    for piece_JN in pieces:
        if masker is None or resampler is None:
            resampler = audio.Resampler(rate, own_rate, len(piece_JN))
            masker = _Masker(len(piece_JN) - 1, own_rate, rate, gate)
        masker.add_estimates(resampler(piece_JN))
        while masker.needs_original and (block_HN := next(original, None)) is not None:
            masker.add_original(block_HN)
        yield masker.take()
    if masker is None or resampler is None:
        return
    # ``resampler`` gives what remains.
    masker.add_estimates(resampler(np.zeros((masker.count + 1, 0), np.float32), last=True))
    for block_HN in original:
        masker.add_original(block_HN)
        masker.extend_estimates()
        yield masker.take()
    yield masker.finish()


class _Masker:
    """Short-time spectra of the recording [H, N] times masks from estimates [J, N].

    J is K + 1, and the mixture is last. Half a frame of silence precedes both signals, so that two frames
    cover every sample.
    """

    def __init__(self, count: int, rate: int, model_rate: int, gate: Gate) -> None:
        self.count, self.rate, self.gate = count, rate, gate
        self.half = round(FRAME_SECONDS * rate / 2)
        self.window_W = np.sqrt(np.hanning(2 * self.half + 1)[:-1]).astype(np.float32)
        hertz_F = np.fft.rfftfreq(2 * self.half, 1 / rate)
        low, high = (share * model_rate / 2 for share in UPPER_BAND)
        self.above_F = hertz_F >= high
        self.deciding_F = (hertz_F >= low) & ~self.above_F
        self.estimate_JN = np.zeros((count + 1, self.half), np.float32)
        self.original_HN: Wave | None = None
        self.tail_KHN: Wave | None = None
        self.frame, self.samples, self.given = 0, 0, 0

    @property
    def needs_original(self) -> bool:
        return self.original_HN is None or self.original_HN.shape[1] < self.estimate_JN.shape[1]

    def add_estimates(self, estimate_JN: Wave) -> None:
        self.estimate_JN = np.concatenate([self.estimate_JN, estimate_JN], 1)

    def add_original(self, block_HN: Wave) -> None:
        if self.original_HN is None:
            self.original_HN = np.zeros((len(block_HN), self.half), np.float32)
            self.tail_KHN = np.zeros((self.count, len(block_HN), self.half), np.float32)
        self.samples += block_HN.shape[1]
        self.original_HN = np.concatenate([self.original_HN, block_HN.astype(np.float32)], 1)

    def extend_estimates(self, extra: int = 0) -> None:
        """Pad the estimates with silence to the length of the recording: resampling may lose samples."""
        if self.original_HN is not None:
            missing = self.original_HN.shape[1] + extra - self.estimate_JN.shape[1]
            self.estimate_JN = np.pad(self.estimate_JN, ((0, 0), (0, max(0, missing))))

    def finish(self) -> Wave:
        """The remaining samples."""
        self.extend_estimates(2 * self.half)
        if self.original_HN is None:
            return np.zeros((self.count, 1, 0), np.float32)
        self.original_HN = np.pad(self.original_HN, ((0, 0), (0, 2 * self.half)))
        return self.take()

    def take(self) -> Wave:
        """The samples [K, H, N] that are ready."""
        if self.original_HN is None or self.tail_KHN is None:
            return np.zeros((self.count, 1, 0), np.float32)
        half = self.half
        frames = min(self.original_HN.shape[1], self.estimate_JN.shape[1]) // half - 1
        if frames <= 0:
            return np.zeros((self.count, len(self.original_HN), 0), np.float32)
        spectrum_HTF, estimate_JTF = (
            np.fft.rfft(self.window_W * _cut(wave_XN[:, : (frames + 1) * half], half)).astype(np.complex64)
            for wave_XN in (self.original_HN, self.estimate_JN)
        )
        mask_KTF = self._masks(estimate_JTF, spectrum_HTF)
        piece_KHN = np.zeros((self.count, len(spectrum_HTF), (frames + 1) * half), np.float32)
        for k, mask_TF in enumerate(mask_KTF):
            frame_HTW = np.fft.irfft(spectrum_HTF * mask_TF, n=2 * half).astype(np.float32) * self.window_W
            piece_KHN[k, :, : frames * half] += frame_HTW[..., :half].reshape(len(frame_HTW), -1)
            piece_KHN[k, :, half:] += frame_HTW[..., half:].reshape(len(frame_HTW), -1)
        piece_KHN[..., :half] += self.tail_KHN
        self.tail_KHN = piece_KHN[..., frames * half :]
        self.original_HN = self.original_HN[:, frames * half :]
        self.estimate_JN = self.estimate_JN[:, frames * half :]
        # The silence at the beginning is left out, and what follows the end of the recording.
        first = half if self.frame == 0 else 0
        self.frame += frames
        ready_KHN = piece_KHN[..., first : frames * half][..., : self.samples - self.given]
        self.given += ready_KHN.shape[2]
        return ready_KHN

    def _masks(self, estimate_JTF: Spectrum, spectrum_HTF: Spectrum) -> Floats:
        """Share of each speaker at each time and frequency [K, T, F]."""
        voice_KTF = np.square(np.abs(estimate_JTF[:-1]))
        # What the model gives to no speaker.
        rest_TF = np.square(np.abs(estimate_JTF[-1] - estimate_JTF[:-1].sum(0)))
        mask_KTF: Floats = voice_KTF / np.maximum(voice_KTF.sum(0) + rest_TF, 1e-20)
        power_TF = np.square(np.abs(spectrum_HTF)).sum(0) * self.deciding_F
        share_KT = (mask_KTF * power_TF).sum(-1) / np.maximum(power_TF.sum(-1), 1e-20)
        second_T = (self.frame + np.arange(share_KT.shape[1])) * self.half / self.rate
        mask_KTF[..., self.above_F] = (share_KT * self.gate(second_T))[..., None]
        return mask_KTF


def _cut(wave_XN: Wave, half: int) -> Wave:
    """Frames [X, T, 2 half] that overlap by half, of signals [X, (T + 1) half]."""
    return np.lib.stride_tricks.sliding_window_view(wave_XN, 2 * half, axis=1)[:, ::half]


def _own_blocks(source: Audio, channels: ChannelPolicy) -> Iterator[Wave]:
    """The recording in blocks [H, N] at its own rate, with the channels to restore; up to any damage."""
    if isinstance(source, tuple):
        wave_HN = np.atleast_2d(check_waveform(source)[0])
        yield wave_HN[[channels]] if isinstance(channels, int) else wave_HN
        return
    started = False
    try:
        for block_HN in audio.stream(source, channels=channels if isinstance(channels, int) else "each"):
            yield np.atleast_2d(block_HN)
            started = True
    except AudioError:
        # A damaged file is restored up to the damage, as it was separated.
        if not started:
            raise
