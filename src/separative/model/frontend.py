"""Front ends: from waveforms to frames, and from masks back to waveforms (method, section 2).

Both front ends use the same frame grid, on which batch padding cannot reach a valid frame. Frame t covers the
samples [t·hop − (window − hop), t·hop + hop), and a signal of N samples has all frames that overlap it. So
every sample is covered by window / hop frames, and overlap-add needs no correction at the edges.
"""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from separative.model.blocks import Length, ceil_div
from separative.model.config import EncoderConfig

_POWER_FLOOR = 1e-5  # -50 dB relative to the input, which is normalised to power 1


class FrontEnd(Protocol):
    """The interface of a front end. K is the size of its representation of one frame.

    Attributes:
        grid: the frame grid.
        features: features per frame for the trunk.
        mask_size: raw mask values per frame.
    """

    grid: FrameGrid
    features: int
    mask_size: int

    def analyse(self, mix_BN: Tensor, valid_BT: Tensor) -> tuple[Tensor, Tensor]:
        """Features [B,T,features] for the trunk, and the representation [B,T,K] that is masked."""
        ...

    def synthesise(self, raw_BCTM: Tensor, represent_BTK: Tensor, samples: int) -> Tensor:
        """Apply raw mask values [B,C,T,mask_size] to a representation; waveforms [B,C,samples]."""
        ...


class MelFrontEnd(FrontEnd, Protocol):
    """The interface of a front end with a mel scale."""

    def masked_mels(self, raw_BCTM: Tensor | None, represent_BTK: Tensor, valid_BT: Tensor) -> Tensor:
        """Log-mel energies [B,C,T,mels] of masked spectra, see :func:`stream_mels`.

        Without mask values they are those of the mixture itself, with C = 1.
        """
        ...


