"""Systems under test: each turns waveforms into candidate embeddings, knowing nothing of the trials."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from separative.evaluation.mfcc import mfcc, speech_frames
from separative.inference import embed_many
from separative.inference.recording import Wave

if TYPE_CHECKING:
    from separative.model import SeparativeEncoder


@dataclass(frozen=True)
class Voices:
    """What one system made of one waveform: candidates [C,E], which of them it holds for speech, their sound.

    Candidates are ordered by how much they speak. ``estimate_CN`` None: the system does not separate.
    ``activity_CS``: probability of speech in each segment of ``segment_seconds``; None: it does not say.
    """

    embedding_CE: Wave
    active_C: NDArray[np.bool_]
    estimate_CN: Wave | None = None
    activity_CS: Wave | None = None
    segment_seconds: float = 0.0


class System(Protocol):
    """``rows``: the names under which its embeddings are reported; one Voices per row and waveform."""

    rows: tuple[str, ...]

    def __call__(self, waves: Sequence[Wave]) -> list[tuple[Voices, ...]]:
        """Candidates for each waveform, for each row."""
        ...


class EncoderSystem:
    """A separative encoder; reports its answers and, if wanted and it has cross-attention, its queries."""

    def __init__(self, name: str, model: SeparativeEncoder, *, queries: bool) -> None:
        self.model = model
        self.rows: tuple[str, ...] = (name, f"{name} (query)")[: 2 if queries and model.cross else 1]

    def __call__(self, waves: Sequence[Wave]) -> list[tuple[Voices, ...]]:
        heard = embed_many(self.model, [(wave, self.model.rate) for wave in waves], batch=len(waves))
        found = []
        for recording in heard:
            talkers = recording.talkers
            active_C = np.array([t.audible for t in talkers])
            estimate_CN = np.stack([t.waveform_N for t in talkers])
            answer = Voices(
                np.stack([t.embedding_E for t in talkers]),
                active_C,
                estimate_CN,
                np.stack([t.activity_S for t in talkers]),
                self.model.segment_seconds,
            )
            query = Voices(np.stack([t.query_E for t in talkers]), active_C)
            found.append((answer, query)[: len(self.rows)])
        return found


def untrained(model: SeparativeEncoder, seed: int) -> SeparativeEncoder:
    """A network of the same architecture with random weights, on the same device, in evaluation mode."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        twin = type(model)(model.config)
    return twin.to(next(model.parameters()).device).eval()


class MfccSystem:
    """Mean and standard deviation of 20 MFCCs over the speech frames: the least a system must beat."""

    def __init__(self, rate: int, name: str = "MFCC statistics") -> None:
        self.rate = rate
        self.rows: tuple[str, ...] = (name,)

    def __call__(self, waves: Sequence[Wave]) -> list[tuple[Voices, ...]]:
        found: list[tuple[Voices, ...]] = []
        for wave_N in waves:
            frames_TK = mfcc(wave_N, self.rate)[speech_frames(wave_N, self.rate)]
            statistics_E = np.concatenate([frames_TK.mean(0), frames_TK.std(0)])
            unit_E = (statistics_E / np.linalg.norm(statistics_E)).astype(np.float32)
            found.append((Voices(unit_E[None], np.array([True])),))
        return found


def scores(left: Sequence[Voices], right: Sequence[Voices], *, active_only: bool) -> Wave:
    """Score matrix [left, right]: the largest cosine over pairs of candidates (protocol, "No oracle").

    With ``active_only``, streams that the system holds for silent are no candidates, unless all of them are.
    """
    one_LCE, other_RCE = (np.stack([v.embedding_CE for v in side]) for side in (left, right))
    use_LC, use_RC = (_candidates(side, active_only) for side in (left, right))
    best_LR = np.full((len(left), len(right)), -np.inf, np.float32)
    for c in range(one_LCE.shape[1]):
        for k in range(other_RCE.shape[1]):
            both_LR = use_LC[:, c, None] & use_RC[None, :, k]
            cosine_LR = one_LCE[:, c] @ other_RCE[:, k].T
            best_LR = np.where(both_LR, np.maximum(best_LR, cosine_LR), best_LR)
    return best_LR


def _candidates(side: Sequence[Voices], active_only: bool) -> NDArray[np.bool_]:
    active_NC = np.stack([v.active_C for v in side])
    if not active_only:
        return np.ones_like(active_NC)
    return active_NC | ~active_NC.any(1, keepdims=True)
