"""The high-pass in front of the encoder: gains, padding, offsets, and the answers that must not change."""

import math

import pytest
import torch

from separative.model.highpass import HighPass

RATES = (8000, 16000, 22050, 44100)


def tone(frequency: float, rate: int, seconds: float = 4.0) -> torch.Tensor:
    time = torch.arange(round(seconds * rate)) / rate
    return (2 * math.pi * frequency * time + 1).sin().unsqueeze(0)


def filtered(wave_BN: torch.Tensor, rate: int) -> torch.Tensor:
    length_B = torch.full((len(wave_BN),), wave_BN.shape[1])
    return HighPass(rate)(wave_BN, length_B)


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("frequency", [10, 20, 40, 50, 60])
def test_rumble_and_hum_are_removed(rate: int, frequency: float) -> None:
    wave_BN = tone(frequency, rate)
    inner = slice(rate, 3 * rate)
    assert filtered(wave_BN, rate)[:, inner].abs().max() < 10 ** (-75 / 20)


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("frequency", [100, 120, 200, 300, 345, 400, 455, 1000, 3000])
def test_speech_frequencies_are_unchanged(rate: int, frequency: float) -> None:
    wave_BN = tone(frequency, rate)
    inner = slice(rate, 3 * rate)
    assert (filtered(wave_BN, rate) - wave_BN)[:, inner].abs().max() < 1e-3


def test_an_offset_changes_nothing() -> None:
    wave_BN = 0.1 * torch.randn(1, 16000, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(filtered(wave_BN + 0.5, 16000), filtered(wave_BN, 16000), atol=1e-6, rtol=0)


@pytest.mark.parametrize("samples", [1, 2, 100, 700, 5000])
def test_padding_changes_nothing(samples: int) -> None:
    wave_BN = torch.randn(1, samples, generator=torch.Generator().manual_seed(samples))
    padded_BN = torch.nn.functional.pad(wave_BN, (0, 3000))
    out_BN = HighPass(16000)(padded_BN, torch.tensor([samples]))
    torch.testing.assert_close(out_BN[:, :samples], filtered(wave_BN, 16000), atol=1e-6, rtol=0)
    assert not out_BN[:, samples:].any()
