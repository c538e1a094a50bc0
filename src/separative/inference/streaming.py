"""Diarize and separate a live signal: push samples, get speakers after a short delay, then corrections."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from separative.errors import AudioError, SeparativeError
from separative.inference.cluster import FEW_SAME_COSINE, Labels, match_streams
from separative.inference.diarize import WINDOW
from separative.inference.forward import forward
from separative.inference.phases import phase_count
from separative.inference.recording import MIN_SPEECH_SECONDS, SpeechRule, check_samples
from separative.inference.revision import MAX_WINDOWS, PastWindows, free_numbers, revise
from separative.inference.separated import FADE_SECONDS
from separative.inference.updates import Correction, StreamingUpdate, find_corrections
from separative.inference.windows import WindowGrid, attend_memory, fade_in
from separative.types import Floats, Wave

if TYPE_CHECKING:
    from separative.model import SeparativeEncoder

STEP = 0.25
"""Distance from one window to the next, in seconds. An update covers one step."""

STEPS_PER_HOP = 4
"""Every such window is one of the windows of ``diarize``. At first the windows between them are kept, too,
because ``diarize`` runs the model over a short recording in several phases."""

LATENCY, HORIZON = 0.5, 30.0
"""Time from pushing a sample to its result, and how long results may be corrected, in seconds."""

LATENCIES, MAX_HORIZON = (0.5, 2.0), 600.0
"""Bounds of both."""

KEPT_PER_REVISION = 64
"""Speakers are revised after each window of ``diarize``, and more rarely the more windows are kept."""


@dataclass
class StreamingState:
    """Everything a :class:`StreamingDiarizer` remembers of the past; with it, another one can continue.

    Attributes:
        samples: samples that later windows still need [N].
        past: windows kept for revisions, at most a constant number.
        window: number of windows processed.
        pushed: number of samples pushed.
        unrevised: number of windows kept since the last revision.
        query: mean query of each speaker at the last revision [K, E]; recognises speakers.
        embedding: attended embedding of each speaker [K, E].
        said: who was reported as active [K, T], in half segments; its last column is the latest one.
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
    past: PastWindows
    window: int = 0
    pushed: int = 0
    unrevised: int = 0
    query: Floats = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    embedding: Floats = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    said: NDArray[np.bool_] = field(default_factory=lambda: np.zeros((0, 0), bool))
    fade_tail: Floats = field(default_factory=lambda: np.zeros((0, 0), np.float32))


