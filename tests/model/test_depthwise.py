"""The depthwise convolution compared with torch's convolution, forward and backward."""

import pytest
import torch
from torch.nn import functional as F

from separative.model.blocks import DepthwiseConv


def reference(conv: DepthwiseConv, x_BTD: torch.Tensor) -> torch.Tensor:
    kernel, width = conv.weight_KD.shape
    y = F.conv1d(
        x_BTD.transpose(1, 2),
        conv.weight_KD.T.unsqueeze(1),
        conv.bias_D,
        padding=conv.dilation * (kernel // 2),
        dilation=conv.dilation,
        groups=width,
    )
    return y.transpose(1, 2)


@pytest.mark.parametrize(
    ("kernel", "dilation", "frames"), [(3, 1, 7), (5, 2, 20), (5, 8, 20), (5, 8, 3), (7, 1, 1)]
)
def test_output_and_gradients_equal_those_of_torch(kernel: int, dilation: int, frames: int) -> None:
    conv = DepthwiseConv(4, kernel, dilation).double()
    x_BTD = torch.randn(3, frames, 4, dtype=torch.float64, requires_grad=True)
    weights = [x_BTD, conv.weight_KD, conv.bias_D]
    ours, theirs = conv(x_BTD), reference(conv, x_BTD)
    pull = torch.randn_like(ours)
    torch.testing.assert_close(ours, theirs, atol=1e-12, rtol=0)
    for own, other in zip(
        torch.autograd.grad(ours, weights, pull), torch.autograd.grad(theirs, weights, pull), strict=True
    ):
        torch.testing.assert_close(own, other, atol=1e-12, rtol=0)


def test_gradients_agree_with_finite_differences() -> None:
    conv = DepthwiseConv(3, 3, 2).double()
    x_BTD = torch.randn(2, 6, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(conv, (x_BTD,))


def test_half_precision_stays_half_precision() -> None:
    conv = DepthwiseConv(4, 5, 1)
    x_BTD = torch.randn(2, 30, 4)
    half = conv(x_BTD.bfloat16())
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), conv(x_BTD), atol=0.05, rtol=0.05)
