"""Memory of a stream: windows of the past in constant size, and the decisions of ``diarize`` over them."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from separative.inference.cluster import Labels, mean_embedding
from separative.inference.diarize import label_streams
from separative.inference.phases import adapt_activity
from separative.inference.speakers import describe_speakers
from separative.inference.windows import WindowGrid, WindowOutputs, attend_memory
from separative.types import Floats

if TYPE_CHECKING:
    from separative.model import SeparativeEncoder

MAX_WINDOWS = 256
"""Most windows before the horizon that are kept."""


@dataclass(frozen=True)
class PastWindows:
    """Outputs of the model for W past windows, and the speakers that were reported for them.

    Attributes:
        start: first segment of each window in the signal [W], increasing.
        activity: probability of speech [W, C, S].
        query: embeddings before the cross-attention [W, C, E].
        segment, segment_logit: embeddings [W, C, H, E] of the segments in the middle hop of each window, and
            their log-odds of speech [W, C, H]; together they are the memory of the cross-attention.
        level_db: level of the mixture in each segment [W, S], dB of full scale.
        label: number of the speaker that was reported for each stream [W, C]; -1 for none.

    Example:
        >>> PastWindows.empty(streams=2, segments=32, hop=16, size=128).query.shape
        (0, 2, 128)
    """

    start: Labels
    activity: Floats
    query: Floats
    segment: Floats
    segment_logit: Floats
    level_db: Floats
    label: Labels

    @staticmethod
    def empty(*, streams: int, segments: int, hop: int, size: int) -> PastWindows:
        """Return no windows of a model with this number of streams and this size of embeddings."""
        activity, query, segment, logit, level = (
            np.zeros((0, *shape), np.float32)
            for shape in [
                (streams, segments),
                (streams, size),
                (streams, hop, size),
                (streams, hop),
                (segments,),
            ]
        )
        label = np.zeros((0, streams), np.int64)
        return PastWindows(np.zeros(0, np.int64), activity, query, segment, logit, level, label)

    def take(self, chosen: Labels | NDArray[np.bool_] | slice) -> PastWindows:
        """Return some of the windows."""
        return PastWindows(*(getattr(self, field.name)[chosen] for field in fields(self)))

    def join(self, other: PastWindows) -> PastWindows:
        """Return these windows, followed by the other ones."""
        names = [field.name for field in fields(self)]
        return PastWindows(*(np.concatenate([getattr(self, n), getattr(other, n)]) for n in names))

    def outputs(self, grid: WindowGrid) -> WindowOutputs:
        """Return the windows on the grid, and those between them as shifted ones, all with adapted activity.

        The windows of each phase are given as if each one followed the one before.
        """
        phase_W = self.start % grid.hop
        parts = [self.take(phase_W == phase) for phase in np.unique(phase_W)]
        first, *shifted = adapt_activity([part.phase(grid) for part in parts])
        return replace(
            first,
            memory=self.segment.reshape(-1, self.segment.shape[3]),
            memory_logit=self.segment_logit.reshape(-1),
            shifted=tuple(shifted),
        )

    def adapted(self, grid: WindowGrid) -> Floats:
        """Return the activity of all windows [W, C, S], adapted to the levels of all."""
        activity_WCS: Floats = adapt_activity([self.phase(grid)])[0].activity
        return activity_WCS

    def phase(self, grid: WindowGrid) -> WindowOutputs:
        """Return the windows as one phase, without memory."""
        no_memory = np.zeros((0, self.query.shape[2]), np.float32), np.zeros(0, np.float32)
        samples = ((len(self.start) - 1) * grid.hop + grid.window) * grid.segment - grid.lead
        return WindowOutputs(grid, self.activity, self.query, *no_memory, self.level_db, samples)

    def thin(self, hop: int, first_recent: int, most: int) -> PastWindows:
        """Keep the windows that begin at multiples of ``hop``, at most ``most`` before ``first_recent``.

        As long as there are too many old ones, one window of the speaker with the most windows is dropped:
        the one between the two windows of that speaker that are closest to each other. So every speaker
        remains, and the windows of a speaker spread over the whole past.
        """
        on_grid_W = self.start % hop == 0
        past = self if on_grid_W.all() else self.take(on_grid_W)
        while (old := int((past.start < first_recent).sum())) > most:
            # The speaker of a window is the one with the most activity.
            loudest_W = past.activity[:old].sum(2).argmax(1)
            label_W = past.label[:old][np.arange(old), loudest_W]
            values, counts = np.unique(label_W, return_counts=True)
            member = np.flatnonzero(label_W == values[counts.argmax()])
            gap = past.start[member][2:] - past.start[member][:-2]
            drop = member[1 + int(gap.argmin())] if len(gap) else member[0]
            past = past.take(np.arange(len(past.start)) != drop)
        return past


@dataclass(frozen=True)
class Revision:
    """Result of :func:`revise`, for the K speakers reported so far.

    Attributes:
        past: the windows, with their present speakers.
        query: mean query of each speaker [K, E]; zeros for a speaker who turned out to be another one.
        embedding: attended embedding of each speaker [K, E]; zeros likewise.
        turns: turns (speaker number, start, end) in the windows from the first recent one on, in seconds.

    Example:
        >>> none = PastWindows.empty(streams=2, segments=32, hop=16, size=128)
        >>> Revision(none, np.zeros((0, 128)), np.zeros((0, 128)), []).turns
        []
    """

    past: PastWindows
    query: Floats
    embedding: Floats
    turns: list[tuple[int, float, float]]


def revise(
    model: SeparativeEncoder, grid: WindowGrid, past: PastWindows, first_recent: int, count: int
) -> Revision:
    """Find the speakers in all past windows, as :func:`separative.diarize` does, and keep their numbers.

    Args:
        past: windows with the speakers reported for them. Those from ``first_recent`` on are consecutive.
        first_recent: first segment of the first window in which speakers may change.
        count: number of speakers reported so far.

    Example:
        >>> import separative
        >>> model = separative.load_model()
        >>> windows = separative.diarize(model, "meeting.wav").windows
        >>> count = len(windows.query)
        >>> past = PastWindows(
        ...     16 * np.arange(count), windows.activity, windows.query,
        ...     np.zeros((count, 2, 16, 128), np.float32),
        ...     np.zeros((count, 2, 16), np.float32), windows.level_db, np.full((count, 2), -1)
        ... )
        >>> revision = revise(model, windows.grid, past, first_recent=0, count=0)
        >>> len(revision.turns) > 1 and {k for k, _, _ in revision.turns} == set(range(len(revision.query)))
        True
    """
    found_WC = _labels(model, grid, past)
    activity_WCS = past.adapted(grid)
    speech_WC = (activity_WCS > 0.5).sum(2).astype(np.float32)
    number_J = _keep_numbers(found_WC, past.label, speech_WC, int(found_WC.max(initial=-1)) + 1, count)
    count = max([count, *(k + 1 for k in number_J)])
    label_WC = np.array([*number_J, -1], np.int64)[found_WC]
    query_KE = np.zeros((count, past.query.shape[2]), np.float32)
    for k in number_J:
        query_KE[k] = mean_embedding(past.query[label_WC == k], speech_WC[label_WC == k])
    embed_KE = np.zeros_like(query_KE)
    memory = past.segment.reshape(-1, query_KE.shape[1]), past.segment_logit.reshape(-1)
    embed_KE[number_J] = attend_memory(model, query_KE[number_J], *memory)
    recent_W = past.start >= first_recent
    recent = past.take(recent_W)
    turns = _turns(model, grid, recent, activity_WCS[recent_W], label_WC[recent_W])
    label = np.where(recent_W[:, None], label_WC, past.label)
    return Revision(replace(past, label=label), query_KE, embed_KE, turns)


def _labels(model: SeparativeEncoder, grid: WindowGrid, past: PastWindows) -> Labels:
    """Speaker of each stream [W, C] as ``diarize`` finds it; windows between those of the grid are phases."""
    phase_W = past.start % grid.hop
    order_W = np.argsort(phase_W, kind="stable")
    label_WC = np.empty_like(past.label)
    label_WC[order_W] = label_streams(model, past.outputs(grid))
    return label_WC


def _keep_numbers(found_WC: Labels, label_WC: Labels, speech_WC: Floats, found: int, count: int) -> list[int]:
    """Number of each speaker found.

    Numbers are kept so that as much speech as possible has the speaker that was reported. Speakers that share
    no speech with a reported one get free numbers.
    """
    from scipy.optimize import linear_sum_assignment

    shared_JK = np.zeros((found, count), np.float32)
    both_WC = (found_WC >= 0) & (label_WC >= 0)
    np.add.at(shared_JK, (found_WC[both_WC], label_WC[both_WC]), speech_WC[both_WC])
    number_J = np.full(found, -1)
    for j, k in zip(*linear_sum_assignment(-shared_JK), strict=True):
        if shared_JK[j, k] > 0:
            number_J[j] = k
    # New speakers are numbered in the order in which they first spoke.
    new_J = np.flatnonzero(number_J < 0)
    first_J = [int((found_WC == j).any(1).argmax()) for j in new_J]
    number_J[new_J[np.argsort(first_J, kind="stable")]] = free_numbers(label_WC[label_WC >= 0], len(new_J))
    return number_J.tolist()


def free_numbers(used: Labels, count: int) -> Labels:
    """Return the ``count`` smallest numbers of speakers that are not in ``used``, an array of numbers.

    A number becomes free again if all that was reported for it was corrected.

    Example:
        >>> free_numbers(np.array([0, 2, 0]), 2).tolist()
        [1, 3]
    """
    return np.setdiff1d(np.arange(len(np.unique(used)) + count), used)[:count]


def _turns(
    model: SeparativeEncoder, grid: WindowGrid, past: PastWindows, activity_WCS: Floats, label_WC: Labels
) -> list[tuple[int, float, float]]:
    """Turns (speaker number, start, end) in consecutive windows, in seconds of the signal."""
    if not len(past.start):
        return []
    if len(past.start) > 1:
        grid = replace(grid, hop=int(past.start[-1] - past.start[-2]))
    windows = replace(past.phase(grid), activity=activity_WCS)
    present = np.unique(label_WC[label_WC >= 0])
    compact_WC = np.where(label_WC < 0, -1, np.searchsorted(present, label_WC))
    speakers, rank_WC = describe_speakers(model, windows, compact_WC, attention=False)
    begin = int(past.start[0]) * grid.segment / model.rate
    return [
        (int(k), begin + turn.start, begin + turn.end)
        for i, k in enumerate(present)
        for turn in speakers[rank_WC[compact_WC == i][0]].turns
    ]
