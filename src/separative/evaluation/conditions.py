"""The conditions under which a test side is heard, as data, and how to mix one (protocol, "Conditions").

Conditions of one side share target, interferers and noise: they differ only in what is added, and how loud.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from separative import audio
from separative.errors import SeparativeError, choose
from separative.mixtures.gains import mix_at
from separative.types import Wave


@dataclass(frozen=True, slots=True)
class Condition:
    """``sir_db`` target over each interfering speaker · ``snr_db`` over noise · cut to ``seconds``.

    Interferers begin at that share of the side; their power while they talk is in that ratio to the target's
    over the whole side.

    With ``room``, all speakers are heard in one simulated room, each at a place of their own, and the ratios
    are those of the reverberant speakers at the microphone.
    """

    name: str
    sir_db: tuple[float, ...] = ()
    snr_db: float | None = None
    seconds: float | None = None
    room: bool = False
    begins: float = 0.0


CONDITIONS = {
    c.name: c
    for c in (
        Condition("clean"),
        Condition("overlap+5", sir_db=(5.0,)),
        Condition("overlap0", sir_db=(0.0,)),
        Condition("overlap-5", sir_db=(-5.0,)),
        Condition("overlap0x2", sir_db=(0.0, 0.0)),
        Condition("half0", sir_db=(0.0,), begins=0.5),
        Condition("noisy0", sir_db=(0.0,), snr_db=10.0),
        Condition("noise10", snr_db=10.0),
        Condition("noise5", snr_db=5.0),
        Condition("noise0", snr_db=0.0),
        Condition("room", room=True),
        Condition("mixed", sir_db=(0.0,), snr_db=10.0, room=True),
        Condition("short", seconds=2.0),
    )
}
DEFAULT = ("clean", "overlap+5", "overlap0", "overlap-5", "noise5")
MOST_RIVALS = max(len(c.sir_db) for c in CONDITIONS.values())


def condition_named(name: str) -> Condition:
    """The condition of this name; ``NAME@SECONDS`` (``overlap0@1``) is one cut to that length.

    Raises:
        SeparativeError: an unknown name; names the nearest and all. Or no length after the ``@``.
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
        raise SeparativeError(f"condition '{name}': after the @ comes a length of 0.5 s or more")
    return replace(condition, name=name, seconds=seconds)


@dataclass(frozen=True)
class Parts:
    """What a side is made of: equally long, at their recorded levels; ``noise_N`` may be absent.

    ``room_KN``: target and interferers again, as heard in the side's room, where a condition wants it.
    """

    target_N: Wave
    rival_KN: tuple[Wave, ...]
    noise_N: Wave | None
    level_db: float
    rate: int
    room_KN: tuple[Wave, ...] = ()


@dataclass(frozen=True)
class MixedSide:
    """A mixture at the side's level; in it, ``source_KN``, the target first, then interferers."""

    mix_N: Wave
    source_KN: Wave


def mix(parts: Parts, condition: Condition) -> MixedSide:
    """Mix a side under a condition; the level is that of the mixture.

    Raises:
        SeparativeError: a part that must keep a ratio, or all of it, is silent.
    """
    speakers = parts.room_KN if condition.room else (parts.target_N, *parts.rival_KN)
    target_N, *rivals = speakers[: 1 + len(condition.sir_db)]
    noise_N = parts.noise_N if condition.snr_db is not None else None
    end = None if condition.seconds is None else round(condition.seconds * parts.rate)
    begin = round(condition.begins * len(target_N[:end]))
    rivals = [np.concatenate([np.zeros_like(wave_N[:begin]), wave_N[begin:]]) for wave_N in rivals]
    spans = [(0, len(target_N)), *[(begin, len(target_N))] * len(rivals)]
    mixed = mix_at(target_N, rivals, condition.sir_db, noise_N, condition.snr_db or 0.0, spans)
    mix_N, source_KN = mixed.mix_N[:end], mixed.source_CN[:, :end]
    if not mix_N.any():
        raise SeparativeError("nothing is heard: it is silent to the last sample")
    gain = np.float32(10 ** ((parts.level_db - audio.level_db(mix_N)) / 20))
    return MixedSide(mix_N * gain, source_KN * gain)
