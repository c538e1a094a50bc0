"""Channels filter and rooms reverberate; both keep the length of a waveform and add no delay."""

from pathlib import Path

import numpy as np
import pytest

from separative.errors import MissingExtraError
from separative.mixtures import Channel, RoomBank
from separative.mixtures.channel import EQ_KNOTS
from separative.mixtures.rooms import LEAD

RATE = 16000
FLAT = (0.0,) * EQ_KNOTS
RESPONSE_DB = 0.2


def tone_gain_db(channel: Channel, hertz: float, size: int = RATE) -> float:
    tone = 0.1 * np.sin(2 * np.pi * hertz * np.arange(size) / RATE).astype(np.float32)
    out = channel.apply(tone, RATE)
    assert out.shape == tone.shape
    assert out.dtype == np.float32
    return float(20 * np.log10(np.linalg.norm(out) / np.linalg.norm(tone)))


def test_flat_channel_changes_nothing() -> None:
    wave = np.random.default_rng(0).standard_normal(9973).astype(np.float32)
    np.testing.assert_allclose(Channel(FLAT, 0.0, None, None, "none").apply(wave, RATE), wave, atol=1e-5)


def test_response_is_right_at_the_frequencies_that_define_it() -> None:
    banded = Channel(FLAT, 0.0, 200.0, 3000.0, "none")
    for hertz in (200.0, 3000.0):
        assert tone_gain_db(banded, hertz) == pytest.approx(-3.01, abs=RESPONSE_DB)
    assert tone_gain_db(banded, 800.0) == pytest.approx(0.0, abs=RESPONSE_DB)
    assert tone_gain_db(banded, 50.0) == pytest.approx(-24.1, abs=RESPONSE_DB)
    tilted = Channel(FLAT, -2.0, None, None, "none")
    assert [tone_gain_db(tilted, hertz) for hertz in (500.0, 1000.0, 4000.0)] == pytest.approx(
        [2.0, 0.0, -4.0], abs=RESPONSE_DB
    )
    peaked = Channel((0.0, 0.0, 0.0, 9.0, 0.0, 0.0, 0.0, 0.0), 0.0, None, None, "none")
    assert tone_gain_db(peaked, 720.0) == pytest.approx(9.0, abs=RESPONSE_DB)


def test_mu_law_has_the_noise_of_eight_bits_at_any_level() -> None:
    wave = np.random.default_rng(1).standard_normal(RATE).astype(np.float32)
    for level in (1.0, 1e-4):
        coded = Channel(FLAT, 0.0, None, None, "mulaw").apply(level * wave, RATE)
        error_db = 10 * np.log10(np.mean((coded / level - wave) ** 2) / np.mean(wave**2))
        # Theory: about 6.02 * 8 - 10.1 = 38 dB (Gersho and Gray, mu = 255).
        assert -41.0 < error_db < -34.0
        assert len(np.unique(coded)) <= 255


def test_telephone_keeps_only_frequencies_below_four_kilohertz() -> None:
    telephone = Channel(FLAT, 0.0, None, None, "telephone")
    for size in (RATE, 9973):
        assert tone_gain_db(telephone, 1000.0, size) == pytest.approx(0.0, abs=RESPONSE_DB)
    low, high = (np.sin(2 * np.pi * f * np.arange(RATE) / RATE).astype(np.float32) for f in (500.0, 6000.0))
    out = telephone.apply(low + high, RATE)
    assert 10 * np.log10(np.mean((out - low) ** 2) / np.mean(low**2)) < -30.0


def test_drawn_channels_differ_and_the_same_seed_repeats_them() -> None:
    draws = [Channel.draw(np.random.default_rng(seed), RATE) for seed in range(200)]
    assert draws[3] == Channel.draw(np.random.default_rng(3), RATE)
    assert len(set(draws)) == 200
    assert {d.codec for d in draws} == {"none", "mulaw", "telephone"}


