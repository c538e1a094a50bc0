"""Qualities of recordings, and what the shipped model makes of them."""

import numpy as np
import pytest

from separative import audio, load_model, verify
from separative.errors import ModelError, SeparativeError
from separative.inference.evidence import NOT_COMPARABLE, MeasuredStream, compare_streams, quality_calibration
from separative.inference.quality import Quality, measure_noise_and_band
from separative.mixtures.codecs import Codec

WIDE, CALL = Quality(4.0, 35.0, 0.0, -20.0), Quality(4.0, 35.0, 0.0, -60.0)


def speech_like(seed=0, seconds=3.0):
    """Noise that falls by 6 dB per octave, in bursts with pauses."""
    rng = np.random.default_rng(seed)
    wave = rng.standard_normal(round(16000 * seconds)).astype(np.float32)
    wave[1:] += 0.9 * wave[:-1]
    wave *= np.sin(2 * np.pi * np.arange(len(wave)) / 16000) > 0
    return 0.1 * wave


def test_noise_lowers_the_estimate_and_level_does_not():
    wave = speech_like()
    noise = np.random.default_rng(1).standard_normal(len(wave)).astype(np.float32)
    found = [measure_noise_and_band(wave + gain * noise, 16000)[0] for gain in (0.0, 0.01, 0.1)]
    assert found[0] == 45 and 10 < found[1] < 40 and found[2] < found[1] - 10
    for gain in (0.01, 5.0):
        np.testing.assert_allclose(
            measure_noise_and_band(wave * np.float32(gain), 16000),
            measure_noise_and_band(wave, 16000),
            atol=0.1,
        )


def test_a_telephone_band_is_narrow():
    wave = speech_like()
    spectrum = np.fft.rfft(wave)
    limited = np.fft.irfft(
        spectrum * Codec.named("mulaw", 64).response(np.fft.rfftfreq(len(wave), 1 / 16000)), len(wave)
    )
    call = Codec.named("mulaw", 64).apply(limited.astype(np.float32), 16000)
    for samples, narrow in ((wave, False), (call, True)):
        snr_db, treble_db = measure_noise_and_band(samples, 16000)
        assert Quality(3.0, snr_db, 0.0, treble_db).narrow is narrow
    # A model of 8 kHz cannot know.
    assert measure_noise_and_band(wave, 8000)[1] == 0.0


def test_short_and_silent_waveforms_have_a_quality():
    assert np.isfinite(measure_noise_and_band(np.zeros(100, np.float32), 16000)).all()


@pytest.fixture
def base():
    return load_model()


def stream(angle, quality):
    embedding = np.zeros(128)
    embedding[:2] = np.cos(angle), np.sin(angle)
    return MeasuredStream(embedding, quality)


def test_sides_may_be_exchanged_and_the_rate_falls_with_the_score(base):
    rates = []
    for angle in (0.1, 0.6, 1.2):
        one = compare_streams(base, stream(0, WIDE), stream(angle, CALL))
        other = compare_streams(base, stream(angle, CALL), stream(0, WIDE))
        assert one.llr == pytest.approx(other.llr) and one.false_alarm_rate == other.false_alarm_rate
        rates.append(one.false_alarm_rate)
    assert rates == sorted(rates)


def test_a_cohort_that_scores_high_lowers_the_evidence(base):
    sides = stream(0, WIDE), stream(0.5, WIDE)
    far, near = ([stream(angle, WIDE)] * 8 for angle in (1.5, 0.25))
    low, high = (compare_streams(base, *sides, cohort=cohort) for cohort in (near, far))
    assert low.llr < high.llr and low.false_alarm_rate > high.false_alarm_rate


def test_telephone_against_wide_band_needs_a_calibration_that_covers_it(base):
    base.card["calibration"] = {k: v for k, v in base.card["calibration"].items() if k != "quality"}
    found = compare_streams(base, stream(0, WIDE), stream(0, CALL))
    assert (found.llr, found.probability, found.note) == (None, None, NOT_COMPARABLE)
    assert compare_streams(base, stream(0, CALL), stream(0, CALL)).llr > 0
    assert compare_streams(base, stream(0, WIDE), stream(0, WIDE)).false_alarm_rate is None


def test_a_stated_rate_needs_a_calibration_by_quality(model, record):
    sides = record("x.wav"), record("o.wav", seed=9)
    for options in ({"false_alarms": 0.05}, {"cohort": [record("o.wav", seed=9)]}):
        with pytest.raises(SeparativeError, match="calibrate"):
            verify(model, *sides, **options)
    with pytest.raises(SeparativeError, match="between 0 and 1"):
        verify(model, *sides, false_alarms=5.0)


def test_a_damaged_entry_names_the_card(base):
    base.card["calibration"]["quality"] = {"level": []}
    with pytest.raises(ModelError, match="model card"):
        quality_calibration(base)


def test_a_stated_rate_decides(base, tmp_path):
    rng = np.random.default_rng(0)
    time = np.arange(3 * 16000) / 16000
    for name, pitch in (("a", 110.0), ("b", 210.0)):
        wave = sum(np.sin(2 * np.pi * pitch * k * time + rng.uniform(0, 6)) / k for k in range(1, 20))
        wave = 0.1 * wave * (0.3 + np.abs(np.sin(5 * time))) + 0.001 * rng.standard_normal(len(time))
        audio.write(tmp_path / f"{name}.wav", wave.astype(np.float32), 16000)
    one, other = tmp_path / "a.wav", tmp_path / "b.wav"
    found = verify(base, one, other, false_alarms=0.05, cohort=[other])
    assert found.cohort == 1 and found.same is (found.false_alarm_rate <= 0.05)
    assert verify(base, one, one, false_alarms=0.05).same is True
