"""The separative encoder with both front ends and trunks: what changes a result, and what does not."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from separative.model import EncoderConfig, EncoderOutput, SeparativeEncoder
from separative.objectives import LossConfig, SeparativeObjective

SAME = 2e-5  # float32 through a few blocks, values of about one
SAMPLES = 4100

Talk = Callable[..., Tensor]
Make = Callable[..., SeparativeEncoder]


def assert_same(
    ours: EncoderOutput, theirs: EncoderOutput, rows: Tensor | slice = slice(None), atol: float = SAME
) -> None:
    for name, left, right in zip(EncoderOutput._fields, ours, theirs, strict=True):
        assert torch.allclose(left, right[rows], atol=atol), name


@pytest.mark.parametrize("samples", [1, 63, 64, 65, 2000, SAMPLES])
def test_shapes_norms_and_lengths(model: SeparativeEncoder, talk: Talk, samples: int) -> None:
    out = model(talk(3, samples))
    segments, size = model.segments(samples), model.config.embedding
    assert out.estimate_BCN.shape == (3, 2, samples)
    assert out.segment_BCSE.shape == (3, 2, segments, size)
    assert out.activity_BCS.shape == (3, 2, segments) and out.valid_BS.shape == (3, segments)
    for embedding_BCE in (out.query_BCE, out.attended_BCE):
        assert torch.allclose(embedding_BCE.norm(dim=-1), torch.ones(3, 2), atol=SAME)
    join = model.config.stack * model.config.segment_frames
    assert segments == -(-model.frames(samples) // join)
    assert model.segment_seconds == pytest.approx(join * model.config.hop / model.rate)


@torch.inference_mode()
def test_a_batch_gives_the_same_results_as_single_mixtures(model: SeparativeEncoder, talk: Talk) -> None:
    mix_BN = talk(3, SAMPLES)
    whole = model(mix_BN)
    for row in range(3):
        assert_same(model(mix_BN[row : row + 1]), whole, slice(row, row + 1))


@given(lengths=st.lists(st.integers(1, SAMPLES), min_size=2, max_size=3))
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@torch.inference_mode()
def test_padding_changes_nothing(model: SeparativeEncoder, talk: Talk, lengths: list[int]) -> None:
    mix_BN = talk(len(lengths), SAMPLES)
    for row, length in enumerate(lengths):
        mix_BN[row, length:] = 0
    padded = model(mix_BN, length_B=torch.tensor(lengths))
    for row, length in enumerate(lengths):
        alone, segments = model(mix_BN[row : row + 1, :length]), model.segments(length)
        assert padded.valid_BS[row].tolist() == [s < segments for s in range(padded.valid_BS.shape[1])]
        assert torch.allclose(padded.estimate_BCN[row, :, :length], alone.estimate_BCN[0], atol=SAME)
        assert (padded.estimate_BCN[row, :, length:] == 0).all()
        assert torch.allclose(padded.segment_BCSE[row, :, :segments], alone.segment_BCSE[0], atol=SAME)
        assert torch.allclose(padded.activity_BCS[row, :, :segments], alone.activity_BCS[0], atol=SAME)
        assert torch.allclose(padded.query_BCE[row], alone.query_BCE[0], atol=SAME)
        assert torch.allclose(padded.attended_BCE[row], alone.attended_BCE[0], atol=SAME)


@given(order=st.permutations(range(6)))
@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@torch.inference_mode()
def test_order_and_numbers_of_views_and_groups_change_nothing(
    model: SeparativeEncoder, talk: Talk, order: list[int]
) -> None:
    mix_BN, group_B = talk(6, SAMPLES), torch.tensor([0, 0, 0, 1, 1, 2])
    before = model(mix_BN, group_B=group_B)
    after = model(mix_BN[order], group_B=torch.tensor([40, 7, 23])[group_B[order]])
    assert_same(after, before, torch.tensor(order))


@torch.inference_mode()
def test_an_attended_embedding_depends_on_its_own_group_only(model: SeparativeEncoder, talk: Talk) -> None:
    mix_BN, group_B = talk(5, SAMPLES), torch.tensor([0, 0, 1, 1, 2])
    whole = model(mix_BN, group_B=group_B)
    for group in range(3):
        rows = group_B == group
        assert_same(model(mix_BN[rows], group_B=group_B[rows]), whole, rows)
    # It depends on the whole group: without the other views it changes.
    alone = model(mix_BN)
    assert torch.allclose(alone.query_BCE, whole.query_BCE, atol=SAME)
    assert (alone.attended_BCE - whole.attended_BCE).norm(dim=-1)[:4].min() > 10 * SAME
    assert torch.allclose(alone.attended_BCE[4], whole.attended_BCE[4], atol=SAME)


@pytest.mark.parametrize("level_db", [-30, 20])
@torch.inference_mode()
def test_the_level_scales_the_estimates_and_changes_nothing_else(
    model: SeparativeEncoder, talk: Talk, level_db: float
) -> None:
    mix_BN, gain = talk(2, SAMPLES), 10 ** (level_db / 20)
    before, after = model(mix_BN), model(gain * mix_BN)
    unscaled = after._replace(estimate_BCN=after.estimate_BCN / gain, power_BS=after.power_BS / gain**2)
    assert_same(unscaled, before, atol=1e-4)


@torch.inference_mode()
def test_silence_gives_silent_estimates_and_finite_outputs(model: SeparativeEncoder) -> None:
    out = model(torch.zeros(2, 2000), group_B=torch.zeros(2, dtype=torch.long))
    assert all(torch.isfinite(x).all() for x in out)
    assert (out.estimate_BCN == 0).all()


@pytest.mark.parametrize("front_end", ["stft", "conv"])
@torch.inference_mode()
def test_estimates_and_residual_sum_to_the_mixture(make: Make, talk: Talk, front_end: str) -> None:
    """The residual acts like one more stream of the consistent model."""
    free = make(front_end, streams=2, consistency=False)
    tied = make(front_end, streams=2, consistency=True)
    tied.load_state_dict(free.state_dict(), strict=False)
    mix_BN = talk(2, SAMPLES)
    raw_BCN, tied_BCN = free(mix_BN).estimate_BCN, tied(mix_BN).estimate_BCN
    # What the model works on: the mixture without its lowest frequencies.
    high_BN = free.high_pass(mix_BN, torch.full((2,), mix_BN.shape[1]))
    # The nearest point at which all parts sum to the mixture: each part moves by the same amount.
    moved_BN = tied_BCN[:, 0] - raw_BCN[:, 0]
    assert torch.allclose(tied_BCN[:, 1] - raw_BCN[:, 1], moved_BN, atol=SAME)
    missing_BN = 3 * moved_BN
    residual_BN = high_BN - raw_BCN.sum(1) - missing_BN + moved_BN
    assert torch.allclose(tied_BCN.sum(1) + residual_BN, high_BN, atol=SAME)
    # With a residual mask of 0, the residual is only that amount.
    if front_end == "stft":
        tied.residual.mask.weight.zero_()
        tied.residual.mask.bias.view(-1, 2).copy_(torch.tensor([-0.2027, 0.0]))
    else:
        tied.residual.mask.weight.zero_()
        tied.residual.mask.bias.fill_(-100.0)
    left_BN = high_BN - tied(mix_BN).estimate_BCN.sum(1)
    assert torch.allclose(left_BN, (high_BN - raw_BCN.sum(1)) / 3, atol=SAME)


@torch.inference_mode()
def test_without_waveforms_the_other_outputs_are_the_same(model: SeparativeEncoder, talk: Talk) -> None:
    with_waves, without = model(talk(2, SAMPLES)), model(talk(2, SAMPLES), separate=False)
    assert without.estimate_BCN.shape == (2, 2, 0)
    assert_same(without, with_waves._replace(estimate_BCN=without.estimate_BCN), atol=0)


@torch.inference_mode()
def test_without_cross_attention_the_attended_embedding_is_the_query(make: Make, talk: Talk) -> None:
    out = make("stft", "conv", cross_attention=False)(
        talk(2, SAMPLES), group_B=torch.zeros(2, dtype=torch.long)
    )
    assert torch.equal(out.attended_BCE, out.query_BCE)


@torch.inference_mode()
def test_in_a_new_model_the_attended_embedding_is_the_query(talk: Talk) -> None:
    """The memory of an untrained model would only add noise, so it has no effect at first."""
    out = SeparativeEncoder(EncoderConfig(rate=8000, width=8, speaker_width=8, embedding=8)).eval()(
        talk(2, 2000)
    )
    assert torch.allclose(out.attended_BCE, out.query_BCE, atol=SAME)


def test_segment_power_is_the_power_of_the_joined_frames(model: SeparativeEncoder) -> None:
    """An impulse in the middle of frame t has power in segment t // (stack · segment_frames) only."""
    config = model.config
    size = config.hop * config.stack * config.segment_frames
    for frame in range(model.frames(SAMPLES)):
        centre = frame * config.hop + config.hop - config.window // 2
        if 0 <= centre < SAMPLES:
            wave = torch.zeros(1, 1, SAMPLES)
            wave[..., centre] = 3.0
            power_S = model.segment_power(wave)[0, 0]
            assert power_S.shape == (model.segments(SAMPLES),)
            own = frame // (config.stack * config.segment_frames)
            assert power_S[own].item() == pytest.approx(9 / size) and (power_S > 0).sum() == 1


