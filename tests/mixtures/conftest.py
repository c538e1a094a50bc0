"""Small synthetic corpora in which each speaker hums at a different pitch."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from separative.corpora.manifest import Corpus, Utterance

RATE = 8000


def hum(pitch: float, seconds: float, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * RATE)) / RATE
    tones = sum(np.sin(2 * np.pi * k * pitch * time + rng.uniform(0, 6)) / k for k in range(1, 5))
    return 0.2 * tones * np.sin(2 * time + rng.uniform(0, 6)) ** 2 + 0.001 * rng.standard_normal(len(time))


def utterance(path: Path, wave: np.ndarray, speaker: str | None) -> Utterance:
    soundfile.write(path, wave, RATE)
    return Utterance(id=path.stem, path=path, seconds=len(wave) / RATE, speaker=speaker)


@pytest.fixture(scope="session")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """Eight speakers with three utterances of 0.4 to 1.6 seconds, and three unlabelled recordings."""
    folder = tmp_path_factory.mktemp("speech")
    made = [
        utterance(
            folder / f"t{speaker}-{take}.flac",
            hum(90 + 17 * speaker, 0.4 + 0.6 * take, 9 * speaker + take),
            f"t{speaker}",
        )
        for speaker in range(8)
        for take in range(3)
    ]
    made += [utterance(folder / f"x{i}.flac", hum(300 + 20 * i, 2.0, 100 + i), None) for i in range(3)]
    return Corpus(tuple(made))


@pytest.fixture(scope="session")
def noise(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """Two clips. The second one is shorter than a mixture, and its first half is silent."""
    folder = tmp_path_factory.mktemp("noise")
    rng = np.random.default_rng(5)
    short = 0.05 * rng.standard_normal(2000)
    short[:1000] = 0.0
    waves = {"hiss": 0.1 * rng.standard_normal(16000), "click": short}
    return Corpus(tuple(utterance(folder / f"{name}.flac", wave, None) for name, wave in waves.items()))