@pytest.fixture(scope="module")
def bank() -> RoomBank:
    pytest.importorskip("pyroomacoustics", reason="needs the extra 'rooms'")
    return RoomBank.load(8000, (0.2, 0.3), rooms=3, positions=3, seed=7)


def test_direct_sound_is_at_the_same_sample_of_every_response(bank: RoomBank) -> None:
    assert bank.responses.shape == (3, 3, round(0.3 * 8000) + LEAD)
    for response_L in bank.responses.reshape(9, -1):
        # The time of flight is rounded to a sample, which moves the largest value by at most one sample.
        assert abs(int(np.abs(response_L[: LEAD + 3]).argmax()) - LEAD) <= 1
    click = np.zeros(800, np.float32)
    click[100] = 1.0
    np.testing.assert_allclose(
        bank.reverberate(click, 0, 1)[100:], bank.responses[0, 1, LEAD : LEAD + 700], atol=1e-5
    )


def test_energy_decays_with_the_reverberation_time(bank: RoomBank) -> None:
    for room in range(3):
        decay = np.cumsum(bank.responses[room, 0, ::-1].astype(np.float64) ** 2)[::-1]
        level_db = 10 * np.log10(decay / decay[0])
        # T20 of ISO 3382: three times the time from -5 to -25 dB.
        t20 = 3 * float(np.argmax(level_db < -25) - np.argmax(level_db < -5)) / bank.rate
        assert 0.5 < t20 / bank.rt60[room] < 1.7


def test_reverberation_is_a_convolution_with_the_response(bank: RoomBank) -> None:
    wave = np.random.default_rng(3).standard_normal(1000).astype(np.float32)
    slow = np.convolve(wave.astype(np.float64), bank.responses[1, 2])[LEAD : LEAD + 1000]
    np.testing.assert_allclose(bank.reverberate(wave, 1, 2), slow, atol=1e-5 * np.abs(slow).max())


def test_bank_is_cached_and_the_same_seed_repeats_it(
    tmp_path: Path, bank: RoomBank, monkeypatch: pytest.MonkeyPatch
) -> None:
    again = RoomBank.load(8000, (0.2, 0.3), 3, 3, 7, tmp_path)
    np.testing.assert_array_equal(again.responses, bank.responses)
    # Without the extra, a cached bank can be read, but a new one cannot be simulated.
    monkeypatch.setitem(__import__("sys").modules, "pyroomacoustics", None)
    kept = RoomBank.load(8000, (0.2, 0.3), 3, 3, 7, tmp_path)
    np.testing.assert_array_equal(kept.responses, bank.responses)
    assert kept.describe(0) == bank.describe(0)
    with pytest.raises(MissingExtraError, match=r"separative\[rooms\]"):
        RoomBank.load(8000, (0.2, 0.3), 3, 3, 8, tmp_path)
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("problem", ["empty", "cut", "flipped", "other rooms"])
def test_a_damaged_bank_in_the_cache_is_simulated_again(
    tmp_path: Path, bank: RoomBank, problem: str, caplog: pytest.LogCaptureFixture
) -> None:
    arguments = 8000, (0.2, 0.3), 3, 3, 7, tmp_path
    RoomBank.load(*arguments)
    (path,) = tmp_path.iterdir()
    content = bytearray(path.read_bytes())
    if problem == "other rooms":
        np.savez(path, response=bank.responses[:2], rt60=bank.rt60[:2], size=bank.sizes[:2])
    else:
        content[len(content) // 2] ^= 4
        size = {"empty": 0, "cut": len(content) // 2, "flipped": len(content)}[problem]
        path.write_bytes(content[:size])
    np.testing.assert_array_equal(RoomBank.load(*arguments).responses, bank.responses)
    assert f"{path} is damaged" in caplog.text
    caplog.clear()
    np.testing.assert_array_equal(RoomBank.load(*arguments).responses, bank.responses)
    assert not caplog.text
