"""Is a talker of one recording heard in another? The largest cosine over pairs of their audible talkers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from separative.inference.analyse import need_speech, run
from separative.inference.recording import Audio, ChannelPolicy, Recording, load

if TYPE_CHECKING:
    from separative.model import SeparativeEncoder


@dataclass(frozen=True)
class Verification:
    """``score`` in [-1, 1]; which recording and which stream of each side matched best.

    ``threshold`` comes from the model's card (None if it names none), ``same`` is the decision by it.
    """

    score: float
    left_recording: int
    left_stream: int
    right_recording: int
    right_stream: int
    threshold: float | None
    same: bool | None


def verify(
    model: SeparativeEncoder,
    left: Audio | Sequence[Audio],
    right: Audio | Sequence[Audio],
    *,
    channels: ChannelPolicy = "mean",
) -> Verification:
    """Score two sides, each one recording or several of the same person.

    Several recordings of a side are views of one memory: the cross-attention gathers over all of them
    (method, section 3). The two sides never share a memory.

    Raises:
        AudioError: a recording cannot be taken, or a side has no stream with MIN_SPEECH seconds of speech.
    """
    sides = [_side(model, side, channels) for side in (left, right)]
    pairs = [
        (float(np.dot(a.embedding_E, b.embedding_E)), i, a.stream, j, b.stream)
        for i, one in enumerate(sides[0])
        for a in one.audible
        for j, other in enumerate(sides[1])
        for b in other.audible
    ]
    score, i, left_stream, j, right_stream = max(pairs, key=lambda pair: pair[0])
    threshold = model.card.get("threshold")
    same = None if threshold is None else score >= threshold
    return Verification(score, i, left_stream, j, right_stream, threshold, same)


def _side(
    model: SeparativeEncoder, side: Audio | Sequence[Audio], channels: ChannelPolicy
) -> list[Recording]:
    one = isinstance(side, str | Path) or (len(side) == 2 and isinstance(side[1], int))
    sources: Sequence[Audio] = [side] if one else side  # type: ignore[list-item, assignment]
    loaded = [load(source, model.rate, channels) for source in sources]
    recordings = run(model, loaded, shared=True)
    need_speech(recordings)
    return recordings
