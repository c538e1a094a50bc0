"""Speech of each speaker over time, from the streams of all windows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from separative.inference.windows import WindowOutputs
from separative.types import Floats

TURN_LOW, TURN_HIGH = 0.4, 0.8
"""The activity is above TURN_LOW for a whole turn, and above TURN_HIGH somewhere in it."""


def talking(activity: Floats) -> NDArray[np.bool_]:
    """Return the times [T] at which a speaker talks, from the probabilities of speech [T].

    They are above TURN_LOW for a whole turn, and above TURN_HIGH somewhere in it.

    Example:
        >>> talking(np.array([0.5, 0.9, 0.5, 0.1, 0.6, 0.5])).tolist()
        [True, True, True, False, False, False]
    """
    edge = np.flatnonzero(np.diff(activity > TURN_LOW, prepend=False, append=False))
    active_T = np.zeros(len(activity), bool)
    for start, stop in zip(edge[::2], edge[1::2], strict=True):
        active_T[start:stop] = activity[start:stop].max() > TURN_HIGH
    return active_T


def speaker_activity(windows: WindowOutputs, labels: NDArray[np.int64], count: int) -> Floats:
    """Return the probability of speech [K, T] of each of ``count`` speakers, the mean over all phases.

    With P phases there are P values per segment: the segments of each phase begin at different samples, so
    the mean changes P times within the length of a segment.

    Args:
        labels: speaker of each stream in the windows of all phases [W, C]; -1 for none.

    Example:
        >>> import separative
        >>> windows = separative.diarize(separative.load_model(), "meeting.wav").windows
        >>> labels = np.zeros((sum(len(phase.query) for phase in windows.phases), 2), int)
        >>> speaker_activity(windows, labels, 1).shape
        (1, 2464)
    """
    phases = windows.phases
    step = windows.grid.segment // len(phases)
    times = windows.grid.segments(windows.samples) * len(phases)
    total_KT, first = np.zeros((count, times), np.float32), 0
    for phase in phases:
        phase_label_WC = labels[first : first + len(phase.query)]
        first += len(phase.query)
        # The segment of this phase that contains each time.
        segment_T = (np.arange(times) * step + phase.offset) // windows.grid.segment
        activity_KR = _phase_activity(phase, phase_label_WC, count)
        total_KT += activity_KR[:, np.minimum(segment_T, activity_KR.shape[1] - 1)]
    return total_KT / len(phases)


def _phase_activity(windows: WindowOutputs, label_WC: NDArray[np.int64], count: int) -> Floats:
    """Probability of speech [K,R] of each speaker in the R segments of the recording, for one phase.

    A segment gets the weighted mean over all windows that contain it. The weight falls linearly from the
    middle of a window to its ends.
    """
    grid, segments = windows.grid, windows.grid.segments(windows.samples)
    weight_S = np.minimum(np.arange(grid.window) + 1, np.arange(grid.window, 0, -1)).astype(np.float32)
    sum_KR = np.zeros((count, segments + grid.window), np.float32)
    weight_R = np.zeros(segments + grid.window, np.float32)
    for w, label_C in enumerate(label_WC):
        inside = slice(w * grid.hop, w * grid.hop + grid.window)
        weight_R[inside] += weight_S
        for k in set(label_C[label_C >= 0].tolist()):
            sum_KR[k, inside] += weight_S * windows.activity[w, label_C == k].max(0)
    sum_KR /= np.maximum(weight_R, 1e-9)
    return sum_KR[:, :segments]
