"""The whole objective on the outputs of a real, small encoder."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from separative.model import EncoderConfig, Separated, SeparativeEncoder
from separative.objectives import LossConfig, Losses, SeparativeObjective, csc_loss, separation_costs

RATE, SAMPLES, IDENTITIES = 8000, 8000, 7
SAME = 1e-4  # float32 sums in another order


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


def talk(streams: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Four mixtures of C speakers, a noise, and the speakers' rows."""
    generator = torch.Generator().manual_seed(seed)
    source = 0.1 * torch.randn(4, streams, SAMPLES, generator=generator)
    source *= torch.rand(4, streams, 1, generator=generator) + 0.5
    identity = torch.rand(4, IDENTITIES, generator=generator).argsort(-1)[:, :streams]
    return source.sum(1) + 0.01 * torch.randn(4, SAMPLES, generator=generator), source, identity


def cost(
    model: SeparativeEncoder, out: Separated, mix: Tensor, source: Tensor, identity: Tensor, **weights: float
) -> Losses:
    torch.manual_seed(1)
    objective = SeparativeObjective(LossConfig(**weights), IDENTITIES, model.config.embedding)
    return objective.judge(model, out, mix, source, identity)


@given(st.randoms(use_true_random=False), st.sampled_from([0.0, 0.5]), st.integers(0, 99))
@settings(max_examples=10, deadline=None)
def test_order_of_sources_and_of_streams_changes_no_loss(
    model: SeparativeEncoder, random: object, separation: float, seed: int
) -> None:
    streams = model.streams
    mix, source, identity = talk(streams, seed)
    source[1, -1], identity[1, -1] = 0, -1
    with torch.inference_mode():
        out = model(mix)
    before = cost(model, out, mix, source, identity, separation=separation)
    sources, slots = (random.sample(range(streams), streams) for _ in range(2))
    moved = out._replace(
        **{
            name: getattr(out, name)[:, slots]
            for name in ("estimate_BCN", "segment_BCSE", "activity_BCS", "query_BCE", "attended_BCE")
        },
    )
    after = cost(model, moved, mix, source[:, sources], identity[:, sources], separation=separation)
    assert after.total.item() == pytest.approx(before.total.item(), abs=SAME)
    assert after.parts.keys() == before.parts.keys()
    for name, value in before.parts.items():
        assert after.parts[name].item() == pytest.approx(value.item(), abs=SAME), name


@pytest.mark.parametrize("separation", [0.0, 0.5])
def test_total_is_the_weighted_sum_of_the_parts(model: SeparativeEncoder, separation: float) -> None:
    mix, source, identity = talk(model.streams)
    w = {"separation": separation, "csc": 0.7, "activity": 0.3, "spread": 0.2}
    with torch.inference_mode():
        out = model(mix)
    losses = cost(model, out, mix, source, identity, **w)
    torch.manual_seed(1)
    spread = SeparativeObjective(LossConfig(), IDENTITIES, model.config.embedding).inventory.spread()
    parts = losses.parts
    expected = 0.7 * (parts["csc_query"] + parts["csc_answer"]) + 0.3 * parts["activity"] - 0.2 * spread
    if separation:
        expected = expected + separation * parts["separation_db"] / 10
    assert losses.total.item() == pytest.approx(expected.item(), abs=SAME)


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_a_speaker_alone_teaches_separation_by_that_share_only(
    model: SeparativeEncoder, share: float
) -> None:
    mix, source, identity = talk(model.streams)
    source[0, 1:], identity[0, 1:] = 0, -1
    with torch.inference_mode():
        out = model(mix)

    def pull(share: float) -> Tensor:
        estimate = out.estimate_BCN.clone().requires_grad_()
        judged = cost(
            model, out._replace(estimate_BCN=estimate), mix, source, identity, single=share, activity=0.0
        )
        return torch.autograd.grad(judged.total, estimate)[0].flatten(1).norm(dim=1)

    full, partly = pull(1.0), pull(share)
    assert torch.allclose(partly[1:], full[1:])
    assert full[0] > 0
    assert torch.allclose(partly[0], share * full[0])


def test_activity_says_whose_a_stream_is_where_separation_does_not_count(model: SeparativeEncoder) -> None:
    mix, source, identity = talk(model.streams)
    source[:, 1:], identity[:, 1:] = 0, -1
    with torch.inference_mode():
        out = model(mix)
    activity = torch.full_like(out.activity_BCS, -5.0)
    activity[:, -1] = 5.0
    judged = cost(model, out._replace(activity_BCS=activity), mix, source, identity, single=0.0, order=0.0)
    assert (judged.order_BK[:, 0] == model.streams - 1).all()


