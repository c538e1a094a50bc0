"""What the room hands out: single mixtures, condition groups and the batches a training step eats."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from separative import audio
from separative.files import write_json
from separative.types import Wave

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class Mixture:
    """One mixture: ``mix_N`` = sum of ``source_CN`` + ``noise_N`` in float32; the target is source 0.

    Sources carry gain, channel and room (the separation target is the reverberant source). Slots after the
    last speaker are zeros. ``identity_C`` indexes the mixer's identities; it is -1 for a silent slot and for a
    speaker without a label. ``info`` says how it was made and holds only what JSON can.
    """

    mix_N: Wave
    source_CN: Wave
    noise_N: Wave
    identity_C: tuple[int, ...]
    info: dict[str, Any]


@dataclass(frozen=True, slots=True)
class ConditionGroup:
    """One target identity heard in V mixtures, each under another interfering condition."""

    target: int
    mixtures: tuple[Mixture, ...]


@dataclass(frozen=True, slots=True)
class Batch:
    """The mixtures of one step; the V views of a group lie side by side.

    Shapes: ``mix_BN`` and ``source_BCN`` float32; ``identity_BC`` int64, -1 where there is no identity
    (silent slot, all zeros, or unlabelled speaker); ``group_B`` int64, the condition group of each mixture,
    from 0. ``info`` has one dictionary for each mixture. ``rate`` in hertz.
    """

    mix_BN: torch.Tensor
    source_BCN: torch.Tensor
    identity_BC: torch.Tensor
    group_B: torch.Tensor
    info: list[dict[str, Any]]
    rate: int

    @staticmethod
    def of(groups: Sequence[ConditionGroup], rate: int) -> Batch:
        import torch

        mixtures = [mixture for group in groups for mixture in group.mixtures]
        return Batch(
            mix_BN=torch.from_numpy(np.stack([m.mix_N for m in mixtures])),
            source_BCN=torch.from_numpy(np.stack([m.source_CN for m in mixtures])),
            identity_BC=torch.tensor([m.identity_C for m in mixtures], dtype=torch.int64),
            group_B=torch.tensor([g for g, group in enumerate(groups) for _ in group.mixtures]),
            info=[m.info for m in mixtures],
            rate=rate,
        )

    def write(self, folder: str | Path) -> list[Path]:
        """Write each mixture as ``<index>-mix.wav``, its speakers as ``-source<c>.wav``, what is left as
        ``-noise.wav`` (32-bit float, so that the sums stay exact) and ``<index>.json``; returns the mixes."""
        written = []
        for row, info in enumerate(self.info):
            stem = f"{info['index']:08d}"
            mix_N, source_CN = self.mix_BN[row].numpy(), self.source_BCN[row].numpy()
            parts = {"mix": mix_N} | {f"source{c}": source_CN[c] for c in range(len(info["sources"]))}
            if info["noise"] is not None:
                parts["noise"] = mix_N - source_CN.sum(axis=0)
            for name, wave_N in parts.items():
                audio.write(Path(folder) / f"{stem}-{name}.wav", wave_N, self.rate, subtype="FLOAT")
            write_json(Path(folder) / f"{stem}.json", info)
            written.append(Path(folder) / f"{stem}-mix.wav")
        return written
