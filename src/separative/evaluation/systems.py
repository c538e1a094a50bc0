"""Systems under test: each turns waveforms into candidate embeddings, knowing nothing of the trials."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from separative.inference.forward import run
from separative.inference.recording import Recording, load
from separative.types import Wave

if TYPE_CHECKING:
    from separative.model import SeparativeEncoder


WINDOW, HOP = 0.025, 0.010
MFCC_FLOOR_DB = -30.0


def mfcc(wave_N: Wave, rate: int, count: int = 20, mels: int = 40) -> NDArray[np.float64]:
    """Coefficients [T,count] of 25 ms Hann frames every 10 ms, without the zeroth, which is loudness.

    Cosine transform (type II, orthonormal) of the log energies in triangular mel bands from 60 Hz to 0.475 of
    the rate.
    """
    frames_TW = _frames(wave_N, rate)
    power_TF = np.abs(np.fft.rfft(frames_TW * np.hanning(frames_TW.shape[1]))) ** 2
    log_TM = np.log(power_TF @ _mel_filters(frames_TW.shape[1], rate, mels).T + 1e-10)
    band_M = np.arange(mels)
    cosine_KM = np.sqrt(2 / mels) * np.cos(np.pi * np.arange(1, count + 1)[:, None] * (band_M + 0.5) / mels)
    return np.asarray(log_TM @ cosine_KM.T)


def speech_frames(wave_N: Wave, rate: int) -> NDArray[np.bool_]:
    """Frames [T] within 30 dB of the 95th percentile of the frame energies."""
    energy_T = (_frames(wave_N, rate) ** 2).mean(1) + 1e-12
    return np.asarray(10 * np.log10(energy_T / np.quantile(energy_T, 0.95)) > MFCC_FLOOR_DB)


def _frames(wave_N: Wave, rate: int) -> NDArray[np.float64]:
    window = np.lib.stride_tricks.sliding_window_view(wave_N.astype(np.float64), round(WINDOW * rate))
    return window[:: round(HOP * rate)]


def _mel_filters(size: int, rate: int, mels: int) -> NDArray[np.float64]:
    """Triangles [M,F] that are 1 at their own mel and 0 at their neighbours'."""
    low, high = (2595 * np.log10(1 + hertz / 700) for hertz in (60.0, 0.475 * rate))
    mel_F = 2595 * np.log10(1 + np.fft.rfftfreq(size, 1 / rate) / 700)
    step = (high - low) / (mels + 1)
    centre_M = low + step * np.arange(1, mels + 1)
    return np.asarray(np.maximum(0.0, 1 - np.abs(mel_F - centre_M[:, None]) / step))


RANGE_DB, FLOOR_DB = 30.0, -40.0


@dataclass(frozen=True)
class SystemOutput:
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
    """``rows``: the names under which its embeddings are reported; one SystemOutput per row and waveform."""

    rows: tuple[str, ...]

    def __call__(self, waves: Sequence[Wave]) -> list[tuple[SystemOutput, ...]]:
        """Candidates for each waveform, for each row."""
        ...


@runtime_checkable
class Gathering(Protocol):
    """A system that can hear several recordings of one speaker as views of one memory."""

    def together(self, waves: Sequence[Wave]) -> list[SystemOutput]:
        """Candidates of each waveform, for the system's first row; empty if it has no memory to share."""
        ...


@runtime_checkable
class Segmenting(Protocol):
    """A system that says when each candidate speaks, in segments of its own."""

    def speech(self, source_KN: Wave, mix_N: Wave) -> NDArray[np.bool_]:
        """In which of its segments each source speaks [K,S]."""
        ...


class EncoderSystem:
    """A separative encoder; reports its answers and, if wanted and it has cross-attention, its queries.

    Of a model that its recipe did not teach when streams speak (:func:`taught_activity`), every stream is
    active and no activity is reported.
    """

    def __init__(self, name: str, model: SeparativeEncoder, *, queries: bool) -> None:
        self.model = model
        self.knows_activity = taught_activity(model)
        self.rows: tuple[str, ...] = (name, f"{name} (query)")[: 2 if queries and model.cross else 1]

    def __call__(self, waves: Sequence[Wave]) -> list[tuple[SystemOutput, ...]]:
        found = []
        for recording in self._run(waves, shared=False):
            answer = self._answer(recording)
            query = SystemOutput(np.stack([t.query_E for t in recording.streams]), answer.active_C)
            found.append((answer, query)[: len(self.rows)])
        return found

    def together(self, waves: Sequence[Wave]) -> list[SystemOutput]:
        """As :meth:`Gathering.together`, by the cross-attention."""
        if not self.model.cross:
            return []
        return [self._answer(recording) for recording in self._run(waves, shared=True)]

    def speech(self, source_KN: Wave, mix_N: Wave) -> NDArray[np.bool_]:
        """As :meth:`Segmenting.speech`: segments within RANGE_DB of the source's 95th percentile.

        They must also be above FLOOR_DB of the mixture. The same rule taught the model its activity.
        """
        import torch

        power_KS = self.model.segment_power(torch.from_numpy(source_KN)[None])[0].double().numpy()
        loud_K1 = np.quantile(power_KS, 0.95, axis=1, keepdims=True) * 10 ** (-RANGE_DB / 10)
        floor = float(np.mean(mix_N.astype(np.float64) ** 2)) * 10 ** (FLOOR_DB / 10)
        return np.asarray((power_KS > loud_K1) & (power_KS > floor))

    def _run(self, waves: Sequence[Wave], *, shared: bool) -> list[Recording]:
        return run(
            self.model, [load((wave, self.model.rate), self.model.rate) for wave in waves], shared=shared
        )

    def _answer(self, recording: Recording) -> SystemOutput:
        speakers = recording.streams
        embedding_CE = np.stack([t.embedding_E for t in speakers])
        estimate_CN = np.stack([t.waveform_N for t in speakers])
        if not self.knows_activity:
            return SystemOutput(embedding_CE, np.ones(len(speakers), bool), estimate_CN)
        return SystemOutput(
            embedding_CE,
            np.array([t.audible for t in speakers]),
            estimate_CN,
            np.stack([t.activity_S for t in speakers]),
            self.model.segment_seconds,
        )


def taught_activity(model: SeparativeEncoder) -> bool:
    """Whether training taught a model when its streams speak, by its card; yes if that names no recipe.

    The objective ``csc`` does, unless its ``activity`` weighs nothing; its rivals do not.
    """
    loss = model.card.get("recipe", {}).get("loss", {})
    return loss.get("objective", "csc") == "csc" and bool(loss.get("activity", 1))


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

    def __call__(self, waves: Sequence[Wave]) -> list[tuple[SystemOutput, ...]]:
        found: list[tuple[SystemOutput, ...]] = []
        for wave_N in waves:
            frames_TK = mfcc(wave_N, self.rate)[speech_frames(wave_N, self.rate)]
            statistics_E = np.concatenate([frames_TK.mean(0), frames_TK.std(0)])
            unit_E = (statistics_E / np.linalg.norm(statistics_E)).astype(np.float32)
            found.append((SystemOutput(unit_E[None], np.array([True])),))
        return found


def scores(left: Sequence[SystemOutput], right: Sequence[SystemOutput], *, active_only: bool) -> Wave:
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


def _candidates(side: Sequence[SystemOutput], active_only: bool) -> NDArray[np.bool_]:
    active_NC = np.stack([v.active_C for v in side])
    if not active_only:
        return np.ones_like(active_NC)
    return active_NC | ~active_NC.any(1, keepdims=True)
