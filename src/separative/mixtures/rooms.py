"""Simulated rooms: impulse responses that are computed once and applied to waveforms."""

from __future__ import annotations

import hashlib
import logging
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import fft

from separative.errors import MissingExtraError
from separative.files import atomic_path
from separative.types import Wave

log = logging.getLogger(__name__)

# Part of every cache key: raise it when the same parameters give other rooms.
FORMAT = 1
# Smallest and largest length, width and height; distance of the microphone and the speakers from the walls.
SMALLEST_M, LARGEST_M = (3.0, 3.0, 2.4), (8.0, 6.0, 3.5)
WALL_M = 0.5
# Samples before the direct sound: half of the windowed sinc with which pyroomacoustics places a reflection
# between two samples.
LEAD = 40
# Added to the seeds of rooms for evaluation, so that these differ from the training rooms of small seeds.
EVALUATION_SEED = 1 << 20
# Metres at which direct and reverberant sound are equally loud, in a room of 1 cubic metre and 1 s.
CRITICAL_DISTANCE = 0.057
# A synthetic response is cut here: 45 dB below its start.
TAIL_OF_RT60 = 0.75
# Single early reflections, and their amplitude relative to the whole tail.
EARLY_REFLECTIONS, EARLY_SHARE = 8, 0.35


@dataclass(frozen=True)
class RoomBank:
    """Box-shaped rooms, each with one microphone and several positions for speakers.

    Attributes:
        rate: sample rate in hertz.
        responses: float32 [R,P,L], impulse responses of R rooms with P positions. The direct sound is at
            sample ``LEAD`` of each, so that reverberant and dry speech are aligned in time.
        rt60: [R], reverberation times in seconds for which the walls were chosen by Sabine's formula.
        sizes: [R,3], length, width and height in metres.

    >>> responses = np.zeros((1, 1, LEAD + 3), np.float32)
    >>> responses[0, 0, LEAD:] = 1.0, 0.0, 0.5
    >>> bank = RoomBank(16000, responses, np.array([0.2]), np.array([[5.0, 4.0, 3.0]]))
    >>> bank.reverberate(np.array([1, 0, 0, 0], np.float32), room=0, position=0).round(3) + 0
    array([1. , 0. , 0.5, 0. ], dtype=float32)
    """

    rate: int
    responses: npt.NDArray[np.float32]
    rt60: npt.NDArray[np.float64]
    sizes: npt.NDArray[np.float64]

    @property
    def positions(self) -> int:
        """Number of positions P in each room."""
        return int(self.responses.shape[1])

    @staticmethod
    def load(
        rate: int, rt60: tuple[float, float], rooms: int, positions: int, seed: int, cache: Path | None = None
    ) -> RoomBank:
        """Read the bank with these parameters from ``cache``, or simulate it and store it there.

        Simulating takes about a second per room.

        Args:
            rate: sample rate in hertz.
            rt60: lowest and highest reverberation time in seconds.
            rooms: number of rooms R.
            positions: number of positions P in each room.
            seed: random seed; the same seed gives the same rooms.
            cache: folder; None to simulate without storing.

        Raises:
            MissingExtraError: the bank is not cached and pyroomacoustics is not installed.
        """
        key = hashlib.sha256(repr((FORMAT, rate, rt60, rooms, positions, seed)).encode()).hexdigest()[:16]
        path = None if cache is None else Path(cache) / f"rooms-{key}.npz"
        if path is not None and path.is_file():
            try:
                # The file is opened here: NumPy would leave a damaged one open.
                with path.open("rb") as file, np.load(file) as stored:
                    bank = RoomBank(rate, stored["response"], stored["rt60"], stored["size"])
                if _is_whole(bank, rooms, positions):
                    return bank
                reason = "other rooms than its name says"
            # A damaged file raises errors of many types, such as MemoryError for an absurd size.
            except Exception as error:
                reason = str(error) or type(error).__name__
            log.warning("%s is damaged (%s); the rooms are simulated again", path, reason)
        bank = _simulate(rate, rt60, rooms, positions, seed)
        if path is not None:
            with atomic_path(path) as temporary, temporary.open("wb") as out:
                np.savez(out, response=bank.responses, rt60=bank.rt60, size=bank.sizes)
        return bank

    def reverberate(self, waveform: Wave, room: int, position: int) -> Wave:
        """The waveform [N] as recorded by the microphone, aligned with the input and cut to its length."""
        return _convolve(waveform, self.responses[room, position], LEAD)

    def describe(self, room: int) -> dict[str, Any]:
        """Number, reverberation time and size of a room, as values that JSON can hold."""
        size = [round(float(metres), 2) for metres in self.sizes[room]]
        return {"room": room, "rt60": round(float(self.rt60[room]), 3), "size_m": size}


