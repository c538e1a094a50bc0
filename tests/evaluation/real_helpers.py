"""Recordings with references on disk, for the tests of the evaluation on real recordings."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from separative import audio
from separative.rttm import Turn, write_rttm

RATE = 8000


def noise(seconds: float, seed: int = 0) -> np.ndarray:
    """Noise that swells and falls, so that it has parts of different level."""
    time = np.arange(round(seconds * RATE)) / RATE
    wave = np.random.default_rng(seed).standard_normal(len(time)) * np.abs(np.sin(3 * time + seed))
    return (0.1 * wave).astype(np.float32)


def write_recording(
    folder: Path, name: str, turns: Sequence[Turn], *, seconds: float = 10.0, wave: np.ndarray | None = None
) -> None:
    """Write <name>.wav and <name>.rttm."""
    audio.write(folder / f"{name}.wav", noise(seconds) if wave is None else wave, RATE)
    write_rttm(folder / f"{name}.rttm", name, turns)


def write_manifest(folder: Path, *names: str, kind: str = "call") -> Path:
    """Write a manifest that lists recordings of one kind."""
    lines = ["recording,path,rttm,kind", *(f"{name},{name}.wav,{name}.rttm,{kind}" for name in names)]
    (folder / "list.csv").write_text("\n".join(lines) + "\n")
    return folder / "list.csv"
