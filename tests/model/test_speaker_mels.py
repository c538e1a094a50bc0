"""Log-mel energies of the separated streams in the speaker head, and the head on speakers alone."""

from collections.abc import Callable

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from separative.model import EncoderConfig, SeparativeEncoder, start_from
from separative.model.frontend import mel_filters, stream_mels

SAME = 2e-5  # float32 through a few blocks, values of about one
SAMPLES = 4100

Talk = Callable[..., Tensor]
Make = Callable[..., SeparativeEncoder]


@pytest.fixture(scope="module")
def encoder(make: Make) -> SeparativeEncoder:
    return make(speaker_mels=True)


def test_a_gain_and_quiet_pauses_do_not_change_the_energies() -> None:
    generator = torch.Generator().manual_seed(0)
    power = 1 + torch.rand(2, 1, 40, 257, generator=generator)
    mel, valid = mel_filters(257, 20, 16000), torch.ones(2, 40)
    found = stream_mels(power, None, mel, valid)
    assert torch.allclose(stream_mels(9 * power, None, mel, valid), found, atol=1e-4)
    # The mean is over loud frames: with as many silent frames again, those of the speech hardly change.
    longer = torch.cat([power, torch.zeros_like(power)], dim=2)
    assert torch.allclose(stream_mels(longer, None, mel, torch.ones(2, 80))[:, :, :40], found, atol=0.02)
    padded = stream_mels(longer, None, mel, torch.cat([valid, torch.zeros(2, 40)], dim=1))
    assert torch.allclose(padded[:, :, :40], found, atol=1e-6) and not padded[:, :, 40:].any()


def test_a_model_without_them_can_be_trained_further_with_them(make: Make, talk: Talk) -> None:
    old, new = make(), make(speaker_mels=True)
    start_from(new, old)
    with torch.inference_mode():
        assert torch.equal(new(talk(2, SAMPLES)).query_BCE, old(talk(2, SAMPLES)).query_BCE)


def test_the_losses_of_embeddings_do_not_change_the_masks(encoder: SeparativeEncoder, talk: Talk) -> None:
    encoder(talk(2, SAMPLES)).query_BCE[..., 0].sum().backward()
    assert all(p.grad is None for p in encoder.separation.parameters())
    assert encoder.speaker.enter_mels.weight.grad.any() and encoder.enter.weight.grad.any()
    encoder.zero_grad()


@torch.inference_mode()
def test_alone_the_head_uses_nothing_of_the_trunk(make: Make, talk: Talk) -> None:
    encoder, mix_BN = make(speaker_mels=True), talk(3, SAMPLES)
    out = encoder(mix_BN, alone=True)
    size = encoder.config.embedding
    assert out.query_BCE.shape == out.attended_BCE.shape == (3, 1, size)
    assert out.estimate_BCN.shape == (3, 1, 0)
    assert torch.allclose(encoder(mix_BN[1:2], alone=True).query_BCE[0], out.query_BCE[1], atol=SAME)
    for module in (encoder.enter, encoder.shared, encoder.split, encoder.per_stream, encoder.separation):
        for weight in module.parameters():
            weight.normal_()
    assert torch.equal(encoder(mix_BN, alone=True).query_BCE, out.query_BCE)
    lengths = torch.tensor([SAMPLES, 3000, 2000])
    padded = mix_BN * (torch.arange(SAMPLES) < lengths.unsqueeze(1))
    shorter = encoder(mix_BN[1:2, :3000], alone=True).query_BCE[0]
    found = encoder(padded, length_B=lengths, alone=True).query_BCE[1]
    assert torch.allclose(found, shorter, atol=SAME)


def test_the_number_of_parameters_is_as_computed(encoder: SeparativeEncoder) -> None:
    assert sum(p.numel() for p in encoder.parameters()) == encoder.config.parameters


def test_learned_filters_have_no_mel_scale() -> None:
    with pytest.raises(ValidationError, match="speaker_mels needs the stft front end"):
        EncoderConfig(front_end="conv", window_ms=4, hop_ms=2, speaker_mels=True)
