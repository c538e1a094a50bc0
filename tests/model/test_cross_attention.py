"""Cross-attention over a condition group, against the formula written out query by query."""

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
def heard() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Queries, segments, activity, valid segments (the last two of the third view are padding)."""
    torch.manual_seed(1)
    valid_BS = torch.ones(BATCH, SEGMENTS)
    valid_BS[2, 2:] = 0
    query_BCE = F.normalize(torch.randn(BATCH, STREAMS, SIZE), dim=-1)
    segment_BCSE = torch.randn(BATCH, STREAMS, SEGMENTS, SIZE)
    return query_BCE, segment_BCSE, 2 * torch.randn(BATCH, STREAMS, SEGMENTS), valid_BS


def naive(cross: CrossAttention, heard: tuple[Tensor, ...], b: int, c: int, *, own: bool = True) -> Tensor:
    """One answer: every segment of every stream of every view of the group, one logit each."""
    query_BCE, segment_BCSE, activity_BCS, valid_BS = heard
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


def test_answers_are_those_of_the_formula(cross: CrossAttention, heard: tuple[Tensor, ...]) -> None:
    attended_BCE = cross(*heard, GROUP_B)
    for b in range(BATCH):
        for c in range(STREAMS):
            assert torch.allclose(attended_BCE[b, c], naive(cross, heard, b, c), atol=SAME)


def test_a_dropped_own_view_leaves_the_others(cross: CrossAttention, heard: tuple[Tensor, ...]) -> None:
    attended_BCE = cross(*heard, GROUP_B, own_drop=1.0)
    for b in range(BATCH):
        for c in range(STREAMS):
            # The group of one view keeps it: its memory is never empty.
            expected_E = naive(cross, heard, b, c, own=GROUP_B[b] == 2)
            assert torch.allclose(attended_BCE[b, c], expected_E, atol=SAME)


def test_each_query_drops_its_view_as_often_as_asked(
    cross: CrossAttention, heard: tuple[Tensor, ...]
) -> None:
    with_own, without = cross(*heard, GROUP_B), cross(*heard, GROUP_B, own_drop=1.0)
    dropped, together, rounds = 0, 0, 200
    for _ in range(rounds):
        attended_BCE = cross(*heard, GROUP_B, own_drop=0.3)
        kept_BC = torch.isclose(attended_BCE, with_own, atol=SAME).all(-1)
        gone_BC = torch.isclose(attended_BCE, without, atol=SAME).all(-1)
        assert (kept_BC | gone_BC).all() and kept_BC[3].all()
        dropped += int((~kept_BC).sum())
        together += int((~kept_BC[0]).all())
    # 8 queries in groups of two views; drawn for every query, so both streams of a view seldom at once.
    assert dropped / (8 * rounds) == pytest.approx(0.3, abs=0.05)
    assert together / rounds == pytest.approx(0.09, abs=0.06)


def test_silence_is_not_attended_to(cross: CrossAttention, heard: tuple[Tensor, ...]) -> None:
    query_BCE, segment_BCSE, activity_BCS, valid_BS = heard
    activity_BCS[:, 1] = -40.0
    before = cross(query_BCE, segment_BCSE, activity_BCS, valid_BS, GROUP_B)
    segment_BCSE[:, 1] = 100 * torch.randn(BATCH, SEGMENTS, SIZE)
    after = cross(query_BCE, segment_BCSE, activity_BCS, valid_BS, GROUP_B)
    assert torch.allclose(before, after, atol=SAME)
    # Where all is silence, the least silent still answers, finitely.
    hushed = cross(query_BCE, segment_BCSE, torch.full_like(activity_BCS, -90.0), valid_BS, GROUP_B)
    assert torch.isfinite(hushed).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_keeps_padding_and_other_groups_out(
    cross: CrossAttention, heard: tuple[Tensor, ...], dtype: torch.dtype
) -> None:
    single_BCE = cross(*heard, GROUP_B)
    half_BCE = cross.to(dtype)(*(x.to(dtype) for x in heard), GROUP_B)
    assert torch.isfinite(half_BCE).all()
    assert torch.allclose(half_BCE, single_BCE, atol=0.1)
