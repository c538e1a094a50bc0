"""Systems under test: each turns waveforms into candidate embeddings and has no access to the trials."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from separative import audio
from separative.inference.forward import process_batch
from separative.inference.recording import Recording, load
from separative.types import Wave

if TYPE_CHECKING:
    from separative.model import SeparativeEncoder

# A source is active in segments within RANGE_DB of its loud segments and above FLOOR_DB of the mixture.
RANGE_DB, FLOOR_DB = 30.0, -40.0
# Frames of the MFCCs, in seconds.
WINDOW, HOP = 0.025, 0.010


@dataclass(frozen=True)
class SystemOutput:
    """Output of a system for one waveform: C candidates, ordered by how much they speak.

    Attributes:
        embeddings: unit-norm embedding of each candidate, float32 [C, E].
        active: which candidates the system considers to be speech, boolean [C].
        estimates: separated waveform of each candidate, float32 [C, N]; None if the system does not separate.
        activity: probability of speech of each candidate in each segment, float32 [C, S]; None if the system
            does not estimate it.
        segment_seconds: length of a segment.

    >>> output = SystemOutput(np.eye(2, 16, dtype=np.float32), np.array([True, False]))
    >>> output.embeddings[output.active].shape
    (1, 16)
    """

    embeddings: Wave
    active: NDArray[np.bool_]
    estimates: Wave | None = None
    activity: Wave | None = None
    segment_seconds: float = 0.0


class System(Protocol):
    """A system under test.

    ``rows`` has one or more row names. For each waveform the system returns one output for each of them.
    """

    rows: tuple[str, ...]

    def __call__(self, waves: Sequence[Wave]) -> list[tuple[SystemOutput, ...]]:
        """Process waveforms, each float32 [N]; returns a tuple of outputs, one for each row, per waveform."""
        ...


@runtime_checkable
class MultiEnrolmentSystem(Protocol):
    """A system that can embed several recordings of one speaker jointly, as views of one memory."""

    def embed_together(self, waves: Sequence[Wave]) -> list[SystemOutput]:
        """One output per waveform, for the system's first row; empty if the system has no shared memory."""
        ...


@runtime_checkable
class ActivitySystem(Protocol):
    """A system that estimates when each candidate speaks, in segments of its own."""

    def reference_activity(self, sources: Wave, mixture: Wave) -> NDArray[np.bool_]:
        """In which of the system's segments each source of a mixture speaks, boolean [K, S].

        Args:
            sources: float32 [K, N].
            mixture: float32 [N].
        """
        ...


class EncoderSystem:
    """A separative encoder as a system under test.

    The first row has the attended embeddings. With ``queries`` and cross-attention, a second row has the
    queries. If the model was trained without activity loss (:func:`activity_is_trained`), all streams count
    as active and no activity is reported.

    Args:
        name: name of the first row.
        model: the encoder, in evaluation mode.
        queries: add the row of queries.

    >>> from separative import load_model
    >>> system = EncoderSystem("csc", load_model(), queries=True)
    >>> system.rows
    ('csc', 'csc (query)')
    """

    def __init__(self, name: str, model: SeparativeEncoder, *, queries: bool) -> None:
        self.model = model
        self.has_activity = activity_is_trained(model)
        self.rows: tuple[str, ...] = (name, f"{name} (query)")[: 2 if queries and model.cross else 1]

    def __call__(self, waves: Sequence[Wave]) -> list[tuple[SystemOutput, ...]]:
        outputs = []
        for recording in self._run(waves, shared=False):
            attended = self._attended(recording)
            query = SystemOutput(np.stack([s.query for s in recording.streams]), attended.active)
            outputs.append((attended, query)[: len(self.rows)])
        return outputs

    def embed_together(self, waves: Sequence[Wave]) -> list[SystemOutput]:
        """Implements :meth:`MultiEnrolmentSystem.embed_together` with the cross-attention."""
        if not self.model.cross:
            return []
        return [self._attended(recording) for recording in self._run(waves, shared=True)]

    def reference_activity(self, sources: Wave, mixture: Wave) -> NDArray[np.bool_]:
        """Implements :meth:`ActivitySystem.reference_activity` by the rule of the training labels."""
        import torch

        power_KS = self.model.segment_power(torch.from_numpy(sources)[None])[0].double().numpy()
        floor = float(np.mean(mixture.astype(np.float64) ** 2)) * 10 ** (FLOOR_DB / 10)
        return audio.speech_gate(power_KS, RANGE_DB, floor)

    def _run(self, waves: Sequence[Wave], *, shared: bool) -> list[Recording]:
        return process_batch(
            self.model, [load((wave, self.model.rate), self.model.rate) for wave in waves], shared=shared
        )

    def _attended(self, recording: Recording) -> SystemOutput:
        streams = recording.streams
        embedding_CE = np.stack([s.embedding for s in streams])
        estimate_CN = np.stack([s.waveform for s in streams])
        if not self.has_activity:
            return SystemOutput(embedding_CE, np.ones(len(streams), bool), estimate_CN)
        return SystemOutput(
            embedding_CE,
            np.array([s.audible for s in streams]),
            estimate_CN,
            np.stack([s.activity for s in streams]),
            self.model.segment_seconds,
        )


