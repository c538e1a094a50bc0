"""Acoustic conditions of a trial, as data, and the mixing of one trial side under a condition.

All conditions of one side use the same target, interferers and noise. They differ only in what is added to
the target, and at which level.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from scipy import fft

from separative import audio
from separative.errors import SeparativeError, choose
from separative.mixtures.channel import sampled_response
from separative.mixtures.codecs import Codec
from separative.mixtures.gains import mix_at
from separative.types import Wave


@dataclass(frozen=True, slots=True)
class Condition:
    """What is added to the target speaker of a trial side.

    Attributes:
        name: name in tables and trial lists.
        sir_db: for each interferer, the ratio in dB of the target's power over the whole side to the
            interferer's power while the interferer speaks.
        snr_db: ratio in dB of the target's power to the noise power; None adds no noise.
        seconds: length to which the side is cut; None keeps all of it.
        room: place all speakers in one simulated room, each at a different position. The ratios then hold for
            the reverberant speakers at the microphone.
        onset: share of the side after which the interferers start.
        codec: name and bit rate in kbit/s of a codec behind everything else (see
            :class:`separative.mixtures.codecs.Codec`); the band limits hold for the sources too.

    >>> Condition("loud interferer in the second half", sir_db=(-5.0,), onset=0.5).sir_db
    (-5.0,)
    """

    name: str
    sir_db: tuple[float, ...] = ()
    snr_db: float | None = None
    seconds: float | None = None
    room: bool = False
    onset: float = 0.0
    codec: tuple[str, float] | None = None


CONDITIONS = {
    c.name: c
    for c in (
        Condition("clean"),
        Condition("overlap+5", sir_db=(5.0,)),
        Condition("overlap0", sir_db=(0.0,)),
        Condition("overlap-5", sir_db=(-5.0,)),
        Condition("overlap0x2", sir_db=(0.0, 0.0)),
        Condition("half0", sir_db=(0.0,), onset=0.5),
        Condition("noisy0", sir_db=(0.0,), snr_db=10.0),
        Condition("noise10", snr_db=10.0),
        Condition("noise5", snr_db=5.0),
        Condition("noise0", snr_db=0.0),
        Condition("room", room=True),
        Condition("mixed", sir_db=(0.0,), snr_db=10.0, room=True),
        Condition("short", seconds=2.0),
        Condition("telephone", codec=("mulaw", 64.0)),
        Condition("opus", codec=("opus", 6.0)),
    )
}
DEFAULT_CONDITIONS = ("clean", "overlap+5", "overlap0", "overlap-5", "noise5")
MAX_INTERFERERS = max(len(c.sir_db) for c in CONDITIONS.values())


def parse_condition(name: str) -> Condition:
    """Return the condition with this name; ``NAME@SECONDS`` (``overlap0@1``) is a condition cut to a length.

    Raises:
        SeparativeError: the name is unknown (the message has the nearest and all valid names), or no valid
            length follows the ``@``.

    >>> condition = parse_condition("overlap0@1.5")
    >>> condition.sir_db, condition.seconds
    ((0.0,), 1.5)
    """
    base, cut, length = name.partition("@")
    condition = CONDITIONS[choose(base, CONDITIONS, "condition")]
    if not cut:
        return condition
    try:
        seconds = float(length)
    except ValueError:
        seconds = math.nan
    if not 0.5 <= seconds < math.inf:
        raise SeparativeError(f"condition '{name}': a length of at least 0.5 s must follow the @")
    return replace(condition, name=name, seconds=seconds)


@dataclass(frozen=True)
class SideWaveforms:
    """Waveforms that one trial side is mixed from: equal lengths, levels as recorded.

    Attributes:
        target: waveform of the target speaker, float32 [N].
        interferers: waveforms of the interferers, each float32 [N].
        noise: noise waveform, float32 [N]; None if no condition needs it.
        level_db: level in dB of the mixture, whatever the condition.
        rate: sample rate in Hz.
        room: the target and then the interferers as they sound in the side's simulated room; empty if no
            condition needs it.

    >>> parts = SideWaveforms(np.ones(8000, np.float32), (), None, level_db=-20.0, rate=16000)
    >>> len(mix_side(parts, CONDITIONS["clean"]).waveform)
    8000
    """

    target: Wave
    interferers: tuple[Wave, ...]
    noise: Wave | None
    level_db: float
    rate: int
    room: tuple[Wave, ...] = ()


@dataclass(frozen=True)
class MixedSide:
    """A trial side mixed under one condition.

    Attributes:
        waveform: float32 [N], at the side's level.
        sources: the target and then the interferers as they are in the mixture, float32 [K, N].

    >>> mixed = MixedSide(np.zeros(4, np.float32), np.zeros((2, 4), np.float32))
    >>> mixed.sources.shape
    (2, 4)
    """

    waveform: Wave
    sources: Wave


def mix_side(parts: SideWaveforms, condition: Condition) -> MixedSide:
    """Mix a trial side under a condition. The level is that of the mixture.

    Raises:
        SeparativeError: a waveform with a required ratio, or the whole mixture, is silent.

    >>> rng = np.random.default_rng(0)
    >>> target, other = rng.standard_normal((2, 16000)).astype(np.float32)
    >>> mixed = mix_side(SideWaveforms(target, (other,), None, -20.0, 16000), CONDITIONS["overlap0"])
    >>> target_power, other_power = (mixed.sources**2).mean(1)
    >>> round(float(10 * np.log10(target_power / other_power)), 2) + 0.0
    0.0
    """
    speakers = parts.room if condition.room else (parts.target, *parts.interferers)
    target_N, *interferers = speakers[: 1 + len(condition.sir_db)]
    noise_N = parts.noise if condition.snr_db is not None else None
    end = None if condition.seconds is None else round(condition.seconds * parts.rate)
    begin = round(condition.onset * len(target_N[:end]))
    interferers = [np.concatenate([np.zeros_like(wave_N[:begin]), wave_N[begin:]]) for wave_N in interferers]
    spans = [(0, len(target_N)), *[(begin, len(target_N))] * len(interferers)]
    mixed = mix_at(target_N, interferers, condition.sir_db, noise_N, condition.snr_db or 0.0, spans)
    mix_N, source_KN = mixed.waveform[:end], mixed.sources[:, :end]
    if not mix_N.any():
        raise SeparativeError("the mixture is digital silence")
    gain = np.float32(10 ** ((parts.level_db - audio.level_db(mix_N)) / 20))
    mix_N, source_KN = mix_N * gain, source_KN * gain
    if condition.codec is None:
        return MixedSide(mix_N, source_KN)
    codec = Codec.named(*condition.codec)
    limited_N, *sources = [_limit_band(wave_N, codec, parts.rate) for wave_N in (mix_N, *source_KN)]
    coded_N = codec.apply(np.clip(limited_N, -1, 1), parts.rate)
    # Band limits and quantisation change the level.
    gain = np.float32(10 ** ((parts.level_db - audio.level_db(coded_N)) / 20))
    return MixedSide(coded_N * gain, np.stack(sources) * gain)


def _limit_band(wave_N: Wave, codec: Codec, rate: int) -> Wave:
    """A waveform [N] in the band of a codec."""
    size = fft.next_fast_len(len(wave_N), real=True)
    limited_F = fft.rfft(wave_N, size) * sampled_response(codec.response, size, rate)
    return np.ascontiguousarray(fft.irfft(limited_F, size)[: len(wave_N)])
