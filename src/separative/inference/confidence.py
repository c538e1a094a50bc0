"""Confidence: the probability that a turn is right, and a calibrated probability of the number of speakers.

A turn is right if the speaker, matched with the true speakers of the whole recording, speaks in at least half
of it. The probability is a logistic function of four numbers, and grows with each of them.
``benchmarks/fit_confidence.py`` fits its constants on simulated conversations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from separative.errors import ModelError
from separative.inference.counting import unit_rows
from separative.inference.phases import log_odds
from separative.inference.speakers import Speaker
from separative.types import Floats

if TYPE_CHECKING:
    from separative.inference.diarize import Diarization
    from separative.model import SeparativeEncoder

FEATURES = ("activity", "margin", "half", "missing")
"""Mean log-odds of the speaker's activity in the turn; margin of the embedding to other speakers; its margin
between the two halves of the speaker; and minus the expected number of speakers that were not found.

Most wrong turns are of a speaker who was taken for another one. The speaker found is then a mixture of two
people: one half of the windows is of each, and the turns near the smaller half are wrong.
"""

# Beyond these bounds, the activity says nothing more.
ACTIVITY_BOUNDS = (-5.0, 8.0)
# A window takes part in the halves if the speaker is active in this share of it; rounds of two-means.
HALF_SHARE, HALF_ROUNDS, LEAST_WINDOWS = 0.25, 10, 4
# A speaker may have many windows; the two most different ones are found among this many.
MAX_PAIRWISE = 500


@dataclass(frozen=True)
class ConfidenceRule:
    """The constants of the confidence, from the entry ``confidence`` of a model's card.

    The defaults are those of the shipped model.

    Attributes:
        activity, margin, half, missing: weights of FEATURES, 0 or more.
        constant: log-odds at features of 0.
        sharpness: exponent of the probabilities of the numbers of speakers.
        other: share of cases in which the number is any number of speakers.

    Example:
        >>> rule = ConfidenceRule(activity=1.0, margin=0.0, half=0.0, missing=0.0, constant=0.0)
        >>> rule.probability(np.array([[0.0, 0.5, 0.5, -1.0]])).tolist()
        [0.5]
    """

    activity: float = 0.102
    margin: float = 1.348
    half: float = 3.149
    missing: float = 0.754
    constant: float = 0.993
    sharpness: float = 0.419
    other: float = 0.0

    @staticmethod
    def of(model: SeparativeEncoder) -> ConfidenceRule:
        """Return the constants in the card of a model.

        Raises:
            ModelError: the entry of the card is damaged.
        """
        from separative.model.card import card_numbers

        cure = "; fit it again with benchmarks/fit_confidence.py"
        rule = card_numbers(model.card, "confidence", ConfidenceRule, cure)
        if not (np.isfinite(list(vars(rule).values())).all() and rule.sharpness > 0 and 0 <= rule.other <= 1):
            raise ModelError("model card: 'confidence' holds a number that is not possible")
        return rule

    def probability(self, features: Floats) -> Floats:
        """Probability [N] that turns with these features [N, 4] are right."""
        weights = np.array([self.activity, self.margin, self.half, self.missing])
        score_N = features @ weights + self.constant
        probability_N: Floats = 1 / (1 + np.exp(-score_N))
        return probability_N

    def calibrate_count(self, probability: Floats) -> Floats:
        """Calibrate the probabilities of 0, 1, 2, ... speakers; their order stays the same.

        Example:
            >>> ConfidenceRule(sharpness=0.5, other=0.0).calibrate_count(np.array([0.0, 0.8, 0.2])).round(2)
            array([0.  , 0.67, 0.33])
        """
        if len(probability) < 2:
            return probability
        # There is a speaker, or the recording would have none.
        scaled = (
            np.where(np.arange(len(probability)) > 0, np.maximum(probability, 1e-12), 0) ** self.sharpness
        )
        rest = (np.arange(len(probability)) > 0) / (len(probability) - 1)
        calibrated: Floats = (1 - self.other) * scaled / scaled.sum() + self.other * rest
        return calibrated


def rate_turns(model: SeparativeEncoder, diarization: Diarization) -> Diarization:
    """Return a diarization with a confidence in every turn and a calibrated ``count_probability``.

    Raises:
        ModelError: the constants in the model's card are damaged.

    Example:
        >>> import separative
        >>> model = separative.load_model()
        >>> turns = rate_turns(model, separative.diarize(model, "meeting.wav")).turns
        >>> all(0 < turn.confidence < 1 for turn in turns)
        True
    """
    rule = ConfidenceRule.of(model)
    rated = []
    for speaker, feature_NF in zip(diarization.speakers, turn_features(diarization), strict=True):
        probabilities = rule.probability(feature_NF)
        turns = (
            turn._replace(confidence=float(p)) for turn, p in zip(speaker.turns, probabilities, strict=True)
        )
        rated.append(replace(speaker, turns=tuple(turns)))
    calibrated = rule.calibrate_count(diarization.count_probability)
    return replace(diarization, speakers=tuple(rated), count_probability=calibrated)


def turn_features(diarization: Diarization) -> list[Floats]:
    """Return FEATURES of the turns of each speaker, [turns, 4] each.

    The margin compares the mean embedding of the speaker's streams in the turn: its cosine to the speaker in
    the rest of the recording, minus the largest cosine to another speaker. A cosine that does not exist is 0.
    The halves of a speaker are the two clusters of the speaker's windows; their margin is 0 if there are too
    few windows.

    Args:
        diarization: with the probabilities of the numbers of speakers before their calibration.

    Example:
        >>> import separative
        >>> diarization = separative.diarize(separative.load_model(), "ann.wav")
        >>> [features] = turn_features(diarization)
        >>> features.shape == (len(diarization.turns), 4)
        True
    """
    windows, speakers = diarization.windows, diarization.speakers
    grid, probability = windows.grid, diarization.count_probability
    more = np.maximum(np.arange(len(probability)) - len(speakers), 0)
    missing = -float(probability @ more)
    active_WCS = windows.activity > 0.5
    labels_WC = diarization.window_speaker
    total_KE = _sums(windows.query, active_WCS, labels_WC, len(speakers))
    segment = grid.segment / diarization.rate
    found: list[Floats] = []
    for k, speaker in enumerate(speakers):
        odds_T = log_odds(speaker.activity)
        own_WC = active_WCS.sum(-1) * (labels_WC == k)
        chosen_WC = own_WC >= HALF_SHARE * grid.window
        half_2E = _halves(windows.query[chosen_WC], own_WC[chosen_WC].astype(np.float64))
        rows = []
        for turn in speaker.turns:
            # The first segment begins before the recording. Segments and times that the turn touches.
            start, end = (time + grid.lead / diarization.rate for time in (turn.start, turn.end))
            first, last = int(start / segment), max(int(start / segment) + 1, int(np.ceil(end / segment)))
            low = int(start / diarization.segment_seconds)
            high = max(low + 1, int(np.ceil(end / diarization.segment_seconds)))
            activity = float(np.clip(odds_T[low:high].mean(), *ACTIVITY_BOUNDS)) if low < len(odds_T) else 0.0
            inside_W = slice(max(0, (first - grid.window) // grid.hop + 1), (last - 1) // grid.hop + 1)
            at_WS = np.arange(len(labels_WC))[inside_W, None] * grid.hop + np.arange(grid.window)
            own_WCS = (active_WCS[inside_W] & (labels_WC[inside_W] == k)[..., None]) & (
                (at_WS >= first) & (at_WS < last)
            )[:, None]
            part_E = np.einsum("wc,wce->e", own_WCS.sum(-1).astype(np.float32), windows.query[inside_W])
            near, far = half_2E @ unit_rows(part_E)
            rows.append((activity, _margin(part_E, total_KE, k), float(near - far), missing))
        found.append(np.array(rows, np.float64).reshape(-1, len(FEATURES)))
    return found


def mean_confidence(speakers: Sequence[Speaker]) -> float | None:
    """Return the mean confidence over the time of all turns; None without turns that have a confidence.

    Example:
        >>> from separative.rttm import Turn
        >>> turns = (Turn("ann", 0.0, 3.0, 0.9), Turn("ann", 4.0, 5.0, 0.5))
        >>> mean_confidence([Speaker("ann", turns, np.zeros(2), np.zeros(2))])
        0.8
    """
    turns = [turn for speaker in speakers for turn in speaker.turns if turn.confidence is not None]
    seconds = sum(turn.end - turn.start for turn in turns)
    if not seconds:
        return None
    return sum((turn.end - turn.start) * (turn.confidence or 0.0) for turn in turns) / seconds


def _sums(query_WCE: Floats, active_WCS: Any, labels_WC: Any, count: int) -> Floats:
    """Sum of the embeddings of each speaker [K, E], weighted with the number of active segments."""
    weight_WC = active_WCS.sum(-1).astype(np.float32)
    sum_KE = np.zeros((count, query_WCE.shape[2]), np.float32)
    for k in range(count):
        sum_KE[k] = np.einsum("wc,wce->e", weight_WC * (labels_WC == k), query_WCE)
    return sum_KE


def _margin(part_E: Floats, total_KE: Floats, k: int) -> float:
    """Cosine of a part of speaker k with the rest of k, minus the largest one with another speaker."""
    unit_E = unit_rows(part_E)
    rest_E = unit_rows(total_KE[k] - part_E)
    others = np.delete(unit_rows(total_KE), k, 0) @ unit_E
    return float(unit_E @ rest_E) - (float(others.max()) if len(others) else 0.0)


def _halves(embed_UE: Floats, weight_U: Floats) -> Floats:
    """Means [2, E] of the two clusters of a speaker's embeddings [U, E], the larger one first; or zeros."""
    nothing_2E = np.zeros((2, embed_UE.shape[1]))
    if len(embed_UE) < LEAST_WINDOWS:
        return nothing_2E
    few_VE = embed_UE[np.linspace(0, len(embed_UE) - 1, min(len(embed_UE), MAX_PAIRWISE)).astype(int)]
    cosine_VV = few_VE @ few_VE.T
    mean_2E: Floats = few_VE[list(np.unravel_index(cosine_VV.argmin(), cosine_VV.shape))]
    for _ in range(HALF_ROUNDS):
        first_U = np.argmax(embed_UE @ mean_2E.T, axis=1) == 0
        if first_U.all() or not first_U.any():
            return nothing_2E
        weighted_UE = embed_UE * weight_U[:, None]
        mean_2E = unit_rows(np.stack([weighted_UE[first_U].sum(0), weighted_UE[~first_U].sum(0)]))
    larger_first: Floats = mean_2E if weight_U[first_U].sum() * 2 >= weight_U.sum() else mean_2E[::-1]
    return larger_first
