"""Residual, pre-normalised blocks [B,T,D] -> [B,T,D]: a local operator, then attention on a pooled grid.

A block takes the mask of valid frames and keeps invalid ones out of every result, so padding never matters.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

Length = TypeVar("Length", int, Tensor)


def ceil_div(length: Length, size: int) -> Length:
    """Pieces of ``size`` that hold ``length``."""
    return (length + size - 1) // size


def shortfall(length: int, size: int) -> int:
    """What is missing to whole pieces of ``size``."""
    return ceil_div(length, size) * size - length


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


class ConvLocal(nn.Module):
    """Gated linear unit around a dilated depthwise convolution: parallel in time."""

    def __init__(self, width: int, inner: int, kernel: int, dilation: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, 2 * inner)
        self.depthwise = DepthwiseConv(inner, kernel, dilation)
        self.down = nn.Linear(inner, width)

    def forward(self, x_BTD: Tensor, valid_BT: Tensor) -> Tensor:
        value, gate = self.up(self.norm(x_BTD)).chunk(2, dim=-1)
        mixed = self.depthwise(value * valid_BT.unsqueeze(-1))
        out_BTD: Tensor = self.down(F.silu(mixed) * gate)
        return out_BTD


class RecurrentLocal(nn.Module):
    """Bidirectional LSTM inside segments that overlap by half (arXiv 2101.05014, locally recurrent)."""

    def __init__(self, width: int, inner: int, span: int) -> None:
        super().__init__()
        self.span = span + span % 2
        self.norm = nn.LayerNorm(width)
        self.lstm = nn.LSTM(width, inner, batch_first=True, bidirectional=True)
        self.down = nn.Linear(2 * inner, width)

    def forward(self, x_BTD: Tensor, valid_BT: Tensor) -> Tensor:
        batch, frames, width = x_BTD.shape
        hop = self.span // 2
        spans = ceil_div(frames, hop) + 1
        padded = F.pad(self.norm(x_BTD) * valid_BT.unsqueeze(-1), (0, 0, hop, spans * hop - frames))
        pieces = padded.unfold(1, self.span, hop).transpose(2, 3)
        # Padding inside a span is zero input; a span of padding alone is computed and dropped.
        hidden: Tensor = self.down(self.lstm(pieces.reshape(batch * spans, self.span, width))[0])
        halves = hidden.view(batch, spans, 2, hop, width)
        # Every frame lies in two spans: in the second half of one and the first half of the next.
        joined = 0.5 * (halves[:, :-1, 1] + halves[:, 1:, 0])
        return joined.reshape(batch, (spans - 1) * hop, width)[:, :frames]


class PooledAttention(nn.Module):
    """Self-attention over means of ``pool`` frames, added back to every frame of each mean."""

    def __init__(self, width: int, heads: int, pool: int) -> None:
        super().__init__()
        self.heads, self.pool = heads, pool
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x_BTD: Tensor, valid_BT: Tensor) -> Tensor:
        frames = x_BTD.shape[1]
        extra = shortfall(frames, self.pool)
        kept = F.pad(x_BTD * valid_BT.unsqueeze(-1), (0, 0, 0, extra)).unflatten(1, (-1, self.pool)).sum(2)
        count_BS = F.pad(valid_BT, (0, extra)).unflatten(1, (-1, self.pool)).sum(2)
        pooled_BSD = self.norm(kept / count_BS.clamp(min=1).unsqueeze(-1))
        q, k, v = self.qkv(pooled_BSD).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        # A row without any valid frame (batch padding) attends to itself: finite, and never read.
        reach_BS = (count_BS > 0) | (count_BS.sum(1, keepdim=True) == 0)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=reach_BS[:, None, None, :])
        spread: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return spread.repeat_interleave(self.pool, dim=1)[:, :frames]


# What the two branches of a block end with: while it is zero, the block passes its input on.
BRANCH_ENDS = ("local.down.weight", "local.down.bias", "across.out.weight", "across.out.bias")


class Block(nn.Module):
    """Local, then global; both residual. What ends a branch starts ``branch`` times its usual size."""

    def __init__(
        self,
        local: ConvLocal | RecurrentLocal,
        across: PooledAttention,
        dropout: float = 0.0,
        branch: float = 1.0,
    ) -> None:
        super().__init__()
        self.local, self.across = local, across
        self.dropout = nn.Dropout(dropout)
        with torch.no_grad():
            for out in (local.down, across.out):
                out.weight.mul_(branch)
                out.bias.mul_(branch)

    def forward(self, x_BTD: Tensor, valid_BT: Tensor) -> Tensor:
        x_BTD = x_BTD + self.dropout(self.local(x_BTD, valid_BT))
        out_BTD: Tensor = x_BTD + self.dropout(self.across(x_BTD, valid_BT))
        return out_BTD


class Stack(nn.Module):
    """Blocks one after another."""

    def __init__(self, blocks: list[Block]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x_BTD: Tensor, valid_BT: Tensor) -> Tensor:
        for block in self.blocks:
            x_BTD = block(x_BTD, valid_BT)
        return x_BTD


def frame_mask(length_B: Tensor, frames: int) -> Tensor:
    """Float mask [B,T] of the first ``length_B`` frames of each row."""
    return (torch.arange(frames, device=length_B.device) < length_B.unsqueeze(1)).float()
