"""Warnings about recordings that are unlike those of the training."""

import numpy as np
import pytest

from separative import audio
from separative.inference.likeness import LEAST_CONFIDENCE, MAX_PIECES, MeasuredBlocks, unlike_training
from separative.inference.speakers import Speaker
from separative.rttm import Turn

RATE = 16000


def syllables(seconds: float, floor_db: float = -60.0, seed: int = 0) -> np.ndarray:
    """Noise in bursts of 0.2 s, over noise that is weaker by ``floor_db``."""
    rng = np.random.default_rng(seed)
    wave = rng.standard_normal(round(seconds * RATE))
    loud = np.arange(len(wave)) // (RATE // 5) % 2 == 0
    return (0.1 * wave * np.where(loud, 1, 10 ** (floor_db / 20))).astype(np.float32)


def measure(wave: np.ndarray, block: int = 10 * RATE) -> MeasuredBlocks:
    blocks = [wave[start : start + block] for start in range(0, len(wave), block)]
    measured = MeasuredBlocks(blocks, RATE, len(wave) / RATE)
    passed = list(measured)
    assert all(one is other for one, other in zip(passed, blocks, strict=True))
    return measured


def spoken(confidence: float | None) -> list[Speaker]:
    return [Speaker("a", (Turn("a", 0.0, 1.0, confidence),), np.zeros(1), np.zeros(1))]


def test_a_wide_clear_recording_gets_no_warning() -> None:
    measured = measure(syllables(12))
    assert unlike_training(spoken(0.9), measured.snr_db, measured.treble_db) == ()


def test_the_band_of_a_telephone_is_said() -> None:
    call = audio.resample(audio.resample(syllables(12), RATE, 8000), 8000, RATE)
    measured = measure(call)
    [sentence] = unlike_training(spoken(0.9), measured.snr_db, measured.treble_db)
    assert "telephone" in sentence


def test_noise_is_said() -> None:
    measured = measure(syllables(12, floor_db=-5))
    [sentence] = unlike_training(spoken(0.9), measured.snr_db, measured.treble_db)
    assert "noise" in sentence


def test_low_confidence_is_said_and_unknown_values_are_not() -> None:
    [sentence] = unlike_training(spoken(LEAST_CONFIDENCE - 0.01), None, None)
    assert "confidence" in sentence
    assert unlike_training(spoken(None), None, None) == unlike_training([], None, None) == ()


@pytest.mark.parametrize("block", [RATE, 10 * RATE, 60 * RATE])
def test_values_hardly_depend_on_the_blocks(block: int) -> None:
    wave = syllables(40)
    one, other = measure(wave), measure(wave, block)
    assert other.snr_db == pytest.approx(one.snr_db, abs=1)
    assert other.treble_db == pytest.approx(one.treble_db, abs=1)


def test_quiet_pieces_do_not_count() -> None:
    call = audio.resample(audio.resample(syllables(10), RATE, 8000), 8000, RATE)
    wave = np.concatenate([1e-3 * syllables(30), call])
    assert measure(wave).treble_db < -48


def test_a_long_recording_is_measured_in_a_few_pieces() -> None:
    block = syllables(10)
    measured = MeasuredBlocks((block for _ in range(200)), RATE, 2000.0)
    assert sum(len(one) for one in measured) == 2000 * RATE
    assert MAX_PIECES / 2 <= len(measured.measured) <= MAX_PIECES


def test_silence_has_no_values() -> None:
    measured = measure(np.zeros(RATE, np.float32))
    assert measured.snr_db is None and measured.treble_db is None
