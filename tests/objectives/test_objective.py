"""The objective ``csc`` on the output of a small encoder."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from separative.model import EncoderConfig, EncoderOutput, SeparativeEncoder
from separative.objectives import LossConfig, Losses, SeparativeObjective, csc_loss, separation_costs

RATE, SAMPLES, IDENTITIES = 8000, 8000, 7
SAME = 1e-4  # float32 sums in a different order


@pytest.fixture(scope="module", params=[2, 3, 5])
def model(request: pytest.FixtureRequest) -> SeparativeEncoder:
    torch.manual_seed(0)
    config = EncoderConfig(
        rate=RATE,
        streams=request.param,
        width=8,
        heads=2,
        shared_blocks=1,
        stream_blocks=1,
        speaker_width=8,
        speaker_blocks=1,
        embedding=8,
        mels=16,
    )
    return SeparativeEncoder(config).eval()


def make_batch(streams: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Four mixtures of C sources and noise, their sources, and the identities of the sources."""
    generator = torch.Generator().manual_seed(seed)
    source = 0.1 * torch.randn(4, streams, SAMPLES, generator=generator)
    source *= torch.rand(4, streams, 1, generator=generator) + 0.5
    identity = torch.rand(4, IDENTITIES, generator=generator).argsort(-1)[:, :streams]
    return source.sum(1) + 0.01 * torch.randn(4, SAMPLES, generator=generator), source, identity


def compute(
    model: SeparativeEncoder,
    out: EncoderOutput,
    mix: Tensor,
    source: Tensor,
    identity: Tensor,
    **weights: float,
) -> Losses:
    torch.manual_seed(1)
    objective = SeparativeObjective(LossConfig(**weights), IDENTITIES, model.config.embedding)
    return objective.compute_losses(model, out, mix, source, identity)


@given(st.randoms(use_true_random=False), st.sampled_from([0.0, 0.5]), st.integers(0, 99))
@settings(max_examples=10, deadline=None)
def test_order_of_sources_and_streams_does_not_change_the_losses(
    model: SeparativeEncoder, random: object, separation: float, seed: int
) -> None:
    streams = model.streams
    mix, source, identity = make_batch(streams, seed)
    source[1, -1], identity[1, -1] = 0, -1
    with torch.inference_mode():
        out = model(mix)
    before = compute(model, out, mix, source, identity, separation=separation)
    sources, slots = (random.sample(range(streams), streams) for _ in range(2))
    moved = out._replace(
        **{
            name: getattr(out, name)[:, slots]
            for name in ("estimate_BCN", "segment_BCSE", "activity_BCS", "query_BCE", "attended_BCE")
        },
    )
    after = compute(model, moved, mix, source[:, sources], identity[:, sources], separation=separation)
    assert after.total.item() == pytest.approx(before.total.item(), abs=SAME)
    assert after.parts.keys() == before.parts.keys()
    for name, value in before.parts.items():
        assert after.parts[name].item() == pytest.approx(value.item(), abs=SAME), name


@pytest.mark.parametrize("separation", [0.0, 0.5])
def test_total_is_the_weighted_sum_of_the_parts(model: SeparativeEncoder, separation: float) -> None:
    mix, source, identity = make_batch(model.streams)
    w = {"separation": separation, "csc": 0.7, "activity": 0.3, "spread": 0.2}
    with torch.inference_mode():
        out = model(mix)
    losses = compute(model, out, mix, source, identity, **w)
    torch.manual_seed(1)
    spread = SeparativeObjective(LossConfig(), IDENTITIES, model.config.embedding).inventory.spread()
    parts = losses.parts
    expected = 0.7 * (parts["csc_query"] + parts["csc_attended"]) + 0.3 * parts["activity"] - 0.2 * spread
    if separation:
        expected = expected + separation * parts["separation_db"] / 10
    assert losses.total.item() == pytest.approx(expected.item(), abs=SAME)


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_single_scales_the_separation_gradient_of_one_speaker_mixtures(
    model: SeparativeEncoder, share: float
) -> None:
    mix, source, identity = make_batch(model.streams)
    source[0, 1:], identity[0, 1:] = 0, -1
    with torch.inference_mode():
        out = model(mix)

    def gradient_norms(share: float) -> Tensor:
        estimate = out.estimate_BCN.clone().requires_grad_()
        losses = compute(
            model, out._replace(estimate_BCN=estimate), mix, source, identity, single=share, activity=0.0
        )
        return torch.autograd.grad(losses.total, estimate)[0].flatten(1).norm(dim=1)

    full, partly = gradient_norms(1.0), gradient_norms(share)
    assert torch.allclose(partly[1:], full[1:])
    assert full[0] > 0
    assert torch.allclose(partly[0], share * full[0])


def test_activity_decides_the_order_of_streams_if_separation_has_no_weight(model: SeparativeEncoder) -> None:
    mix, source, identity = make_batch(model.streams)
    source[:, 1:], identity[:, 1:] = 0, -1
    with torch.inference_mode():
        out = model(mix)
    activity = torch.full_like(out.activity_BCS, -5.0)
    activity[:, -1] = 5.0
    losses = compute(model, out._replace(activity_BCS=activity), mix, source, identity, single=0.0, order=0.0)
    assert (losses.order[:, 0] == model.streams - 1).all()