class StreamingDiarizer:
    """Diarize and separate a signal of any length in constant memory.

    Results for a sample come at most :attr:`latency` seconds after it was pushed. Later updates correct them
    for ``horizon`` seconds: the speakers are found again in the windows kept, with the functions of
    :func:`separative.diarize`. Separated waveforms are not corrected. Results do not depend on how the signal
    is cut into blocks.

    Args:
        model: a model in evaluation mode.
        latency: longest time from pushing a sample to its result, in seconds; rounded to steps of windows.
        horizon: time for which results may be corrected, in seconds; 0 for no corrections.
        same_cosine: cosine of queries above which a stream belongs to a known speaker, until a revision.

    Raises:
        SeparativeError: the latency or the horizon is out of bounds.

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

    def __init__(
        self,
        model: SeparativeEncoder,
        *,
        latency: float = LATENCY,
        horizon: float = HORIZON,
        same_cosine: float = FEW_SAME_COSINE,
    ) -> None:
        if not LATENCIES[0] <= latency <= LATENCIES[1]:
            raise SeparativeError(f"latency is {latency}; pass {LATENCIES[0]} to {LATENCIES[1]} seconds")
        if not 0 <= horizon <= MAX_HORIZON:
            raise SeparativeError(f"horizon is {horizon}; pass 0 to {MAX_HORIZON:.0f} seconds")
        self.model, self.same_cosine, self.rule = model, same_cosine, SpeechRule.of(model)
        steps = WindowGrid.for_model(model, WINDOW, STEP)
        self.grid = replace(steps, hop=STEPS_PER_HOP * steps.hop)
        segment = self.grid.segment
        # In segments: distance between windows, part of a window after its step, and the horizon.
        self._step_segments = steps.hop
        most = steps.window // steps.hop - 1
        self._ahead = steps.hop * min(most, round(latency * model.rate / (segment * steps.hop)) - 1)
        self._horizon = round(horizon * model.rate / segment)
        # Silence before the signal, so that the first window ends one latency after its beginning.
        self._lead = steps.window - self._ahead - steps.hop
        self._hop, self._size = steps.hop * segment, steps.window * segment
        past = PastWindows.empty(
            streams=model.streams, segments=steps.window, hop=self.grid.hop, size=model.config.embedding
        )
        self.state = StreamingState(np.zeros(self._lead * segment, np.float32), past)

    @property
    def latency(self) -> float:
        """Longest time from pushing a sample to its result, in seconds of the signal."""
        return (self._ahead + self._step_segments) * self.grid.segment / self.model.rate

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
        if state.unrevised:
            last = updates[-1]
            corrections = (*last.corrections, *self._revise())
            # The last revision may find speakers that no update had.
            count = len(state.embedding)
            updates[-1] = replace(
                last,
                activity=_grow(last.activity, count),
                waveform=_grow(last.waveform, count),
                embedding=state.embedding,
                corrections=corrections,
            )
        return [_trim(update, pushed, self.model.rate) for update in updates]

    def _step(self, wave_N: Wave) -> StreamingUpdate:
        """Process one window; the update covers the step that ends one lookahead before the window's end."""
        state, rate = self.state, self.model.rate
        window, estimate_CN = self._run(wave_N)
        stop = self.grid.window - self._ahead
        step = slice(stop - self._step_segments, stop)
        corrections: list[Correction] = []
        joined = state.past.join(window)
        activity_CS = joined.adapted(self.grid)[-1]
        label_C = self._match(window, joined, activity_CS)
        start = int(window.start[0])
        if start >= 0 and start % self._kept_hop() == 0:
            on_grid = start % self.grid.hop == 0
            self._keep(replace(window, label=label_C[None]))
            if on_grid and state.unrevised > len(state.past.start) // KEPT_PER_REVISION:
                corrections = self._revise()
                label_C = state.past.label[-1]
        count = len(state.query)
        activity_KS = np.zeros((count, self._step_segments), np.float32)
        # A little more than the step, because the next update is cross-faded with it.
        fade = round(FADE_SECONDS * rate)
        wave_KN = np.zeros((count, self._hop + fade), np.float32)
        first = step.start * self.grid.segment
        for c, k in enumerate(label_C):
            if k >= 0:
                activity_KS[k] = np.maximum(activity_KS[k], activity_CS[c, step])
                wave_KN[k] += estimate_CN[c, first : first + self._hop + fade]
        said_KT = np.repeat(activity_KS > 0.5, 2, axis=1)
        state.said = np.concatenate([_grow(state.said, count), said_KT], 1)[:, -2 * max(1, self._horizon) :]
        begin = state.window * self._hop
        state.window += 1
        piece_KN = self._cross_fade(wave_KN)
        return StreamingUpdate(
            begin / rate,
            (begin + self._hop) / rate,
            activity_KS,
            piece_KN,
            state.embedding,
            tuple(corrections),
        )

    def _cross_fade(self, wave_KN: Wave) -> Wave:
        """Cross-fade a piece [K, hop + fade] with the end of the one before; returns [K, hop]."""
        state, fade = self.state, wave_KN.shape[1] - self._hop
        piece_KN, rise_F = wave_KN[:, : self._hop].copy(), fade_in(fade)
        if state.window > 1:
            tail_KF = _grow(state.fade_tail, len(wave_KN))
            piece_KN[:, :fade] = piece_KN[:, :fade] * rise_F + tail_KF * rise_F[::-1]
        state.fade_tail = wave_KN[:, self._hop :]
        return piece_KN

    def _run(self, wave_N: Wave) -> tuple[PastWindows, Floats]:
        """Outputs of the model for one window [1, ...], and its separated streams [C, N]."""
        output, grid = forward(self.model, [wave_N]), self.grid
        logit_CS, query_CE, segment_CSE, power_S = (
            x[0].float().cpu().numpy()
            for x in (output.activity_BCS, output.query_BCE, output.segment_BCSE, output.power_BS)
        )
        loud_S = np.abs(wave_N).reshape(grid.window, grid.segment).max(1) > 0
        logit_CS = np.where(loud_S, logit_CS[:, : grid.window], -30.0).astype(np.float32)
        middle = slice((grid.window - grid.hop) // 2, (grid.window + grid.hop) // 2)
        window = PastWindows(
            np.array([self.state.window * self._step_segments - self._lead]),
            (loud_S / (1 + np.exp(-logit_CS))).astype(np.float32)[None],
            query_CE[None],
            segment_CSE[None, :, middle],
            logit_CS[None, :, middle],
            10 * np.log10(np.maximum(power_S[None, : grid.window], 1e-12)),
            np.full((1, len(query_CE)), -1),
        )
        return window, output.estimate_BCN[0].float().cpu().numpy()

    def _match(self, window: PastWindows, joined: PastWindows, activity_CS: Floats) -> Labels:
        """Speaker of each stream [C], -1 for none. New speakers are added to the state.

        ``joined``: the windows kept, and this one.
        """
        state, query_CE = self.state, window.query[0]
        active_CS, certain_CS = activity_CS > 0.5, activity_CS > self.rule.certain
        seconds_C = active_CS.sum(1) * np.float32(self.model.segment_seconds)
        speech_C = self.rule.decide(active_CS.sum(1), certain_CS.sum(1))
        query_KE = state.query.reshape(-1, query_CE.shape[1])
        # Only the speakers who did not turn out to be others.
        present = np.flatnonzero(query_KE.any(1))
        label_C = match_streams(
            query_CE,
            seconds_C > 0,
            query_KE[present],
            self.same_cosine,
            may_be_new=speech_C & (seconds_C >= 2 * MIN_SPEECH_SECONDS),
        )
        new = max(0, int(label_C.max()) + 1 - len(present))
        number_N = free_numbers(np.union1d(present, state.past.label), new)
        if new:
            first_N = [int(np.flatnonzero(label_C == len(present) + n)[0]) for n in range(new)]
            attended_NE = attend_memory(
                self.model,
                query_CE[first_N],
                joined.segment.reshape(-1, query_CE.shape[1]),
                joined.segment_logit.reshape(-1),
            )
            count = max(len(query_KE), int(number_N.max()) + 1)
            state.query = _grow(query_KE, count)
            state.embedding = _grow(state.embedding.reshape(query_KE.shape), count)
            state.query[number_N], state.embedding[number_N] = query_CE[first_N], attended_NE
        return np.array([*present, *number_N, -1], np.int64)[label_C]

    def _keep(self, window: PastWindows) -> None:
        """Keep a window for revisions, and drop old ones if there are too many."""
        state = self.state
        state.past = state.past.join(window).thin(self._kept_hop(), self._first_recent(), MAX_WINDOWS)
        state.unrevised += 1

    def _kept_hop(self) -> int:
        """Distance in segments of the windows to keep; more of them are kept in the first minutes."""
        seconds = self.state.window * self._hop / self.model.rate
        return self.grid.hop // min(STEPS_PER_HOP, max(1, phase_count(seconds) // 2))

    def _first_recent(self) -> int:
        """Start of the first window that is kept and has a part inside the horizon, in segments."""
        begin = self.state.window * self._step_segments - self._horizon - self.grid.window
        return max(0, (begin // self.grid.hop + 1) * self.grid.hop)

    def _revise(self) -> list[Correction]:
        """Find the speakers again, and return what changes before the present step."""
        state = self.state
        result = revise(self.model, self.grid, state.past, self._first_recent(), len(state.query))
        state.past, state.query, state.embedding = result.past, result.query, result.embedding
        state.unrevised = 0
        state.said = _grow(state.said, len(state.query))
        if not self._horizon:
            return []
        # The last column of ``said`` ends where the present step begins.
        tick = self.grid.segment / self.model.rate / 2
        last = 2 * self._step_segments * state.window
        first = last - state.said.shape[1]
        revised_KT = np.zeros_like(state.said)
        for k, begin, end in result.turns:
            low, high = (round(time / tick) - first for time in (begin, end))
            revised_KT[k, max(0, low) : max(0, high)] = True
        # Windows in the memory do not reach the end of the signal, when it is finished.
        reach = 2 * (int(state.past.start[-1]) + self.grid.window) - first
        revised_KT[:, reach:] = state.said[:, reach:]
        before_KT, state.said = state.said, revised_KT
        return find_corrections(before_KT, revised_KT, first * tick, tick)


def _grow(rows_KX: NDArray[Any], count: int) -> NDArray[Any]:
    """Add rows of zeros until there are ``count``."""
    return np.pad(rows_KX, ((0, count - len(rows_KX)), (0, 0)))


def _trim(update: StreamingUpdate, pushed: int, rate: int) -> StreamingUpdate:
    """Cut an update at the end of the signal, ``pushed`` samples long."""
    end = min(update.end, pushed / rate)
    count = round((end - update.start) * rate)
    corrections = tuple(
        replace(change, end=min(change.end, end)) for change in update.corrections if change.start < end
    )
    return replace(update, end=end, waveform=update.waveform[:, :count], corrections=corrections)
