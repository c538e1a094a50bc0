"""Small encoders of every kind, with weights as after training, and mixtures."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from separative.model import EncoderConfig, SeparativeEncoder, save_model

RATE = 8000
ZERO_AT_FIRST = (
    *("cross.out.weight", "speaker.activity.bias", "speaker.statistics.running_mean"),
    "speaker.enter.weight",
)
KINDS = [(front, trunk) for front in ("stft", "conv") for trunk in ("conv", "recurrent")]


def small(front_end: str = "stft", trunk: str = "conv", **changes: object) -> EncoderConfig:
    grid = {"window_ms": 32, "hop_ms": 8} if front_end == "stft" else {"window_ms": 4, "hop_ms": 2}
    sizes = {"width": 8, "filters": 16, "mels": 16, "speaker_width": 8, "embedding": 8, "heads": 2}
    depth = {"shared_blocks": 2, "stream_blocks": 1, "speaker_blocks": 1, "span": 12, "pool": 3}
    return EncoderConfig(rate=RATE, front_end=front_end, trunk=trunk, **(grid | sizes | depth | changes))


def build(config: EncoderConfig) -> SeparativeEncoder:
    """Draw the weights and statistics that start at zero, because many tests would pass with zeros."""
    torch.manual_seed(0)
    model = SeparativeEncoder(config).eval()
    for name, tensor in model.state_dict().items():
        if name in ZERO_AT_FIRST:
            tensor.normal_(std=0.5)
        elif name.endswith("mask.weight"):
            tensor.normal_(std=0.3)
    return model


@pytest.fixture(scope="session")
def make() -> Callable[..., SeparativeEncoder]:
    """Function ``make(front_end, trunk, **changes)`` that builds an encoder."""
    return lambda *kind, **changes: build(small(*kind, **changes))


@pytest.fixture(scope="session", params=[*KINDS, ("stft", "conv", "mels")], ids="-".join)
def model(request: pytest.FixtureRequest) -> SeparativeEncoder:
    front_end, trunk, *mels = request.param
    return build(small(front_end, trunk, speaker_mels=bool(mels)))


@pytest.fixture(scope="session")
def talk() -> Callable[..., Tensor]:
    """Function ``talk(batch, samples)`` that draws modulated noise, different in every row."""

    def draw(batch: int, samples: int, seed: int = 0) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        time = torch.arange(samples) / RATE
        wave = torch.randn(batch, samples, generator=generator)
        return 0.1 * wave * (time * (1 + 5 * torch.rand(batch, 1, generator=generator))).sin()

    return draw


@pytest.fixture
def folder(make: Callable[..., SeparativeEncoder], tmp_path: Path) -> Path:
    """A saved model."""
    return save_model(
        make(), tmp_path / "run" / "model", identity="speaker", metrics={"valid/eer_clean": 7.5}
    )
