"""Windows of a recording in which one speaker speaks, and verification trials between them."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from separative.evaluation.meeting_rows import Scores
from separative.evaluation.references import FRAME, ReferenceRecording
from separative.files import replace_file
from separative.types import Floats

WINDOW, HOP = 2.0, 0.5
"""Length of a window and distance from one to the next, in seconds."""

MIN_SPEECH, MAX_OTHERS = 1.2, 0.1
"""Least speech of the speaker and most speech of all others in a window, in seconds."""

MAX_WINDOWS = 100
"""Most windows of a recording; in a long recording, windows are left out evenly."""


class LoneWindow(NamedTuple):
    """A window in which one speaker speaks, and hardly anybody else.

    ``recording``: name of the recording · ``start`` in seconds · ``speaker``: who speaks.

    >>> LoneWindow("trn01", 12.5, "ann").id
    'trn01@12.50'
    """

    recording: str
    start: float
    speaker: str

    @property
    def id(self) -> str:
        """Name of the window, unique among all recordings of a manifest."""
        return f"{self.recording}@{self.start:.2f}"


def lone_windows(recording: ReferenceRecording) -> list[LoneWindow]:
    """Find the windows of WINDOW seconds in which one speaker speaks alone.

    The speaker speaks for at least MIN_SPEECH seconds of a window, all others together for at most MAX_OTHERS
    seconds. Windows begin every HOP seconds and are inside the scored spans.

    >>> from separative.rttm import Turn
    >>> turns = (Turn("ann", 0.0, 2.0), Turn("bob", 2.5, 5.0))
    >>> recording = ReferenceRecording("a", Path("a.wav"), 5.0, turns, ((0.0, 5.0),))
    >>> [(window.start, window.speaker) for window in lone_windows(recording)]
    [(0.0, 'ann'), (0.5, 'ann'), (2.0, 'bob'), (2.5, 'bob'), (3.0, 'bob')]
    """
    reference_KT, scored_T = recording.reference, recording.scored_frames
    size, step = round(WINDOW / FRAME), round(HOP / FRAME)
    start_W = np.arange(0, recording.frames - size + 1, step)
    active_T = reference_KT.sum(0)
    found = []
    for k, speaker in enumerate(recording.speakers):
        own_T = reference_KT[k]
        own_W, others_W, scored_W = (_sums(x_T, start_W, size) for x_T in (own_T, active_T > own_T, scored_T))
        chosen_W = (own_W * FRAME >= MIN_SPEECH) & (others_W * FRAME <= MAX_OTHERS) & (scored_W == size)
        found += [LoneWindow(recording.name, float(first * FRAME), speaker) for first in start_W[chosen_W]]
    found.sort(key=lambda window: window.start)
    return [
        found[i] for i in np.unique(np.linspace(0, len(found) - 1, min(len(found), MAX_WINDOWS), dtype=int))
    ]


def window_scores(windows: Sequence[LoneWindow], embeddings: Floats) -> Scores:
    """Score all pairs of windows of one recording that do not overlap.

    Returns the cosine of each pair, and whether both have the same speaker.

    Args:
        embeddings: one per window [W, E], of any length. If an embedding has a NaN, all scores of its window
            are -1, the lowest cosine.

    >>> windows = [LoneWindow("a", 0.0, "ann"), LoneWindow("a", 1.5, "ann"), LoneWindow("a", 4.0, "bob")]
    >>> window_scores(windows, np.eye(3))  # the first two overlap
    [(0.0, False), (0.0, False)]
    """
    start_W = np.array([window.start for window in windows])
    speaker_W = np.array([window.speaker for window in windows])
    left_N, right_N = np.triu_indices(len(windows), 1)
    apart_N = np.abs(start_W[left_N] - start_W[right_N]) >= WINDOW - FRAME / 2
    left_N, right_N = left_N[apart_N], right_N[apart_N]
    unit_WE = _unit(embeddings)
    score_N = (unit_WE[left_N] * unit_WE[right_N]).sum(-1)
    failed_W = np.asarray(np.isnan(embeddings).any(axis=1))
    score_N[failed_W[left_N] | failed_W[right_N]] = -1.0
    same_N = speaker_W[left_N] == speaker_W[right_N]
    return list(zip(score_N.tolist(), same_N.tolist(), strict=True))


def scores_between(windows: Sequence[Sequence[LoneWindow]], embeddings: Sequence[Floats]) -> Floats:
    """Cosines [N] of pairs of windows from two recordings and of speakers with different names.

    They are taken for different speakers. Pairs of one name are left out: in many corpora each recording
    numbers its own speakers. Arguments are as in :func:`window_scores`, for each recording.

    >>> ann, bob = [LoneWindow("a", 0.0, "ann")], [LoneWindow("b", 0.0, "bob"), LoneWindow("b", 2.0, "ann")]
    >>> scores_between([ann, bob], [np.eye(2)[:1], np.eye(2)])
    array([1.])
    """
    scores: list[Floats] = []
    unit = [_unit(embedding_WE) for embedding_WE in embeddings]
    failed = [np.asarray(np.isnan(embedding_WE).any(axis=1)) for embedding_WE in embeddings]
    for left, right in combinations([i for i, some in enumerate(windows) if some], 2):
        left_W, right_W = (np.array([w.speaker for w in windows[i]]) for i in (left, right))
        other_WW = np.not_equal.outer(left_W, right_W)
        cosine_WW = np.where(failed[left][:, None] | failed[right][None, :], -1.0, unit[left] @ unit[right].T)
        scores.append(cosine_WW[other_WW])
    return np.concatenate(scores) if scores else np.zeros(0)


def write_windows(recordings: Iterable[ReferenceRecording], path: str | Path) -> int:
    """Write the windows of recordings as a CSV file, for other systems to embed; return their number.

    The columns are window, recording, path, start, seconds and speaker; paths are absolute.

    >>> from separative.rttm import Turn
    >>> turns, scored = (Turn("ann", 0.0, 2.0),), ((0.0, 2.0),)
    >>> write_windows([ReferenceRecording("a", Path("ann.wav"), 2.0, turns, scored)], "windows.csv")
    1
    """
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["window", "recording", "path", "start", "seconds", "speaker"])
    count = 0
    for recording in recordings:
        for window in lone_windows(recording):
            source = recording.path.resolve()
            table.writerow(
                [window.id, window.recording, source, f"{window.start:.2f}", WINDOW, window.speaker]
            )
            count += 1
    replace_file(path, text.getvalue().encode())
    return count


def _unit(embedding_WE: Floats) -> Floats:
    """Embeddings of unit norm; zeros where an embedding has a NaN."""
    norm_W = np.maximum(np.linalg.norm(embedding_WE, axis=-1, keepdims=True), 1e-12)
    unit_WE: Floats = np.nan_to_num(embedding_WE / norm_W)
    return unit_WE


def _sums(active_T: NDArray[np.bool_], start_W: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """Number of active frames in windows of ``size`` frames [W]."""
    total_T = np.concatenate([[0], np.cumsum(active_T, dtype=np.int64)])
    sum_W: NDArray[np.int64] = total_T[start_W + size] - total_T[start_W]
    return sum_W
