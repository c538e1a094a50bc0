"""Who the synthetic talkers are: an anatomy and a manner of speaking each, spread evenly."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

ACCENTS = (
    "en-us",
    "en",
    "en-gb-scotland",
    "en-gb-x-rp",
    "en-gb-x-gbclan",
    "en-gb-x-gbcwmd",
    "en-029",
    "en-us-nyc",
)
DIMENSIONS = 14
CANDIDATES = 24


@dataclass(frozen=True, slots=True)
class Talker:
    """One synthetic talker.

    Attributes:
        name: unique within a seed.
        accent: an espeak-ng language; plain ``en`` is British.
        warp: vocal tract, as a factor on all its resonances: 0.9 a large man, 1.3 a child.
        pitch: hertz, middle of the voice.
        range: 0 to 99, how lively the melody is.
        rate: words a minute.
        tilt: dB an octave, how bright.
        variant: the remaining anatomy as an espeak-ng variant file.
    """

    name: str
    accent: str
    warp: float
    pitch: float
    range: int
    rate: float
    tilt: float
    variant: str


def draw_talkers(count: int, seed: int) -> list[Talker]:
    """``count`` talkers; the first ones are the same for every count.

    Each is the one of ``CANDIDATES`` random ones farthest from all before it (Mitchell's best candidate), so
    that no two are alike by chance.
    """
    rng = np.random.default_rng([seed, 0])
    chosen = np.empty((0, DIMENSIONS))
    for _ in range(count):
        candidates = rng.random((CANDIDATES, DIMENSIONS))
        if len(chosen):
            distance = np.linalg.norm(candidates[:, None] - chosen[None], axis=-1).min(axis=1)
            chosen = np.vstack([chosen, candidates[distance.argmax()]])
        else:
            chosen = candidates[:1]
    return [_talker(f"s{seed}-{index:03d}", traits) for index, traits in enumerate(chosen)]


def _talker(name: str, traits: npt.NDArray[np.float64]) -> Talker:
    size, voice, f1, f2, f3, f4, width, breath, rough, tilt, rate, lively, accent, bright = traits
    warp = 0.88 + 0.40 * size
    # Small people have high voices, though not strictly: two thirds of the pitch follow the size.
    pitch = 80.0 * 2.0 ** (1.75 * (0.67 * size + 0.33 * voice))
    # Playing the recording faster by `warp` raises pitch and resonances both, so ask for less pitch.
    spoken = pitch / warp
    formants = [1.0, *(1.0 + 0.18 * (np.array([f1, f2, f3, f4]) - 0.5)), 1.0, 1.0, 1.0, 1.0]
    heights = [100, 100, 100, *[round(70 + 60 * bright)] * 6]
    lines = [
        "language variant",
        f"name {name}",
        f"pitch {round(0.82 * spoken)} {round(1.18 * spoken)}",
        f"roughness {int(4 * rough)}",
        *(
            f"formant {index} {round(100 * factor)} {height} {round(85 + 50 * width)}"
            for index, (factor, height) in enumerate(zip(formants, heights, strict=True))
        ),
        # Only half of the talkers breathe audibly.
        f"breath 0 {' '.join([str(round(max(0.0, 2 * breath - 1) * 8))] * 4)} 2 2 1",
    ]
    return Talker(
        name=name,
        accent=ACCENTS[int(accent * len(ACCENTS))],
        warp=float(warp),
        pitch=float(pitch),
        range=round(25 + 55 * lively),
        rate=float(140 + 55 * rate),
        tilt=float(4.0 * (tilt - 0.5)),
        variant="\n".join(lines) + "\n",
    )
