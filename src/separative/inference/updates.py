"""Results of a stream: updates, corrections of earlier updates, and the turns that follow from both."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from separative.rttm import Turn, frames_to_turns
from separative.types import Floats


@dataclass(frozen=True)
class Correction:
    """Who speaks from ``start`` to ``end``, in seconds, after a revision: ``after`` instead of ``before``.

    Both are sets of speakers, as tuples of indices in increasing order; () if there is no speech.

    Example:
        >>> Correction(12.0, 14.5, before=(1,), after=(0,)).after
        (0,)
    """

    start: float
    end: float
    before: tuple[int, ...]
    after: tuple[int, ...]


@dataclass(frozen=True)
class StreamingUpdate:
    """Results for the signal from ``start`` to ``end``, in seconds, for the K speakers found so far.

    Speakers keep their numbers. A number stays if its speaker turns out to be another one.

    Attributes:
        activity: probability of speech [K, S] in segments of the model's length.
        waveform: separated samples [K, N].
        embedding: embedding of each speaker over everything so far [K, E], unit norm; zeros for a speaker who
            turned out to be another one.
        corrections: changes of the results before ``start``, ordered by time; in the last update of a stream
            also of its own results.

    Example:
        >>> import separative
        >>> from separative import audio
        >>> model = separative.load_model()
        >>> wave, _ = audio.read("ann.wav", model.rate)
        >>> update = separative.StreamingDiarizer(model).push(wave)[-1]
        >>> update.activity.shape, update.waveform.shape, update.embedding.shape
        ((1, 4), (1, 4096), (1, 128))
    """

    start: float
    end: float
    activity: Floats
    waveform: Floats
    embedding: Floats
    corrections: tuple[Correction, ...] = ()


class StreamingTurns:
    """Collect the updates of a stream, with all corrections, as turns.

    Args:
        segment_seconds: length of a segment of the model.

    Example:
        >>> import separative
        >>> from separative import audio
        >>> model = separative.load_model()
        >>> diarizer, log = separative.StreamingDiarizer(model), StreamingTurns(model.segment_seconds)
        >>> wave, _ = audio.read("ann.wav", model.rate)
        >>> log.add(diarizer.push(wave) + diarizer.finish())
        >>> {turn.speaker for turn in log.turns()}
        {'speaker1'}
    """

    def __init__(self, segment_seconds: float) -> None:
        self.tick = segment_seconds / 2
        self._active = np.zeros((0, 1024), bool)
        self._length, self._end = 0, 0.0

    def add(self, updates: list[StreamingUpdate]) -> None:
        """Add the next updates."""
        for update in updates:
            count, ticks = len(update.activity), 2 * update.activity.shape[1]
            longer = self._active.shape[1] if self._length + ticks > self._active.shape[1] else 0
            self._active = np.pad(self._active, ((0, count - len(self._active)), (0, longer)))
            self._active[:, self._length : self._length + ticks] = np.repeat(update.activity > 0.5, 2, axis=1)
            for change in update.corrections:
                low, high = round(change.start / self.tick), round(change.end / self.tick)
                self._active[:, low:high] = False
                self._active[list(change.after), low:high] = True
            self._length, self._end = self._length + ticks, update.end

    def turns(self) -> list[Turn]:
        """Return the turns so far, ordered by start; speaker K - 1 is called "speakerK"."""
        names = [f"speaker{k + 1}" for k in range(len(self._active))]
        found = frames_to_turns(self._active[:, : self._length], names, self.tick)
        return [turn._replace(end=min(turn.end, self._end)) for turn in found if turn.start < self._end]


def find_corrections(
    before_KT: NDArray[np.bool_], after_KT: NDArray[np.bool_], start: float, tick: float
) -> list[Correction]:
    """Return the corrections from one table of activity [K, T] to another, ordered by time.

    Both begin at ``start`` seconds, and have one column per ``tick`` seconds.

    Example:
        >>> before = np.array([[True, True], [False, False]])
        >>> find_corrections(before, before[::-1], 4.0, 0.5)
        [Correction(start=4.0, end=5.0, before=(0,), after=(1,))]
    """
    changed_T = (before_KT != after_KT).any(0)
    both_XT = np.concatenate([before_KT, after_KT])
    edges_T = np.flatnonzero((both_XT[:, 1:] != both_XT[:, :-1]).any(0)) + 1
    corrections = []
    for first, last in zip([0, *edges_T], [*edges_T, before_KT.shape[1]], strict=True):
        if first < last and changed_T[first]:
            before, after = (
                tuple(int(k) for k in np.flatnonzero(table_KT[:, first]))
                for table_KT in (before_KT, after_KT)
            )
            corrections.append(Correction(start + first * tick, start + last * tick, before, after))
    return corrections
