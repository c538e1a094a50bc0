"""Evidence: what a score means by the calibration in a model's card."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from separative.errors import ModelError, SeparativeError
from separative.inference.quality import Quality
from separative.metrics import Calibration, log_odds
from separative.metrics.quality import QualityCalibration
from separative.types import Wave

if TYPE_CHECKING:
    from separative.model import SeparativeEncoder

DEFAULT_SAME_COSINE = 0.5
"""Cosine above which two embeddings count as one speaker, for a model without a value in its card."""
NOT_COMPARABLE = (
    "not comparable: one side has the band of a telephone and the other does not, and the calibration of the"
    " model has no telephone recordings"
)


@dataclass(frozen=True)
class Evidence:
    """What a score means by a model's calibration.

    Attributes:
        llr: log-likelihood ratio in nats, above 0 for the same speaker; None if the sides are not comparable.
        probability: that the speakers are the same, given the prior; None like ``llr``.
        calibrated_on: the conditions of the calibration, in words.
        false_alarm_rate: share of comparisons of different speakers of such qualities that score as high or
            higher; None without a calibration by quality.
        note: a sentence if the sides are not comparable, otherwise empty.

    Example:
        >>> Evidence(llr=0.0, probability=0.5, calibrated_on="clean; 4 s a side; 35 speakers").probability
        0.5
    """

    llr: float | None
    probability: float | None
    calibrated_on: str
    false_alarm_rate: float | None = None
    note: str = ""


@dataclass(frozen=True)
class MeasuredStream:
    """The embedding [E] of a stream with its quality.

    Example:
        >>> MeasuredStream(np.ones(4) / 2, Quality(3.0, 30.0, 0.0, -20.0)).quality.narrow
        False
    """

    embedding: Wave
    quality: Quality


@dataclass(frozen=True)
class Candidate:
    """An enrolled speaker as a possible identity of another speaker.

    ``score``: cosine of the two embeddings · ``llr``: log-likelihood ratio in nats · ``probability`` of this
    identity, given the prior. The last two are None if the model is not calibrated.

    Example:
        >>> Candidate("ann", score=0.7, llr=5.2, probability=0.99).name
        'ann'
    """

    name: str
    score: float
    llr: float | None
    probability: float | None


def calibrated_evidence(model: SeparativeEncoder, score: float, prior: float) -> Evidence | None:
    """Convert a cosine to evidence, whatever the qualities are; None if the model has no calibration.

    Raises:
        SeparativeError: the prior is not between 0 and 1, or the model's calibration is incomplete.

    Example:
        >>> import separative
        >>> evidence = calibrated_evidence(separative.load_model(), score=0.6, prior=0.5)
        >>> evidence.llr > 0, evidence.probability > 0.5
        (True, True)
    """
    if model.card.get("calibration") is None:
        return None
    calibration = _calibration(model)
    return Evidence(
        float(calibration.llr(score)), float(calibration.probability(score, prior)), _calibrated_on(model)
    )


def compare_streams(
    model: SeparativeEncoder,
    left: MeasuredStream,
    right: MeasuredStream,
    prior: float = 0.5,
    cohort: Sequence[MeasuredStream] = (),
) -> Evidence | None:
    """Compare two streams by the model's calibration; None if the model has no calibration.

    A calibration by quality uses the qualities of both sides and the cohort. Without one, the cosine alone
    counts. Telephone bands on one side only need a calibration with telephone recordings.

    Args:
        prior: probability of the same speaker.
        cohort: streams of other speakers in the same conditions.

    Raises:
        SeparativeError: the prior is not between 0 and 1, or the model's calibration is damaged.

    Example:
        >>> import separative
        >>> model, embedding = separative.load_model(), np.eye(128)[0]
        >>> clean, call = (Quality(4.0, 30.0, 0.0, treble_db) for treble_db in (-20.0, -60.0))
        >>> same = compare_streams(model, MeasuredStream(embedding, clean), MeasuredStream(embedding, clean))
        >>> same.llr > 0
        True
    """
    score = float(np.dot(left.embedding, right.embedding))
    plain = calibrated_evidence(model, score, prior)
    if plain is None:
        return None
    found = quality_calibration(model)
    narrow = left.quality.narrow + right.quality.narrow
    if narrow == 1 and (found is None or not found.narrow):
        return Evidence(None, None, plain.calibrated_on, None, NOT_COMPARABLE)
    if found is None:
        return plain
    embeddings = found.project(np.stack([left.embedding, right.embedding]))
    qualities = [left.quality.vector(), right.quality.vector()]
    feature_1F = found.features(qualities[0][None], qualities[1][None])
    centred_1 = found.centred(np.array([embeddings[0] @ embeddings[1]]), feature_1F)
    chosen = found.alone
    if cohort and found.cohort is not None:
        others_ME = found.project(np.stack([one.embedding for one in cohort]))
        others_MQ = np.stack([one.quality.vector() for one in cohort])
        shifts = [
            found.shift(side.embedding, quality, others_ME, others_MQ)
            for side, quality in zip((left, right), qualities, strict=True)
        ]
        centred_1, chosen = centred_1 - np.mean(shifts), found.cohort
    from scipy.special import expit

    llr = float(chosen.llr(centred_1, feature_1F)[0])
    return Evidence(
        llr,
        float(expit(llr + log_odds(prior))),
        _calibrated_on(model),
        float(chosen.false_alarm_rate(centred_1, feature_1F)[0]),
    )


def quality_calibration(model: SeparativeEncoder) -> QualityCalibration | None:
    """Return the calibration by quality in the model's card; None if there is none.

    Raises:
        ModelError: the entry is damaged.

    Example:
        >>> import separative
        >>> quality_calibration(separative.load_model()).narrow
        True
    """
    record = (model.card.get("calibration") or {}).get("quality")
    if record is None:
        return None
    try:
        return QualityCalibration.from_record(record)
    except SeparativeError as error:
        raise ModelError(
            f"model card: {error}; calibrate the model again with `separative calibrate`"
        ) from error


def require_quality(model: SeparativeEncoder) -> None:
    """Raise an error if the model has no calibration by quality.

    Raises:
        SeparativeError: there is none; the message names the cure.

    Example:
        >>> import separative
        >>> require_quality(separative.load_model())
    """
    if quality_calibration(model) is None:
        raise SeparativeError(
            "a stated false-alarm rate and a cohort need a calibration by quality, which the model does not"
            " have; run `separative calibrate` again"
        )


def same_speaker_cosine(model: SeparativeEncoder) -> float:
    """Return the cosine above which two embeddings count as one speaker.

    This is the value ``same`` of the model's card; if there is none, the cosine at which the calibration
    gives a log-likelihood ratio of 0; without a calibration, DEFAULT_SAME_COSINE.

    Example:
        >>> import separative
        >>> round(same_speaker_cosine(separative.load_model()), 3)
        0.426
    """
    if "same" in model.card:
        return float(model.card["same"])
    if model.card.get("calibration") is None:
        return DEFAULT_SAME_COSINE
    calibration = _calibration(model)
    return float(-calibration.offset / calibration.scale)


def _calibrated_on(model: SeparativeEncoder) -> str:
    record = model.card["calibration"]
    try:
        return (
            f"{', '.join(record['conditions'])}; {record['seconds']:g} s a side;"
            f" {record['speakers']} speakers"
        )
    except KeyError as error:
        raise _incomplete(error) from error


def _calibration(model: SeparativeEncoder) -> Calibration:
    record = model.card["calibration"]
    try:
        return Calibration(record["scale"], record["offset"])
    except KeyError as error:
        raise _incomplete(error) from error


def _incomplete(error: KeyError) -> ModelError:
    return ModelError(
        f"the calibration in the model's card has no entry {error}; calibrate the model again with"
        " `separative calibrate`"
    )
