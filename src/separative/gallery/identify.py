"""One of those who are enrolled, or nobody who is: evidence into probabilities that add up to one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from separative.inference.diarize import same_speaker_cosine
from separative.inference.verify import evidence
from separative.metrics import log_odds

if TYPE_CHECKING:
    from separative.model import SeparativeEncoder


@dataclass(frozen=True)
class Candidate:
    """An enrolled speaker: cosine, log-likelihood ratio in nats, and probability beside all others and nobody;
    the last two None if the model is not calibrated."""

    name: str
    score: float
    llr: float | None
    probability: float | None


@dataclass(frozen=True)
class Identification:
    """Who a voice is: ``name``, or None for unknown; ``unknown`` the probability of that (None without a
    calibration); ``candidates`` the nearest first."""

    name: str | None
    unknown: float | None
    candidates: tuple[Candidate, ...]


def identify(
    model: SeparativeEncoder, nearest: Sequence[tuple[str, float]], enrolled: int, prior: float = 0.5
) -> Identification:
    """From cosines of the nearest of all ``enrolled`` speakers to a decision.

    Before anything is heard, the voice is some enrolled speaker's with probability ``prior``, any of them
    alike. Then P(k | scores) ∝ prior/N · exp(llr_k) and P(unknown) ∝ 1 − prior; those who are not among the
    nearest have no evidence to speak of. Without a calibration, the nearest is taken if its cosine is above
    what the model's card calls the same speaker.

    Raises:
        SeparativeError: a prior that is not between 0 and 1.
    """
    log_odds(prior)
    ranked = sorted(nearest, key=lambda match: -match[1])
    worth = [evidence(model, score, 0.5) for _, score in ranked]
    if not ranked or worth[0] is None:
        best = ranked[0] if ranked and ranked[0][1] > same_speaker_cosine(model) else None
        plain = tuple(Candidate(name, score, None, None) for name, score in ranked)
        return Identification(best[0] if best else None, None, plain)
    llr_K = np.array([found[0] for found in worth if found is not None])
    weight = np.concatenate([[np.log1p(-prior)], np.log(prior / enrolled) + llr_K])
    share = np.exp(weight - weight.max())
    share /= share.sum()
    candidates = tuple(
        Candidate(name, score, float(llr), float(probability))
        for (name, score), llr, probability in zip(ranked, llr_K, share[1:], strict=True)
    )
    known = int(share.argmax())
    return Identification(ranked[known - 1][0] if known else None, float(share[0]), candidates)
