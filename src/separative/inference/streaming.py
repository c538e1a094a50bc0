"""Listening while it is spoken: samples are pushed in, speakers come out a little later."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from separative.errors import AudioError
from separative.inference.cluster import ALIKE_IF_FEW, match_streams, unit_rows
from separative.inference.forward import forward
from separative.inference.recording import MIN_SPEECH
from separative.inference.separated import FADE_SECONDS
from separative.inference.windows import WindowGrid, fade_in, gather
from separative.types import Floats, Wave

if TYPE_CHECKING:
    from separative.model import Separated, SeparativeEncoder

WINDOW, HOP = 4.0, 0.5
"""Seconds of a window; and from one to the next, which is the length of what an update holds."""

LOOKAHEAD = 1.0
"""Seconds that a window hears beyond what is said about it."""

MEMORY = 4096
"""Segments of the past that the cross-attention gathers over."""


@dataclass(frozen=True)
class Update:
    """What is known of ``start`` to ``end``, in seconds; K speakers so far, in the order they came.

    ``activity_KS`` probability of speech in segments of the model's length · ``voice_KN`` separated samples ·
    ``embedding_KE`` of all that each has said so far, unit norm.
    """

    start: float
    end: float
    activity_KS: Floats
    voice_KN: Floats
    embedding_KE: Floats


@dataclass
class State:
    """All that listening remembers; whoever keeps it can go on later. ``samples_N`` are still needed.

    ``query_sum_KE`` of the windows' own embeddings, by which speakers are known again, and ``embed_sum_KE`` of
    what the cross-attention has made of them, by seconds of speech.
    """

    samples_N: Wave
    window: int = 0
    pushed: int = 0
    query_sum_KE: Floats = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    embed_sum_KE: Floats = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    memory_ME: Floats = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    memory_activity_M: Floats = field(default_factory=lambda: np.zeros(0, np.float32))
    fading_KN: Floats = field(default_factory=lambda: np.zeros((0, 0), np.float32))


class StreamingDiarizer:
    """Follows a signal of any length in constant memory.

    What is said of a moment comes at most :attr:`latency` seconds after it was pushed, and is the same
    however the samples were cut into blocks. Speakers get numbers as they appear, and are known again.

    Args:
        model: in evaluation mode.
        same: cosine above which a window's own embedding is a speaker's, or two streams of it sound the same.
    """

    def __init__(self, model: SeparativeEncoder, *, same: float = ALIKE_IF_FEW) -> None:
        self.model, self.same = model, same
        self.grid = WindowGrid.of(model, WINDOW, HOP)
        self._hop = self.grid.hop * self.grid.segment
        self._size = self.grid.window * self.grid.segment
        self._ahead = round(LOOKAHEAD / HOP) * self._hop
        # Silence before the beginning: the first window then ends LOOKAHEAD after the first piece.
        lead = self._size - self._ahead - self._hop
        self.state = State(np.zeros(lead, np.float32))

    @property
    def latency(self) -> float:
        """Seconds after which a sample that was pushed has been spoken of, at most."""
        return (self._ahead + self._hop) / self.model.rate

    def push(self, wave_N: Wave) -> list[Update]:
        """Take the next samples (float32, at the model's rate); returns what they complete, often nothing.

        Raises:
            AudioError: samples that are no numbers; nothing of them is taken, more may be pushed.
        """
        if not np.isfinite(wave_N).all():
            raise AudioError("the samples pushed hold NaN or infinite values")
        state = self.state
        state.samples_N = np.concatenate([state.samples_N, np.asarray(wave_N, np.float32)])
        state.pushed += len(wave_N)
        updates = []
        while len(state.samples_N) >= self._size:
            updates.append(self._step(state.samples_N[: self._size]))
            state.samples_N = state.samples_N[self._hop :]
        return updates

    def finish(self) -> list[Update]:
        """What is left, once no more samples come; silence is heard after the end."""
        state = self.state
        pushed, pieces = state.pushed, -(-(state.pushed - state.window * self._hop) // self._hop)
        if pieces <= 0:
            return []
        missing = self._size + (pieces - 1) * self._hop - len(state.samples_N)
        updates = self.push(np.zeros(missing, np.float32))
        state.pushed = pushed
        return [_cut(update, pushed, self.model.rate) for update in updates]

    def _step(self, wave_N: Wave) -> Update:
        state, grid = self.state, self.grid
        heard = forward(self.model, [wave_N])
        activity_CS, label_C = self._who(heard, wave_N)
        count, stop = len(state.embed_sum_KE), self._size - self._ahead
        first = stop - self._hop
        place = slice(first // grid.segment, stop // grid.segment)
        fade = round(FADE_SECONDS * self.model.rate)
        activity_KS = np.zeros((count, grid.hop), np.float32)
        # A little more than the piece: the next one fades in over it.
        voice_KN = np.zeros((count, self._hop + fade), np.float32)
        estimate_CN = heard.estimate_BCN[0].float().cpu().numpy()
        for c, k in enumerate(label_C):
            if k >= 0:
                activity_KS[k] = np.maximum(activity_KS[k], activity_CS[c, place])
                voice_KN[k] += estimate_CN[c, first : stop + fade]
        piece_KN = voice_KN[:, : self._hop].copy()
        rise_F = fade_in(fade)
        if state.window:
            before_KF = np.zeros((count, fade), np.float32)
            before_KF[: len(state.fading_KN)] = state.fading_KN
            piece_KN[:, :fade] = piece_KN[:, :fade] * rise_F + before_KF * rise_F[::-1]
        state.fading_KN = voice_KN[:, self._hop :]
        start = state.window * self._hop
        state.window += 1
        rate = self.model.rate
        embed_KE = unit_rows(state.embed_sum_KE)
        return Update(start / rate, (start + self._hop) / rate, activity_KS, piece_KN, embed_KE)

    def _who(self, heard: Separated, wave_N: Wave) -> tuple[Floats, list[int]]:
        """Activity of each stream, and whose it is (−1: nobody's); new speakers are added to the state."""
        state, grid = self.state, self.grid
        logit_CS = heard.activity_BCS[0].float().cpu().numpy()[:, : grid.window]
        segment_CSE = heard.segment_BCSE[0].float().cpu().numpy()[:, : grid.window]
        activity_CS = 1 / (1 + np.exp(-logit_CS))
        # Silence before the beginning or in the recording is no speech whatever the network says.
        loud_S = np.abs(wave_N).reshape(grid.window, grid.segment).max(1) > 0
        activity_CS = (activity_CS * loud_S).astype(np.float32)
        query_CE = heard.query_BCE[0].float().cpu().numpy()
        stop, size = (self._size - self._ahead) // grid.segment, query_CE.shape[1]
        new_S = slice(stop - grid.hop, stop)
        state.memory_ME = np.concatenate(
            [state.memory_ME.reshape(-1, size), segment_CSE[:, new_S].reshape(-1, size)]
        )[-MEMORY:]
        state.memory_activity_M = np.concatenate(
            [state.memory_activity_M, np.where(loud_S, logit_CS, -30.0)[:, new_S].reshape(-1)]
        )[-MEMORY:].astype(np.float32)
        # Whose streams are, windows say of themselves (docs/experiments.md); the past betters embeddings.
        attended_CE = gather(self.model, query_CE, state.memory_ME, state.memory_activity_M)
        seconds_C = (activity_CS > 0.5).sum(1) * np.float32(self.model.segment_seconds)
        sum_2KE = np.stack([state.query_sum_KE, state.embed_sum_KE]).reshape(2, -1, size)
        label_C = match_streams(
            query_CE, seconds_C > 0, unit_rows(sum_2KE[0]), self.same, new_C=seconds_C >= 2 * MIN_SPEECH
        )
        new = max(0, int(label_C.max()) + 1 - sum_2KE.shape[1])
        sum_2KE = np.pad(sum_2KE, ((0, 0), (0, new), (0, 0)))
        for c in np.flatnonzero((label_C >= 0) & (seconds_C >= MIN_SPEECH)):
            sum_2KE[:, label_C[c]] += np.stack([query_CE[c], attended_CE[c]]) * seconds_C[c]
        state.query_sum_KE, state.embed_sum_KE = sum_2KE
        return activity_CS, [int(k) for k in label_C]


def _cut(update: Update, pushed: int, rate: int) -> Update:
    """The part of an update before the end of the signal."""
    end = min(update.end, pushed / rate)
    count = round((end - update.start) * rate)
    return Update(update.start, end, update.activity_KS, update.voice_KN[:, :count], update.embedding_KE)
