"""Residual, pre-normalised blocks [B,T,D] -> [B,T,D]: a local operator, then attention on a pooled grid.

A block gets a mask of valid frames and keeps the others out of every result, so padding has no effect.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from separative.model.config import EncoderConfig

Length = TypeVar("Length", int, Tensor)


def ceil_div(length: Length, size: int) -> Length:
    """Number of pieces of ``size`` that cover ``length``.

    >>> ceil_div(9, 4)
    3
    """
    return (length + size - 1) // size


def pad_size(length: int, size: int) -> int:
    """Padding that makes ``length`` a multiple of ``size``.

    >>> pad_size(9, 4)
    3
    """
    return ceil_div(length, size) * size - length


def frame_mask(length_B: Tensor, frames: int) -> Tensor:
    """Float mask [B,frames]: 1 for the first ``length_B[b]`` frames of row b, else 0.

    >>> frame_mask(torch.tensor([1, 3]), frames=3)
    tensor([[1., 0., 0.],
            [1., 1., 1.]])
    """
    return (torch.arange(frames, device=length_B.device) < length_B.unsqueeze(1)).float()


class DepthwiseConv(nn.Module):
    """y[t] = bias + Σ_k weight[k] · x[t + (k − K//2)·dilation] per channel; zeros beyond both ends.

    >>> conv = DepthwiseConv(width=4, kernel=3, dilation=2)
    >>> conv(torch.randn(2, 10, 4)).shape
    torch.Size([2, 10, 4])
    """

    def __init__(self, width: int, kernel: int, dilation: int) -> None:
        super().__init__()
        self.dilation = dilation
        # Initialised like torch's convolutions: uniform within ±1/√K.
        self.weight_KD = nn.Parameter(torch.empty(kernel, width).uniform_(-(kernel**-0.5), kernel**-0.5))
        self.bias_D = nn.Parameter(torch.empty(width).uniform_(-(kernel**-0.5), kernel**-0.5))

    def forward(self, x_BTD: Tensor) -> Tensor:
        weight_KD, bias_D = self.weight_KD.to(x_BTD.dtype), self.bias_D.to(x_BTD.dtype)
        # On CPUs, adding shifted copies is faster than torch's convolution. An exported graph cannot contain
        # that custom function, which works in place.
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
        y_BTD: Tensor = _ShiftAndAdd.apply(x_BTD, weight_KD, bias_D, self.dilation)  # type: ignore[no-untyped-call]
        return y_BTD


class _ShiftAndAdd(torch.autograd.Function):
    """The depthwise convolution as a sum of shifted and scaled inputs."""

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
        # The adjoint of a correlation is the correlation with the taps in reverse order.
        grad_x_BTD = _correlate(grad_BTD, weight_KD.flip(0), ctx.dilation)
        return grad_x_BTD, grad_weight_KD, grad_BTD.sum((0, 1)), None


def _correlate(x_BTD: Tensor, weight_KD: Tensor, dilation: int) -> Tensor:
    y_BTD = x_BTD * weight_KD[len(weight_KD) // 2]
    for tap, out, source in _taps(len(weight_KD), x_BTD.shape[1], dilation):
        if out != source:
            y_BTD[:, out].addcmul_(x_BTD[:, source], weight_KD[tap])
    return y_BTD


def _taps(kernel: int, frames: int, dilation: int) -> Iterator[tuple[int, slice, slice]]:
    """The taps that reach any frame: number of the tap, output frames and input frames."""
    for tap in range(kernel):
        shift = (tap - kernel // 2) * dilation
        if abs(shift) < frames:
            low, high = max(0, -shift), frames - max(0, shift)
            yield tap, slice(low, high), slice(low + shift, high + shift)


class ConvLocal(nn.Module):
    """Gated linear unit around a dilated depthwise convolution; runs in parallel over time.

    >>> local = ConvLocal(width=8, inner=16, kernel=3, dilation=2)
    >>> local(torch.randn(2, 10, 8), torch.ones(2, 10)).shape
    torch.Size([2, 10, 8])
    """

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
    """Bidirectional LSTM inside segments that overlap by half (locally recurrent, arXiv 2101.05014).

    >>> local = RecurrentLocal(width=8, inner=8, span=4)
    >>> local(torch.randn(2, 10, 8), torch.ones(2, 10)).shape
    torch.Size([2, 10, 8])
    """

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
        # Padding inside a span is zero input. A span of padding alone is computed and dropped.
        hidden: Tensor = self.down(self.lstm(pieces.reshape(batch * spans, self.span, width))[0])
        halves = hidden.view(batch, spans, 2, hop, width)
        # Every frame is in two spans: in the second half of one and in the first half of the next.
        joined = 0.5 * (halves[:, :-1, 1] + halves[:, 1:, 0])
        return joined.reshape(batch, (spans - 1) * hop, width)[:, :frames]


class PooledAttention(nn.Module):
    """Self-attention over means of ``pool`` frames; each result is added to all frames of its mean.

    >>> attention = PooledAttention(width=8, heads=2, pool=4)
    >>> attention(torch.randn(2, 10, 8), torch.ones(2, 10)).shape
    torch.Size([2, 10, 8])
    """

    def __init__(self, width: int, heads: int, pool: int) -> None:
        super().__init__()
        self.heads, self.pool = heads, pool
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x_BTD: Tensor, valid_BT: Tensor) -> Tensor:
        frames = x_BTD.shape[1]
        extra = pad_size(frames, self.pool)
        kept = F.pad(x_BTD * valid_BT.unsqueeze(-1), (0, 0, 0, extra)).unflatten(1, (-1, self.pool)).sum(2)
        count_BS = F.pad(valid_BT, (0, extra)).unflatten(1, (-1, self.pool)).sum(2)
        pooled_BSD = self.norm(kept / count_BS.clamp(min=1).unsqueeze(-1))
        q, k, v = self.qkv(pooled_BSD).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        # A row without any valid frame (batch padding) attends to all positions: finite, and never read.
        reach_BS = (count_BS > 0) | (count_BS.sum(1, keepdim=True) == 0)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=reach_BS[:, None, None, :])
        spread: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return spread.repeat_interleave(self.pool, dim=1)[:, :frames]


# Parameters of the last layer of both branches of a block. While they are zero, the block is the identity.
BRANCH_OUTPUTS = (
    "enter_mels.weight",
    "local.down.weight",
    "local.down.bias",
    "across.out.weight",
    "across.out.bias",
)


class Block(nn.Module):
    """A local operator, then global attention, each with a residual connection.

    Args:
        local: operator inside short spans.
        across: attention across the whole sequence.
        dropout: dropout probability of both branches.
        branch_scale: factor on the initial weights of the last layer of both branches.

    >>> block = Block(ConvLocal(8, 16, 3, 1), PooledAttention(8, 2, 4), branch_scale=0.0)
    >>> x = torch.randn(2, 10, 8)
    >>> torch.equal(block(x, torch.ones(2, 10)), x)
    True
    """

    def __init__(
        self,
        local: ConvLocal | RecurrentLocal,
        across: PooledAttention,
        dropout: float = 0.0,
        branch_scale: float = 1.0,
    ) -> None:
        super().__init__()
        self.local, self.across = local, across
        self.dropout = nn.Dropout(dropout)
        with torch.no_grad():
            for out in (local.down, across.out):
                out.weight.mul_(branch_scale)
                out.bias.mul_(branch_scale)

    def forward(self, x_BTD: Tensor, valid_BT: Tensor) -> Tensor:
        x_BTD = x_BTD + self.dropout(self.local(x_BTD, valid_BT))
        out_BTD: Tensor = x_BTD + self.dropout(self.across(x_BTD, valid_BT))
        return out_BTD


class Stack(nn.Module):
    """Blocks one after another.

    >>> x = torch.randn(2, 10, 8)
    >>> torch.equal(Stack([])(x, torch.ones(2, 10)), x)
    True
    """

    def __init__(self, blocks: list[Block]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x_BTD: Tensor, valid_BT: Tensor) -> Tensor:
        for block in self.blocks:
            x_BTD = block(x_BTD, valid_BT)
        return x_BTD


def build_stack(
    config: EncoderConfig,
    count: int,
    width: int,
    *,
    trunk: str,
    first: int = 0,
    branch_scale: float = 1.0,
) -> Stack:
    """Build ``count`` blocks of ``width`` channels.

    Args:
        config: sizes of the blocks.
        count: number of blocks.
        width: channels D.
        trunk: local operator, ``conv`` or ``recurrent``.
        first: number of the first block, from which dilations are continued.
        branch_scale: see :class:`Block`.

    >>> stack = build_stack(EncoderConfig(dilations=(1, 2)), 3, 16, trunk="conv", first=1)
    >>> [block.local.depthwise.dilation for block in stack.blocks]
    [2, 1, 2]
    """
    blocks = []
    for index in range(first, first + count):
        local: ConvLocal | RecurrentLocal
        if trunk == "conv":
            dilation = config.dilations[index % len(config.dilations)]
            local = ConvLocal(width, int(width * config.expansion), config.kernel, dilation)
        else:
            local = RecurrentLocal(width, width, config.span)
        across = PooledAttention(width, config.heads, config.pool)
        blocks.append(Block(local, across, config.dropout, branch_scale))
    return Stack(blocks)
