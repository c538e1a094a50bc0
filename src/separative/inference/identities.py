"""Open-set identification: the speakers of a recording get the names of enrolled speakers, or none."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from separative.inference.evidence import Candidate, calibrated_evidence, same_speaker_cosine
from separative.metrics import log_odds
from separative.names import file_part
from separative.rttm import rttm_name

if TYPE_CHECKING:
    from separative.inference.diarize import Diarization
    from separative.model import SeparativeEncoder


@dataclass(frozen=True)
class Identification:
    """Identity of a speaker among the enrolled ones.

    Attributes:
        name: name of the most probable speaker, or None for an unknown speaker.
        unknown_probability: probability that the speaker is not enrolled; None without a calibration.
        candidates: enrolled speakers, the best score first. The probabilities of all scored candidates and
            ``unknown_probability`` add up to 1.

    Example:
        >>> Identification(None, None, ()).candidates
        ()
    """

    name: str | None
    unknown_probability: float | None
    candidates: tuple[Candidate, ...]

    @property
    def probability(self) -> float | None:
        """Probability of ``name``; None for an unknown speaker and without a calibration."""
        return next((one.probability for one in self.candidates if one.name == self.name), None)


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

    Example:
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


def name_speakers(
    model: SeparativeEncoder, identifications: Sequence[Identification], enrolled: int, prior: float = 0.5
) -> list[Identification]:
    """Give every enrolled speaker to at most one speaker of a recording.

    Of all assignments of names to speakers, the one with the highest product of probabilities is chosen
    (Kuhn 1955). A speaker stays unknown where that is more probable than a name, and where a better match has
    the name. The probabilities of a speaker are not changed.

    Args:
        identifications: a result of :func:`identify_from_scores` for each speaker of the recording.
        enrolled, prior: as for :func:`identify_from_scores`.

    Example:
        >>> from separative import load_model
        >>> model, scores = load_model(), [[("ann", 0.9), ("bob", 0.7)], [("ann", 0.95), ("bob", 0.1)]]
        >>> alone = [identify_from_scores(model, found, enrolled=2) for found in scores]
        >>> [found.name for found in alone], [found.name for found in name_speakers(model, alone, enrolled=2)]
        (['ann', 'ann'], ['bob', 'ann'])
    """
    from scipy.optimize import linear_sum_assignment

    names = sorted({one.name for found in identifications for one in found.candidates})
    column = {name: n for n, name in enumerate(names)}
    # Log-odds of each name against an unknown speaker.
    gain_KN = np.full((len(identifications), len(names)), -np.inf)
    least = -log_odds(prior) + np.log(max(enrolled, 1))
    for k, found in enumerate(identifications):
        for one in found.candidates:
            gain = one.score - same_speaker_cosine(model) if one.llr is None else one.llr - least
            gain_KN[k, column[one.name]] = gain
    # A name that is less probable than an unknown speaker is as good as none.
    rows, columns = linear_sum_assignment(np.maximum(gain_KN, 0), maximize=True)
    assigned = {int(k): names[n] for k, n in zip(rows, columns, strict=True) if gain_KN[k, n] > 0}
    return [replace(found, name=assigned.get(k)) for k, found in enumerate(identifications)]


def speaker_labels(labels: Sequence[str], names: Sequence[str | None]) -> list[str]:
    """Return what each speaker of a recording is called in the results: the name, or else the label.

    No two are the same, also in formats that replace blanks: one of them gets a number.

    Args:
        labels: "speaker1" and so on, which unknown speakers keep.
        names: the name of each speaker, or None.

    Example:
        >>> speaker_labels(["speaker1", "speaker2", "speaker3"], ["Ann Lee", None, "speaker2"])
        ['Ann Lee', 'speaker2-2', 'speaker2']
        >>> speaker_labels(["speaker1", "speaker2"], ["Ann Lee", "Ann_Lee"])
        ['Ann Lee', 'Ann_Lee-2']
    """
    taken: set[str] = set()
    found: dict[int, str] = {}
    # Names come before the labels of unknown speakers.
    for k in sorted(range(len(labels)), key=lambda k: names[k] is None):
        found[k] = unique_name(names[k] or labels[k], taken, rttm_name)
        taken.add(rttm_name(found[k]))
    return [found[k] for k in range(len(labels))]


def file_parts(names: Sequence[str], taken: Collection[str] = ()) -> list[str]:
    """Return a part of a file name for each speaker; no two differ in capital letters only.

    Args:
        names: names of the speakers.
        taken: parts that other files have.

    Example:
        >>> file_parts(["Ann Lee", "ann/lee", "speaker1"], taken=["speaker1"])
        ['Ann_Lee', 'ann_lee-2', 'speaker1-2']
    """
    used, parts = {part.casefold() for part in taken}, []
    for name in names:
        parts.append(unique_name(file_part(name), used, str.casefold))
        used.add(parts[-1].casefold())
    return parts


def unique_name(name: str, taken: Collection[str], key: Callable[[str], str] = str) -> str:
    """Return a name, with the first number from 2 that makes its key differ from all that are taken.

    Args:
        key: a function from a name to what must be distinct.

    Example:
        >>> unique_name("ann", {"ann", "ann-2"})
        'ann-3'
    """
    chosen, number = name, 1
    while key(chosen) in taken:
        number += 1
        chosen = f"{name}-{number}"
    return chosen


def rename_speakers(diarization: Diarization, names: Sequence[str]) -> Diarization:
    """Return the same diarization with other names of the speakers, in their order.

    Example:
        >>> import separative
        >>> diarization = rename_speakers(separative.diarize(separative.load_model(), "ann.wav"), ["Ann"])
        >>> diarization.speakers[0].name, {turn.speaker for turn in diarization.turns}
        ('Ann', {'Ann'})
    """
    speakers = tuple(
        replace(speaker, name=name, turns=tuple(turn._replace(speaker=name) for turn in speaker.turns))
        for speaker, name in zip(diarization.speakers, names, strict=True)
    )
    return replace(diarization, speakers=speakers)


def describe_identity(label: str, found: Identification) -> dict[str, Any]:
    """Convert the identity of a speaker to keys of the speaker's record for JSON.

    Args:
        label: what the speaker is called in the recording, such as "speaker1".

    Example:
        >>> describe_identity("speaker1", Identification("ann", 0.1, (Candidate("ann", 0.7, 5.0, 0.9),)))[
        ...     "identity"]
        {'name': 'ann', 'probability': 0.9, 'unknown_probability': 0.1}
    """
    return {
        "label": label,
        "identity": {
            "name": found.name,
            "probability": found.probability,
            "unknown_probability": found.unknown_probability,
        },
        "matches": [asdict(one) for one in found.candidates],
    }
