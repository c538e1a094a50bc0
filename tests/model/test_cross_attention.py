"""Cross-attention over a condition group, compared with the formula computed query by query."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from separative.model.attention import CrossAttention

SAME = 1e-5
BATCH, STREAMS, SEGMENTS, SIZE, HEADS = 5, 2, 4, 8, 2
GROUP_B = torch.tensor([0, 1, 0, 2, 1])


@pytest.fixture
def cross() -> CrossAttention:
    torch.manual_seed(0)
    module = CrossAttention(SIZE, HEADS)
    torch.nn.init.normal_(module.out.weight)
    return module


@pytest.fixture
def inputs() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Queries, segments, activity and valid segments; the last two segments of the third view are padding."""
    torch.manual_seed(1)
    valid_BS = torch.ones(BATCH, SEGMENTS)
    valid_BS[2, 2:] = 0
    query_BCE = F.normalize(torch.randn(BATCH, STREAMS, SIZE), dim=-1)
    segment_BCSE = torch.randn(BATCH, STREAMS, SEGMENTS, SIZE)
    return query_BCE, segment_BCSE, 2 * torch.randn(BATCH, STREAMS, SEGMENTS), valid_BS


def attended_by_loop(
    cross: CrossAttention, inputs: tuple[Tensor, ...], b: int, c: int, *, own: bool = True
) -> Tensor:
    """One attended embedding, from a loop over all segments of all streams of all views of the group."""
    query_BCE, segment_BCSE, activity_BCS, valid_BS = inputs
    memory, bias = [], []
    for view in range(BATCH):
        if GROUP_B[view] != GROUP_B[b] or (view == b and not own):
            continue
        for stream in range(STREAMS):
            for s in range(SEGMENTS):
                if valid_BS[view, s]:
                    memory.append(segment_BCSE[view, stream, s])
                    bias.append(math.log(1 / (1 + math.exp(-activity_BCS[view, stream, s].item()))))
    key_ME, value_ME = cross.key_value(cross.memory_norm(torch.stack(memory))).chunk(2, dim=-1)
    q_E = cross.query(cross.norm(query_BCE[b, c]))
    found = []
    for part in torch.arange(SIZE).chunk(HEADS):
        logits = key_ME[:, part] @ q_E[part] / math.sqrt(SIZE // HEADS) + torch.tensor(bias)
        found.append(logits.softmax(0) @ value_ME[:, part])
    return F.normalize(query_BCE[b, c] + cross.out(torch.cat(found)), dim=-1)


def test_attended_embeddings_follow_the_formula(cross: CrossAttention, inputs: tuple[Tensor, ...]) -> None:
    attended_BCE = cross(*inputs, GROUP_B)
    for b in range(BATCH):
        for c in range(STREAMS):
            assert torch.allclose(attended_BCE[b, c], attended_by_loop(cross, inputs, b, c), atol=SAME)


def test_without_its_own_view_a_query_attends_to_the_other_views(
    cross: CrossAttention, inputs: tuple[Tensor, ...]
) -> None:
    attended_BCE = cross(*inputs, GROUP_B, own_drop=1.0)
    for b in range(BATCH):
        for c in range(STREAMS):
            # A group of one view keeps that view, so that the memory is never empty.
            expected_E = attended_by_loop(cross, inputs, b, c, own=GROUP_B[b] == 2)
            assert torch.allclose(attended_BCE[b, c], expected_E, atol=SAME)


def test_each_query_drops_its_own_view_with_the_given_probability(
    cross: CrossAttention, inputs: tuple[Tensor, ...]
) -> None:
    with_own, without = cross(*inputs, GROUP_B), cross(*inputs, GROUP_B, own_drop=1.0)
    dropped, together, rounds = 0, 0, 200
    for _ in range(rounds):
        attended_BCE = cross(*inputs, GROUP_B, own_drop=0.3)
        kept_BC = torch.isclose(attended_BCE, with_own, atol=SAME).all(-1)
        gone_BC = torch.isclose(attended_BCE, without, atol=SAME).all(-1)
        assert (kept_BC | gone_BC).all() and kept_BC[3].all()
        dropped += int((~kept_BC).sum())
        together += int((~kept_BC[0]).all())
    # 8 queries are in groups of two views. Each is drawn separately, so 0.09 is the chance of both streams.
    assert dropped / (8 * rounds) == pytest.approx(0.3, abs=0.05)
    assert together / rounds == pytest.approx(0.09, abs=0.06)


def test_silent_segments_have_no_effect(cross: CrossAttention, inputs: tuple[Tensor, ...]) -> None:
    query_BCE, segment_BCSE, activity_BCS, valid_BS = inputs
    activity_BCS[:, 1] = -40.0
    before = cross(query_BCE, segment_BCSE, activity_BCS, valid_BS, GROUP_B)
    segment_BCSE[:, 1] = 100 * torch.randn(BATCH, SEGMENTS, SIZE)
    after = cross(query_BCE, segment_BCSE, activity_BCS, valid_BS, GROUP_B)
    assert torch.allclose(before, after, atol=SAME)
    # If all segments are silent, the result is still finite.
    silent_BCE = cross(query_BCE, segment_BCSE, torch.full_like(activity_BCS, -90.0), valid_BS, GROUP_B)
    assert torch.isfinite(silent_BCE).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_keeps_padding_and_other_groups_out(
    cross: CrossAttention, inputs: tuple[Tensor, ...], dtype: torch.dtype
) -> None:
    single_BCE = cross(*inputs, GROUP_B)
    half_BCE = cross.to(dtype)(*(x.to(dtype) for x in inputs), GROUP_B)
    assert torch.isfinite(half_BCE).all()
    assert torch.allclose(half_BCE, single_BCE, atol=0.1)


def test_attention_weights_sum_to_one_and_masked_segments_have_no_effect(
    cross: CrossAttention,
) -> None:
    query_QE, segment_ME = torch.randn(3, SIZE), torch.randn(40, SIZE)
    bias_QM = -torch.rand(1, 40).expand(3, -1)
    masked_QM = bias_QM.masked_fill(torch.arange(40) >= 25, -1e4)
    with torch.inference_mode():
        assert torch.allclose(cross.weights(query_QE, segment_ME, bias_QM).sum(1), torch.ones(3), atol=SAME)
        assert cross.weights(query_QE, segment_ME, masked_QM)[:, 25:].max() < SAME
        attended_QE = cross.attend(query_QE, segment_ME, masked_QM)
        without_QE = cross.attend(query_QE, segment_ME[:25], bias_QM[:, :25])
    assert torch.allclose(attended_QE, without_QE, atol=SAME)
