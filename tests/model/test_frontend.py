"""Front ends: numbers of frames, analysis and synthesis as inverses, masks and mel filters."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from separative.model import EncoderConfig
from separative.model.frontend import FrameGrid, StftFrontEnd, mel_filters

EXACT = 1e-5  # float32, signals of unit level
grids = st.tuples(st.integers(1, 4), st.integers(1, 9)).map(lambda x: FrameGrid(x[0] * x[1], x[1]))


@given(grids, st.integers(1, 60))
def test_frames_are_those_that_overlap_the_signal(grid: FrameGrid, samples: int) -> None:
    lead = grid.window - grid.hop
    starts = range(-lead, samples + grid.window, grid.hop)
    touching = [t for t in starts if t < samples and t + grid.window > 0]
    assert grid.frames(samples) == len(touching)
    wave_N = torch.rand(samples) + 1
    cut_TW = grid.cut(wave_N)
    for row, start in zip(cut_TW, touching, strict=True):
        for place, value in enumerate(row.tolist(), start):
            assert value == (wave_N[place].item() if 0 <= place < samples else 0.0)


@given(grids, st.integers(1, 60))
def test_join_is_the_adjoint_of_cut(grid: FrameGrid, samples: int) -> None:
    wave_N = torch.randn(samples, dtype=torch.float64)
    frames_TW = torch.randn(grid.frames(samples), grid.window, dtype=torch.float64)
    inner = (grid.cut(wave_N) * frames_TW).sum().item()
    assert inner == pytest.approx((wave_N * grid.join(frames_TW, samples)).sum().item(), abs=1e-9)


@pytest.mark.parametrize(("window_ms", "hop_ms"), [(32, 8), (32, 16), (25, 5)])
@given(samples=st.integers(1, 3000))
@settings(max_examples=15, deadline=None)
def test_stft_with_a_mask_of_one_is_the_identity(window_ms: float, hop_ms: float, samples: int) -> None:
    config = EncoderConfig(rate=8000, window_ms=window_ms, hop_ms=hop_ms, mels=16)
    front = StftFrontEnd(config)
    mix_BN = torch.randn(2, samples)
    features_BTK, represent_BTF = front.analyse(mix_BN, torch.ones(2, front.grid.frames(samples)))
    assert features_BTK.shape[1:] == (front.grid.frames(samples), front.features)
    # The mask is 1: its real part is 2 tanh(raw + 0.2027) = 1 and its imaginary part is 0.
    raw = torch.zeros(2, 1, *represent_BTF.shape[1:], 2)
    raw[..., 0] = math.atanh(0.5) - 0.2027
    estimate_BCN = front.synthesise(raw.flatten(-2), represent_BTF, samples)
    assert torch.allclose(estimate_BCN[:, 0], mix_BN, atol=EXACT)


def test_stft_mask_of_raw_values_zero_is_two_fifths_and_the_largest_is_two() -> None:
    front = StftFrontEnd(EncoderConfig(rate=8000, mels=16))
    mix_BN = torch.randn(1, 1000)
    _, represent_BTF = front.analyse(mix_BN, torch.ones(1, front.grid.frames(1000)))
    raw = torch.zeros(1, 1, *represent_BTF.shape[1:], 2)
    assert torch.allclose(
        front.synthesise(raw.flatten(-2), represent_BTF, 1000)[:, 0], 0.4 * mix_BN, atol=1e-3
    )
    raw[..., 0] = 1e4
    loudest = front.synthesise(raw.flatten(-2), represent_BTF, 1000)[:, 0]
    assert torch.allclose(loudest, 2 * mix_BN, atol=EXACT)


def test_a_gain_does_not_change_the_normalised_features() -> None:
    """A gain shifts the log-mel features, but not the log-mel features minus their mean."""
    front = StftFrontEnd(EncoderConfig(rate=8000, mels=16))
    mix_BN, valid_BT = torch.randn(1, 4000), torch.ones(1, front.grid.frames(4000))
    quiet, loud = (front.analyse(gain * mix_BN, valid_BT)[0] for gain in (30.0, 120.0))
    plain, normalised = slice(-32, -16), slice(-16, None)
    shift = 0.3 * math.log(16)
    assert torch.allclose(loud[..., plain], quiet[..., plain] + shift, atol=0.01)
    assert torch.allclose(loud[..., normalised], quiet[..., normalised], atol=0.01)


@pytest.mark.parametrize(("bins", "mels", "rate"), [(257, 80, 16000), (33, 80, 8000), (129, 8, 8000)])
def test_mel_filters_have_unit_sum_and_increasing_centres(bins: int, mels: int, rate: int) -> None:
    """No filter is empty, even if filters are narrower than bins, as in the second case."""
    filters_FM = mel_filters(bins, mels, rate)
    assert torch.allclose(filters_FM.sum(0), torch.ones(mels), atol=EXACT)
    assert (filters_FM >= 0).all()
    centre_M = torch.linspace(0, rate / 2, bins) @ filters_FM
    assert (centre_M.diff() >= 0).all() and centre_M[-1] < rate / 2


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"kernel": 4}, "kernel must be odd"),
        ({"hop_ms": 7.0}, "512 and 112 samples at 16000 Hz: the first must be a whole multiple"),
        ({"window_ms": 8.0, "hop_ms": 8.0}, "half of window_ms"),
        ({"hop_ms": 0.01}, "at least one sample"),
        ({"front_end": "conv"}, "half its window"),
        ({"width": 10}, "width .10. must be a multiple of heads"),
        ({"speaker_width": 10}, "speaker_width .10. must be a multiple of heads"),
        ({"embedding": 10}, "embedding .10. must be a multiple of heads"),
        ({"dilations": ()}, "at least one dilation"),
        ({"widht": 8}, "Extra inputs"),
    ],
)
def test_an_invalid_configuration_is_refused_with_the_reason(changes: dict[str, object], names: str) -> None:
    with pytest.raises(ValidationError, match=names):
        EncoderConfig(**changes)
