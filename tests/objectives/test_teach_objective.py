"""The objective ``teach``: the divergence is exact, and every source with a vector is taught."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from separative.errors import SeparativeError
from separative.model import EncoderConfig, SeparativeEncoder
from separative.objectives import Losses, TeachConfig, TeachObjective, teacher_divergence

RATE, SAMPLES, IDENTITIES, E = 8000, 8000, 7, 8
EXACT = 1e-10  # float64
SAME = 1e-5  # float32 sums in a different order


def units(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    drawn = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return F.normalize(drawn, dim=-1).to(dtype)


def plain_divergence(embedding: Tensor, target: Tensor, rows: Tensor, alpha: float) -> Tensor:
    """The same by its definition, with one loop over embeddings and one over rows."""
    results = []
    for e, t in zip(embedding, target, strict=True):
        log_p = torch.stack([2 * alpha * (t @ row) for row in rows]).log_softmax(0)
        log_s = torch.stack([2 * alpha * (e @ row) for row in rows]).log_softmax(0)
        results.append(sum(p.exp() * (p - s) for p, s in zip(log_p, log_s, strict=True)))
    return torch.stack(results)


@pytest.mark.parametrize("chunk", [None, 1, 20])
def test_divergence_and_its_gradient_equal_a_plain_loop(chunk: int | None) -> None:
    rows, target = units(23, E, dtype=torch.float64), units(5, E, seed=1, dtype=torch.float64)
    ours = units(5, E, seed=2, dtype=torch.float64).requires_grad_()
    plain = ours.detach().clone().requires_grad_()
    found = teacher_divergence(ours, target, rows, 7.0, chunk=chunk)
    expected = plain_divergence(plain, target, rows, 7.0)
    torch.testing.assert_close(found, expected, atol=EXACT, rtol=0)
    weights = torch.linspace(1, 2, 5, dtype=torch.float64)
    (found * weights).sum().backward()
    (expected * weights).sum().backward()
    torch.testing.assert_close(ours.grad, plain.grad, atol=EXACT, rtol=0)


def test_divergence_is_zero_at_the_target_and_positive_elsewhere() -> None:
    rows, target = units(23, E), units(5, E, seed=1)
    assert teacher_divergence(target, target, rows, 10.0).abs().max() < SAME
    assert (teacher_divergence(units(5, E, seed=2), target, rows, 10.0) > 0).all()


@pytest.fixture(scope="module")
def model() -> SeparativeEncoder:
    torch.manual_seed(0)
    sizes = {"width": 8, "heads": 2, "shared_blocks": 1, "stream_blocks": 1, "speaker_width": 8, "mels": 16}
    return SeparativeEncoder(EncoderConfig(rate=RATE, speaker_blocks=1, embedding=E, **sizes)).eval()


def compute(
    model: SeparativeEncoder,
    identities: Tensor,
    targets: Tensor | None,
    quiet: Tensor | None = None,
    **weights: float,
) -> Losses:
    """Losses of four mixtures of two speakers; those in ``quiet`` have no speaker, only noise."""
    source = 0.1 * torch.randn(4, 2, SAMPLES, generator=torch.Generator().manual_seed(0))
    if quiet is not None:
        source[quiet] = 0
    mix = source.sum(1) + 0.01 * torch.randn(4, SAMPLES, generator=torch.Generator().manual_seed(1))
    torch.manual_seed(1)
    objective = TeachObjective(TeachConfig(own_drop=0.0, **weights), IDENTITIES, E)
    objective.set_teacher(units(11, E, seed=3))
    return objective(model, mix, source, identities, torch.arange(4), targets)


LABELS = torch.tensor([[0, 1], [2, 3], [4, 5], [6, 0]])
NAMES = ("teach_cos_query", "teach_cos_attended", "teach_kl_query", "teach_kl_attended")


def test_loss_is_that_of_csc_plus_cosine_and_divergence(model: SeparativeEncoder) -> None:
    targets = units(4, 2, E, seed=4)
    without = compute(model, LABELS, targets, teach=0.0)
    losses = compute(model, LABELS, targets, teach=0.3, divergence=0.2, order=0.0)
    cos_q, cos_a, kl_q, kl_a = (losses.parts[name] for name in NAMES)
    expected = compute(model, LABELS, targets, teach=0.0, order=0.0).total
    expected = expected + 0.3 * (1 - cos_q + 1 - cos_a + 0.2 * (kl_q + kl_a))
    torch.testing.assert_close(losses.total, expected, atol=SAME, rtol=SAME)
    assert without.parts.keys() == losses.parts.keys()


def test_unlabelled_source_is_taught_like_a_labelled_one(model: SeparativeEncoder) -> None:
    targets = units(4, 2, E, seed=4)
    labelled = compute(model, LABELS, targets, csc=0.0)
    unlabelled = compute(model, torch.full_like(LABELS, -1), targets, csc=0.0)
    for name in NAMES:
        torch.testing.assert_close(unlabelled.parts[name], labelled.parts[name], atol=SAME, rtol=SAME)
    assert unlabelled.parts["csc_attended"] == 0


def test_sources_without_a_vector_and_mixtures_without_a_speaker_are_not_taught(
    model: SeparativeEncoder,
) -> None:
    targets, quiet = units(4, 2, E, seed=4), torch.tensor([1, 3])
    blank = targets.clone()
    blank[quiet] = 0
    identities = LABELS.clone()
    identities[quiet] = -1
    no_vector = compute(model, LABELS, blank, csc=0.0)
    no_speaker = compute(model, identities, targets, quiet, csc=0.0)
    for name in NAMES:
        # The mean is over the other two mixtures only.
        torch.testing.assert_close(no_speaker.parts[name], no_vector.parts[name], atol=SAME, rtol=SAME)
    nothing = compute(model, torch.full_like(LABELS, -1), torch.zeros_like(targets), torch.arange(4))
    assert torch.isfinite(nothing.total)
    assert all(nothing.parts[name] == 0 for name in NAMES)


def test_order_of_streams_may_follow_the_teacher(model: SeparativeEncoder) -> None:
    targets = units(4, 2, E, seed=4)
    strong = compute(model, LABELS, targets, teach=1e3, separation=0.0, csc=0.0, divergence=0.0)
    swapped = compute(model, LABELS, targets.flip(1), teach=1e3, separation=0.0, csc=0.0, divergence=0.0)
    # Whichever way the vectors are given, each goes to the stream that fits it best.
    torch.testing.assert_close(swapped.parts["teach_cos_query"], strong.parts["teach_cos_query"])


def test_objective_without_vectors_is_an_error(model: SeparativeEncoder) -> None:
    with pytest.raises(SeparativeError, match="train with --vectors"):
        compute(model, LABELS, None)
