"""Computational costs compared with hand counts and with the least possible memory."""

import numpy as np
import pytest
import torch
from torch import nn

from separative.benchmark.cost import cost, multiply_adds
from separative.model import EncoderConfig, SeparativeEncoder

RATE = 8000


class Counted(nn.Module):
    """A few layers with a known number of multiplications."""

    rate = RATE

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.grouped = nn.Conv1d(1, 6, 10, stride=10)
        self.depthwise = nn.Conv1d(6, 6, 3, padding=1, groups=6)
        self.linear = nn.Linear(6, 5)
        self.recurrent = nn.LSTM(6, 7, batch_first=True, bidirectional=True)

    def forward(self, mix_BN):
        frames_BDT = self.depthwise(self.grouped(mix_BN[:, None]))
        frames_BTD = frames_BDT.transpose(1, 2)
        return self.linear(frames_BTD) if self.kind == "linear" else self.recurrent(frames_BTD)


@pytest.mark.parametrize("kind", ["linear", "recurrent"])
def test_multiply_adds_equal_the_count_by_hand(kind):
    frames = RATE // 10
    convolutions = frames * (6 * 10 + 6 * 3)
    # The LSTM has two directions with four gates, each computed from 6 inputs and 7 states.
    rest = {"linear": 6 * 5, "recurrent": 2 * 4 * 7 * (6 + 7)}[kind]
    assert multiply_adds(Counted(kind), 1.0) == convolutions + frames * rest


@pytest.mark.parametrize("trunk", ["conv", "recurrent"])
def test_multiply_adds_grow_with_length_and_width(trunk):
    def count(width: int, seconds: float) -> int:
        sizes = {"width": width, "shared_blocks": 1, "stream_blocks": 1, "speaker_width": 16}
        config = EncoderConfig(rate=RATE, trunk=trunk, speaker_blocks=1, embedding=16, **sizes)
        return multiply_adds(SeparativeEncoder(config).eval(), seconds)

    assert count(16, 4.0) > 1.9 * count(16, 2.0)
    assert count(64, 2.0) > 3.0 * count(16, 2.0)


def test_memory_is_measured_in_a_new_process(model):
    # Memory of this process must not count: a new process needs far less than this 1.2 GB array.
    ballast = np.ones(150_000_000)
    before = torch.get_num_threads()
    found = cost(model, seconds=2.0)
    assert found.parameters == sum(p.numel() for p in model.parameters())
    assert found.multiply_adds_per_second == multiply_adds(model, 2.0) / 2.0
    assert 0 < found.real_time_factor < 10
    assert 50 < found.peak_memory_mb < ballast.nbytes / 1e6
    assert found.threads == torch.get_num_threads() == before
