"""Diarize and separate a live signal: push samples, get speakers after a short, fixed delay."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from separative.errors import AudioError
from separative.inference.cluster import FEW_SAME_COSINE, match_streams, unit_rows
from separative.inference.forward import forward
from separative.inference.recording import MIN_SPEECH_SECONDS, check_samples
from separative.inference.separated import FADE_SECONDS
from separative.inference.windows import WindowGrid, attend_memory, fade_in
from separative.types import Floats, Wave

if TYPE_CHECKING:
    from separative.model import EncoderOutput, SeparativeEncoder

WINDOW, HOP = 4.0, 0.5
"""Length of a window and distance from one to the next, in seconds. An update covers one hop."""

LOOKAHEAD = 1.0
"""Seconds of a window that follow the part that its update covers."""

MAX_MEMORY_SEGMENTS = 4096
"""Most past segments that the cross-attention reads."""


@dataclass(frozen=True)
class StreamingUpdate:
    """Results for the signal from ``start`` to ``end``, in seconds, for the K speakers found so far.

    Speakers are numbered in the order in which they first spoke.

    Attributes:
        activity: probability of speech [K, S] in segments of the model's length.
        waveform: separated samples [K, N].
        embedding: embedding of each speaker over everything so far [K, E], unit norm.

    Example:
        >>> import separative
        >>> from separative import audio
        >>> model = separative.load_model()
        >>> wave, _ = audio.read("ann.wav", model.rate)
        >>> update = separative.StreamingDiarizer(model).push(wave)[-1]
        >>> update.activity.shape, update.waveform.shape, update.embedding.shape
        ((1, 8), (1, 8192), (1, 128))
    """

    start: float
    end: float
    activity: Floats
    waveform: Floats
    embedding: Floats


@dataclass
class StreamingState:
    """Everything a :class:`StreamingDiarizer` remembers of the past; with it, another one can continue.

    Attributes:
        samples: samples that later windows still need [N].
        window: number of windows processed.
        pushed: number of samples pushed.
        query_sum: sum of each speaker's queries, weighted by seconds of speech [K, E]; recognises speakers.
        embedding_sum: the same sum of attended embeddings [K, E].
        memory, memory_logit: past segments [M, E] for the cross-attention, and their log-odds of speech [M].
        fade_tail: samples [K, F] after the last update, to cross-fade with the next one.

    Example:
        >>> import separative
        >>> from separative import audio
        >>> model = separative.load_model()
        >>> first, second = separative.StreamingDiarizer(model), separative.StreamingDiarizer(model)
        >>> wave, _ = audio.read("ann.wav", model.rate)
        >>> _ = first.push(wave[:50_000])
        >>> second.state = first.state
        >>> second.push(wave[50_000:])[0].start > 0
        True
    """

    samples: Wave
    window: int = 0
    pushed: int = 0
    query_sum: Floats = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    embedding_sum: Floats = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    memory: Floats = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    memory_logit: Floats = field(default_factory=lambda: np.zeros(0, np.float32))
    fade_tail: Floats = field(default_factory=lambda: np.zeros((0, 0), np.float32))


class StreamingDiarizer:
    """Diarize and separate a signal of any length in constant memory.

    Results for a sample come at most :attr:`latency` seconds after it was pushed. They do not depend on how
    the signal is cut into blocks. Speakers are numbered as they appear, and recognised when they speak again.

    Args:
        model: a model in evaluation mode.
        same_cosine: cosine of queries above which a stream belongs to a known speaker, or two streams of a
            window belong to one speaker.

    Example:
        >>> import separative
        >>> from separative import audio
        >>> model = separative.load_model()
        >>> diarizer = separative.StreamingDiarizer(model)
        >>> wave, _ = audio.read("ann.wav", model.rate)
        >>> updates = diarizer.push(wave[:60_000]) + diarizer.push(wave[60_000:]) + diarizer.finish()
        >>> updates[0].start, round(updates[-1].end, 2), len(updates[-1].embedding)
        (0.0, 6.44, 1)
    """

    def __init__(self, model: SeparativeEncoder, *, same_cosine: float = FEW_SAME_COSINE) -> None:
        self.model, self.same_cosine = model, same_cosine
        self.grid = WindowGrid.for_model(model, WINDOW, HOP)
        self._hop = self.grid.hop * self.grid.segment
        self._size = self.grid.window * self.grid.segment
        self._ahead = round(LOOKAHEAD / HOP) * self._hop
        # Silence before the signal, so that the first window ends LOOKAHEAD after the end of the first hop.
        lead = self._size - self._ahead - self._hop
        self.state = StreamingState(np.zeros(lead, np.float32))

    @property
    def latency(self) -> float:
        """Longest time from pushing a sample to its result, in seconds of the signal."""
        return (self._ahead + self._hop) / self.model.rate

    def push(self, waveform: Wave) -> list[StreamingUpdate]:
        """Add the next samples [N] (float32, at the model's rate); returns the updates they complete, if any.

        Raises:
            AudioError: the samples have several channels, are not floating-point numbers, or hold NaN or
                infinite values. None of them is used, and the next call may continue.
        """
        block_N = check_samples(waveform, "the block")
        if block_N.ndim != 1:
            raise AudioError(f"the block has shape {block_N.shape}; push the samples of one channel [N]")
        state = self.state
        state.samples = np.concatenate([state.samples, block_N.astype(np.float32, copy=False)])
        state.pushed += len(block_N)
        updates = []
        while len(state.samples) >= self._size:
            updates.append(self._step(state.samples[: self._size]))
            state.samples = state.samples[self._hop :]
        return updates

    def finish(self) -> list[StreamingUpdate]:
        """Return the remaining updates at the end of the signal; silence is assumed after it."""
        state = self.state
        pushed, pieces = state.pushed, -(-(state.pushed - state.window * self._hop) // self._hop)
        if pieces <= 0:
            return []
        missing = self._size + (pieces - 1) * self._hop - len(state.samples)
        updates = self.push(np.zeros(missing, np.float32))
        state.pushed = pushed
        return [_trim(update, pushed, self.model.rate) for update in updates]

    def _step(self, wave_N: Wave) -> StreamingUpdate:
        """Process one window; the update covers the hop that ends LOOKAHEAD before the window's end."""
        state, grid, rate = self.state, self.grid, self.model.rate
        output = forward(self.model, [wave_N])
        activity_CS = self._activity(output, wave_N)
        label_C = self._assign(output, wave_N, activity_CS)
        count, stop = len(state.embedding_sum), self._size - self._ahead
        first = stop - self._hop
        covered = slice(first // grid.segment, stop // grid.segment)
        fade = round(FADE_SECONDS * rate)
        activity_KS = np.zeros((count, grid.hop), np.float32)
        # A little more than the hop, because the next update is cross-faded with it.
        wave_KN = np.zeros((count, self._hop + fade), np.float32)
        estimate_CN = output.estimate_BCN[0].float().cpu().numpy()
        for c, k in enumerate(label_C):
            if k >= 0:
                activity_KS[k] = np.maximum(activity_KS[k], activity_CS[c, covered])
                wave_KN[k] += estimate_CN[c, first : stop + fade]
        piece_KN = wave_KN[:, : self._hop].copy()
        rise_F = fade_in(fade)
        if state.window:
            tail_KF = np.zeros((count, fade), np.float32)
            tail_KF[: len(state.fade_tail)] = state.fade_tail
            piece_KN[:, :fade] = piece_KN[:, :fade] * rise_F + tail_KF * rise_F[::-1]
        state.fade_tail = wave_KN[:, self._hop :]
        start = state.window * self._hop
        state.window += 1
        embed_KE = unit_rows(state.embedding_sum)
        return StreamingUpdate(start / rate, (start + self._hop) / rate, activity_KS, piece_KN, embed_KE)

    def _activity(self, output: EncoderOutput, wave_N: Wave) -> Floats:
        """Probability of speech [C,S] in a window; 0 in digital silence, whatever the network's output is."""
        logit_CS = output.activity_BCS[0].float().cpu().numpy()[:, : self.grid.window]
        probability_CS: Floats = 1 / (1 + np.exp(-logit_CS)) * self._loud(wave_N)
        return probability_CS.astype(np.float32)

    def _loud(self, wave_N: Wave) -> NDArray[np.bool_]:
        """Segments [S] of a window that are not digital silence."""
        loud_S: NDArray[np.bool_] = np.abs(wave_N).reshape(self.grid.window, self.grid.segment).max(1) > 0
        return loud_S

    def _assign(self, output: EncoderOutput, wave_N: Wave, activity_CS: Floats) -> list[int]:
        """Speaker of each stream (-1 for none); adds new speakers and this window to the state."""
        state = self.state
        query_CE = output.query_BCE[0].float().cpu().numpy()
        size = query_CE.shape[1]
        self._remember(output, wave_N)
        # Speakers are recognised by queries (docs/experiments.md); attending to the past gives better
        # embeddings.
        attended_CE = attend_memory(self.model, query_CE, state.memory, state.memory_logit)
        seconds_C = (activity_CS > 0.5).sum(1) * np.float32(self.model.segment_seconds)
        sum_2KE = np.stack([state.query_sum, state.embedding_sum]).reshape(2, -1, size)
        label_C = match_streams(
            query_CE,
            seconds_C > 0,
            unit_rows(sum_2KE[0]),
            self.same_cosine,
            may_be_new=seconds_C >= 2 * MIN_SPEECH_SECONDS,
        )
        new = max(0, int(label_C.max()) + 1 - sum_2KE.shape[1])
        sum_2KE = np.pad(sum_2KE, ((0, 0), (0, new), (0, 0)))
        for c in np.flatnonzero((label_C >= 0) & (seconds_C >= MIN_SPEECH_SECONDS)):
            sum_2KE[:, label_C[c]] += np.stack([query_CE[c], attended_CE[c]]) * seconds_C[c]
        state.query_sum, state.embedding_sum = sum_2KE
        return [int(k) for k in label_C]

    def _remember(self, output: EncoderOutput, wave_N: Wave) -> None:
        """Add the segments of the hop that this window covers to the memory of the cross-attention."""
        state, grid = self.state, self.grid
        logit_CS = output.activity_BCS[0].float().cpu().numpy()[:, : grid.window]
        segment_CSE = output.segment_BCSE[0].float().cpu().numpy()[:, : grid.window]
        stop, size = (self._size - self._ahead) // grid.segment, segment_CSE.shape[2]
        covered = slice(stop - grid.hop, stop)
        state.memory = np.concatenate(
            [state.memory.reshape(-1, size), segment_CSE[:, covered].reshape(-1, size)]
        )[-MAX_MEMORY_SEGMENTS:]
        audible_CS = np.where(self._loud(wave_N), logit_CS, -30.0)
        state.memory_logit = np.concatenate([state.memory_logit, audible_CS[:, covered].reshape(-1)])[
            -MAX_MEMORY_SEGMENTS:
        ].astype(np.float32)


def _trim(update: StreamingUpdate, pushed: int, rate: int) -> StreamingUpdate:
    """Cut an update at the end of the signal, ``pushed`` samples long."""
    end = min(update.end, pushed / rate)
    count = round((end - update.start) * rate)
    return StreamingUpdate(update.start, end, update.activity, update.waveform[:, :count], update.embedding)
