"""Open-set identification: similarity scores become probabilities of enrolled speakers and of "unknown"."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from separative.inference.evidence import calibrated_evidence, same_speaker_cosine
from separative.inference.verify import Candidate
from separative.metrics import log_odds

if TYPE_CHECKING:
    from separative.model import SeparativeEncoder


@dataclass(frozen=True)
class Identification:
    """Identity of a speaker among the enrolled ones.

    Attributes:
        name: name of the most probable speaker, or None for an unknown speaker.
        unknown_probability: probability that the speaker is not enrolled; None without a calibration.
        candidates: enrolled speakers, the best score first. The probabilities of all scored candidates and
            ``unknown_probability`` add up to 1.

    >>> Identification(None, None, ()).candidates
    ()
    """

    name: str | None
    unknown_probability: float | None
    candidates: tuple[Candidate, ...]


def identify_from_scores(
    model: SeparativeEncoder, scores: Sequence[tuple[str, float]], enrolled: int, prior: float = 0.5
) -> Identification:
    """Decide between the best-scoring enrolled speakers and an unknown speaker.

    The speaker is enrolled with probability ``prior``, and all N enrolled speakers are equally probable. Then
    P(k | scores) ∝ prior/N · exp(llr_k) and P(unknown | scores) ∝ 1 − prior. Enrolled speakers without a
    score are left out. If the model is not calibrated, the best-scoring speaker is chosen if its cosine is
    above the model's threshold for the same speaker.

    Args:
        scores: names and cosines of the best-scoring speakers.
        enrolled: number N of all enrolled speakers.
        prior: probability that the speaker is enrolled, before any score is known.

    Raises:
        SeparativeError: the prior is not between 0 and 1.

    >>> from separative import load_model
    >>> model = load_model()
    >>> found = identify_from_scores(model, [("ann", 0.95), ("bob", 0.1)], enrolled=2)
    >>> found.name, [candidate.name for candidate in found.candidates]
    ('ann', ['ann', 'bob'])
    >>> identify_from_scores(model, [("bob", 0.0)], enrolled=2).name is None
    True
    """
    log_odds(prior)
    ranked = sorted(scores, key=lambda match: -match[1])
    evidence = [calibrated_evidence(model, score, 0.5) for _, score in ranked]
    if not ranked or evidence[0] is None:
        best = ranked[0][0] if ranked and ranked[0][1] > same_speaker_cosine(model) else None
        return Identification(best, None, tuple(Candidate(name, score, None, None) for name, score in ranked))
    llr_K = np.array([found.llr for found in evidence if found is not None], np.float64)
    # Unnormalised log posterior: unknown first, then the candidates.
    log_posterior = np.concatenate([[np.log1p(-prior)], np.log(prior / enrolled) + llr_K])
    posterior = np.exp(log_posterior - log_posterior.max())
    posterior /= posterior.sum()
    candidates = tuple(
        Candidate(name, score, float(llr), float(probability))
        for (name, score), llr, probability in zip(ranked, llr_K, posterior[1:], strict=True)
    )
    best_index = int(posterior.argmax())
    name = ranked[best_index - 1][0] if best_index else None
    return Identification(name, float(posterior[0]), candidates)
