"""Simulated rooms: a bank of impulse responses computed once, and the sound of a voice in one of them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import fft

from separative.errors import MissingExtraError
from separative.files import atomic_path
from separative.types import Wave

FORMAT = 1
SMALLEST_M, LARGEST_M = (3.0, 3.0, 2.4), (8.0, 6.0, 3.5)
WALL_M = 0.5
# Half of the windowed sinc with which pyroomacoustics places a reflection between two samples.
LEAD = 40
# Added to the seeds of rooms that models are judged in: training draws its own from small ones.
JUDGED = 1 << 20


@dataclass(frozen=True)
class RoomBank:
    """Shoebox rooms with a microphone and several places for speakers.

    Attributes:
        rate: hertz.
        response_RPL: float32 impulse responses of R rooms and P places; the direct sound arrives at sample
            ``LEAD`` of each, so that reverberant and dry speech are aligned in time.
        rt60_R: seconds, the reverberation time that walls were chosen for by Sabine's formula.
        size_R3: metres.
    """

    rate: int
    response_RPL: npt.NDArray[np.float32]
    rt60_R: npt.NDArray[np.float64]
    size_R3: npt.NDArray[np.float64]

    @property
    def positions(self) -> int:
        """Places P in a room."""
        return int(self.response_RPL.shape[1])

    @staticmethod
    def load(
        rate: int, rt60: tuple[float, float], rooms: int, positions: int, seed: int, cache: Path | None = None
    ) -> RoomBank:
        """The bank of these parameters, from ``cache`` if there; else computed (a second a room) and kept.

        Raises:
            MissingExtraError: it has to be computed and pyroomacoustics is not installed.
        """
        key = hashlib.sha256(repr((FORMAT, rate, rt60, rooms, positions, seed)).encode()).hexdigest()[:16]
        path = None if cache is None else Path(cache) / f"rooms-{key}.npz"
        if path is not None and path.is_file():
            with np.load(path) as stored:
                return RoomBank(rate, stored["response"], stored["rt60"], stored["size"])
        bank = _simulate(rate, rt60, rooms, positions, seed)
        if path is not None:
            with atomic_path(path) as beside, beside.open("wb") as file:
                np.savez(file, response=bank.response_RPL, rt60=bank.rt60_R, size=bank.size_R3)
        return bank

    def reverberate(self, wave_N: Wave, room: int, position: int) -> Wave:
        """The wave as heard at the microphone: same length, no delay; what rings on after the end is cut."""
        response_L = self.response_RPL[room, position]
        size = fft.next_fast_len(len(wave_N) + len(response_L) - 1, real=True)
        heard = fft.irfft(fft.rfft(wave_N, size) * fft.rfft(response_L, size), size)
        return np.ascontiguousarray(heard[LEAD : LEAD + len(wave_N)])

    def describe(self, room: int) -> dict[str, Any]:
        size = [round(float(metres), 2) for metres in self.size_R3[room]]
        return {"room": room, "rt60": round(float(self.rt60_R[room]), 3), "size_m": size}


def _simulate(rate: int, rt60: tuple[float, float], rooms: int, positions: int, seed: int) -> RoomBank:
    """Image method (Allen and Berkley 1979) in rooms of random size, microphone and speakers off the walls."""
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
                # No wall absorbs enough for so short a reverberation in so large a room: draw another.
                continue
        room = pra.ShoeBox(size_R3[r], fs=rate, materials=pra.Material(absorption), max_order=order)
        microphone = rng.uniform(WALL_M, size_R3[r] - WALL_M)
        room.add_microphone(microphone)
        for place in rng.uniform(WALL_M, size_R3[r] - WALL_M, size=(positions, 3)):
            room.add_source(place)
        room.compute_rir()
        for p, (response, source) in enumerate(zip(room.rir[0], room.sources, strict=True)):
            flight = np.linalg.norm(source.position - microphone) / room.c * rate
            # compute_rir has put the direct sound LEAD samples late; ``flight`` more is cut here.
            kept = response[round(float(flight)) :][:length]
            response_RPL[r, p, : len(kept)] = kept
    return RoomBank(rate, response_RPL, rt60_R, size_R3)