def activity_is_trained(model: SeparativeEncoder) -> bool:
    """Whether the model was trained to estimate activity, according to the recipe in its card.

    The objective ``csc`` trains activity unless its weight ``activity`` is 0; baseline objectives do not.
    Without a recipe in the card, the answer is yes.

    >>> from separative import load_model
    >>> activity_is_trained(load_model())
    True
    """
    loss = model.card.get("recipe", {}).get("loss", {})
    return loss.get("objective", "csc") == "csc" and bool(loss.get("activity", 1))


def untrained_copy(model: SeparativeEncoder, seed: int) -> SeparativeEncoder:
    """Return a network of the same architecture with random weights, on the same device, in evaluation mode.

    The state of the global random generator does not change.

    >>> from separative import load_model
    >>> model = load_model()
    >>> untrained_copy(model, seed=0).config == model.config
    True
    """
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        copy = type(model)(model.config)
    return copy.to(next(model.parameters()).device).eval()


class MfccSystem:
    """Baseline: mean and standard deviation of 20 MFCCs over the speech frames, as one candidate.

    Args:
        rate: sample rate in Hz of the waveforms.
        name: name of the row.

    >>> noise = np.random.default_rng(0).standard_normal(16000).astype(np.float32)
    >>> ((output,),) = MfccSystem(16000)([noise])
    >>> output.embeddings.shape
    (1, 40)
    """

    def __init__(self, rate: int, name: str = "MFCC statistics") -> None:
        self.rate = rate
        self.rows: tuple[str, ...] = (name,)

    def __call__(self, waves: Sequence[Wave]) -> list[tuple[SystemOutput, ...]]:
        outputs: list[tuple[SystemOutput, ...]] = []
        for wave_N in waves:
            frames_TK = mfcc(wave_N, self.rate)[speech_frames(wave_N, self.rate)]
            statistics_E = np.concatenate([frames_TK.mean(0), frames_TK.std(0)])
            unit_E = (statistics_E / np.linalg.norm(statistics_E)).astype(np.float32)
            outputs.append((SystemOutput(unit_E[None], np.array([True])),))
        return outputs


