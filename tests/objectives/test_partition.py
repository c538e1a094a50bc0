"""The chunked sum over an inventory equals the naive sum in value and gradient for any chunk size."""

import math
import sys
from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from separative.objectives import Inventory, csc_loss
from separative.objectives.partition import log_partition, partition_terms

EXACT = 1e-9  # float64


def draw_inputs(
    r: int, p: int, e: int, seed: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    embed_RE = F.normalize(torch.randn(r, e, generator=generator, dtype=torch.float64), dim=-1)
    row_PE = torch.randn(p, e, generator=generator, dtype=torch.float64) * 0.3
    alpha = torch.rand((), generator=generator, dtype=torch.float64) * 30
    return embed_RE, row_PE, alpha, torch.randint(p, (r,), generator=generator)


def naive_loss(
    embed_RE: torch.Tensor, row_PE: torch.Tensor, alpha: torch.Tensor, y_R: torch.Tensor
) -> torch.Tensor:
    logits_RP = 2 * alpha * (embed_RE @ F.normalize(row_PE, dim=-1).T - 1)
    return F.cross_entropy(logits_RP, y_R, reduction="none")


@settings(max_examples=30, deadline=None)
@given(
    st.integers(1, 6),
    st.integers(2, 40),
    st.integers(2, 9),
    st.integers(1, 99),
    st.integers(0, 240),
    st.integers(0, 99),
)
def test_value_and_gradients_equal_the_naive_loss(
    r: int, p: int, e: int, chunk: int, kept: int, seed: int
) -> None:
    *floats, y_R = draw_inputs(r, p, e, seed)
    ours, theirs = ([x.clone().requires_grad_() for x in floats] for _ in range(2))
    with mock.patch.object(sys.modules[partition_terms.__module__], "KEPT_LOGITS", kept):
        others_R, cos_R = partition_terms(*ours, y_R, chunk=chunk)
    behind_R = others_R - 2 * ours[2] * (cos_R - 1)
    loss_R = torch.logaddexp(behind_R, torch.zeros_like(behind_R))
    naive_R = naive_loss(*theirs, y_R)
    torch.testing.assert_close(loss_R, naive_R, atol=EXACT, rtol=0)
    weight_R = torch.linspace(0.5, 2.0, r, dtype=torch.float64)
    (loss_R * weight_R).sum().backward()
    (naive_R * weight_R).sum().backward()
    for own, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(own.grad, other.grad, atol=EXACT, rtol=0)


def test_gradients_equal_finite_differences() -> None:
    embed_RE, row_PE, alpha, y_R = draw_inputs(3, 7, 4, 0)
    inputs = tuple(x.requires_grad_() for x in (embed_RE, row_PE, alpha))
    assert torch.autograd.gradcheck(lambda *x: partition_terms(*x, y_R, chunk=5), inputs)


def test_log_partition_is_the_logsumexp_of_all_logits() -> None:
    embed_RE, row_PE, alpha, _ = draw_inputs(5, 33, 8, 1)
    logits_RP = 2 * alpha * (embed_RE @ F.normalize(row_PE, dim=-1).T - 1)
    for chunk in (1, 17, 10_000):
        found_R = log_partition(embed_RE, row_PE, alpha, chunk=chunk)
        torch.testing.assert_close(found_R, logits_RP.logsumexp(1), atol=EXACT, rtol=0)


@pytest.mark.parametrize("alpha", [0.0, 1e-3, 500.0])
def test_gradients_are_finite_for_extreme_alpha(alpha: float) -> None:
    embed_RE, row_PE, _, y_R = (x.float() if x.is_floating_point() else x for x in draw_inputs(4, 9, 3, 2))
    floats = [x.requires_grad_() for x in (embed_RE, row_PE, torch.tensor(alpha))]
    others_R, cos_R = partition_terms(*floats, y_R, chunk=8)
    torch.logaddexp(others_R, 2 * floats[2] * (cos_R - 1)).sum().backward()
    assert all(x.grad is not None and torch.isfinite(x.grad).all() for x in floats)


def test_a_single_identity_has_zero_loss_and_gradient() -> None:
    inventory = Inventory(1, 4)
    embed_RE = F.normalize(torch.randn(3, 4), dim=-1).requires_grad_()
    loss_R = csc_loss(inventory, embed_RE, torch.zeros(3, dtype=torch.long))
    loss_R.sum().backward()
    assert torch.equal(loss_R, torch.zeros(3))
    assert embed_RE.grad is not None and torch.equal(embed_RE.grad, torch.zeros(3, 4))


def test_an_empty_batch_gives_no_losses() -> None:
    inventory = Inventory(5, 4)
    loss_R = csc_loss(inventory, torch.zeros(0, 4), torch.zeros(0, dtype=torch.long))
    assert loss_R.shape == (0,)
    loss_R.sum().backward()


def test_autocast_does_not_change_the_result() -> None:
    inventory, y_R = Inventory(300, 16), torch.arange(6)
    embed_RE = F.normalize(torch.randn(6, 16), dim=-1)
    with torch.autocast("cpu", torch.bfloat16):
        inside = csc_loss(inventory, embed_RE, y_R), inventory.pairwise_losses(embed_RE[None], y_R[None])
    assert torch.equal(inside[0], csc_loss(inventory, embed_RE, y_R))
    assert torch.equal(inside[1], inventory.pairwise_losses(embed_RE[None], y_R[None]))


def test_loss_of_a_large_inventory_never_holds_all_logits(monkeypatch: pytest.MonkeyPatch) -> None:
    """The largest tensor that the loss allocates is the gradient of the rows."""
    from torch.utils._python_dispatch import TorchDispatchMode

    largest = [0]

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            out = func(*args, **(kwargs or {}))
            for x in out if isinstance(out, tuple | list) else [out]:
                if isinstance(x, torch.Tensor):
                    largest[0] = max(largest[0], x.numel())
            return out

    inventory = Inventory(60_000, 4)
    embed_RE = F.normalize(torch.randn(64, 4), dim=-1).requires_grad_()
    monkeypatch.setattr(sys.modules[partition_terms.__module__], "KEPT_LOGITS", 2**20)
    with Watch():
        csc_loss(inventory, embed_RE, torch.arange(64)).sum().backward()
    assert largest[0] <= 2**19 < 64 * 60_000
    assert math.isfinite(float(inventory.row_PE.grad.sum()))
