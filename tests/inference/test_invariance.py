"""Offset, hum, rumble, level and leading silence do not change the results, and noise has no speakers."""

import os
from pathlib import Path

import numpy as np
import pytest

import separative
from separative import audio
from separative.corpora import load_corpus, synthesize_corpus
from separative.metrics import diarization_error
from separative.model.files import model_names
from separative.rttm import turns_to_frames

RATE = 16000
DATA = Path(os.environ.get("SEPARATIVE_DATA", Path(__file__).parents[2] / ".." / "shared" / "data"))
pytestmark = pytest.mark.skipif("base" not in model_names(), reason="no model comes with this version")
needs_data = pytest.mark.skipif(not (DATA / "meetings.csv").is_file(), reason=f"no recordings in {DATA}")


@pytest.fixture(scope="module")
def model() -> separative.SeparativeEncoder:
    return separative.load_model()


@pytest.fixture(scope="module")
def sides(tmp_path_factory: pytest.TempPathFactory) -> list[np.ndarray]:
    """Two recordings of each of three synthetic speakers."""
    folder = tmp_path_factory.mktemp("speech")
    synthesize_corpus(folder, speakers=4, utterances=4, dev_speakers=2, seed=1)
    spoken = list(load_corpus(folder).by_speaker.values())[:3]
    return [
        np.concatenate([audio.read(u.path, RATE)[0] for u in utterances[first : first + 2]])
        for utterances in spoken
        for first in (0, 2)
    ]


def embedding(model: separative.SeparativeEncoder, wave_N: np.ndarray) -> np.ndarray:
    streams = separative.separate(model, (wave_N.astype(np.float32), RATE)).streams
    return streams[0].embedding


def loud(wave_N: np.ndarray, db: float) -> float:
    """Amplitude of a tone that is ``db`` louder than the speech."""
    return float(np.sqrt(2 * np.mean(wave_N**2)) * 10 ** (db / 20))


def tone(wave_N: np.ndarray, hertz: float) -> np.ndarray:
    time_N = np.arange(len(wave_N)) / RATE
    return loud(wave_N, 20) * np.sin(2 * np.pi * hertz * time_N + 1)


def rumble(wave_N: np.ndarray) -> np.ndarray:
    """Noise between 20 and 40 Hz."""
    spectrum_F = np.fft.rfft(np.random.default_rng(0).standard_normal(len(wave_N)))
    frequency_F = np.fft.rfftfreq(len(wave_N), 1 / RATE)
    spectrum_F[(frequency_F < 20) | (frequency_F > 40)] = 0
    noise_N = np.fft.irfft(spectrum_F, len(wave_N))
    return loud(wave_N, 20) / np.sqrt(2) * noise_N / noise_N.std()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "tolerance"),
    [
        (lambda x: x + 0.002, 0.001),
        (lambda x: x + 0.5, 0.001),
        (lambda x: x - 0.5, 0.001),
        (lambda x: 0.03 * x, 0.001),
        # Not zero, because a tone is not continued exactly beyond the ends of the recording.
        (lambda x: x + tone(x, 50), 0.06),
        (lambda x: x + tone(x, 60), 0.06),
        (lambda x: x + rumble(x), 0.06),
    ],
    ids=["offset 0.002", "offset 0.5", "offset -0.5", "level", "hum 50 Hz", "hum 60 Hz", "rumble"],
)
def test_scores_do_not_depend_on_offset_hum_rumble_and_level(model, sides, change, tolerance) -> None:
    enrolled = np.stack([embedding(model, x) for x in sides[1::2]])
    before, after = (
        np.stack([embedding(model, f(x)) for x in sides[::2]]) @ enrolled.T for f in (lambda x: x, change)
    )
    np.testing.assert_allclose(after, before, atol=tolerance)


@pytest.mark.slow
@pytest.mark.data
@needs_data
@pytest.mark.parametrize("name", ["trn03", "trn06", "falcon_test"])
def test_leading_silence_changes_neither_speakers_nor_turns(model, name) -> None:
    wave_N = audio.read(DATA / "meetings" / f"{name}.flac", RATE)[0]
    frames = len(wave_N) // 160
    found = []
    for shift in (0, 112, 416):
        shifted_N = np.concatenate([np.zeros(shift, np.float32), wave_N])
        turns = separative.diarize(model, (shifted_N, RATE)).turns
        turns = [t._replace(start=max(0, t.start - shift / RATE), end=t.end - shift / RATE) for t in turns]
        names = sorted({t.speaker for t in turns})
        found.append(turns_to_frames(turns, names, frames, 0.01))
    assert len({len(active) for active in found}) == 1
    assert all(diarization_error(found[0], other, 0.01).rate < 0.15 for other in found[1:])


@pytest.mark.slow
@pytest.mark.parametrize("level_db", [-112, -70, -40, -20])
def test_white_noise_has_no_speakers(model, level_db) -> None:
    noise_N = np.random.default_rng(1).standard_normal(30 * RATE) * 10 ** (level_db / 20)
    assert separative.diarize(model, (noise_N.clip(-1, 1).astype(np.float32), RATE)).speakers == ()


@pytest.mark.slow
@pytest.mark.data
@needs_data
@pytest.mark.parametrize(
    "category", ["esc10-rain", "esc10-helicopter", "esc10-fire-crackling", "esc10-chainsaw"]
)
def test_environmental_noise_has_no_speakers(model, category) -> None:
    clips = sorted((DATA / "noise" / category).glob("*.ogg"))[:6]
    noise_N = np.concatenate([audio.read(path, RATE)[0] for path in clips])
    assert separative.diarize(model, (noise_N, RATE)).speakers == ()
