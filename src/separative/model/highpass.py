"""Remove offset, rumble and hum from the input, before anything else sees it.

Rooms, microphones and mains put energy below speech: an offset of the converter, rumble of 20 to 40 Hz, hum
of 50 or 60 Hz. It does not depend on the speaker, but it reaches the lowest bins of a spectrum. A direct
high-pass of the required steepness has 2,000 taps. Here the low band is computed at a low rate and
subtracted: decimate, keep what is below STOP_HZ, interpolate. That takes about 30 multiplications per sample,
runs on any device and can be exported.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

# Below STOP_HZ the input is attenuated by ATTENUATION_DB or more; above PASS_HZ it is unchanged.
STOP_HZ, PASS_HZ = 62.0, 100.0
ATTENUATION_DB = 90.0
# The low band is filtered at about this rate.
LOW_RATE = 400.0


class HighPass(nn.Module):
    """Linear-phase high-pass for padded batches of waveforms.

    The mean of each waveform is removed first. Beyond its ends a waveform is continued by its reflection at
    the end points, so that hum and offset make no step there.

    Args:
        rate: sample rate in hertz.

    >>> time = torch.arange(16000) / 16000
    >>> hum, tone = (2 * math.pi * 50 * time).sin(), (2 * math.pi * 440 * time).sin()
    >>> out = HighPass(16000)((0.3 + hum + tone).unsqueeze(0), torch.tensor([16000]))
    >>> bool((out[0] - tone)[4000:12000].abs().max() < 1e-3)
    True
    """

    decimate_K: Tensor
    low_K: Tensor
    interpolate_P1K: Tensor

    def __init__(self, rate: int) -> None:
        super().__init__()
        self.factor = max(1, round(rate / LOW_RATE))
        low_rate = rate / self.factor
        # Frequencies from low_rate - PASS_HZ on would alias onto 0 to PASS_HZ.
        decimate = _low_pass(PASS_HZ, low_rate - PASS_HZ, rate)
        # The half length is a multiple of the factor: decimated samples are at positions of input samples.
        extra = -(len(decimate) // 2) % self.factor
        decimate = np.pad(decimate, extra)
        self.register_buffer("decimate_K", _tensor(decimate), persistent=False)
        # The same filter as polyphase components: tap k of phase p is tap (k · factor + p), last ones first.
        phases = (
            np.pad(self.factor * decimate, (0, self.factor - 1)).reshape(-1, self.factor).T[:, None, ::-1]
        )
        self.register_buffer("interpolate_P1K", _tensor(phases), persistent=False)
        self.register_buffer("low_K", _tensor(_low_pass(STOP_HZ, PASS_HZ, low_rate)), persistent=False)

    def forward(self, mix_BN: Tensor, length_B: Tensor) -> Tensor:
        """Filter waveforms [B,N] with ``length_B`` samples each; the padding stays zero."""
        samples = mix_BN.shape[1]
        half, low_half = self.decimate_K.shape[0] // 2, self.low_K.shape[0] // 2
        lead = low_half * self.factor + 2 * half
        length_B1 = length_B.unsqueeze(1)
        place_1N = torch.arange(samples, device=mix_BN.device).unsqueeze(0)
        inside_BN = place_1N < length_B1
        mean_B1 = (mix_BN * inside_BN).sum(1, keepdim=True) / length_B1
        centred_BN = torch.where(inside_BN, mix_BN - mean_B1, torch.zeros_like(mix_BN))
        longer_BM = _reflect(centred_BN, length_B1, lead, lead + self.factor)
        low_B1M = F.conv1d(longer_BM.unsqueeze(1), self.decimate_K.view(1, 1, -1), stride=self.factor)
        low_B1M = F.conv1d(low_B1M, self.low_K.view(1, 1, -1))
        # One channel per sample between two decimated samples. The first valid output belongs to the first
        # sample of the waveform.
        between_BPM = F.conv1d(low_B1M, self.interpolate_P1K)
        low_BN = between_BPM.transpose(1, 2).flatten(1)[:, :samples]
        return torch.where(inside_BN, centred_BN - low_BN, torch.zeros_like(mix_BN))


def _reflect(wave_BN: Tensor, length_B1: Tensor, left: int, right: int) -> Tensor:
    """Continue waveforms to both sides by point reflection at their first and last samples."""
    place_1M = torch.arange(-left, wave_BN.shape[1] + right, device=wave_BN.device).unsqueeze(0)
    last_B1 = length_B1 - 1
    mirrored_BM = torch.where(place_1M > last_B1, 2 * last_B1 - place_1M, place_1M.abs())
    mirrored_BM = torch.minimum(mirrored_BM.clamp(min=0), last_B1)
    value_BM = wave_BN.gather(1, mirrored_BM)
    edge_BM = torch.where(place_1M < 0, wave_BN[:, :1], wave_BN.gather(1, last_B1))
    inside_BM = (place_1M >= 0) & (place_1M <= last_B1)
    return torch.where(inside_BM, value_BM, 2 * edge_BM - value_BM)


def _low_pass(pass_hz: float, stop_hz: float, rate: float) -> NDArray[np.float64]:
    """Taps of a low-pass by Kaiser's window method (Kaiser, 1974), an odd number that sums to 1."""
    width = 2 * math.pi * (stop_hz - pass_hz) / rate
    half = math.ceil((ATTENUATION_DB - 7.95) / (2.285 * width) / 2)
    tap_K = np.arange(-half, half + 1)
    taps_K: NDArray[np.float64] = np.sinc((pass_hz + stop_hz) / rate * tap_K) * np.kaiser(
        2 * half + 1, 0.1102 * (ATTENUATION_DB - 8.7)
    )
    unit_K: NDArray[np.float64] = taps_K / taps_K.sum()
    return unit_K


def _tensor(taps: NDArray[np.float64]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(taps, dtype=np.float32))
