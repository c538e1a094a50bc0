"""One microphone: its band, its level, its faults, and references that stay aligned."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from separative.errors import SeparativeError
from separative.mixtures.channel import EQ_KNOTS, Channel
from separative.mixtures.codecs import Codec
from separative.mixtures.microphone import KINDS, LEVELS_DB, Microphone, MicrophoneSignal

RATE = 16000
FLAT = Channel((0.0,) * EQ_KNOTS, 0.0, None, None, "none")
# Rounding to 16 bits.
STEP = 2.0**-15


def speech_like(samples: int, sources: int = 2, seed: int = 0) -> np.ndarray:
    """Noise with the spectrum and the syllables of speech, of RMS 0.1 in total."""
    rng = np.random.default_rng(seed)
    spectrum = np.fft.rfft(rng.standard_normal((sources, samples)))
    hertz = np.fft.rfftfreq(samples, 1 / RATE)
    spectrum *= (hertz > 90) / (1 + (hertz / 600) ** 2) ** 0.75
    wave_CN = np.fft.irfft(spectrum, samples) * (1.2 + np.sin(np.arange(samples) * (25 / RATE)))
    return (wave_CN * (0.1 / wave_CN.sum(0).std())).astype(np.float32)


def record(
    microphone: Microphone, source_CN: np.ndarray, noise_N: np.ndarray | None = None
) -> MicrophoneSignal:
    noise_N = np.zeros(source_CN.shape[1], np.float32) if noise_N is None else noise_N
    return microphone.apply(source_CN, noise_N, rms=0.1)


def plain(**changes: Any) -> Microphone:
    return Microphone(RATE, 5, "close", FLAT, -30.0, **changes)


def level_db(wave: np.ndarray) -> float:
    return float(10 * np.log10(np.mean(np.square(wave, dtype=np.float64)) + 1e-20))


def test_a_plain_microphone_changes_the_level_only() -> None:
    source_CN = speech_like(3 * RATE)
    signal = record(plain(), source_CN)
    gain = 10 ** (-30 / 20) / 0.1
    np.testing.assert_allclose(signal.sources, gain * source_CN, atol=1e-6)
    np.testing.assert_allclose(signal.waveform, gain * source_CN.sum(0), atol=STEP)
    assert level_db(signal.waveform) == pytest.approx(-30.0, abs=0.1)


@pytest.mark.parametrize("kind", list(KINDS))
def test_the_recording_is_the_sum_of_sources_and_noise_at_the_level_of_its_kind(kind: str) -> None:
    source_CN = speech_like(2 * RATE)
    noise_N = 0.01 * np.random.default_rng(1).standard_normal(2 * RATE).astype(np.float32)
    levels = []
    for seed in range(30):
        microphone = Microphone.draw(np.random.default_rng(seed), RATE, kind)
        assert microphone == Microphone.draw(np.random.default_rng(seed), RATE, kind)
        signal = record(microphone, source_CN, noise_N)
        assert signal.waveform.dtype == signal.sources.dtype == np.float32
        assert np.abs(signal.waveform).max() <= 1.0
        np.testing.assert_allclose(signal.waveform, signal.sources.sum(0) + signal.noise, atol=1e-6)
        assert LEVELS_DB[kind][0] <= microphone.level_db <= LEVELS_DB[kind][1]
        levels.append(level_db(signal.sources.sum(0)) - microphone.level_db)
    # The response is normalised on speech of a standard spectrum; ours differs, and channels differ.
    assert abs(np.median(levels)) < 4.0


def test_linear_parts_change_sources_like_the_mixture() -> None:
    """Without nonlinear parts, sources and noise behind the microphone add up to the mixture behind it."""
    source_CN = speech_like(4 * RATE)
    for seed in range(20):
        drawn = Microphone.draw(np.random.default_rng(seed), RATE, "telephone")
        linear = replace(
            drawn, clip_db=None, codec=None, lost=0.1, gaps=0.8, gain_control=0.6, level_db=-45.0
        )
        signal = record(linear, source_CN)
        np.testing.assert_allclose(signal.noise, 0.0, atol=STEP)
        alone = linear.apply(source_CN.sum(0, keepdims=True), np.zeros(4 * RATE, np.float32), rms=0.1)
        np.testing.assert_allclose(alone.sources[0], signal.sources.sum(0), atol=1e-5)


def test_sources_are_not_delayed() -> None:
    source_CN = speech_like(2 * RATE)
    for seed in range(12):
        microphone = Microphone.draw(np.random.default_rng(seed), RATE)
        signal = record(replace(microphone, lost=0.0, gaps=0.0, offset=0.0), source_CN)
        for before_N, after_N in [
            *zip(source_CN, signal.sources, strict=True),
            (source_CN.sum(0), signal.waveform),
        ]:
            product = np.fft.irfft(np.fft.rfft(after_N, 4 * RATE) * np.fft.rfft(before_N, 4 * RATE).conj())
            lag = int(product.argmax())
            assert min(lag, 4 * RATE - lag) <= 1


def test_gain_control_brings_levels_together() -> None:
    source_CN = speech_like(8 * RATE, sources=1)
    source_CN[:, 4 * RATE :] *= 0.1
    halves = []
    for strength in (0.0, 0.5, 1.0):
        signal = record(plain(gain_control=strength, gain_seconds=0.3), source_CN)
        halves.append(level_db(signal.waveform[2 * RATE : 4 * RATE]) - level_db(signal.waveform[6 * RATE :]))
    assert halves == pytest.approx([20.0, 10.0, 0.0], abs=1.5)


@pytest.mark.parametrize("soft", [False, True])
def test_clipping_limits_the_amplitude_and_counts_as_noise(soft: bool) -> None:
    source_CN = speech_like(2 * RATE)
    signal = record(plain(clip_db=6.0, soft=soft), source_CN)
    assert np.abs(signal.waveform).max() <= 10 ** ((-30 + 6) / 20) + STEP
    unclipped = record(plain(), source_CN)
    np.testing.assert_array_equal(signal.sources, unclipped.sources)
    assert -40 < level_db(signal.noise) - level_db(signal.waveform) < -5


def test_lost_packets_are_whole_frames_of_all_signals() -> None:
    source_CN = speech_like(20 * RATE)
    signal = record(plain(lost=0.05), source_CN)
    frame_TF = signal.waveform.reshape(-1, RATE // 50)
    lost_T = ~frame_TF.any(axis=1)
    # Bursts have two frames on average: about 0.1 of the frames are lost.
    assert 0.06 < lost_T.mean() < 0.14
    assert not signal.sources.reshape(2, len(lost_T), -1)[:, lost_T].any()
    repeated = record(plain(lost=0.05, repeat=True), source_CN).waveform.reshape(-1, RATE // 50)
    first = int(np.flatnonzero(lost_T)[0])
    np.testing.assert_array_equal(repeated[first], repeated[first - 1])


def test_gaps_are_digital_silence() -> None:
    signal = record(plain(gaps=0.5, offset=0.0), speech_like(20 * RATE))
    silent_T = ~signal.waveform.reshape(-1, RATE // 50).any(axis=1)
    # Half of the seconds have a gap of 3 to 24 frames: about 0.13 of the time.
    assert 0.05 < silent_T.mean() < 0.25


def test_an_offset_is_added_to_the_recording_and_not_to_sources() -> None:
    source_CN = speech_like(RATE)
    signal = record(plain(offset=0.01), source_CN)
    assert float(signal.noise.mean()) == pytest.approx(0.01, abs=1e-4)
    assert abs(float(signal.sources.mean())) < 1e-4


def test_a_telephone_passes_its_band_only() -> None:
    noise_CN = 0.1 * np.random.default_rng(0).standard_normal((1, 4 * RATE)).astype(np.float32)
    for name in ("mulaw", "amr"):
        microphone = replace(plain(codec=Codec.named(name, 8.0)), level_db=-20.0)
        signal = record(microphone, noise_CN)
        power_F = np.abs(np.fft.rfft(signal.waveform)) ** 2
        hertz_F = np.fft.rfftfreq(4 * RATE, 1 / RATE)
        inside = power_F[(hertz_F > 500) & (hertz_F < 3000)].mean()
        assert 10 * np.log10(power_F[hertz_F > 4000].mean() / inside) < -50
        assert 10 * np.log10(power_F[hertz_F < 50].mean() / inside) < -20


def test_blocks_are_like_the_same_part_of_the_whole() -> None:
    source_CN = speech_like(16 * RATE, sources=1)
    noise_N = np.zeros(16 * RATE, np.float32)
    start, stop = 6 * RATE + 777, 9 * RATE
    for seed in range(16):
        microphone = Microphone.draw(np.random.default_rng(seed), RATE)
        first, last = start - microphone.context, stop + microphone.context
        block = microphone.apply(source_CN[:, first:last], noise_N[first:last], 0.1, start=first)
        whole = microphone.apply(source_CN, noise_N, 0.1)
        part_N = whole.waveform[start:stop]
        wrong_N = block.waveform[start - first : stop - first] - part_N
        assert level_db(wrong_N) - level_db(part_N) < -35


def test_wrong_input_is_refused() -> None:
    with pytest.raises(SeparativeError, match="unknown kind of microphone 'phone'"):
        Microphone.draw(np.random.default_rng(0), RATE, "phone")
    with pytest.raises(SeparativeError, match=r"rms above 0, not shapes \(1, 5\) and \(4,\)"):
        plain().apply(np.ones((1, 5), np.float32), np.ones(4, np.float32), 0.1)
