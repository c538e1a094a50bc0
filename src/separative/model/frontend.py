"""Front ends: waveform to frames, and masks back to waveforms (method, section 2).

Both share one frame grid, on which batch padding can never reach a valid frame: frame t covers the samples
[t·hop − (window − hop), t·hop + hop), and a signal of N samples has exactly the frames that touch it. Every
sample is then covered by window / hop frames, so overlap-add needs no correction at the edges.
"""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from separative.model.blocks import Length, ceil_div
from separative.model.config import EncoderConfig

_FLOOR = 1e-5  # of power, with the input level normalised to 1: about -50 dB


class FrontEnd(Protocol):
    """What a trunk needs of a front end. ``K`` is the size of the mixture's representation per frame."""

    grid: FrameGrid
    features: int
    mask_size: int

    def analyse(self, mix_BN: Tensor, valid_BT: Tensor) -> tuple[Tensor, Tensor]:
        """Features [B,T,features] for the trunk, and the representation [B,T,K] that masks act on."""
        ...

    def synthesise(self, raw_BCTM: Tensor, represent_BTK: Tensor, samples: int) -> Tensor:
        """Waveforms [B,C,samples] from raw mask values [B,C,T,mask_size] on the mixture's representation."""
        ...


class FrameGrid:
    """Length arithmetic of a front end: ``window`` (a multiple of ``hop``) and ``hop`` in samples."""

    def __init__(self, window: int, hop: int) -> None:
        self.window, self.hop = window, hop

    def frames(self, samples: Length) -> Length:
        """Frames that touch a signal of ``samples`` samples, or signals of as many each."""
        return ceil_div(samples, self.hop) + self.window // self.hop - 1

    def cut(self, wave_BN: Tensor) -> Tensor:
        """Overlapping frames [B,T,window] of a zero-padded signal."""
        left = self.window - self.hop
        right = self.frames(wave_BN.shape[-1]) * self.hop - wave_BN.shape[-1]
        return F.pad(wave_BN, (left, right)).unfold(-1, self.window, self.hop)

    def join(self, frames_BTW: Tensor, samples: int) -> Tensor:
        """Overlap-add of frames [...,T,window] to [...,samples]: the adjoint of :meth:`cut`."""
        *lead, count, _ = frames_BTW.shape
        parts = self.window // self.hop
        pieces = frames_BTW.unflatten(-1, (parts, self.hop))
        out = pieces.new_zeros(*lead, count + parts - 1, self.hop)
        for part in range(parts):
            out[..., part : part + count, :] += pieces[..., part, :]
        wave: Tensor = out.flatten(-2)[..., self.window - self.hop :][..., :samples]
        return wave