class FrameGrid:
    """Frames of ``window`` samples every ``hop`` samples; ``window`` is a multiple of ``hop``.

    >>> grid = FrameGrid(window=4, hop=2)
    >>> grid.frames(5)
    4
    >>> grid.join(grid.cut(torch.ones(1, 5)), 5)  # each sample is in window / hop frames
    tensor([[2., 2., 2., 2., 2.]])
    """

    def __init__(self, window: int, hop: int) -> None:
        self.window, self.hop = window, hop

    def frames(self, samples: Length) -> Length:
        """Number of frames that overlap a signal of ``samples`` samples; an int or a tensor of ints."""
        return ceil_div(samples, self.hop) + self.window // self.hop - 1

    def cut(self, wave_BN: Tensor) -> Tensor:
        """Cut signals [B,N] into overlapping frames [B,T,window], with zeros beyond both ends."""
        left = self.window - self.hop
        right = self.frames(wave_BN.shape[-1]) * self.hop - wave_BN.shape[-1]
        return F.pad(wave_BN, (left, right)).unfold(-1, self.window, self.hop)

    def join(self, frames_BTW: Tensor, samples: int) -> Tensor:
        """Overlap-add frames [...,T,window] to signals [...,samples]; the adjoint of :meth:`cut`."""
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

    The features of a frame are power-compressed real and imaginary parts (exponent 0.3) and log-mel energies,
    once as they are and once minus their mean over the utterance, which removes the response of the channel.

    >>> front_end = StftFrontEnd(EncoderConfig())
    >>> valid = torch.ones(1, front_end.grid.frames(16000))
    >>> features, spectrum = front_end.analyse(torch.randn(1, 16000), valid)
    >>> features.shape, spectrum.shape
    (torch.Size([1, 128, 674]), torch.Size([1, 128, 257]))
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
        # The synthesis window is the analysis window over the sum of its squares on the hop grid. Analysis
        # and synthesis without a mask then reproduce the signal.
        squares = window_W.square().view(-1, config.hop).sum(0).repeat(config.window // config.hop)
        self.register_buffer("window_W", window_W, persistent=False)
        self.register_buffer("synthesis_W", window_W / squares, persistent=False)
        self.register_buffer("mel_FM", mel_filters(bins, config.mels, config.rate), persistent=False)

    @torch.no_grad()
    def analyse(self, mix_BN: Tensor, valid_BT: Tensor) -> tuple[Tensor, Tensor]:
        """See :class:`FrontEnd`."""
        spectrum_BTF = torch.fft.rfft(self.grid.cut(mix_BN) * self.window_W)
        parts_BTF2 = torch.view_as_real(spectrum_BTF) / math.sqrt(self.grid.window)
        features = spectral_features(parts_BTF2, self.mel_FM, valid_BT)
        return features, spectrum_BTF * valid_BT.unsqueeze(-1)

    def masked_mels(self, raw_BCTM: Tensor | None, represent_BTK: Tensor, valid_BT: Tensor) -> Tensor:
        """See :class:`MelFrontEnd`."""
        power_BCTF = torch.view_as_real(represent_BTK).square().sum(-1).unsqueeze(1) / self.grid.window
        return stream_mels(power_BCTF, raw_BCTM, self.mel_FM, valid_BT)

    def synthesise(self, raw_BCTM: Tensor, represent_BTK: Tensor, samples: int) -> Tensor:
        """See :class:`FrontEnd`."""
        mask_BCTF = torch.view_as_complex(complex_mask(raw_BCTM))
        frames = (
            torch.fft.irfft(mask_BCTF * represent_BTK.unsqueeze(1), n=self.grid.window) * self.synthesis_W
        )
        return self.grid.join(frames, samples)


def spectral_features(parts_BTF2: Tensor, mel_FM: Tensor, valid_BT: Tensor) -> Tensor:
    """Features [B,T,2F+2M] of spectra [B,T,F,2] with real and imaginary parts on the last axis.

    Compressed parts first, then log-mel energies, then log-mel energies minus their mean over valid frames.

    >>> spectral_features(torch.randn(1, 9, 257, 2), mel_filters(257, 80, 16000), torch.ones(1, 9)).shape
    torch.Size([1, 9, 674])
    """
    power_BTF = parts_BTF2.square().sum(-1)
    compressed_BTF2 = parts_BTF2 * (power_BTF + _POWER_FLOOR).pow(-0.35).unsqueeze(-1)
    mel_BTM = (power_BTF @ mel_FM + _POWER_FLOOR).log()
    mask_BT1 = valid_BT.unsqueeze(-1)
    mean_B1M = (mel_BTM * mask_BT1).sum(1, keepdim=True) / mask_BT1.sum(1, keepdim=True).clamp(min=1)
    joined = torch.cat([compressed_BTF2.flatten(-2), 0.3 * mel_BTM, 0.3 * (mel_BTM - mean_B1M)], dim=-1)
    return joined * mask_BT1


def stream_mels(power_B1TF: Tensor, raw_BCTM: Tensor | None, mel_FM: Tensor, valid_BT: Tensor) -> Tensor:
    """Log-mel energies [B,C,T,M] of masked spectra, minus their mean over the loud frames of each stream.

    A frame counts in the mean by the square root of its power, so pauses hardly change the mean. The mean is
    the response of the channel, among others.

    Args:
        power_B1TF: power of the mixture's spectrum.
        raw_BCTM: raw mask values; None for no mask.
        mel_FM: filters of :func:`mel_filters`.
        valid_BT: 1 for frames of the mixture, 0 for padding.

    >>> stream_mels(torch.rand(2, 1, 9, 257), None, mel_filters(257, 80, 16000), torch.ones(2, 9)).shape
    torch.Size([2, 1, 9, 80])
    """
    power_BCTF = power_B1TF
    if raw_BCTM is not None:
        power_BCTF = power_B1TF * complex_mask(raw_BCTM).square().sum(-1)
    mel_BCTM = (power_BCTF @ mel_FM + _POWER_FLOOR).log()
    valid_B1T1 = valid_BT[:, None, :, None]
    weight_BCT1 = (power_BCTF.mean(-1, keepdim=True) + _POWER_FLOOR).sqrt() * valid_B1T1
    mean_BC1M = (mel_BCTM * weight_BCT1).sum(2, keepdim=True) / weight_BCT1.sum(2, keepdim=True).clamp(
        min=1e-9
    )
    centred_BCTM: Tensor = 0.3 * (mel_BCTM - mean_BC1M) * valid_B1T1
    return centred_BCTM


def complex_mask(raw_BCTM: Tensor) -> Tensor:
    """Bounded complex mask [B,C,T,F,2] from raw values [B,C,T,2F]; real and imaginary parts are within ±2.

    Raw values of 0 give the mask 0.4, so that an untrained network passes an attenuated mixture.

    >>> complex_mask(torch.zeros(1, 1, 1, 2)).round(decimals=3).flatten()
    tensor([0.4000, 0.0000])
    """
    raw_BCTF2 = raw_BCTM.float().unflatten(-1, (-1, 2)).contiguous()
    return 2 * torch.tanh(raw_BCTF2 + raw_BCTF2.new_tensor([0.2027, 0.0]))


class ConvFrontEnd(nn.Module):
    """Learned filters with a hop of half a window and ReLU, and a transposed convolution back.

    Encoder and decoder of time-domain separation networks (arXiv 1809.07454, arXiv 2101.05014).

    >>> front_end = ConvFrontEnd(EncoderConfig(front_end="conv", window_ms=4, hop_ms=2))
    >>> valid = torch.ones(1, front_end.grid.frames(16000))
    >>> features, _ = front_end.analyse(torch.randn(1, 16000), valid)
    >>> features.shape
    torch.Size([1, 501, 256])
    """

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.grid = FrameGrid(config.window, config.hop)
        self.features = self.mask_size = config.filters
        self.encode = nn.Linear(config.window, config.filters, bias=False)
        self.decode = nn.Linear(config.filters, config.window, bias=False)

    def analyse(self, mix_BN: Tensor, valid_BT: Tensor) -> tuple[Tensor, Tensor]:
        """See :class:`FrontEnd`."""
        represent_BTK = self.encode(self.grid.cut(mix_BN)).relu() * valid_BT.unsqueeze(-1)
        return represent_BTK, represent_BTK

    def synthesise(self, raw_BCTM: Tensor, represent_BTK: Tensor, samples: int) -> Tensor:
        """See :class:`FrontEnd`."""
        frames = self.decode(raw_BCTM.sigmoid() * represent_BTK.unsqueeze(1)).float()
        return self.grid.join(frames, samples)


FRONT_ENDS: dict[str, type[StftFrontEnd] | type[ConvFrontEnd]] = {"stft": StftFrontEnd, "conv": ConvFrontEnd}


def mel_filters(bins: int, mels: int, rate: int) -> Tensor:
    """Triangular filters [bins,mels] of unit sum, evenly spaced in mel (O'Shaughnessy 1987) from 20 Hz.

    >>> mel_filters(bins=257, mels=80, rate=16000).sum(0).allclose(torch.ones(80))
    True
    """
    edges_mel = torch.linspace(2595 * math.log10(1 + 20 / 700), 2595 * math.log10(1 + rate / 1400), mels + 2)
    edges_hz = 700 * (10 ** (edges_mel / 2595) - 1)
    centre_F1 = torch.linspace(0, rate / 2, bins).unsqueeze(1)
    low, mid, high = edges_hz[:-2], edges_hz[1:-1], edges_hz[2:]
    rise, fall = (centre_F1 - low) / (mid - low), (high - centre_F1) / (high - mid)
    weight_FM = torch.minimum(rise, fall).clamp(min=0)
    # A filter narrower than a bin may contain no bin centre: give it the nearest bin.
    nearest = (centre_F1 - mid).abs().argmin(0)
    empty = weight_FM.sum(0) == 0
    weight_FM[nearest[empty], empty.nonzero().squeeze(1)] = 1.0
    return weight_FM / weight_FM.sum(0, keepdim=True)
