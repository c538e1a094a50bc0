"""Find one person among the speakers of a recording, and extract the person's voice."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from separative import audio
from separative.errors import SeparativeError
from separative.inference.diarize import diarize
from separative.inference.extract import LiveExtractor, find_person, match_person, write_person
from separative.inference.streaming import StreamingDiarizer
from separative.model import SeparativeEncoder

RATE = 8000


@pytest.fixture
def calibrated(model: SeparativeEncoder) -> SeparativeEncoder:
    copy = SeparativeEncoder(model.config).eval()
    copy.load_state_dict(model.state_dict())
    copy.card = {
        "calibration": {"scale": 10.0, "offset": -5.0, "conditions": ["clean"], "seconds": 4.0, "speakers": 9}
    }
    return copy


def test_probability_follows_from_the_calibration_of_all_speakers(calibrated: SeparativeEncoder) -> None:
    person = np.eye(4)[0]
    embeddings = [np.array([c, np.sqrt(1 - c**2), 0, 0]) for c in (0.1, 0.7, 0.4)]
    found = match_person(calibrated, person, embeddings, [5.0] * 3, prior=0.3)
    # P(speaker k) is proportional to prior / 3 times the likelihood ratio, P(absent) to 1 - prior.
    odds = sum(np.exp(10 * c - 5) for c in (0.1, 0.7, 0.4)) / 3 * 0.3 / 0.7
    assert found.probability == pytest.approx(odds / (1 + odds))
    assert (found.speaker, found.score) == (1, pytest.approx(0.7))


def test_a_higher_threshold_and_a_lower_prior_reject_more(calibrated: SeparativeEncoder) -> None:
    person, embeddings = np.eye(4)[0], [np.array([0.8, 0.6, 0, 0])]

    def present(**how: Any) -> bool:
        return match_person(calibrated, person, embeddings, [5.0], **how).present

    assert present() and not present(prior=0.01) and not present(threshold=0.999)


def test_more_speakers_make_a_chance_match_less_surprising(calibrated: SeparativeEncoder) -> None:
    person, near, far = np.eye(4)[0], np.array([0.6, 0.8, 0, 0]), np.eye(4)[2]
    one = match_person(calibrated, person, [near], [5.0])
    many = match_person(calibrated, person, [near, *[far] * 9], [5.0] * 10)
    assert many.probability < one.probability


def test_without_calibration_the_cosine_decides(model: SeparativeEncoder) -> None:
    person = np.eye(4)[0]
    found = match_person(model, person, [np.array([0.6, 0.8, 0, 0])], [5.0])
    assert found.present and found.probability is None
    assert not match_person(model, person, [np.array([0.4, 0.9, 0, 0])], [5.0]).present


def test_speakers_with_too_little_speech_are_not_compared(calibrated: SeparativeEncoder) -> None:
    person = np.eye(4)[0]
    found = match_person(calibrated, person, [person, person], [0.4, 0.1])
    assert (found.speaker, found.probability, found.present) == (None, 0.0, False)
    assert match_person(calibrated, person, [person, person], [0.4, 2.0]).speaker == 1


def test_priors_outside_0_and_1_are_refused(calibrated: SeparativeEncoder) -> None:
    with pytest.raises(SeparativeError, match="prior"):
        match_person(calibrated, np.eye(4)[0], [], [], prior=1.5)
    with pytest.raises(SeparativeError, match="prior"):
        LiveExtractor(calibrated, np.eye(4)[0], prior=0.0)


@pytest.mark.parametrize("original_rate", [False, True])
def test_the_voice_is_as_long_as_the_recording(
    model: SeparativeEncoder, record: Any, tmp_path: Path, original_rate: bool
) -> None:
    source = record("talk.wav", 5.0, rate=12000, channels=2)
    diarization = diarize(model, source)
    speaker = diarization.speakers[0]
    assert find_person(model, diarization, speaker.embedding).speaker == 0
    path = write_person(model, diarization, 0, tmp_path / "voice.flac", original_rate=original_rate)
    header = audio.info(path)
    assert (header.rate, header.channels) == ((12000, 2) if original_rate else (RATE, 1))
    assert header.seconds == pytest.approx(5.0, abs=1e-3)
    wave, rate = audio.read(path)
    outside = np.ones(len(wave), bool)
    for turn in speaker.turns:
        outside[max(0, round((turn.start - 0.1) * rate)) : round((turn.end + 0.1) * rate)] = False
    assert np.abs(wave[~outside]).max() > 0.01
    assert not outside.any() or np.abs(wave[outside]).max() == 0


def test_a_live_voice_is_that_of_the_matching_speaker(model: SeparativeEncoder, record: Any) -> None:
    wave, _ = audio.read(record("live.wav", 4.0, seed=5))
    plain = StreamingDiarizer(model)
    expected = plain.push(wave) + plain.finish()
    person = expected[-1].embedding[0]
    extractor = LiveExtractor(model, person)
    updates = extractor.push(wave) + extractor.finish()
    assert sum(len(update.waveform) for update in updates) == len(wave)
    assert extractor.presence.present and extractor.presence.speaker == 0
    for update, whole in zip(updates, expected, strict=True):
        assert (update.start, update.end) == (whole.start, whole.end)
        if update.presence.present:
            np.testing.assert_array_equal(update.waveform, whole.waveform[update.presence.speaker])
        else:
            assert not update.waveform.any() and not update.active
    assert any(update.active for update in updates)


def test_a_live_stranger_gives_silence(model: SeparativeEncoder, record: Any) -> None:
    wave, _ = audio.read(record("live.wav", 4.0, seed=5))
    plain = StreamingDiarizer(model)
    speakers = (plain.push(wave) + plain.finish())[-1].embedding
    # An embedding at a right angle to all speakers.
    stranger = np.linalg.svd(speakers)[2][-1].astype(np.float32)
    extractor = LiveExtractor(model, stranger)
    updates = extractor.push(wave) + extractor.finish()
    assert not extractor.presence.present
    assert not any(update.waveform.any() for update in updates)