@dataclass(frozen=True, slots=True)
class SyntheticRoom:
    """A room by statistics: direct sound, early reflections and a decaying tail. It needs no simulation.

    The ratio of direct to reverberant energy follows from the distance: both are equal at the critical
    distance of 0.057·sqrt(volume / rt60) metres (Kuttruff, Room Acoustics).

    Attributes:
        rate: sample rate in hertz.
        seed: seed of the reflections.
        rt60: reverberation time in seconds at 1 kHz; high frequencies decay faster.
        volume: cubic metres.
        distances_m: distance of each of P positions from the microphone.

    >>> room = SyntheticRoom.draw(np.random.default_rng(0), 16000, positions=2, distance_m=(2.0, 4.0))
    >>> click = np.eye(1, 8000, dtype=np.float32)[0]
    >>> float(room.reverberate(click, position=0)[0].round(3))
    1.0
    """

    rate: int
    seed: int
    rt60: float
    volume: float
    distances_m: tuple[float, ...]

    @staticmethod
    def draw(
        rng: np.random.Generator,
        rate: int,
        positions: int,
        distance_m: tuple[float, float] = (0.3, 4.0),
        rt60: tuple[float, float] = (0.2, 0.8),
    ) -> SyntheticRoom:
        """Draw a room of 25 to 200 cubic metres; ranges are of P distances and of the reverberation time."""
        volume = float(np.exp(rng.uniform(np.log(25.0), np.log(200.0))))
        # Speakers sit around the microphone: their distances differ by a factor of up to 2.
        far = float(rng.uniform(*distance_m))
        distance_P = np.maximum(far * rng.uniform(0.5, 1.0, positions), distance_m[0])
        return SyntheticRoom(
            rate=rate,
            seed=int(rng.integers(1 << 31)),
            rt60=round(float(rng.uniform(*rt60)), 3),
            volume=round(volume, 1),
            distances_m=tuple(distance_P.round(2).tolist()),
        )

    @property
    def drr_db(self) -> tuple[float, ...]:
        """Direct over reverberant energy of each position in dB."""
        critical = CRITICAL_DISTANCE * math.sqrt(self.volume / self.rt60)
        return tuple(round(20.0 * math.log10(critical / metres), 2) for metres in self.distances_m)

    @property
    def tail(self) -> int:
        """Length of a response in samples after the direct sound."""
        return round(TAIL_OF_RT60 * self.rt60 * self.rate)

    def response(self, position: int) -> Wave:
        """Impulse response [L] of a position; the direct sound is sample 0 and has the value 1."""
        rng = np.random.default_rng([self.seed, position])
        time_L = np.arange(1, self.tail + 1) / self.rate
        # 60 dB are ln(1000) = 6.9 time constants. The bright part decays in half of the time.
        decay_L = np.exp(-6.908 / self.rt60 * time_L).astype(np.float32)
        bright_L = rng.standard_normal(self.tail, np.float32) * decay_L
        dark_L = bright_L.copy()
        # The sum of neighbours is a low-pass of 6 dB per octave above a quarter of the sample rate.
        dark_L[1:] += bright_L[:-1]
        tail_L = np.float32(0.7) * dark_L + bright_L * decay_L
        # Reverberation builds up within 10 ms; before, there are single reflections.
        grown = min(round(0.01 * self.rate), self.tail)
        tail_L[:grown] *= np.linspace(0.0, 1.0, grown, dtype=np.float32)
        count = EARLY_REFLECTIONS
        places = rng.integers(round(0.001 * self.rate), max(round(0.04 * self.rate), 2), count)
        sizes = (
            rng.uniform(0.2, 0.8, count)
            * np.sign(rng.random(count) - 0.3)
            * np.exp(-40.0 * places / self.rate)
        )
        np.add.at(
            tail_L,
            np.minimum(places, self.tail - 1),
            (EARLY_SHARE * sizes * np.linalg.norm(tail_L)).astype(np.float32),
        )
        tail_L *= np.float32(10.0 ** (-self.drr_db[position] / 20.0) / np.linalg.norm(tail_L))
        return np.concatenate([np.ones(1, np.float32), tail_L])

    def reverberate(self, waveform: Wave, position: int) -> Wave:
        """The waveform [N] as it arrives at the microphone, aligned with the input and cut to its length."""
        return _convolve(waveform, self.response(position))

    def describe(self) -> dict[str, Any]:
        """Reverberation time, volume, distances and ratios, as values that JSON can hold."""
        return {
            "seed": self.seed,
            "rt60": self.rt60,
            "volume_m3": self.volume,
            "distances_m": list(self.distances_m),
            "drr_db": list(self.drr_db),
        }


