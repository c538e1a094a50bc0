"""Asteroid's Conv-TasNet (Luo and Mesgarani, 2019), reduced to the training speed of the other systems.

It has 128 filters of 64 samples (8 ms at 8 kHz), hop 32, one repeat of 6 blocks and 256 hidden channels: 0.7
million parameters. Forward and backward take about 0.06 s per second of mixture on one thread. Asteroid's
defaults (512 filters of 16 samples, hop 8, 3 repeats of 8 blocks, 512 channels, 5 million parameters) take
several times as long.
"""

from __future__ import annotations

from pathlib import Path

from asteroid.models import ConvTasNet
from loop import weights

SYSTEM = "ConvTasNet"
RATE = 8000
SIZES = {
    "n_filters": 128,
    "kernel_size": 64,
    "stride": 32,
    "n_blocks": 6,
    "n_repeats": 1,
    "bn_chan": 128,
    "hid_chan": 256,
    "skip_chan": 128,
}


def network() -> ConvTasNet:
    """The network before training."""
    return ConvTasNet(n_src=2, sample_rate=RATE, **SIZES)


def load(folder: Path) -> ConvTasNet:
    """The network of a run folder, in evaluation mode."""
    made = network()
    made.load_state_dict(weights(folder, SYSTEM))
    return made.eval()
