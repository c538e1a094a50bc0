"""Waveforms, a recipe and types shared by the tests of the command line."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from separative import audio

RATE = 8000
TINY = """
name: tiny
mixtures:
  {rate: 8000, seconds: 1.0, streams: 2, batch: 4,
   stages: [{step: 0, speakers: [0.5, 0.5]}, {step: 3, speakers: [0, 1]}]}
model:
  {rate: 8000, hop_ms: 16, stack: 1, mels: 24, width: 16, heads: 2, dilations: [1, 2], shared_blocks: 1,
   stream_blocks: 1, speaker_width: 16, speaker_blocks: 1, embedding: 16}
optimiser: {lr: 0.005, warmup: 5, ema: 0.9}
run: {steps: 60, workers: 0, log_every: 1}
"""


class Done(NamedTuple):
    code: int
    out: str
    err: str


Run = Callable[..., Done]


def hum(speaker: int, take: int, seconds: float) -> np.ndarray:
    """Speech-like syllables with one pitch per speaker; speakers 10 and up get pitches between those."""
    rng = np.random.default_rng([speaker, take])
    time = np.arange(round(seconds * RATE)) / RATE
    pitch = 90 + 31 * (speaker % 10) + 15 * (speaker // 10)
    wave = sum(np.sin(2 * np.pi * k * pitch * time + rng.uniform(0, 6)) / k for k in range(1, 8))
    wave = wave * (0.1 + np.sin(2 * np.pi * 1.5 * time + rng.uniform(0, 6)) ** 2)
    wave += 0.01 * rng.standard_normal(len(time))
    return (0.3 * wave / np.abs(wave).max()).astype(np.float32)


def write_corpus(
    folder: Path, speakers: int = 6, takes: int = 4, seconds: float = 1.3, first: int = 0
) -> Path:
    """Write one folder of FLAC files per speaker."""
    for speaker in range(first, first + speakers):
        for take in range(takes):
            audio.write(folder / f"speaker{speaker}" / f"{take}.flac", hum(speaker, take, seconds), RATE)
    return folder
