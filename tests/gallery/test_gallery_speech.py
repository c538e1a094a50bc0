"""Enrolment refuses recordings without speech: noise, machines, music and silence."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from separative.errors import AudioError, GalleryError, NotEnrolledError
from separative.gallery import Gallery
from separative.inference import diarize
from separative.model import SeparativeEncoder, load_model

RATE = 16000
TIME = np.arange(10 * RATE) / RATE


def white() -> np.ndarray:
    return 0.05 * np.random.default_rng(0).standard_normal(len(TIME))


def chainsaw() -> np.ndarray:
    """A motor: a sawtooth with a changing pitch, and the noise of its exhaust."""
    pitch = 110 + 8 * np.sin(2 * np.pi * 0.7 * TIME) + 3 * np.sin(2 * np.pi * 5 * TIME)
    phase = np.cumsum(pitch) / RATE
    return 0.1 * (2 * (phase % 1) - 1) + 0.03 * (1 + np.sin(2 * np.pi * phase)) * white() / 0.05


def hum() -> np.ndarray:
    return sum(0.1 / k * np.sin(2 * np.pi * 50 * k * TIME) for k in (1, 2, 3, 5))


def quiet() -> np.ndarray:
    return 3e-5 * np.random.default_rng(1).standard_normal(len(TIME))


@pytest.fixture(scope="module")
def shipped() -> SeparativeEncoder:
    return load_model()


@pytest.mark.parametrize("sound", [white, chainsaw, hum, quiet])
@pytest.mark.parametrize("force", [False, True])
def test_noise_is_not_enrolled(shipped: SeparativeEncoder, tmp_path: Path, sound, force: bool) -> None:
    path = tmp_path / f"{sound.__name__}.wav"
    soundfile.write(path, sound(), RATE)
    with Gallery(tmp_path / "gallery", shipped) as gallery:
        with pytest.raises((NotEnrolledError, AudioError), match=rf"{path.name}") as refused:
            gallery.add("person", path, force=force)
        assert "speech" in str(refused.value)
        assert len(gallery) == 0


def test_silence_is_not_enrolled(shipped: SeparativeEncoder, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "silence.wav", np.zeros(5 * RATE), RATE)
    with Gallery(tmp_path / "gallery", shipped) as gallery:
        with pytest.raises((NotEnrolledError, AudioError), match=r"silence\.wav.*(silent|no speech)"):
            gallery.add("person", tmp_path / "silence.wav", force=True)
        assert len(gallery) == 0


def test_a_diarization_without_speakers_enrols_and_identifies_nobody(
    shipped: SeparativeEncoder, tmp_path: Path
) -> None:
    soundfile.write(tmp_path / "white.wav", white(), RATE)
    diarization = diarize(shipped, tmp_path / "white.wav")
    assert diarization.speakers == ()
    with Gallery(tmp_path / "gallery", shipped) as gallery:
        for speaker in (0, 1):
            with pytest.raises(NotEnrolledError, match=r"white\.wav: not enrolled: no speech was found"):
                gallery.add_from_diarization("person", diarization, speaker, force=True)
        with pytest.raises(GalleryError, match="'person' has no recordings"):
            gallery.enrol("person", [])
