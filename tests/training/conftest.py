"""A corpus of clearly different synthetic speakers on disk, and a recipe that trains on it in seconds."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from separative.corpora.manifest import Corpus, Utterance
from separative.training import Recipe, parse_recipe

RATE = 8000
SPEAKERS = 8


def make_utterance(speaker: int, seconds: float, seed: int) -> np.ndarray:
    """Syllables of a harmonic tone with the pitch and the spectral tilt of the speaker."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * RATE)) / RATE
    pitch, tilt = 80 + 25 * speaker, 0.3 + 0.2 * (speaker % 4)
    tone = sum(np.sin(2 * np.pi * k * pitch * time + rng.uniform(0, 6)) * k**-tilt for k in range(1, 9))
    syllables = np.clip(np.sin(2 * np.pi * rng.uniform(2, 4) * time + rng.uniform(0, 6)) + 0.7, 0, 1)
    return 0.05 * tone * syllables + 0.001 * rng.standard_normal(len(time))


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """Eight training speakers with two utterances each, three dev speakers with four; 2 s each."""
    folder = tmp_path_factory.mktemp("speech")
    utterances = []
    for speaker in range(SPEAKERS + 3):
        split = "train" if speaker < SPEAKERS else "dev"
        for take in range(2 if split == "train" else 4):
            path = folder / f"t{speaker}-{take}.wav"
            soundfile.write(path, make_utterance(speaker, 2.0, 10 * speaker + take), RATE)
            utterances.append(
                Utterance(path.stem, path, 2.0, speaker=f"t{speaker}", split=split, corpus="buzz")
            )
    return Corpus(tuple(utterances))


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("decoded")


CONTENT: dict[str, Any] = {
    "name": "tiny",
    "mixtures": {
        "rate": RATE,
        "seconds": 1.0,
        "batch": 8,
        "stages": [{"step": 0, "views": 2, "speakers": [0.5, 0.5]}],
    },
    "model": {
        "rate": RATE,
        "mels": 16,
        "width": 8,
        "heads": 2,
        "shared_blocks": 1,
        "stream_blocks": 1,
        "speaker_width": 16,
        "speaker_blocks": 1,
        "embedding": 16,
        "dropout": 0.1,
    },
    "optimiser": {"lr": 5e-3, "warmup": 2, "ema": 0.9},
    "run": {
        "steps": 10,
        "workers": 0,
        "threads": 1,
        "log_every": 2,
        # Never by the clock: on a busy machine it would add validations and checkpoints to some runs.
        "validate_minutes": 1e6,
        "checkpoint_minutes": 1e6,
    },
}


@pytest.fixture(scope="session")
def recipe() -> Callable[..., Recipe]:
    """``recipe(loss={"separation": 0})`` is the tiny recipe with some keys replaced."""

    def make(**sections: Any) -> Recipe:
        merged = {
            key: {**CONTENT.get(key, {}), **new} if isinstance(new, dict) else new
            for key, new in sections.items()
        }
        return parse_recipe(CONTENT | merged, "test")

    return make