def test_segment_powers_sum_to_the_energy(model: SeparativeEncoder, talk: Talk) -> None:
    wave = talk(2, SAMPLES).unsqueeze(1)
    size = model.config.hop * model.config.stack * model.config.segment_frames
    assert torch.allclose(model.segment_power(wave).sum(-1) * size, wave.square().sum(-1), rtol=1e-4)


def test_gradients_reach_every_parameter(make: Make, talk: Talk) -> None:
    for kind in (("stft", "conv"), ("conv", "recurrent")):
        model = make(*kind).train()
        mix_BN = talk(4, SAMPLES)
        source_BCN = torch.stack([0.7 * mix_BN, 0.3 * mix_BN.roll(500, -1)], dim=1)
        objective = SeparativeObjective(LossConfig(spread=0.1), 6, 8)
        out = model(source_BCN.sum(1), group_B=torch.tensor([0, 0, 1, 1]), own_drop=0.5)
        identity_BC = torch.tensor([[0, 1], [0, 2], [3, 4], [3, 5]])
        objective.compute_losses(model, out, source_BCN.sum(1), source_BCN, identity_BC).total.backward()
        named = dict(model.named_parameters()) | dict(objective.named_parameters())
        # A constant added to every pooling logit of a channel cancels in the softmax over segments.
        named.pop("speaker.weigh.2.bias")
        assert all(w.grad is not None and w.grad.norm() > 0 for w in named.values()), [
            name for name, w in named.items() if w.grad is None or not w.grad.norm() > 0
        ]