def test_true_estimates_decide_the_order(model: SeparativeEncoder) -> None:
    """With perfect waveforms in a known order, that is the order, and separation costs the least there is."""
    mix, source, identity = talk(model.streams)
    with torch.inference_mode():
        out = model(mix)
    slots = torch.randperm(model.streams, generator=torch.Generator().manual_seed(3))
    losses = cost(model, out._replace(estimate_BCN=source[:, slots]), mix, source, identity, csc=0.02)
    assert torch.equal(slots[losses.order_BK], torch.arange(model.streams).expand(4, -1))
    assert losses.parts["separation_db"].item() == pytest.approx(-30.0, abs=SAME)


def test_embeddings_decide_the_order_while_waveforms_cannot(model: SeparativeEncoder) -> None:
    """Early in training every slot holds the mixture: the speakers' labels must not be dealt at random."""
    mix, source, identity = talk(model.streams)
    with torch.inference_mode():
        out = model(mix)
    torch.manual_seed(1)
    objective = SeparativeObjective(LossConfig(), IDENTITIES, model.config.embedding)
    known_BCE = objective.inventory.unit_PE.detach()[identity].flip(1)
    out = out._replace(
        estimate_BCN=mix.unsqueeze(1).expand(-1, model.streams, -1) / model.streams,
        query_BCE=known_BCE,
        attended_BCE=known_BCE,
    )
    turned = torch.arange(model.streams).flip(0).expand(4, -1)
    assert torch.equal(objective.judge(model, out, mix, source, identity).order_BK, turned)
    # With `order` 0 waveforms decide alone, whatever the embeddings say.
    objective.config = LossConfig(order=0.0)
    assert not torch.equal(objective.judge(model, out, mix, source, identity).order_BK, turned)


@pytest.mark.parametrize("case", ["silent", "inaudible", "brief", "unlabelled"])
def test_such_a_source_carries_no_identity_loss(model: SeparativeEncoder, case: str) -> None:
    mix, source, identity = talk(model.streams)
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
    losses = objective.judge(model, out, mix, source, identity)
    rows = torch.arange(4).unsqueeze(1)
    kept = [k for k in range(model.streams) if k != 1]
    for name, embed_BCE in (("csc_query", out.query_BCE), ("csc_answer", out.attended_BCE)):
        chosen_RE = embed_BCE[rows, losses.order_BK[:, kept]].flatten(0, 1)
        expected = csc_loss(objective.inventory, chosen_RE, identity[:, kept].flatten()).mean()
        assert losses.parts[name].item() == pytest.approx(expected.item(), abs=SAME)
    # Whatever row it would have had, the total is the same.
    identity[:, 1] = torch.where(identity[:, 1] < 0, identity[:, 1], (identity[:, 1] + 1) % IDENTITIES)
    assert torch.equal(objective.judge(model, out, mix, source, identity).total, losses.total)


def test_an_unlabelled_source_is_still_separated(model: SeparativeEncoder) -> None:
    mix, source, identity = talk(model.streams)
    with torch.inference_mode():
        out = model(mix)
    identity[:] = -1
    losses = cost(model, out, mix, source, identity)
    assert losses.parts["csc_query"] == 0 and losses.parts["csc_answer"] == 0
    cost_BCK = separation_costs(out.estimate_BCN, source, mix)
    chosen = cost_BCK.gather(1, losses.order_BK.unsqueeze(1)).mean()
    assert losses.parts["separation_db"].item() == pytest.approx(chosen.item(), abs=1e-3)


def test_reported_nats_are_free_of_margin_and_smoothing(model: SeparativeEncoder) -> None:
    mix, source, identity = talk(model.streams)
    with torch.inference_mode():
        out = model(mix)
    plain = cost(model, out, mix, source, identity)
    harder = cost(model, out, mix, source, identity, margin=0.3, smoothing=0.1)
    for name in ("csc_query", "csc_answer"):
        assert torch.equal(plain.parts[name], harder.parts[name])
    assert harder.total > plain.total + 0.1


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("case", ["plain", "silence", "identical", "one speaker", "clipped"])
def test_loss_and_all_gradients_are_finite(case: str, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    model = SeparativeEncoder(
        EncoderConfig(rate=RATE, width=8, heads=2, shared_blocks=1, speaker_width=8, embedding=8, mels=16)
    )
    mix, source, identity = talk(2)
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
    out = Separated(*(x.to(dtype) for x in out))
    losses = objective.judge(model, out, mix.to(dtype), source.to(dtype), identity)
    losses.total.backward()
    assert torch.isfinite(losses.total) and all(torch.isfinite(v) for v in losses.parts.values())
    for name, weight in (*model.named_parameters(), *objective.named_parameters()):
        assert weight.grad is None or torch.isfinite(weight.grad).all(), name
