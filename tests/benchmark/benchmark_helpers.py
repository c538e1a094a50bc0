"""Synthetic speakers, a recipe and a baseline system for the tests of the benchmark."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import yaml

RATE = 8000
GOOD, BAD = 0.002, 0.001
RECIPE = """
name: tiny
mixtures:
  {rate: 8000, seconds: 1.0, streams: 2, batch: 4,
   stages: [{step: 0, speakers: [0.5, 0.5]}, {step: 5, speakers: [0, 1]}, {step: 6, speakers: [0.1, 0.9]}]}
model:
  {rate: 8000, hop_ms: 16, stack: 1, mels: 24, width: 16, heads: 2, dilations: [1, 2], shared_blocks: 1,
   stream_blocks: 1, speaker_width: 16, speaker_blocks: 1, embedding: 16}
optimiser: {lr: 0.005, warmup: 5, ema: 0.9}
run: {steps: 10, workers: 0, log_every: 1}
"""
TRAIN = """
import json, pathlib, sys
model, lr, seconds = sys.argv[1:]
pathlib.Path(model, "rate.txt").write_text(lr)
print("learning rate", lr)
print(json.dumps({"parameters": 40, "loss": 0.5}))
"""
# Spectra separate the speakers well; a model trained with the bad learning rate returns random embeddings.
EMBED = f"""
import pathlib, sys
import numpy as np, soundfile
model, listed, out = sys.argv[1:]
rng = np.random.default_rng(0)
good = float(pathlib.Path(model, "rate.txt").read_text()) == {GOOD}
rows = []
for path in pathlib.Path(listed).read_text().split():
    wave, rate = soundfile.read(path)
    power = np.abs(np.fft.rfft(wave, 8000)[:4000]).reshape(100, 40).mean(1)
    rows.append(np.log(power + 1e-4) - np.log(power + 1e-4).mean() if good else rng.standard_normal(100))
np.save(out, np.array(rows, np.float32))
"""


def hum(speaker: int, take: int, seconds: float = 1.3) -> np.ndarray:
    """Synthetic syllables; each speaker has its own pitch."""
    rng = np.random.default_rng([speaker, take])
    time = np.arange(round(seconds * RATE)) / RATE
    pitch = 90 + 31 * speaker
    wave = sum(np.sin(2 * np.pi * k * pitch * time + rng.uniform(0, 6)) / k for k in range(1, 8))
    wave = wave * (0.1 + np.sin(2 * np.pi * 1.5 * time + rng.uniform(0, 6)) ** 2)
    wave += 0.01 * rng.standard_normal(len(time))
    return (0.3 * wave / np.abs(wave).max()).astype(np.float32)


def write_plan(path: Path, content: dict) -> Path:
    path.write_text(yaml.safe_dump(content))
    return path


class Done(NamedTuple):
    """A finished benchmark: its folder, the reported lines, the error it raised and its plan file."""

    folder: Path
    lines: list[str]
    problem: str
    plan: Path
