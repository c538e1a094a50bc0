"""Codec models against real codecs: G.711 exactly, the others by band and by noise."""

import io

import numpy as np
import pytest
import soundfile

from separative import audio
from separative.errors import AudioError, SeparativeError
from separative.mixtures.codecs import NAMES, Codec

RATE = 16000
BANDS = [(200, 500), (500, 1000), (1000, 2000), (2000, 3000)]


def speech(seconds: int = 4) -> np.ndarray:
    """Harmonics of a gliding pitch with formants and pauses."""
    time = np.arange(seconds * RATE) / RATE
    phase = 2 * np.pi * np.cumsum(130 + 30 * np.sin(2 * np.pi * 0.7 * time)) / RATE
    parts = [np.sin(k * phase) / (1 + (k / 5) ** 1.5) for k in range(1, 45)]
    wave = sum(parts) * np.maximum(np.sin(2 * np.pi * 1.5 * time), 0)
    wave += 0.01 * np.random.default_rng(0).standard_normal(len(time))
    return (0.1 * wave / wave.std()).astype(np.float32)


def band_db(wave: np.ndarray, low: float, high: float) -> float:
    power = np.abs(np.fft.rfft(wave)) ** 2
    hertz = np.fft.rfftfreq(len(wave), 1 / RATE)
    return float(10 * np.log10(power[(hertz >= low) & (hertz < high)].mean() / len(wave) + 1e-15))


@pytest.mark.parametrize(("name", "subtype"), [("mulaw", "ULAW"), ("alaw", "ALAW")])
def test_g711_is_that_of_libsndfile_for_every_sample(name: str, subtype: str) -> None:
    every = np.arange(-32768, 32768, dtype=np.int16)
    file = io.BytesIO()
    soundfile.write(file, every, 8000, format="WAV", subtype=subtype)
    file.seek(0)
    expected = soundfile.read(file, dtype="float32")[0]
    from separative.mixtures.codecs import _g711_table

    np.testing.assert_array_equal(_g711_table(name)[every], expected)


@pytest.mark.parametrize("name", NAMES)
def test_fewer_bits_make_more_noise_and_keep_the_spectrum(name: str) -> None:
    wave = speech()
    noise_db = []
    for kbps in (24.0, 6.0):
        coded = Codec.named(name, kbps).apply(wave, RATE)
        assert coded.shape == wave.shape
        assert coded.dtype == np.float32
        for band in BANDS:
            assert band_db(coded, *band) == pytest.approx(band_db(wave, *band), abs=3.0)
        noise_db.append(band_db(coded - wave, 200, 3000) - band_db(wave, 200, 3000))
    assert noise_db[0] == noise_db[1] if name in ("mulaw", "alaw") else noise_db[0] + 3 < noise_db[1] < -4


@pytest.mark.parametrize(
    ("name", "kbps", "high"), [("amr", 12.0, 3400), ("opus", 6.0, 4000), ("mp3", 16.0, 5000)]
)
def test_nothing_passes_above_the_band(name: str, kbps: float, high: float) -> None:
    noise = 0.1 * np.random.default_rng(1).standard_normal(2 * RATE).astype(np.float32)
    coded = Codec.named(name, kbps).apply(noise, RATE)
    assert band_db(coded, 1.15 * high, 8000) < band_db(coded, 1000, 2000) - 30


def test_silence_stays_silence() -> None:
    for name in ("mulaw", "amr", "opus", "mp3"):
        np.testing.assert_allclose(
            Codec.named(name, 8.0).apply(np.zeros(5000, np.float32), RATE), 0.0, atol=1e-6
        )


def test_frames_are_counted_from_the_start_of_the_recording() -> None:
    wave, codec = speech(), Codec.named("opus", 8.0)
    part = codec.apply(wave[RATE + 33 : 2 * RATE], RATE, start=RATE + 33)
    np.testing.assert_allclose(
        part[1000:-1000], codec.apply(wave, RATE)[RATE + 1033 : 2 * RATE - 1000], atol=1e-6
    )


def test_the_model_of_opus_has_the_band_and_about_the_noise_of_opus() -> None:
    wave = speech()
    real = audio.recode(wave, RATE, "opus", 0.98)
    model = Codec.named("opus", 10.0).apply(wave, RATE)
    shift = max(range(-8, 9), key=lambda n: float(np.dot(np.roll(real, -n), wave)))
    for band in BANDS:
        assert band_db(model, *band) == pytest.approx(band_db(real, *band), abs=4.0)
    noise = [band_db(coded - wave, 200, 3000) for coded in (np.roll(real, -shift), model)]
    assert noise[0] == pytest.approx(noise[1], abs=8.0)


@pytest.mark.parametrize("codec", ["opus", "mp3", "gsm", "ulaw", "alaw"])
@pytest.mark.parametrize("rate", [8000, 16000, 44100])
def test_real_codecs_keep_rate_and_length(codec: str, rate: int) -> None:
    tone = 0.2 * np.sin(2 * np.pi * 600 * np.arange(rate) / rate).astype(np.float32)
    coded = audio.recode(tone, rate, codec)
    assert coded.shape == tone.shape
    middle = slice(rate // 4, 3 * rate // 4)
    assert np.std(coded[middle]) == pytest.approx(np.std(tone[middle]), rel=0.2)


def test_wrong_codecs_are_refused() -> None:
    with pytest.raises(SeparativeError, match="unknown codec 'opsu' \\(did you mean 'opus'"):
        Codec.named("opsu", 8.0)
    with pytest.raises(SeparativeError, match="choose 4 to 64 kbit/s"):
        Codec.named("opus", 1.0)
    with pytest.raises(AudioError, match="unknown codec"):
        audio.recode(np.ones(10, np.float32), RATE, "flac")
    with pytest.raises(AudioError, match="recode needs samples"):
        audio.recode(np.empty(0, np.float32), RATE, "gsm")