def _convolve(wave_N: Wave, response_L: Wave, lead: int = 0) -> Wave:
    """Convolve, leave out the first ``lead`` samples, and cut to the length of the waveform."""
    size = fft.next_fast_len(len(wave_N) + len(response_L) - 1, real=True)
    wet_N = fft.irfft(fft.rfft(wave_N, size) * fft.rfft(response_L, size), size)
    return np.ascontiguousarray(wet_N[lead : lead + len(wave_N)])


def _is_whole(bank: RoomBank, rooms: int, positions: int) -> bool:
    """Whether a bank has the given numbers of rooms and positions, and only finite numbers."""
    arrays = (bank.responses, bank.rt60, bank.sizes)
    return (
        bank.responses.ndim == 3
        and bank.responses.shape[:2] == (rooms, positions)
        and (bank.rt60.shape, bank.sizes.shape) == ((rooms,), (rooms, 3))
        and all(a.dtype.kind == "f" and bool(np.isfinite(a).all()) for a in arrays)
    )


def _simulate(rate: int, rt60: tuple[float, float], rooms: int, positions: int, seed: int) -> RoomBank:
    """Image method (Allen and Berkley 1979); room sizes, microphones and positions are random."""
    try:
        import pyroomacoustics as pra
    except ImportError as error:
        raise MissingExtraError("simulating rooms", "rooms") from error
    length = round(rt60[1] * rate) + LEAD
    response_RPL = np.zeros((rooms, positions, length), np.float32)
    rt60_R, size_R3 = np.zeros(rooms), np.zeros((rooms, 3))
    for r in range(rooms):
        rng = np.random.default_rng([seed, r])
        rt60_R[r] = rng.uniform(*rt60)
        while True:
            size_R3[r] = rng.uniform(SMALLEST_M, LARGEST_M)
            try:
                absorption, order = pra.inverse_sabine(rt60_R[r], size_R3[r])
                break
            except ValueError:
                # The room is too large for this reverberation time with any wall: draw another size.
                continue
        room = pra.ShoeBox(size_R3[r], fs=rate, materials=pra.Material(absorption), max_order=order)
        microphone = rng.uniform(WALL_M, size_R3[r] - WALL_M)
        room.add_microphone(microphone)
        for place in rng.uniform(WALL_M, size_R3[r] - WALL_M, size=(positions, 3)):
            room.add_source(place)
        room.compute_rir()
        for p, (response, source) in enumerate(zip(room.rir[0], room.sources, strict=True)):
            flight = np.linalg.norm(source.position - microphone) / room.c * rate
            # compute_rir delays the direct sound by LEAD samples and its time of flight. Cut the latter.
            kept = response[round(float(flight)) :][:length]
            response_RPL[r, p, : len(kept)] = kept
    return RoomBank(rate, response_RPL, rt60_R, size_R3)
