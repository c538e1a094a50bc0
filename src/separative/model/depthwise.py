"""Depthwise convolution along time, channels last: one multiply-add of the whole tensor for each tap.

On processors the general convolution of deep learning libraries is written for dense kernels; a depthwise one
with a handful of taps is a few passes over memory. Shifts and multiply-adds take a tenth of its time, forward
and backward (docs/benchmarks/step.md).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


class DepthwiseConv(nn.Module):
    """y[t] = bias + Σ_k weight[k] · x[t + (k − K//2)·dilation] per channel; zeros beyond both ends."""

    def __init__(self, width: int, kernel: int, dilation: int) -> None:
        super().__init__()
        self.dilation = dilation
        # The default start of torch's convolutions: uniform within ±1/√K.
        self.weight_KD = nn.Parameter(torch.empty(kernel, width).uniform_(-(kernel**-0.5), kernel**-0.5))
        self.bias_D = nn.Parameter(torch.empty(width).uniform_(-(kernel**-0.5), kernel**-0.5))

    def forward(self, x_BTD: Tensor) -> Tensor:
        weight_KD, bias_D = self.weight_KD.to(x_BTD.dtype), self.bias_D.to(x_BTD.dtype)
        # An exported graph has the general operator too: shifts in place are this library's own way.
        if x_BTD.is_cuda or torch.compiler.is_exporting():
            taps, width = weight_KD.shape
            return F.conv1d(
                x_BTD.transpose(1, 2),
                weight_KD.T.unsqueeze(1),
                bias_D,
                padding=self.dilation * (taps // 2),
                dilation=self.dilation,
                groups=width,
            ).transpose(1, 2)
        y_BTD: Tensor = _Shifted.apply(x_BTD, weight_KD, bias_D, self.dilation)  # type: ignore[no-untyped-call]
        return y_BTD


class _Shifted(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_BTD: Tensor, weight_KD: Tensor, bias_D: Tensor, dilation: int) -> Tensor:
        ctx.save_for_backward(x_BTD, weight_KD)
        ctx.dilation = dilation
        return _correlate(x_BTD, weight_KD, dilation).add_(bias_D)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_BTD: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        x_BTD, weight_KD = ctx.saved_tensors
        grad_weight_KD = torch.zeros_like(weight_KD)
        for tap, out, source in _taps(len(weight_KD), x_BTD.shape[1], ctx.dilation):
            grad_weight_KD[tap] = (grad_BTD[:, out] * x_BTD[:, source]).sum((0, 1))
        # The adjoint of a correlation is the correlation with the taps in the opposite order.
        grad_x_BTD = _correlate(grad_BTD, weight_KD.flip(0), ctx.dilation)
        return grad_x_BTD, grad_weight_KD, grad_BTD.sum((0, 1)), None


def _correlate(x_BTD: Tensor, weight_KD: Tensor, dilation: int) -> Tensor:
    y_BTD = x_BTD * weight_KD[len(weight_KD) // 2]
    for tap, out, source in _taps(len(weight_KD), x_BTD.shape[1], dilation):
        if out != source:
            y_BTD[:, out].addcmul_(x_BTD[:, source], weight_KD[tap])
    return y_BTD


def _taps(kernel: int, frames: int, dilation: int) -> Iterator[tuple[int, slice, slice]]:
    """Each tap that reaches anything: its number, the frames it writes and those it reads."""
    for tap in range(kernel):
        shift = (tap - kernel // 2) * dilation
        if abs(shift) < frames:
            low, high = max(0, -shift), frames - max(0, shift)
            yield tap, slice(low, high), slice(low + shift, high + shift)
