"""Is a speaker of one recording heard in another? The largest cosine over pairs of their audible speakers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from separative.errors import SeparativeError
from separative.inference.cluster import mean_embedding
from separative.inference.forward import need_speech, run
from separative.inference.recording import Audio, ChannelPolicy, Recording, load
from separative.metrics import Calibration, log_odds
from separative.types import Wave

if TYPE_CHECKING:
    from separative.model import SeparativeEncoder


@dataclass(frozen=True)
class Verification:
    """What two sides have in common, as a score and, if the model is calibrated, as evidence.

    ``score`` in [-1, 1] · ``llr`` its log-likelihood ratio in nats, above 0 for the same speaker ·
    ``probability`` that the speakers are the same if ``prior`` was before · ``same`` the decision that errs
    least at that prior, either error costing alike · ``calibrated_on`` the conditions in which these hold;
    all four None if the model's card has no calibration · then which recording and stream matched, by side.
    """

    score: float
    llr: float | None
    probability: float | None
    prior: float
    same: bool | None
    calibrated_on: str | None
    left_recording: int
    left_stream: int
    right_recording: int
    right_stream: int


def verify(
    model: SeparativeEncoder,
    left: Audio | Sequence[Audio],
    right: Audio | Sequence[Audio],
    *,
    prior: float = 0.5,
    channels: ChannelPolicy = "mean",
) -> Verification:
    """Score two sides, each one recording or several of the same person.

    Several recordings of a side are views of one memory: the cross-attention gathers over all of them
    (method, section 3). The two sides never share a memory. Calibrations are made with one recording a side.

    Args:
        prior: probability of the same speaker before anything is heard.

    Raises:
        AudioError: a recording cannot be taken, or a side has no stream with MIN_SPEECH seconds of speech.
        SeparativeError: a prior that is not between 0 and 1, a side without a recording.
    """
    odds = log_odds(prior)
    sides = [embed_side_recordings(model, side, channels) for side in (left, right)]
    pairs = [
        (float(np.dot(a.embedding_E, b.embedding_E)), i, a.stream, j, b.stream)
        for i, one in enumerate(sides[0])
        for a in one.speakers
        for j, other in enumerate(sides[1])
        for b in other.speakers
    ]
    score, *where = max(pairs, key=lambda pair: pair[0])
    found = evidence(model, score, prior)
    if found is None:
        return Verification(score, None, None, prior, None, None, *where)
    llr, probability, on = found
    return Verification(score, llr, probability, prior, llr > -odds, on, *where)


def evidence(model: SeparativeEncoder, score: float, prior: float) -> tuple[float, float, str] | None:
    """What a score is worth by the model's calibration: log-likelihood ratio in nats, probability at a prior,
    and where the calibration comes from; None if the model has none."""
    record = model.card.get("calibration")
    if record is None:
        return None
    calibration = Calibration(record["scale"], record["offset"])
    on = f"{', '.join(record['conditions'])}; {record['seconds']:g} s a side; {record['speakers']} speakers"
    return float(calibration.llr(score)), float(calibration.probability(score, prior)), on


def embed_side(
    model: SeparativeEncoder, side: Audio | Sequence[Audio], channels: ChannelPolicy = "mean"
) -> Wave:
    """The embedding [E] (unit norm) of the most talkative voice in the recordings of a side, their mean.

    Raises:
        AudioError, SeparativeError: as :func:`embed_side_recordings`.
    """
    embed_RE = np.stack(
        [r.speakers[0].embedding_E for r in embed_side_recordings(model, side, channels) if r.speakers]
    )
    return mean_embedding(embed_RE, np.ones(len(embed_RE), np.float32))


def embed_side_recordings(
    model: SeparativeEncoder, side: Audio | Sequence[Audio], channels: ChannelPolicy = "mean"
) -> list[Recording]:
    """One recording, or several of one person as views of one memory.

    Raises:
        AudioError: a recording cannot be taken, or no stream holds MIN_SPEECH seconds of speech.
        SeparativeError: no recording.
    """
    one = isinstance(side, str | Path) or (
        isinstance(side, tuple) and len(side) == 2 and isinstance(side[1], int | np.integer)
    )
    sources: Sequence[Audio] = [side] if one else side  # type: ignore[list-item, assignment]
    if not sources:
        raise SeparativeError("a side of a verification needs at least one recording")
    loaded = [load(source, model.rate, channels) for source in sources]
    recordings = run(model, loaded, shared=True, separate=False)
    need_speech(recordings)
    return recordings