def mfcc(waveform: Wave, rate: int, count: int = 20, mels: int = 40) -> NDArray[np.float64]:
    """Mel-frequency cepstral coefficients 1 to ``count``, [T, count], of 25 ms Hann frames every 10 ms.

    They are the orthonormal cosine transform (type II) of the log energies in triangular mel bands between
    60 Hz and 0.475 of the rate. Coefficient 0, the loudness, is left out.

    Args:
        waveform: float32 [N].
        rate: sample rate in Hz.
        count: number of coefficients.
        mels: number of mel bands.

    >>> mfcc(np.ones(16000, np.float32), 16000).shape
    (98, 20)
    """
    frames_TW = _frames(waveform, rate)
    power_TF = np.abs(np.fft.rfft(frames_TW * np.hanning(frames_TW.shape[1]))) ** 2
    log_TM = np.log(power_TF @ _mel_filters(frames_TW.shape[1], rate, mels).T + 1e-10)
    band_M = np.arange(mels)
    cosine_KM = np.sqrt(2 / mels) * np.cos(np.pi * np.arange(1, count + 1)[:, None] * (band_M + 0.5) / mels)
    return np.asarray(log_TM @ cosine_KM.T)


def speech_frames(waveform: Wave, rate: int) -> NDArray[np.bool_]:
    """Frames [T] with an energy within 30 dB of the 95th percentile of all frames.

    >>> half_silent = np.concatenate([np.zeros(8000), np.ones(8000)]).astype(np.float32)
    >>> speech = speech_frames(half_silent, 16000)
    >>> speech[[0, -1]].tolist()
    [False, True]
    """
    energy_T = (_frames(waveform, rate) ** 2).mean(1) + 1e-12
    return audio.speech_gate(energy_T)


def _frames(wave_N: Wave, rate: int) -> NDArray[np.float64]:
    window = np.lib.stride_tricks.sliding_window_view(wave_N.astype(np.float64), round(WINDOW * rate))
    return window[:: round(HOP * rate)]


def _mel_filters(size: int, rate: int, mels: int) -> NDArray[np.float64]:
    """Triangular filters [M,F] that are 1 at their own mel frequency and 0 at those of their neighbours."""
    low, high = (2595 * np.log10(1 + hertz / 700) for hertz in (60.0, 0.475 * rate))
    mel_F = 2595 * np.log10(1 + np.fft.rfftfreq(size, 1 / rate) / 700)
    step = (high - low) / (mels + 1)
    centre_M = low + step * np.arange(1, mels + 1)
    return np.asarray(np.maximum(0.0, 1 - np.abs(mel_F - centre_M[:, None]) / step))


def score_matrix(left: Sequence[SystemOutput], right: Sequence[SystemOutput], *, active_only: bool) -> Wave:
    """Score of each output in ``left`` with each in ``right``: the largest cosine over pairs of candidates.

    Args:
        left, right: L and R outputs of one system. All outputs of a side must have equally many candidates.
        active_only: ignore candidates that are not active, unless no candidate of an output is active.

    Returns:
        float32 [L, R].

    >>> ann, bob = np.eye(2, dtype=np.float32)
    >>> enrolment = SystemOutput(np.stack([ann]), np.array([True]))
    >>> mixture = SystemOutput(np.stack([bob, ann]), np.array([True, True]))
    >>> score_matrix([enrolment], [mixture], active_only=True)
    array([[1.]], dtype=float32)
    """
    one_LCE, other_RCE = (np.stack([v.embeddings for v in side]) for side in (left, right))
    use_LC, use_RC = (_candidates(side, active_only) for side in (left, right))
    best_LR = np.full((len(left), len(right)), -np.inf, np.float32)
    for c in range(one_LCE.shape[1]):
        for k in range(other_RCE.shape[1]):
            both_LR = use_LC[:, c, None] & use_RC[None, :, k]
            cosine_LR = one_LCE[:, c] @ other_RCE[:, k].T
            best_LR = np.where(both_LR, np.maximum(best_LR, cosine_LR), best_LR)
    return best_LR


def _candidates(side: Sequence[SystemOutput], active_only: bool) -> NDArray[np.bool_]:
    active_NC = np.stack([output.active for output in side])
    if not active_only:
        return np.ones_like(active_NC)
    return active_NC | ~active_NC.any(1, keepdims=True)