def test_perfect_estimates_decide_the_order(model: SeparativeEncoder) -> None:
    """Perfect waveforms in a known order: that order is found, and separation has its lowest cost."""
    mix, source, identity = make_batch(model.streams)
    with torch.inference_mode():
        out = model(mix)
    slots = torch.randperm(model.streams, generator=torch.Generator().manual_seed(3))
    losses = compute(model, out._replace(estimate_BCN=source[:, slots]), mix, source, identity, csc=0.02)
    assert torch.equal(slots[losses.order], torch.arange(model.streams).expand(4, -1))
    assert losses.parts["separation_db"].item() == pytest.approx(-30.0, abs=SAME)


def test_embeddings_decide_the_order_while_all_estimates_are_equal(model: SeparativeEncoder) -> None:
    """Early in training every stream holds the mixture; labels must not be assigned at random."""
    mix, source, identity = make_batch(model.streams)
    with torch.inference_mode():
        out = model(mix)
    torch.manual_seed(1)
    objective = SeparativeObjective(LossConfig(), IDENTITIES, model.config.embedding)
    known_BCE = objective.inventory.unit_rows.detach()[identity].flip(1)
    out = out._replace(
        estimate_BCN=mix.unsqueeze(1).expand(-1, model.streams, -1) / model.streams,
        query_BCE=known_BCE,
        attended_BCE=known_BCE,
    )
    turned = torch.arange(model.streams).flip(0).expand(4, -1)
    assert torch.equal(objective.compute_losses(model, out, mix, source, identity).order, turned)
    # With `order` 0 only the waveforms decide.
    objective.config = LossConfig(order=0.0)
    assert not torch.equal(objective.compute_losses(model, out, mix, source, identity).order, turned)


@pytest.mark.parametrize("case", ["silent", "inaudible", "brief", "unlabelled"])
def test_inaudible_or_unlabelled_source_has_no_identity_loss(model: SeparativeEncoder, case: str) -> None:
    mix, source, identity = make_batch(model.streams)
    if case == "silent":
        source[:, 1] = 0
    elif case == "inaudible":
        source[:, 1] *= 0.05
    elif case == "brief":
        source[:, 1, 2400:] = 0
    else:
        identity[:, 1] = -1
    mix = source.sum(1)
    with torch.inference_mode():
        out = model(mix)
    torch.manual_seed(1)
    objective = SeparativeObjective(LossConfig(), IDENTITIES, model.config.embedding)
    losses = objective.compute_losses(model, out, mix, source, identity)
    rows = torch.arange(4).unsqueeze(1)
    kept = [k for k in range(model.streams) if k != 1]
    for name, embed_BCE in (("csc_query", out.query_BCE), ("csc_attended", out.attended_BCE)):
        chosen_RE = embed_BCE[rows, losses.order[:, kept]].flatten(0, 1)
        expected = csc_loss(objective.inventory, chosen_RE, identity[:, kept].flatten()).mean()
        assert losses.parts[name].item() == pytest.approx(expected.item(), abs=SAME)
    # Its label does not change the total.
    identity[:, 1] = torch.where(identity[:, 1] < 0, identity[:, 1], (identity[:, 1] + 1) % IDENTITIES)
    assert torch.equal(objective.compute_losses(model, out, mix, source, identity).total, losses.total)


def test_unlabelled_source_has_a_separation_loss(model: SeparativeEncoder) -> None:
    mix, source, identity = make_batch(model.streams)
    with torch.inference_mode():
        out = model(mix)
    identity[:] = -1
    losses = compute(model, out, mix, source, identity)
    assert losses.parts["csc_query"] == 0 and losses.parts["csc_attended"] == 0
    cost_BCK = separation_costs(out.estimate_BCN, source, mix)
    chosen = cost_BCK.gather(1, losses.order.unsqueeze(1)).mean()
    assert losses.parts["separation_db"].item() == pytest.approx(chosen.item(), abs=1e-3)


def test_logged_losses_are_without_margin_and_smoothing(model: SeparativeEncoder) -> None:
    mix, source, identity = make_batch(model.streams)
    with torch.inference_mode():
        out = model(mix)
    plain = compute(model, out, mix, source, identity)
    harder = compute(model, out, mix, source, identity, margin=0.3, smoothing=0.1)
    for name in ("csc_query", "csc_attended"):
        assert torch.equal(plain.parts[name], harder.parts[name])
    assert harder.total > plain.total + 0.1


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("case", ["plain", "silence", "identical", "one speaker", "clipped"])
def test_loss_and_gradients_are_finite(case: str, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    model = SeparativeEncoder(
        EncoderConfig(rate=RATE, width=8, heads=2, shared_blocks=1, speaker_width=8, embedding=8, mels=16)
    )
    mix, source, identity = make_batch(2)
    if case == "silence":
        source[:] = 0
    elif case == "identical":
        source[:, 1] = source[:, 0]
    elif case == "one speaker":
        source[:, 1], identity[:, 1] = 0, -1
    elif case == "clipped":
        source = (50 * source).clamp(-1, 1)
    mix = source.sum(1)
    objective = SeparativeObjective(LossConfig(spread=0.1), IDENTITIES, 8)
    out = model(mix, group_B=torch.tensor([0, 0, 1, 1]), own_drop=0.5)
    out = EncoderOutput(*(x.to(dtype) for x in out))
    losses = objective.compute_losses(model, out, mix.to(dtype), source.to(dtype), identity)
    losses.total.backward()
    assert torch.isfinite(losses.total) and all(torch.isfinite(v) for v in losses.parts.values())
    for name, weight in (*model.named_parameters(), *objective.named_parameters()):
        assert weight.grad is None or torch.isfinite(weight.grad).all(), name
