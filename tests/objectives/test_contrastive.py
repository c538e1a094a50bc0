"""The contrastive separative loss (method, section 4)."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from separative.metrics import information_bound
from separative.objectives import Inventory, csc_loss

NATS = 1e-5  # float32 over a few hundred identities
EXACT = 1e-9  # float64


def unit(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    rows = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return F.normalize(rows, dim=-1).to(dtype)


def naive_loss(
    embed_RE: torch.Tensor, row_PE: torch.Tensor, a: torch.Tensor, y_R: torch.Tensor
) -> torch.Tensor:
    """The formula in plain loops, one distance and one sum at a time."""
    alpha = torch.log(1 + torch.exp(a))
    losses = []
    for e_E, y in zip(embed_RE, y_R, strict=True):
        f_P = torch.stack([-alpha * ((e_E - row / row.norm()) ** 2).sum() for row in row_PE])
        losses.append(-torch.log(torch.exp(f_P[y]) / torch.exp(f_P).sum()))
    return torch.stack(losses)


@pytest.mark.parametrize("identities", [2, 251, 541])
def test_loss_is_ln_p_if_alpha_is_0(identities: int) -> None:
    inventory = Inventory(identities, 16)
    inventory.a.data.fill_(-200.0)
    assert inventory.alpha == 0
    loss_R = csc_loss(inventory, unit(7, 16), torch.arange(7) % identities)
    assert torch.allclose(loss_R, torch.full((7,), math.log(identities)), rtol=0, atol=NATS)
    assert identities != 251 or abs(loss_R[0].item() - 5.5255) < 5e-5


@pytest.mark.parametrize("alpha", [0.01, 1.0, 10.0, 60.0])
def test_alpha_has_the_requested_initial_value(alpha: float) -> None:
    assert Inventory(3, 4, alpha).alpha.item() == pytest.approx(alpha, rel=1e-5)


def test_f_is_minus_alpha_squared_distance_and_two_alpha_cosine_minus_two_alpha() -> None:
    inventory, embed_RE = Inventory(20, 8, alpha=7.0), unit(5, 8)
    f_RP = inventory(embed_RE)
    distance_RP = (embed_RE.unsqueeze(1) - inventory.unit_rows).square().sum(-1)
    cos_RP = F.cosine_similarity(embed_RE.unsqueeze(1), inventory.row_PE.unsqueeze(0), dim=-1)
    assert torch.allclose(f_RP, -7.0 * distance_RP, atol=1e-5)
    assert torch.allclose(f_RP, 2 * 7.0 * cos_RP - 2 * 7.0, atol=1e-5)


def test_an_offset_added_to_f_cancels() -> None:
    inventory, embed_RE, y_R = Inventory(20, 8), unit(5, 8), torch.arange(5)
    shifted = (inventory(embed_RE) + 3.7).log_softmax(-1)
    assert torch.allclose(-shifted[torch.arange(5), y_R], csc_loss(inventory, embed_RE, y_R), atol=NATS)
    every_RK = inventory.pairwise_losses(embed_RE.unsqueeze(1), torch.arange(20).expand(5, 20)).squeeze(1)
    assert torch.allclose(-shifted, every_RK, atol=NATS)
    # The inventory therefore has no offset: its only parameters are the rows and one precision.
    assert {name for name, _ in inventory.named_parameters()} == {"row_PE", "a"}


def test_length_of_inventory_rows_does_not_change_the_loss() -> None:
    inventory, embed_RE, y_R = Inventory(20, 8), unit(5, 8), torch.arange(5)
    before = csc_loss(inventory, embed_RE, y_R)
    inventory.row_PE.data *= torch.linspace(0.1, 30, 20).unsqueeze(1)
    assert torch.allclose(csc_loss(inventory, embed_RE, y_R), before, atol=NATS)


def test_every_identity_of_the_inventory_is_in_the_sum() -> None:
    """The gradient of one loss reaches every row, because no rows are sampled."""
    inventory = Inventory(300, 8)
    csc_loss(inventory, unit(1, 8), torch.tensor([4])).sum().backward()
    assert (inventory.row_PE.grad.norm(dim=-1) > 0).all()


@settings(max_examples=15, deadline=None)
@given(st.integers(2, 12), st.integers(2, 9), st.integers(1, 5), st.floats(-3, 12), st.integers(0, 99))
def test_values_and_gradients_equal_the_naive_sum(p: int, e: int, r: int, a: float, seed: int) -> None:
    inventory = Inventory(p, e)
    inventory.row_PE.data = unit(p, e, seed=seed + 1) * 0.3
    inventory.a.data.fill_(a)
    fast_RE, y_R = unit(r, e, seed=seed).requires_grad_(), torch.arange(r) % p
    slow = [x.detach().double().requires_grad_() for x in (fast_RE, inventory.row_PE, inventory.a)]
    loss_R, naive_R = csc_loss(inventory, fast_RE, y_R), naive_loss(*slow, y_R)
    assert torch.allclose(loss_R.double(), naive_R, rtol=1e-4, atol=1e-4)
    loss_R.sum().backward()
    naive_R.sum().backward()
    # Our loss assumes unit norm. Its gradient agrees with that of the formula along the sphere.
    fast_E, slow_E = (
        g.double() - (g.double() * x.detach().double()).sum(-1, keepdim=True) * x.detach().double()
        for g, x in ((fast_RE.grad, fast_RE), (slow[0].grad, slow[0]))
    )
    assert torch.allclose(fast_E, slow_E, rtol=1e-3, atol=1e-3)
    assert torch.allclose(inventory.row_PE.grad.double(), slow[1].grad, rtol=1e-3, atol=1e-3)
    assert torch.allclose(inventory.a.grad.double(), slow[2].grad, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("margin", [0.1, 0.3])
def test_margin_is_added_to_the_angle_of_the_true_identity_alone(margin: float) -> None:
    inventory, embed_RE, y_R = Inventory(6, 8, alpha=5.0), unit(4, 8), torch.arange(4)
    cos_RP = (embed_RE @ inventory.unit_rows.T).double()
    moved_RP = cos_RP.clone()
    true = torch.arange(4)
    moved_RP[true, y_R] = torch.cos(torch.acos(cos_RP[true, y_R]) + margin)
    expected_R = F.cross_entropy(10.0 * (moved_RP - 1), y_R, reduction="none")
    loss_R = csc_loss(inventory, embed_RE, y_R, margin=margin)
    assert torch.allclose(loss_R.double(), expected_R, atol=1e-4)
    assert (loss_R > csc_loss(inventory, embed_RE, y_R)).all()


def test_loss_with_margin_increases_with_the_angle_up_to_pi() -> None:
    """Also beyond pi - margin, where cos(angle + margin) would rise again. Gradients are finite."""
    inventory = Inventory(2, 3)
    inventory.row_PE.data = torch.tensor([[1.0, 0, 0], [0, 1, 0]])
    angle_R = torch.linspace(0, math.pi, 200, requires_grad=True)
    embed_RE = torch.stack([angle_R.cos(), torch.zeros(200), angle_R.sin()], dim=-1)
    loss_R = csc_loss(inventory, embed_RE, torch.zeros(200, dtype=torch.long), margin=0.3)
    assert (loss_R.diff() > -NATS).all()
    loss_R.sum().backward()
    assert all(torch.isfinite(x.grad).all() for x in (angle_R, inventory.row_PE, inventory.a))


def test_label_smoothing_is_spread_evenly_over_all_identities() -> None:
    inventory, embed_RE, y_R = Inventory(9, 8), unit(4, 8), torch.arange(4)
    log_RP = inventory(embed_RE).log_softmax(-1)
    expected_R = -0.9 * log_RP[torch.arange(4), y_R] - 0.1 * log_RP.mean(-1)
    assert torch.allclose(csc_loss(inventory, embed_RE, y_R, smoothing=0.1), expected_R, atol=NATS)


def test_spread_is_the_mean_log_distance_to_the_nearest_other_row() -> None:
    inventory = Inventory(12, 5)
    unit_PE = inventory.unit_rows
    nearest = [min((unit_PE[i] - unit_PE[j]).norm().item() for j in range(12) if j != i) for i in range(12)]
    assert inventory.spread().item() == pytest.approx(sum(map(math.log, nearest)) / 12, abs=1e-4)
    inventory.row_PE.data[3] = inventory.row_PE.data[4]
    inventory.spread().backward()
    assert torch.isfinite(inventory.row_PE.grad).all()


def test_information_bound_is_entropy_minus_loss_and_never_negative() -> None:
    assert information_bound(2.0, math.log(251)) == pytest.approx(math.log(251) - 2.0)
    assert information_bound(9.0, math.log(251)) == 0.0


@pytest.mark.parametrize("noise", [0.0, 0.5, 3.0])
def test_information_bound_is_at_most_ln_p_and_tight_without_noise(noise: float) -> None:
    """Embeddings are the row of a speaker plus noise: I ≥ ln P − L and I ≤ ln P."""
    torch.manual_seed(0)
    inventory = Inventory(16, 12, alpha=30.0)
    inventory.row_PE.data = torch.linalg.qr(torch.randn(16, 16))[0][:, :12]
    y_R = torch.arange(16).repeat(50)
    embed_RE = F.normalize(inventory.unit_rows[y_R] + noise * torch.randn(len(y_R), 12), dim=-1)
    bound = information_bound(csc_loss(inventory, embed_RE, y_R).mean().item(), math.log(16))
    assert bound <= math.log(16) + EXACT
    assert (bound > 2.7) == (noise == 0.0)


def test_half_precision_embeddings_give_a_single_precision_loss() -> None:
    inventory, y_R = Inventory(251, 16), torch.arange(6)
    for dtype in (torch.bfloat16, torch.float16):
        embed_RE = unit(6, 16, dtype=dtype).requires_grad_()
        loss_R = csc_loss(inventory, embed_RE, y_R)
        loss_R.sum().backward()
        assert loss_R.dtype == torch.float32 and torch.isfinite(embed_RE.grad).all()
        assert torch.allclose(loss_R, csc_loss(inventory, unit(6, 16), y_R), atol=0.1)
