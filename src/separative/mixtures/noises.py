"""Synthetic noise as a function of a seed and of time: rooms, fans, hum, rumble, clicks and music."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import fft

from separative.errors import SeparativeError, choose
from separative.types import Wave

# Seconds are numbered from here, so that a block may start before 0: parts of a seed are not negative.
FIRST_SECOND = 1 << 30
# Shaped noise is computed with this much more on both sides, because filters have memory.
MARGIN_SECONDS = 0.25
CLICK_SECONDS = 0.03
# Harmonics of hum, of fans and of the notes of music.
HUM_HARMONICS, FAN_HARMONICS, NOTE_HARMONICS = 12, 4, 5

_Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class BackgroundNoise:
    """Noise without speech. A block of it depends on the seed and on its place in time, on nothing else.

    Attributes:
        rate: sample rate in hertz.
        seed: seed of the noise.
        gains: linear gain of each kind of noise, see ``KINDS``; their squares sum to 1.

    >>> noise = BackgroundNoise.draw(np.random.default_rng(0), rate=16000, kind="fan")
    >>> whole = noise.render(0, 32000)
    >>> np.allclose(noise.render(16000, 8000), whole[16000:24000], atol=0.05)
    True
    """

    rate: int
    seed: int
    gains: tuple[tuple[str, float], ...]

    @staticmethod
    def draw(rng: np.random.Generator, rate: int, kind: str = "any") -> BackgroundNoise:
        """Draw noise of a kind, or one to three kinds together for ``any``.

        Raises:
            SeparativeError: unknown kind.
        """
        seed = int(rng.integers(1 << 31))
        if kind != "any":
            return BackgroundNoise(
                rate, seed, ((choose(kind, KINDS, "kind of noise", SeparativeError), 1.0),)
            )
        # Room noise and hum are more frequent than the others.
        names = list(KINDS)
        kinds = rng.choice(names, int(rng.integers(1, 4)), replace=False, p=KIND_SHARES)
        gain_K = 10.0 ** (rng.uniform(-15.0, 0.0, len(kinds)) / 20.0)
        gain_K /= np.linalg.norm(gain_K)
        return BackgroundNoise(rate, seed, tuple(zip(map(str, kinds), gain_K.round(4).tolist(), strict=True)))

    def describe(self) -> dict[str, Any]:
        """Seed and gains as values that JSON can hold."""
        return {"seed": self.seed, "kinds": dict(self.gains)}

    def render(self, start: int, samples: int) -> Wave:
        """The noise [N] from sample ``start`` on, which may be negative. Its mean square is about 1."""
        noise_N = np.zeros(samples, np.float32)
        for kind, gain in self.gains:
            number = list(KINDS).index(kind)
            part = KINDS[kind](_Clock(self.rate, (self.seed, number)), start, samples)
            noise_N += np.float32(gain) * part
        return noise_N


@dataclass(frozen=True, slots=True)
class _Clock:
    """Random numbers by absolute time."""

    rate: int
    seed: tuple[int, ...]

    def constants(self) -> np.random.Generator:
        """The generator of what does not change with time."""
        return np.random.default_rng(self.seed)

    def at(self, number: int) -> np.random.Generator:
        """The generator of a second, or of a beat."""
        return np.random.default_rng((*self.seed, FIRST_SECOND + number))

    def white(self, start: int, samples: int) -> Wave:
        """White noise [N] of unit power."""
        first, last = start // self.rate, (start + samples - 1) // self.rate
        blocks = [self.at(s).standard_normal(self.rate, np.float32) for s in range(first, last + 1)]
        offset = start - first * self.rate
        return np.concatenate(blocks)[offset : offset + samples]

    def slow(self, start: int, samples: int, depth_db: float) -> Wave:
        """A gain [N] that moves by up to ``depth_db`` from second to second."""
        first, last = start // self.rate, (start + samples) // self.rate + 1
        # The key of the envelope differs from that of the noise of the same second.
        clock = _Clock(self.rate, (*self.seed, 1))
        points_db = [clock.at(s).uniform(-depth_db, depth_db) for s in range(first, last + 1)]
        times = np.arange(first, last + 1) * self.rate
        coarse = np.arange(start, start + samples + 64, 64)
        gain_T = 10.0 ** (np.interp(coarse, times, points_db) / 20.0)
        return np.repeat(gain_T.astype(np.float32), 64)[:samples]

    def shaped(self, start: int, samples: int, shape_db: Callable[[_Floats], _Floats]) -> Wave:
        """Noise [N] of unit power with the level ``shape_db`` [F] at frequencies [F] in hertz."""
        margin = round(MARGIN_SECONDS * self.rate)
        size = fft.next_fast_len(samples + 2 * margin, real=True)
        spectrum_F = fft.rfft(self.white(start - margin, size), size)
        hertz_F = np.arange(len(spectrum_F)) * (self.rate / size)
        grid = np.geomspace(5.0, self.rate / 2, 128)
        gain_G = 10.0 ** (shape_db(grid) / 20.0)
        # The power of the noise is the mean of the squared gain over frequency (in hertz).
        gain_G /= np.sqrt(np.trapezoid(gain_G**2, grid) / (self.rate / 2))
        spectrum_F *= np.interp(hertz_F, grid, gain_G).astype(np.float32)
        shaped_N: Wave = fft.irfft(spectrum_F, size)[margin : margin + samples]
        return shaped_N


def tone(hertz: float, rate: int, start: int, samples: int) -> npt.NDArray[np.complex64]:
    """exp(2πi·hertz·n/rate) [N] for n from ``start`` on.

    >>> tone(1000.0, 4000, 1, 4).round(6)
    array([ 0.+1.j, -1.+0.j, -0.-1.j,  1.-0.j], dtype=complex64)
    """
    # exp(i·w·(256a + b)) is a product: two short tables replace most of the exponentials.
    step = 2j * np.pi * hertz / rate
    rows = -(-samples // 256)
    coarse = np.exp(step * (start + 256.0 * np.arange(rows)))
    table = coarse.astype(np.complex64)[:, None] * np.exp(step * np.arange(256)).astype(np.complex64)
    whole: npt.NDArray[np.complex64] = table.reshape(-1)[:samples]
    return whole


def _harmonics(
    clock: _Clock, start: int, samples: int, hertz: float, amplitudes: npt.NDArray[np.complex64]
) -> Wave:
    """Sum of the harmonics of a tone [N] with complex amplitudes, below half of the sample rate."""
    base_N = tone(hertz, clock.rate, start, samples)
    count = max(1, min(len(amplitudes), int(0.49 * clock.rate / hertz)))
    # Horner's scheme: a1 z + a2 z² + ... = z (a1 + z (a2 + ...)).
    sum_N = np.full(samples, amplitudes[count - 1], np.complex64)
    for amplitude in amplitudes[: count - 1][::-1]:
        sum_N *= base_N
        sum_N += amplitude
    sum_N *= base_N
    return np.ascontiguousarray(sum_N.imag)


def _amplitudes(rng: np.random.Generator, count: int, fall_db: float) -> npt.NDArray[np.complex64]:
    """Complex amplitudes of harmonics that fall by ``fall_db`` an octave, of unit power together."""
    level_db = -fall_db * np.log2(np.arange(1, count + 1)) + rng.normal(0.0, 6.0, count)
    size_H = 10.0 ** (level_db / 20.0)
    size_H *= np.sqrt(2.0) / np.linalg.norm(size_H)
    turned_H: npt.NDArray[np.complex64] = (size_H * np.exp(2j * np.pi * rng.random(count))).astype(
        np.complex64
    )
    return turned_H


def _room(clock: _Clock, start: int, samples: int) -> Wave:
    rng = clock.constants()
    corner, slope = float(np.exp(rng.uniform(np.log(60.0), np.log(600.0)))), float(rng.uniform(3.0, 9.0))
    bumps_db = rng.normal(0.0, 3.0, 12)

    def shape_db(hertz: _Floats) -> _Floats:
        bump = np.interp(np.log2(hertz), np.arange(3, 15), bumps_db)
        return np.asarray(bump - slope * np.maximum(np.log2(hertz / corner), 0.0))

    return clock.shaped(start, samples, shape_db) * clock.slow(start, samples, float(rng.uniform(0.0, 4.0)))


def _fan(clock: _Clock, start: int, samples: int) -> Wave:
    rng = clock.constants()
    blade, corner = float(rng.uniform(40.0, 250.0)), float(rng.uniform(200.0, 1500.0))
    blown_N = clock.shaped(start, samples, lambda hertz: -10.0 * np.log10(1.0 + (hertz / corner) ** 3))
    sung_N = _harmonics(clock, start, samples, blade, _amplitudes(rng, FAN_HARMONICS, 6.0))
    return np.float32(0.9) * blown_N + np.float32(0.44) * sung_N


def _hum(clock: _Clock, start: int, samples: int) -> Wave:
    rng = clock.constants()
    # The frequency of the mains moves by a few hundredths of a hertz.
    mains = float(rng.choice([50.0, 60.0]) + rng.normal(0.0, 0.03))
    return _harmonics(
        clock, start, samples, mains, _amplitudes(rng, HUM_HARMONICS, float(rng.uniform(2.0, 8.0)))
    )


def _rumble(clock: _Clock, start: int, samples: int) -> Wave:
    rng = clock.constants()
    top = float(rng.uniform(20.0, 80.0))
    rumble_N = clock.shaped(start, samples, lambda hertz: -10.0 * np.log10(1.0 + (hertz / top) ** 6))
    return rumble_N * clock.slow(start, samples, 5.0)


def _clicks(clock: _Clock, start: int, samples: int) -> Wave:
    """Keys of a keyboard and other knocks: short bursts of noise with a resonance."""
    rng = clock.constants()
    per_second, length = float(rng.uniform(1.0, 9.0)), round(CLICK_SECONDS * clock.rate)
    decay_L = np.exp(-np.arange(length) / (float(rng.uniform(0.001, 0.006)) * clock.rate)).astype(np.float32)
    ring_L = tone(float(rng.uniform(0.05, 0.4)) * clock.rate, clock.rate, 0, length).imag * decay_L
    # A click has power sum(ring²)·0.72 (from the random sizes) + sum(decay²)·0.25·0.72 (from the noise).
    energy = 0.72 * per_second / clock.rate * float((ring_L**2).sum() + 0.25 * (decay_L**2).sum())
    first = (start - length) // clock.rate
    end = start + samples
    padded_N = np.zeros(samples + 2 * length, np.float32)
    for second in range(first, (end - 1) // clock.rate + 1):
        drawn = clock.at(second)
        count = int(drawn.poisson(per_second))
        places = second * clock.rate + drawn.integers(clock.rate, size=count) - start + length
        for place, size in zip(places.tolist(), drawn.uniform(0.3, 1.2, count), strict=True):
            burst_L = drawn.standard_normal(length, np.float32)
            if 0 <= place < samples + length:
                padded_N[place : place + length] += np.float32(size) * (ring_L + 0.5 * burst_L * decay_L)
    return padded_N[length : length + samples] / np.float32(np.sqrt(energy))


def _music(clock: _Clock, start: int, samples: int) -> Wave:
    """Chords, plucked or held, with drums and now and then a sweep, one set of notes for each beat."""
    rng = clock.constants()
    beat = round(float(rng.uniform(0.25, 0.6)) * clock.rate)
    root, held, drums = (
        float(rng.uniform(80.0, 300.0)),
        bool(rng.random() < 0.4),
        float(rng.uniform(0.0, 1.0)),
    )
    amplitudes = _amplitudes(rng, NOTE_HARMONICS, float(rng.uniform(3.0, 9.0)))
    scale = np.array([0, 2, 4, 5, 7, 9, 11, 12]) if rng.random() < 0.5 else np.array([0, 3, 5, 7, 10, 12])
    time_L = np.arange(2 * beat) / clock.rate
    fade_L = np.minimum(np.minimum(time_L, time_L[::-1]) / 0.01, 1.0)
    shape_L = (fade_L * (0.5 if held else np.exp(-time_L / float(rng.uniform(0.1, 0.5))))).astype(np.float32)
    padded_N = np.zeros(samples + 4 * beat, np.float32)
    for number in range(start // beat - 1, (start + samples - 1) // beat + 1):
        drawn = clock.at(number)
        notes = drawn.choice(scale, int(drawn.integers(1, 4)), replace=False) + 12 * drawn.integers(0, 2)
        made_L = np.zeros(2 * beat, np.float32)
        for note in notes.tolist():
            made_L += _harmonics(clock, 0, 2 * beat, root * 2.0 ** (note / 12.0), amplitudes)
        made_L *= shape_L
        if drawn.random() < drums:
            hit_L = (
                drawn.standard_normal(2 * beat, np.float32)
                if number % 2
                else np.sin(2 * np.pi * 60.0 * time_L)
            )
            made_L += (1.5 * np.exp(-time_L / 0.05) * hit_L * fade_L).astype(np.float32)
        if drawn.random() < 0.1:
            made_L += (0.5 * np.sin(2 * np.pi * (300.0 + 800.0 * time_L) * time_L) * fade_L).astype(
                np.float32
            )
        place = number * beat - start + 2 * beat
        padded_N[place : place + 2 * beat] += made_L
    return padded_N[2 * beat : 2 * beat + samples]


# Every kind of noise, and how often "any" has it. The order is part of the seeds.
KINDS: dict[str, Callable[[_Clock, int, int], Wave]] = {
    "room": _room,
    "fan": _fan,
    "hum": _hum,
    "rumble": _rumble,
    "clicks": _clicks,
    "music": _music,
}
KIND_SHARES = (0.35, 0.15, 0.15, 0.12, 0.11, 0.12)