class StftFrontEnd(nn.Module):
    """Short-time Fourier transform with a bounded complex mask.

    Features per frame: power-compressed (exponent 0.3) real and imaginary parts, and log-mel energies as they
    are and with their mean over the utterance taken off, so that a channel's colour carries less.
    """

    window_W: Tensor
    synthesis_W: Tensor
    mel_FM: Tensor

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.grid = FrameGrid(config.window, config.hop)
        bins = config.window // 2 + 1
        self.features = 2 * bins + 2 * config.mels
        self.mask_size = 2 * bins
        window_W = torch.hann_window(config.window, periodic=True)
        # Analysis with the window, synthesis with the same one over the sum of its squares on the hop grid.
        squares = window_W.square().view(-1, config.hop).sum(0).repeat(config.window // config.hop)
        self.register_buffer("window_W", window_W, persistent=False)
        self.register_buffer("synthesis_W", window_W / squares, persistent=False)
        self.register_buffer("mel_FM", mel_filters(bins, config.mels, config.rate), persistent=False)

    @torch.no_grad()
    def analyse(self, mix_BN: Tensor, valid_BT: Tensor) -> tuple[Tensor, Tensor]:
        spectrum_BTF = torch.fft.rfft(self.grid.cut(mix_BN) * self.window_W)
        parts_BTF2 = torch.view_as_real(spectrum_BTF) / math.sqrt(self.grid.window)
        features = features_of(parts_BTF2, self.mel_FM, valid_BT)
        return features, spectrum_BTF * valid_BT.unsqueeze(-1)

    def synthesise(self, raw_BCTM: Tensor, represent_BTK: Tensor, samples: int) -> Tensor:
        mask_BCTF = torch.view_as_complex(mask_of(raw_BCTM))
        frames = (
            torch.fft.irfft(mask_BCTF * represent_BTK.unsqueeze(1), n=self.grid.window) * self.synthesis_W
        )
        return self.grid.join(frames, samples)


def features_of(parts_BTF2: Tensor, mel_FM: Tensor, valid_BT: Tensor) -> Tensor:
    """Compressed spectra and log-mel energies, with and without their mean, of spectra as real numbers."""
    power_BTF = parts_BTF2.square().sum(-1)
    compressed_BTF2 = parts_BTF2 * (power_BTF + _FLOOR).pow(-0.35).unsqueeze(-1)
    mel_BTM = (power_BTF @ mel_FM + _FLOOR).log()
    mask_BT1 = valid_BT.unsqueeze(-1)
    mean_B1M = (mel_BTM * mask_BT1).sum(1, keepdim=True) / mask_BT1.sum(1, keepdim=True).clamp(min=1)
    joined = torch.cat([compressed_BTF2.flatten(-2), 0.3 * mel_BTM, 0.3 * (mel_BTM - mean_B1M)], dim=-1)
    return joined * mask_BT1


def mask_of(raw_BCTM: Tensor) -> Tensor:
    """The bounded complex mask [B,C,T,F,2] of raw values: near the unprocessed mixture at first, a real part
    of 0.4; parts stay below 2."""
    raw_BCTF2 = raw_BCTM.float().unflatten(-1, (-1, 2)).contiguous()
    return 2 * torch.tanh(raw_BCTF2 + raw_BCTF2.new_tensor([0.2027, 0.0]))


class ConvFrontEnd(nn.Module):
    """Learned filters: 1-D convolution with a hop of half a window, ReLU; transposed back.

    The encoder and decoder of time-domain separation networks (arXiv 1809.07454; arXiv 2101.05014).
    """

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.grid = FrameGrid(config.window, config.hop)
        self.features = self.mask_size = config.filters
        self.encode = nn.Linear(config.window, config.filters, bias=False)
        self.decode = nn.Linear(config.filters, config.window, bias=False)

    def analyse(self, mix_BN: Tensor, valid_BT: Tensor) -> tuple[Tensor, Tensor]:
        represent_BTK = self.encode(self.grid.cut(mix_BN)).relu() * valid_BT.unsqueeze(-1)
        return represent_BTK, represent_BTK

    def synthesise(self, raw_BCTM: Tensor, represent_BTK: Tensor, samples: int) -> Tensor:
        frames = self.decode(raw_BCTM.sigmoid() * represent_BTK.unsqueeze(1)).float()
        return self.grid.join(frames, samples)


FRONT_ENDS: dict[str, type[StftFrontEnd] | type[ConvFrontEnd]] = {"stft": StftFrontEnd, "conv": ConvFrontEnd}


def mel_filters(bins: int, mels: int, rate: int) -> Tensor:
    """Triangular filters [bins, mels] of unit sum, evenly spaced in mel (O'Shaughnessy 1987) from 20 Hz."""
    edges_mel = torch.linspace(2595 * math.log10(1 + 20 / 700), 2595 * math.log10(1 + rate / 1400), mels + 2)
    edges_hz = 700 * (10 ** (edges_mel / 2595) - 1)
    centre_F1 = torch.linspace(0, rate / 2, bins).unsqueeze(1)
    low, mid, high = edges_hz[:-2], edges_hz[1:-1], edges_hz[2:]
    rise, fall = (centre_F1 - low) / (mid - low), (high - centre_F1) / (high - mid)
    weight_FM = torch.minimum(rise, fall).clamp(min=0)
    # A filter narrower than a bin may miss every bin centre: give it the nearest one.
    nearest = (centre_F1 - mid).abs().argmin(0)
    empty = weight_FM.sum(0) == 0
    weight_FM[nearest[empty], empty.nonzero().squeeze(1)] = 1.0
    return weight_FM / weight_FM.sum(0, keepdim=True)
