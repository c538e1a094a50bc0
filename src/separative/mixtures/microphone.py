"""One microphone for everything in a recording: response, gain control, clipping, codec and lost packets."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import fft

from separative.errors import SeparativeError, choose
from separative.mixtures.channel import Channel, sampled_response
from separative.mixtures.codecs import Codec
from separative.mixtures.noises import FIRST_SECOND
from separative.types import Wave

FRAME_SECONDS = 0.02
# A block of a recording needs this much before and after it to be like the same part of the whole.
CONTEXT_SECONDS = 4.0
# Hop of the level meter of gain control.
METER_SECONDS = 0.01
# Noise of the electronics below the speech of a recording with gain control, which limits the gain in pauses.
METER_FLOOR = 1e-4
# Share of training recordings of each kind.
KINDS = {"close": 0.3, "distant": 0.4, "telephone": 0.18, "broadcast": 0.12}
# Range of the level of the speech in dB relative to full scale.
LEVELS_DB = {
    "close": (-40.0, -10.0),
    "distant": (-50.0, -22.0),
    "telephone": (-38.0, -14.0),
    "broadcast": (-26.0, -15.0),
}
# Chance of (gain control, clipping, DC offset, digital silence) for each kind.
CHANCES = {
    "close": (0.2, 0.12, 0.2, 0.03),
    "distant": (0.3, 0.05, 0.3, 0.03),
    "telephone": (0.5, 0.2, 0.0, 0.1),
    "broadcast": (0.7, 0.1, 0.05, 0.05),
}


# Long-term power of speech per hertz, in dB, at these frequencies (after Byrne and others, 1994). The gain of
# a response is measured on it.
SPEECH_HZ = (63.0, 125.0, 250.0, 500.0, 1000.0, 2000.0, 4000.0, 8000.0)
SPEECH_DB = (-24.0, -3.0, 0.0, 0.0, -9.0, -19.0, -27.0, -34.0)


@dataclass(frozen=True, slots=True)
class MicrophoneSignal:
    """What a microphone makes of a mixture.

    Attributes:
        waveform: float32 [N], the recording.
        sources: float32 [C,N], each source behind the linear parts of the microphone.
        noise: float32 [N], the rest: noise, and what clipping, codec and DC offset add.

    >>> ones = np.ones(2, np.float32)
    >>> MicrophoneSignal(ones, sources=ones[None], noise=0 * ones).sources.shape
    (1, 2)
    """

    waveform: Wave
    sources: Wave
    noise: Wave


@dataclass(frozen=True, slots=True)
class Microphone:
    """The way from the air to the file, the same for all speakers of a recording.

    Linear parts (frequency response, band limits of the codec, gain control, level, lost packets, gaps) apply
    to every source, so that a source stays what the recording holds of it. Clipping, the quantisation of a
    codec, the DC offset and 16-bit rounding count as noise.

    Attributes:
        rate: sample rate in hertz.
        seed: seed of lost packets and gaps.
        kind: ``close``, ``distant``, ``telephone`` or ``broadcast``.
        channel: frequency response.
        level_db: level of the speech in dB relative to full scale.
        gain_control: 0 for none, to 1 for a constant level.
        gain_seconds: time constant of gain control.
        clip_db: highest amplitude relative to the RMS of the speech in dB; None for no clipping.
        soft: clip softly (tanh) and not hard.
        codec: None for none.
        lost: share of 20 ms frames that start a burst of lost packets.
        repeat: lost frames repeat the last one, up to three times; otherwise they are zero.
        gaps: gaps of digital silence per second.
        offset: DC offset relative to full scale.

    >>> microphone = Microphone.draw(np.random.default_rng(0), 16000, kind="telephone")
    >>> speech = 0.1 * np.random.default_rng(1).standard_normal((2, 16000)).astype(np.float32)
    >>> signal = microphone.apply(speech, np.zeros(16000, np.float32), rms=0.14)
    >>> np.allclose(signal.waveform, signal.sources.sum(axis=0) + signal.noise, atol=1e-6)
    True
    """

    rate: int
    seed: int
    kind: str
    channel: Channel
    level_db: float
    gain_control: float = 0.0
    gain_seconds: float = 0.5
    clip_db: float | None = None
    soft: bool = False
    codec: Codec | None = None
    lost: float = 0.0
    repeat: bool = False
    gaps: float = 0.0
    offset: float = 0.0

    @staticmethod
    def draw(rng: np.random.Generator, rate: int, kind: str = "any") -> Microphone:
        """Draw a microphone of a kind; ``any`` draws the kind as for training.

        Raises:
            SeparativeError: unknown kind.
        """
        if kind == "any":
            kind = str(rng.choice(list(KINDS), p=list(KINDS.values())))
        choose(kind, KINDS, "kind of microphone", SeparativeError)
        use, wide = rng.random(4) < CHANCES[kind], Channel.draw_wide(rng, rate)
        gain_control, gain_seconds = float(rng.uniform(0.3, 0.9)), float(rng.uniform(0.2, 1.0))
        clip_db, soft = float(rng.uniform(4.0, 14.0)), bool(rng.random() < 0.5)
        offset = float(10.0 ** rng.uniform(-4.0, -2.3) * rng.choice([-1.0, 1.0]))
        codec, lost = _draw_codec(rng, kind), float(rng.uniform(0.002, 0.04))
        level_db = float(rng.uniform(*LEVELS_DB[kind]))
        return Microphone(
            rate=rate,
            seed=int(rng.integers(1 << 31)),
            kind=kind,
            channel=_fitted(wide, kind),
            level_db=round(level_db, 2),
            gain_control=round(gain_control, 2) if use[0] else 0.0,
            gain_seconds=round(gain_seconds, 2),
            clip_db=round(clip_db, 1) if use[1] else None,
            soft=soft,
            codec=codec,
            lost=round(lost, 4) if kind == "telephone" and rng.random() < 0.4 else 0.0,
            repeat=bool(rng.random() < 0.5),
            gaps=round(float(rng.uniform(0.05, 0.5)), 3) if use[3] else 0.0,
            offset=round(offset, 6) if use[2] else 0.0,
        )

    @property
    def context(self) -> int:
        """Samples that a block needs before and after it to be like the same part of the whole."""
        return round(CONTEXT_SECONDS * self.rate)

    def describe(self) -> dict[str, Any]:
        """All attributes as values that JSON can hold."""
        named = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "rate"}
        codec = None if self.codec is None else self.codec.describe()
        return named | {"channel": self.channel.describe(), "codec": codec}

    def apply(self, sources: Wave, noise: Wave, rms: float, start: int = 0) -> MicrophoneSignal:
        """Record sources and noise.

        Args:
            sources: float32 [C,N], what each source brings to the microphone; C may be 0.
            noise: float32 [N].
            rms: root mean square of the speech of all sources together. The recording has it at
                ``level_db``, up to the shape of its spectrum.
            start: number of the first sample in the recording.

        Raises:
            SeparativeError: the lengths differ, or ``rms`` is not above 0.
        """
        if sources.ndim != 2 or noise.shape != sources.shape[1:] or not rms > 0:
            raise SeparativeError(
                "a microphone needs sources [C,N], noise [N] and rms above 0, not shapes "
                f"{sources.shape} and {noise.shape} and rms {rms:g}"
            )
        level = 10.0 ** (self.level_db / 20.0)
        part_KN = self._filtered(np.concatenate([sources, noise[None]]), level / rms)
        if self.gain_control:
            part_KN *= self._gains(part_KN.sum(axis=0), level, start)
        clean_N = part_KN.sum(axis=0)
        wave_N = (
            clean_N if self.clip_db is None else self._clipped(clean_N, level * 10.0 ** (self.clip_db / 20))
        )
        if self.offset:
            wave_N = wave_N + np.float32(self.offset)
        wave_N = np.clip(wave_N, -1.0, 1.0)
        if self.codec is not None:
            wave_N = self.codec.apply(wave_N, self.rate, start)
        source_CN = part_KN[:-1]
        if self.lost or self.gaps:
            source_CN, wave_N = self._transmitted(source_CN, wave_N, start)
        # A file of 16 bits; a codec may overshoot full scale.
        wave_N = np.clip(np.rint(wave_N * np.float32(32768.0)), -32768, 32767) / np.float32(32768.0)
        return MicrophoneSignal(wave_N, source_CN, wave_N - source_CN.sum(axis=0))

    def response(self, frequencies: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Linear magnitude [F] at frequencies [F] in hertz; the mean power gain of speech is 1."""
        speech_hz = np.geomspace(40.0, 0.5 * self.rate, 64)
        weight_F = 10.0 ** (np.interp(np.log2(speech_hz), np.log2(SPEECH_HZ), SPEECH_DB) / 10.0) * speech_hz
        mean = float((weight_F * self._magnitude(speech_hz) ** 2).sum() / weight_F.sum())
        return np.asarray(self._magnitude(frequencies) / math.sqrt(mean))

    def _magnitude(self, hertz_F: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        gain_F = self.channel.response(hertz_F)
        return gain_F if self.codec is None else gain_F * self.codec.response(hertz_F)

    def _filtered(self, wave_KN: Wave, gain: float) -> Wave:
        """All rows behind the frequency response and a gain, without delay."""
        samples = wave_KN.shape[1]
        size = fft.next_fast_len(samples, real=True)
        spectrum_KF = fft.rfft(wave_KN, size)
        spectrum_KF *= np.float32(gain) * sampled_response(self.response, size, self.rate)
        return np.ascontiguousarray(fft.irfft(spectrum_KF, size)[:, :samples])

    def _gains(self, wave_N: Wave, level: float, start: int) -> Wave:
        """Gain [N] of gain control: the level of the last second or so, moved towards ``level``."""
        from scipy.signal import lfilter

        hop = max(1, round(METER_SECONDS * self.rate))
        before = start % hop
        padded = -(-(before + len(wave_N)) // hop) * hop
        square_N = np.zeros(padded, np.float32)
        np.square(wave_N, out=square_N[before : before + len(wave_N)])
        power_T = square_N.reshape(-1, hop).mean(axis=1)
        forget = math.exp(-METER_SECONDS / self.gain_seconds)
        meter_T, _ = lfilter([1 - forget], [1, -forget], power_T, zi=[forget * level**2])
        gain_T = ((meter_T / level**2 + METER_FLOOR) ** (-0.5 * self.gain_control)).astype(np.float32)
        # From one value of the meter to the next, the gain moves linearly.
        previous_T = np.concatenate([gain_T[:1], gain_T[:-1]])
        ramp_H = (np.arange(hop, dtype=np.float32) + 1) / hop
        gain_TH = previous_T[:, None] + (gain_T - previous_T)[:, None] * ramp_H
        gain_N: Wave = gain_TH.reshape(-1)[before : before + len(wave_N)]
        return gain_N

    def _clipped(self, wave_N: Wave, most: float) -> Wave:
        if self.soft:
            soft_N: Wave = np.float32(most) * np.tanh(wave_N / np.float32(most))
            return soft_N
        return np.clip(wave_N, np.float32(-most), np.float32(most))

    def _transmitted(self, source_CN: Wave, wave_N: Wave, start: int) -> tuple[Wave, Wave]:
        """Sources and recording with packets lost, and with gaps of digital silence."""
        frame = round(FRAME_SECONDS * self.rate)
        first = start // frame
        frames = -(-(start + len(wave_N)) // frame) - first
        lost_T, gap_T = self._faults(first, frames)
        origin_T = np.arange(frames)
        if self.repeat:
            origin_T = np.maximum.accumulate(np.where(lost_T, -1, origin_T))
            lost_T = (origin_T < 0) | (np.arange(frames) - origin_T > 3)
        all_KN = np.concatenate([source_CN, wave_N[None]])
        before = start - first * frame
        after = frames * frame - before - len(wave_N)
        frame_KTF = np.pad(all_KN, ((0, 0), (before, after))).reshape(len(all_KN), frames, frame)
        frame_KTF = frame_KTF[:, np.maximum(origin_T, 0)]
        frame_KTF[:, lost_T | gap_T] = 0.0
        out_KN = frame_KTF.reshape(len(all_KN), -1)[:, before : before + len(wave_N)]
        return np.ascontiguousarray(out_KN[:-1]), out_KN[-1]

    def _faults(self, first: int, frames: int) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
        """Frames that are lost [T], and frames in gaps of digital silence [T]; drawn for every second."""
        per_second = round(1.0 / FRAME_SECONDS)
        first_second, last_second = first // per_second - 1, (first + frames - 1) // per_second
        fault_XT = np.zeros((2, (last_second - first_second + 1) * per_second), np.bool_)
        for second in range(first_second, last_second + 1):
            rng = np.random.default_rng([self.seed, FIRST_SECOND + second])
            at = (second - first_second) * per_second
            lengths = rng.geometric(0.5, per_second)
            for frame in np.flatnonzero(rng.random(per_second) < self.lost):
                fault_XT[0, at + frame : at + frame + lengths[frame]] = True
            if rng.random() < self.gaps:
                gap = at + int(rng.integers(per_second))
                fault_XT[1, gap : gap + int(rng.integers(3, per_second // 2))] = True
        offset = first - first_second * per_second
        lost_T, gap_T = fault_XT[:, offset : offset + frames]
        return lost_T, gap_T


def _draw_codec(rng: np.random.Generator, kind: str) -> Codec | None:
    """Telephones always have a codec; other microphones have one in a part of the recordings."""
    kbps = float(np.exp(rng.uniform(np.log(6.0), np.log(32.0))).round(1))
    law = str(rng.choice(["mulaw", "alaw"]))
    use = float(rng.random())
    if kind == "telephone":
        names, share = ["amr", "opus", law, law], 1.0
        kbps = min(kbps, 13.0)
    elif kind == "broadcast":
        names, share = ["mp3", "mp3", "opus", "opus"], 0.5
        kbps = max(kbps, 16.0)
    else:
        names, share = ["opus", "opus", "opus", "mp3"], 0.25
        kbps = max(kbps, 9.0)
    name = names[int(rng.integers(4))]
    return Codec.named(name, kbps) if use < share else None


def _fitted(channel: Channel, kind: str) -> Channel:
    """Narrow the range of a wide channel to that of its kind."""
    if kind == "distant":
        # The far field loses treble, and nothing removes the bass.
        dark = (channel.lowpass_hz or 0.0) > 5000.0
        tilt_db = round(max(channel.tilt_db - 1.0, -6.0), 2)
        return replace(
            channel, tilt_db=tilt_db, highpass_hz=None, lowpass_hz=channel.lowpass_hz if dark else None
        )
    if kind == "telephone":
        return replace(channel, bass_db=0.0, tilt_db=round(0.5 * channel.tilt_db, 2))
    if kind == "broadcast":
        return replace(channel, tilt_db=round(0.4 * channel.tilt_db, 2), lowpass_hz=None)
    return channel
