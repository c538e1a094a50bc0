"""Signal-to-distortion ratios on constructed signals; perceived quality on easy cases."""

import sys

import numpy as np
import pytest

from separative.errors import MissingExtraError, SeparativeError
from separative.metrics import pesq, sdr, si_sdr, si_sdr_improvement, stoi

DB = 1e-6
RATE = 16000


def orthogonal(count, size=4096):
    """Zero-mean waveforms of unit power, orthogonal to each other."""
    time = np.arange(size) / size
    return np.stack([np.sqrt(2) * np.sin(2 * np.pi * (k + 3) * time) for k in range(count)])


def test_si_sdr_is_the_power_ratio_at_any_scale_and_offset():
    source, noise = orthogonal(2)
    for db in (-20.0, 0.0, 7.0, 60.0):
        estimate = source + 10 ** (-db / 20) * noise
        assert si_sdr(estimate, source) == pytest.approx(db, abs=DB)
        assert si_sdr(-3.0 * estimate + 5.0, 0.1 * source - 1.0) == pytest.approx(db, abs=DB)


def test_si_sdr_is_finite_for_silence_and_a_perfect_estimate():
    (source,) = orthogonal(1)
    assert si_sdr(source, source) > 100
    assert si_sdr(np.zeros_like(source), source) <= 0.0
    assert np.isfinite(si_sdr(source, np.zeros_like(source)))


def test_improvement_uses_the_best_permutation_and_subtracts_the_mixture():
    sources = orthogonal(2)
    estimates = np.stack([sources[1] + 0.1 * sources[0], 0 * sources[0], sources[0] + 0.1 * sources[1]])
    improvement, streams = si_sdr_improvement(estimates, sources, sources.sum(0))
    assert streams == (2, 0)
    np.testing.assert_allclose(improvement, [20.0, 20.0], atol=DB)
    unprocessed, _ = si_sdr_improvement(np.stack([sources.sum(0)] * 2), sources, sources.sum(0))
    np.testing.assert_allclose(unprocessed, 0.0, atol=DB)


def test_sdr_is_sensitive_to_scale():
    source, noise = orthogonal(2)
    for db in (-20.0, 0.0, 7.0, 60.0):
        assert sdr(source + 10 ** (-db / 20) * noise, source) == pytest.approx(db, abs=DB)
    assert sdr(2 * source, source) == pytest.approx(0.0, abs=DB)
    assert sdr(0.9 * source, source) == pytest.approx(20.0, abs=DB)
    ratio_C = sdr(np.stack([source, 0 * source]), np.stack([source, source]))
    assert ratio_C[0] > 100 and ratio_C[1] == pytest.approx(0.0, abs=DB)


def speech_like(seconds=2.0, rate=RATE):
    """A signal like speech: harmonics with varying pitch and syllabic modulation, and weak noise."""
    rng = np.random.default_rng(0)
    time = np.arange(round(seconds * rate)) / rate
    phase = 2 * np.pi * np.cumsum(120 + 20 * np.sin(5 * time)) / rate
    wave = sum(np.sin(k * phase) / k for k in range(1, 25)) * np.abs(np.sin(2 * np.pi * 1.7 * time)) ** 2
    return 0.1 * wave + 1e-4 * rng.standard_normal(len(time))


@pytest.mark.parametrize(("name", "measure"), [("pesq", pesq), ("pystoi", stoi)])
def test_quality_decreases_with_noise(name, measure):
    pytest.importorskip(name, reason="the extra 'quality' is not installed")
    source = speech_like()
    noise = 0.1 * np.random.default_rng(1).standard_normal(len(source))
    figures = [measure(source + gain * noise, source, RATE) for gain in (0.0, 0.01, 1.0)]
    assert figures == sorted(figures, reverse=True)
    best = {"pesq": 4.64, "pystoi": 1.0}[name]
    assert figures[0] == pytest.approx(best, abs=0.01) and figures[-1] < 0.7 * figures[0]
    assert measure(speech_like(rate=8000), speech_like(rate=8000), 8000) >= 0.97 * figures[0]


@pytest.mark.parametrize(
    ("name", "call", "words"),
    [
        ("pesq", lambda: pesq(speech_like(), speech_like(), 22050), "8000 and 16000 Hz, not 22050"),
        ("pesq", lambda: pesq(speech_like(), np.zeros(2 * RATE), RATE), "no value for this source"),
        ("pesq", lambda: pesq(np.zeros(2 * RATE), speech_like(), RATE), "silent estimate"),
        ("pystoi", lambda: stoi(speech_like(0.2), speech_like(0.2), RATE), "0.4 s of speech"),
    ],
)
def test_undefined_quality_is_an_error(name, call, words):
    pytest.importorskip(name, reason="the extra 'quality' is not installed")
    with pytest.raises(SeparativeError, match=words):
        call()


@pytest.mark.parametrize(("name", "measure"), [("pesq", pesq), ("pystoi", stoi)])
def test_a_missing_extra_is_named(monkeypatch, name, measure):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtraError, match=r"separative\[quality\]"):
        measure(speech_like(), speech_like(), RATE)
