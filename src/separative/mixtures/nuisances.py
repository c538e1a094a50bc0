"""The nuisances of one mixture: what was drawn for its sources, its room, its noise and its microphone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import fft

from separative.mixtures.channel import Channel, sampled_response
from separative.mixtures.config import MixtureConfig
from separative.mixtures.microphone import Microphone
from separative.mixtures.noises import BackgroundNoise
from separative.mixtures.rooms import SyntheticRoom
from separative.types import Wave

# Share of babble among the noises, its number of speakers, and how far it is below the speech in dB.
BABBLE_SHARE, BABBLE_SPEAKERS, BABBLE_DB = 0.15, (5, 9), (10.0, 30.0)
# Shares of silence and of music among mixtures without a speaker; the others have noise.
SILENCE_SHARE, MUSIC_SHARE = 0.15, 0.3
# Level of noise alone below the level that speech would have, in dB.
EMPTY_DB = (0.0, 40.0)


@dataclass(frozen=True, slots=True)
class Nuisances:
    """The random conditions of one mixture.

    Attributes:
        empty: whether the mixture has no speaker.
        channels: frequency response of each of C sources; None for none.
        room: None for no room, or if the mixture is empty.
        noise: synthetic noise; None for none.
        noise_db: power of the speech over that of the noise or babble in dB. In an empty mixture: how far the
            noise is below the level of speech.
        babble: number of speakers of the babble; 0 for no babble.
        microphone: None for none.

    >>> config = MixtureConfig.model_validate({"nuisances": {"rooms": 1.0}})
    >>> nuisances = Nuisances.draw(np.random.default_rng(0), config)
    >>> nuisances.room is not None, nuisances.microphone
    (True, None)
    """

    empty: bool
    channels: tuple[Channel | None, ...]
    room: SyntheticRoom | None
    noise: BackgroundNoise | None
    noise_db: float
    babble: int
    microphone: Microphone | None

    @staticmethod
    def draw(rng: np.random.Generator, config: MixtureConfig) -> Nuisances:
        """Draw the nuisances of a mixture of up to C sources."""
        shares, rate, streams = config.nuisances, config.rate, config.streams
        empty, in_room, recorded = rng.random(3) < (config.empty, shares.rooms, shares.microphones)
        noisy, in_babble = rng.random(2) < (shares.noises, BABBLE_SHARE)
        room = SyntheticRoom.draw(rng, rate, streams, shares.distance_m) if in_room and not empty else None
        channels = [
            Channel.draw_wide(rng, rate) if rng.random() < shares.channels else None for _ in range(streams)
        ]
        noise_db, babble = float(rng.uniform(*shares.noise_db)), 0
        noise = BackgroundNoise.draw(rng, rate) if noisy or empty else None
        if empty:
            noise_db = float(rng.uniform(*EMPTY_DB))
            kind = float(rng.random())
            if kind < SILENCE_SHARE:
                noise = None
            elif kind < SILENCE_SHARE + MUSIC_SHARE:
                noise = BackgroundNoise.draw(rng, rate, "music")
        elif noisy and in_babble:
            noise, babble = None, int(rng.integers(*BABBLE_SPEAKERS, endpoint=True))
            noise_db = float(rng.uniform(*BABBLE_DB))
        microphone = Microphone.draw(rng, rate) if recorded else None
        return Nuisances(bool(empty), tuple(channels), room, noise, round(noise_db, 2), babble, microphone)

    def arrive(self, waves: list[Wave], rate: int) -> list[Wave]:
        """The sources, each [N], as they arrive at the microphone: behind their channels and in the room."""
        arrived = []
        for position, (wave_N, channel) in enumerate(zip(waves, self.channels, strict=False)):
            if channel is None and self.room is None:
                arrived.append(wave_N)
                continue
            # One transform serves both.
            tail = 0 if self.room is None else self.room.tail
            size = fft.next_fast_len(len(wave_N) + tail, real=True)
            spectrum_F = fft.rfft(wave_N, size)
            if channel is not None:
                spectrum_F *= sampled_response(channel.response, size, rate)
            if self.room is not None:
                spectrum_F *= fft.rfft(self.room.response(position), size)
            arrived.append(np.ascontiguousarray(fft.irfft(spectrum_F, size)[: len(wave_N)]))
        return arrived

    def describe(self) -> dict[str, Any]:
        """All that was drawn, as values that JSON can hold."""
        return {
            "empty": self.empty,
            "channels": [None if channel is None else channel.describe() for channel in self.channels],
            "room": None if self.room is None else self.room.describe(),
            "noise": None if self.noise is None else self.noise.describe(),
            "noise_db": self.noise_db,
            "babble": self.babble,
            "microphone": None if self.microphone is None else self.microphone.describe(),
        }
