"""Small corpora as FLAC files: synthetic humming, with a pitch and a vocal-tract filter for each speaker."""

import numpy as np
import pytest
import torch

from separative import audio
from separative.corpora.manifest import Corpus, Utterance
from separative.model import EncoderConfig, SeparativeEncoder

RATE = 8000


def hum(speaker: int, take: int, seconds: float) -> np.ndarray:
    """Harmonics of a varying pitch, filtered with two formants that are specific to the speaker."""
    rng = np.random.default_rng([speaker, take])
    own = np.random.default_rng(speaker)
    pitch, formants = own.uniform(90, 260), own.uniform([300, 1200], [900, 3000])
    time = np.arange(round(seconds * RATE)) / RATE
    phase = 2 * np.pi * np.cumsum(pitch * (1 + 0.1 * np.sin(2 * np.pi * rng.uniform(0.5, 2) * time))) / RATE
    wave = np.zeros_like(time)
    for k in range(1, int(3800 / pitch)):
        gain = sum(1 / (1 + ((k * pitch - f) / 150) ** 2) for f in formants)
        wave += gain * np.sin(k * phase + rng.uniform(0, 6))
    wave *= 0.2 + np.abs(np.sin(2 * np.pi * rng.uniform(1, 2) * time))
    wave += 0.01 * rng.standard_normal(len(time))
    return (0.3 * wave / np.abs(wave).max()).astype(np.float32)


@pytest.fixture(scope="session")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """Two corpora of five and four speakers with eight utterances each, and one speaker with a single one."""
    folder = tmp_path_factory.mktemp("speech")
    utterances = []
    for number in range(9):
        corpus = "one" if number < 5 else "two"
        speaker = f"{corpus}/speaker {number}"
        for take in range(8):
            seconds = 0.6 + 0.05 * take
            path = folder / f"{number}-{take}.flac"
            audio.write(path, hum(number, take, seconds), RATE)
            utterances.append(
                Utterance(f"u{number}-{take}", path, seconds, speaker, corpus=corpus, split="dev")
            )
    lonely = folder / "lonely.flac"
    audio.write(lonely, hum(99, 0, 1.0), RATE)
    utterances.append(Utterance("lonely", lonely, 1.0, "one/lonely", corpus="one", split="dev"))
    return Corpus(tuple(utterances))


@pytest.fixture(scope="session")
def noise(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    folder = tmp_path_factory.mktemp("noise")
    clips = []
    for number, seconds in enumerate((0.5, 3.0)):
        path = folder / f"{number}.flac"
        wave = 0.1 * np.random.default_rng(number).standard_normal(round(seconds * RATE))
        audio.write(path, wave.astype(np.float32), RATE)
        clips.append(Utterance(f"n{number}", path, seconds, category="hiss", split="dev"))
    return Corpus(tuple(clips))


@pytest.fixture(scope="session")
def model() -> SeparativeEncoder:
    """A small encoder with random weights that make its cross-attention and its activity effective."""
    torch.manual_seed(3)
    config = EncoderConfig(
        rate=RATE,
        width=16,
        shared_blocks=1,
        stream_blocks=1,
        speaker_width=16,
        speaker_blocks=1,
        embedding=16,
    )
    encoder = SeparativeEncoder(config).eval()
    with torch.no_grad():
        torch.nn.init.normal_(encoder.cross.out.weight, std=0.2)
        encoder.speaker.activity.bias.fill_(4.0)
    return encoder
