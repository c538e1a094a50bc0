"""Find the speaker of each word of a transcript from turns."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from separative.rttm import Turn, join_turns
from separative.types import Floats

NEAR = 2.0
"""Seconds. A word that is farther from every turn has no speaker."""

PAUSE = 0.5
"""Seconds. After a longer pause of a speaker, the next word is as likely to be another speaker's."""

BEAM = 32
"""Number of assignments that are compared at a time."""

# Costs per second, relative to a second of a word in a turn of its speaker. Two words of one speaker cannot
# overlap in time, which costs more than a word outside of the turns of its speaker: turns have errors, too.
OVERLAP, OUTSIDE, CONTINUE, EXCLUSIVE = 6.0, 2.0, 0.2, 0.2
# Without a turn around a word, the nearest turn decides.
DISTANCE = 0.1


def assign_words(
    spans: Sequence[tuple[float, float]], turns: Sequence[Turn], exclusive: Sequence[Turn] = ()
) -> list[str | None]:
    """Find the speaker of each word.

    The words of a speaker cover the speaker's turns and do not overlap in time. So where two speakers
    overlap, words that overlap belong to different speakers, and words that follow each other belong to one.
    The assignment with the lowest cost of the whole recording is found by beam search.

    Args:
        spans: (start, end) of each word in seconds, sorted by start.
        turns: turns of all speakers, which may overlap.
        exclusive: turns with one speaker at a time (:func:`exclusive_turns`): in an overlap, a speech
            recogniser mostly writes down this speaker.

    Returns:
        the name of the speaker of each word, None if there is no turn within NEAR seconds.

    Example:
        >>> turns = [Turn("ann", 0.0, 2.0), Turn("bob", 1.0, 3.0)]
        >>> assign_words([(0.0, 1.2), (1.0, 1.9), (1.2, 2.0), (1.9, 3.0), (9.0, 9.5)], turns)
        ['ann', 'bob', 'ann', 'bob', None]
    """
    names = sorted({turn.speaker for turn in turns})
    if not names or not spans:
        return [None] * len(spans)
    span_W2 = np.array(spans, float)
    # Words without a length are given 20 ms.
    span_W2[:, 1] = np.maximum(span_W2[:, 1], span_W2[:, 0] + 0.02)
    edges = [_edges(turns, name) for name in names]
    inside_KW = np.stack([_inside(edge, span_W2) for edge in edges])
    distance_KW = np.stack([_distance(edge, span_W2) for edge in edges])
    cost_KW = -OUTSIDE * inside_KW + DISTANCE * np.minimum(distance_KW, NEAR)
    if exclusive:
        cost_KW -= EXCLUSIVE * np.stack([_inside(_edges(exclusive, name), span_W2) for name in names])
    never = -np.inf
    # Each state is the end of the last word of each speaker; it has a cost and where it came from.
    states: dict[tuple[float, ...], tuple[float, int]] = {(never,) * len(names): (0.0, -1)}
    history: list[list[tuple[int, int]]] = []
    for w, (start, end) in enumerate(span_W2):
        near_K = np.flatnonzero(distance_KW[:, w] <= NEAR)
        following: dict[tuple[float, ...], tuple[float, int]] = {}
        steps: list[tuple[int, int]] = []
        for before, (ends, (cost, _)) in enumerate(states.items()):
            for k in near_K if len(near_K) else (-1,):
                after, price = list(ends), cost
                if k >= 0:
                    overlap = min(max(0.0, ends[k] - start), end - start)
                    gap = min(max(0.0, start - ends[k]), PAUSE)
                    price += cost_KW[k, w] + OVERLAP * overlap + CONTINUE * gap
                    after[k] = max(end, ends[k])
                # What ended longer ago makes no difference, so that equal states can be merged.
                key = tuple(time if time > start - PAUSE else never for time in after)
                if key not in following or price < following[key][0]:
                    following[key] = (price, len(steps))
                    steps.append((before, int(k)))
        best = sorted(following.items(), key=lambda item: item[1][0])[:BEAM]
        history.append([steps[step] for _, (_, step) in best])
        states = dict(best)
    place, found = 0, [-1] * len(span_W2)
    for w in range(len(span_W2) - 1, -1, -1):
        place, found[w] = history[w][place]
    return [names[k] if k >= 0 else None for k in found]


def _edges(turns: Sequence[Turn], name: str) -> Floats:
    """Start and end of the turns of a speaker, without overlaps [turns, 2]."""
    return np.array([turn[1:3] for turn in join_turns(t for t in turns if t.speaker == name)], float)


def _inside(edge: Floats, span_W2: Floats) -> Floats:
    """Seconds of each span inside the turns of a speaker [W]; ``edge`` from :func:`_edges`."""
    if not edge.size:
        return np.zeros(len(span_W2))
    covered = np.stack([np.zeros(len(edge)), edge[:, 1] - edge[:, 0]], 1).ravel().cumsum()
    start_W, end_W = (np.interp(time_W, edge.ravel(), covered) for time_W in span_W2.T)
    inside_W: Floats = end_W - start_W
    return inside_W


def _distance(edge: Floats, span_W2: Floats) -> Floats:
    """Seconds from each span to the nearest turn of a speaker [W]; 0 inside."""
    # The last turn that starts before the end of the span, and the next one.
    last_W = np.searchsorted(edge[:, 0], span_W2[:, 1]) - 1
    before_W = np.where(last_W >= 0, span_W2[:, 0] - edge[np.maximum(last_W, 0), 1], np.inf)
    next_W = np.minimum(last_W + 1, len(edge) - 1)
    after_W = np.where(last_W + 1 < len(edge), edge[next_W, 0] - span_W2[:, 1], np.inf)
    distance_W: Floats = np.maximum(0.0, np.minimum(before_W, after_W))
    return distance_W
