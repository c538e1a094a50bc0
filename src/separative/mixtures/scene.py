"""Acoustics of a recorded conversation: a room, a background noise and one microphone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from separative.mixtures.microphone import Microphone, MicrophoneSignal
from separative.mixtures.noises import BackgroundNoise
from separative.mixtures.rooms import SyntheticRoom
from separative.mixtures.styles import Style
from separative.types import Wave


@dataclass(frozen=True)
class Scene:
    """The acoustics between the speakers of a recording and its file.

    Attributes:
        room: impulse response of each speaker's place; None for no room.
        noise: background noise.
        noise_db: level of the speech over the background noise.
        microphone: response, codec, gain control, clipping and level of the recording.

    >>> from separative.mixtures.styles import STYLES
    >>> scene = Scene.draw(np.random.default_rng(0), 16000, STYLES["call"], speakers=2)
    >>> signal = scene.record(np.zeros((2, 8000), np.float32), np.zeros(8000, np.float32), 0.04, start=0)
    >>> scene.microphone.kind, signal.waveform.shape
    ('telephone', (8000,))
    """

    room: SyntheticRoom | None
    noise: BackgroundNoise
    noise_db: float
    microphone: Microphone

    @staticmethod
    def draw(rng: np.random.Generator, rate: int, style: Style, speakers: int) -> Scene:
        """Draw the acoustics of a recording in a style, for a number of speakers."""
        room = None
        if style.distance_m is not None:
            room = SyntheticRoom.draw(
                rng, rate, positions=speakers, distance_m=style.distance_m, rt60=style.rt60
            )
        noise = BackgroundNoise.draw(rng, rate, kind=style.noises[int(rng.integers(len(style.noises)))])
        noise_db = float(rng.uniform(*style.noise_db))
        kind = style.microphones[int(rng.integers(len(style.microphones)))]
        return Scene(room, noise, noise_db, Microphone.draw(rng, rate, kind=kind))

    @property
    def tail(self) -> int:
        """Samples of reverberation after the end of a sound."""
        return 0 if self.room is None else self.room.tail

    @property
    def context(self) -> int:
        """Samples before and after a block that the microphone needs."""
        return self.microphone.context

    def place(self, waveform: Wave, speaker: int) -> Wave:
        """A sound [N] of a speaker as it arrives at the microphone: [N + tail]."""
        if self.room is None:
            return waveform
        return self.room.reverberate(np.pad(waveform, (0, self.tail)), speaker)

    def record(self, sources: Wave, sounds: Wave, rms: float, start: int) -> MicrophoneSignal:
        """What the microphone makes of the speech of each speaker [K,N] and other sounds [N].

        Background noise is added. ``rms`` is the RMS of speech at the common level.
        """
        level = np.float32(rms * 10 ** (-self.noise_db / 20))
        noise_N = sounds + level * self.noise.render(start, sources.shape[1])
        return self.microphone.apply(sources, noise_N, rms, start=start)

    def describe(self) -> dict[str, Any]:
        """What was drawn, as values that JSON can hold."""
        return {
            "room": None if self.room is None else self.room.describe(),
            "noise": self.noise.describe(),
            "noise_db": round(self.noise_db, 2),
            "microphone": self.microphone.describe(),
        }
