"""The records that a mixer returns: mixtures, condition groups and the batch of one training step."""

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
    """One mixture and the signals it is the sum of.

    Attributes:
        waveform: float32 [N], the sum of the sources and the noise.
        sources: float32 [C,N], the target first. Each source carries its gain, channel and room, and
            the linear parts of the microphone (:class:`~separative.mixtures.microphone.Microphone`), so what
            arrives in the recording is what a network must separate. Rows after the last speaker are zero; in
            a mixture without a speaker, all are.
        noise: float32 [N]; zeros without noise. What clipping and codec of a microphone add is in it.
        identities: identity number of each source in the mixer's ``identities``; -1 for an empty row and for
            a speaker without a label.
        info: all that was drawn, as values that JSON can hold.

    >>> from separative import Mixer, MixtureConfig, load_corpus
    >>> mixer = Mixer(load_corpus("speech"), MixtureConfig(batch=2, seconds=1.0), seed=0)
    >>> mixture = mixer.mixture(0)
    >>> mixture.sources.shape
    (2, 16000)
    >>> np.array_equal(mixture.waveform, mixture.sources.sum(axis=0) + mixture.noise)
    True
    """

    waveform: Wave
    sources: Wave
    noise: Wave
    identities: tuple[int, ...]
    info: dict[str, Any]


@dataclass(frozen=True, slots=True)
class ConditionGroup:
    """V mixtures of one target identity, each under a different interfering condition.

    Attributes:
        target: identity number of the target, which is the first source of every mixture
            with a speaker.
        mixtures: the V views.

    >>> from separative import Mixer, MixtureConfig, load_corpus
    >>> config = MixtureConfig(batch=2, stages=({"views": 2},))
    >>> group = Mixer(load_corpus("speech"), config, seed=0).group(step=0, number=0)
    >>> [mixture.identities[0] == group.target for mixture in group.mixtures]
    [True, True]
    """

    target: int
    mixtures: tuple[Mixture, ...]


@dataclass(frozen=True, slots=True)
class Batch:
    """The mixtures of one training step; the views of a condition group are in consecutive rows.

    Attributes:
        mixtures: float32 [B,N].
        sources: float32 [B,C,N]; zeros where there is no source.
        identities: int64 [B,C]; -1 where there is no source or no label.
        groups: int64 [B], the condition group of each mixture, counted from 0.
        info: one dictionary for each mixture, see :class:`Mixture`.
        rate: sample rate in hertz.

    >>> from separative import Mixer, MixtureConfig, load_corpus
    >>> config = MixtureConfig(batch=4, stages=({"views": 2},))
    >>> Mixer(load_corpus("speech"), config, seed=0).batch(step=0).groups.tolist()
    [0, 0, 1, 1]
    """

    mixtures: torch.Tensor
    sources: torch.Tensor
    identities: torch.Tensor
    groups: torch.Tensor
    info: list[dict[str, Any]]
    rate: int

    @staticmethod
    def from_groups(groups: Sequence[ConditionGroup], rate: int) -> Batch:
        """Stack the mixtures of condition groups."""
        import torch

        mixtures = [mixture for group in groups for mixture in group.mixtures]
        return Batch(
            mixtures=torch.from_numpy(np.stack([m.waveform for m in mixtures])),
            sources=torch.from_numpy(np.stack([m.sources for m in mixtures])),
            identities=torch.tensor([m.identities for m in mixtures], dtype=torch.int64),
            groups=torch.tensor([g for g, group in enumerate(groups) for _ in group.mixtures]),
            info=[m.info for m in mixtures],
            rate=rate,
        )

    def write(self, folder: str | Path) -> list[Path]:
        """Write every mixture with its parts; returns the paths of the mixtures.

        Files of mixture ``<index>``: ``<index>-mix.wav``, ``<index>-source<c>.wav`` for each speaker,
        ``<index>-noise.wav`` if there is noise, and ``<index>.json``. Samples are 32-bit floats, so that the
        parts add up exactly.
        """
        written = []
        for row, info in enumerate(self.info):
            stem = f"{info['index']:08d}"
            mix_N, source_CN = self.mixtures[row].numpy(), self.sources[row].numpy()
            parts = {"mix": mix_N} | {f"source{c}": source_CN[c] for c in range(len(info["sources"]))}
            if info["noise"] is not None or "nuisances" in info:
                parts["noise"] = mix_N - source_CN.sum(axis=0)
            for name, wave_N in parts.items():
                audio.write(Path(folder) / f"{stem}-{name}.wav", wave_N, self.rate, subtype="FLOAT")
            write_json(Path(folder) / f"{stem}.json", info)
            written.append(Path(folder) / f"{stem}-mix.wav")
        return written
