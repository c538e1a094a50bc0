"""Verification and identification: scores between embeddings, and the evidence they give.

A score is the cosine of two embeddings. If the model's card holds a calibration, the score becomes a
log-likelihood ratio, and with a prior a probability.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from separative.errors import ModelError, SeparativeError
from separative.inference.cluster import mean_embedding
from separative.inference.forward import process_batch, require_speech
from separative.inference.recording import MIN_SPEECH_SECONDS, Audio, ChannelPolicy, Recording, load
from separative.metrics import Calibration, log_odds
from separative.types import Wave

if TYPE_CHECKING:
    from separative.inference.diarize import Diarization
    from separative.model import SeparativeEncoder

DEFAULT_SAME_COSINE = 0.5
"""Cosine above which two embeddings count as one speaker, for a model without a value in its card."""


class Evidence(NamedTuple):
    """What a score means by a model's calibration; made by :func:`calibrated_evidence`.

    ``llr``: log-likelihood ratio in nats, above 0 for the same speaker · ``probability``: that the speakers
    are the same, given the prior · ``calibrated_on``: the conditions of the calibration, in words.

    Example:
        >>> Evidence(llr=0.0, probability=0.5, calibrated_on="clean; 4 s a side; 35 speakers").probability
        0.5
    """

    llr: float
    probability: float
    calibrated_on: str


@dataclass(frozen=True)
class Verification:
    """Result of :func:`verify`: the score of the best pair of streams, one from each side.

    Attributes:
        score: cosine of the two embeddings, -1 to 1.
        llr: log-likelihood ratio in nats, above 0 for the same speaker.
        probability: probability that the speakers are the same, given the prior.
        prior: probability that was assumed before.
        same: the decision with the fewest expected errors at that prior.
        calibrated_on: conditions in which the calibration was made.
        left_recording, left_stream, right_recording, right_stream: index of the recording and of its stream
            that matched, on each side.

    ``llr``, ``probability``, ``same`` and ``calibrated_on`` are None if the model is not calibrated.

    Example:
        >>> import separative
        >>> found = separative.verify(separative.load_model(), "ann.wav", ["bob.wav", "mixture.wav"])
        >>> found.same, found.left_recording, found.right_recording
        (True, 0, 1)
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


def verify(
    model: SeparativeEncoder,
    left: Audio | Sequence[Audio],
    right: Audio | Sequence[Audio],
    *,
    prior: float = 0.5,
    channels: ChannelPolicy = "mean",
) -> Verification:
    """Verify whether the same speaker is on two sides, each one recording or several of one person.

    Several recordings of a side form one condition group: the cross-attention of each reads the segments of
    all (method, section 3). The two sides never share a memory. Calibrations are made with one recording per
    side. The score is the largest cosine over all pairs of audible streams.

    Args:
        prior: probability of the same speaker before the recordings are compared.

    Raises:
        AudioError: a recording cannot be loaded, or a side has no stream with MIN_SPEECH_SECONDS of speech.
        SeparativeError: the prior is not between 0 and 1, or a side has no recording.

    Example:
        >>> import separative
        >>> model = separative.load_model()
        >>> same = separative.verify(model, "ann.wav", "ann-2.wav")
        >>> different = separative.verify(model, "ann.wav", "bob.wav")
        >>> same.same, same.score > different.score
        (True, True)
    """
    odds = log_odds(prior)
    sides = [embed_jointly(model, side, channels) for side in (left, right)]
    pairs = [
        (float(np.dot(a.embedding, b.embedding)), i, a.stream, j, b.stream)
        for i, one in enumerate(sides[0])
        for a in one.speakers
        for j, other in enumerate(sides[1])
        for b in other.speakers
    ]
    score, *where = max(pairs, key=lambda pair: pair[0])
    evidence = calibrated_evidence(model, score, prior)
    if evidence is None:
        return Verification(score, None, None, prior, None, None, *where)
    llr, probability, calibrated_on = evidence
    return Verification(score, llr, probability, prior, llr > -odds, calibrated_on, *where)


def identify(
    model: SeparativeEncoder,
    diarization: Diarization,
    enrolled: Mapping[str, Audio | Sequence[Audio]],
    *,
    prior: float = 0.5,
    channels: ChannelPolicy = "mean",
) -> list[list[Candidate]]:
    """Compare every speaker of a diarized recording with every enrolled speaker.

    Returns a list for each speaker of the recording, with the best candidate first. It is empty for speakers
    with less than MIN_SPEECH_SECONDS of speech. To search many enrolled speakers, or to allow for an unknown
    one, use :class:`separative.Gallery`.

    Args:
        enrolled: by name, one recording or several; the speaker with most speech in each recording counts.
        prior: probability that an enrolled speaker is a given speaker of the recording.

    Raises:
        AudioError: a recording cannot be loaded or has too little speech.
        SeparativeError: the prior is not between 0 and 1.

    Example:
        >>> import separative
        >>> model = separative.load_model()
        >>> diarization = separative.diarize(model, "ann-2.wav")
        >>> [candidates] = separative.identify(model, diarization, {"bob": "bob.wav", "ann": "ann.wav"})
        >>> [candidate.name for candidate in candidates]
        ['ann', 'bob']
    """
    log_odds(prior)
    embeddings = {name: embed_speaker(model, recordings, channels) for name, recordings in enrolled.items()}
    return rank_enrolled(model, diarization, embeddings, prior=prior)


def rank_enrolled(
    model: SeparativeEncoder,
    diarization: Diarization,
    embeddings: Mapping[str, Wave],
    *,
    prior: float = 0.5,
) -> list[list[Candidate]]:
    """Compare every speaker of a diarized recording with embeddings; :func:`identify` after its first step.

    Args:
        embeddings: by name, from :func:`embed_speaker`, [E] each.

    Raises:
        SeparativeError: the prior is not between 0 and 1.

    Example:
        >>> import separative
        >>> model = separative.load_model()
        >>> known = {name: embed_speaker(model, f"{name}.wav") for name in ("ann", "bob")}
        >>> [candidates] = rank_enrolled(model, separative.diarize(model, "ann-2.wav"), known)
        >>> candidates[0].name
        'ann'
    """
    found = []
    for speaker in diarization.speakers:
        candidates = []
        for name, embed_E in embeddings.items() if speaker.speech_seconds >= MIN_SPEECH_SECONDS else ():
            score = float(embed_E @ speaker.embedding)
            llr, probability, _ = calibrated_evidence(model, score, prior) or (None, None, None)
            candidates.append(Candidate(name, score, llr, probability))
        found.append(sorted(candidates, key=lambda candidate: -candidate.score))
    return found


def calibrated_evidence(model: SeparativeEncoder, score: float, prior: float) -> Evidence | None:
    """Convert a score to evidence by the model's calibration; None if the model has no calibration.

    Raises:
        SeparativeError: the prior is not between 0 and 1, or the model's calibration is incomplete.

    Example:
        >>> import separative
        >>> evidence = calibrated_evidence(separative.load_model(), score=0.6, prior=0.5)
        >>> evidence.llr > 0, evidence.probability > 0.5
        (True, True)
    """
    record = model.card.get("calibration")
    if record is None:
        return None
    calibration = _calibration(model)
    try:
        calibrated_on = (
            f"{', '.join(record['conditions'])}; {record['seconds']:g} s a side;"
            f" {record['speakers']} speakers"
        )
    except KeyError as error:
        raise _incomplete(error) from error
    return Evidence(
        float(calibration.llr(score)), float(calibration.probability(score, prior)), calibrated_on
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


def embed_speaker(
    model: SeparativeEncoder, recordings: Audio | Sequence[Audio], channels: ChannelPolicy = "mean"
) -> Wave:
    """Embed one speaker from one recording or several: the mean embedding [E], unit norm.

    In each recording the audible stream with most speech counts.

    Raises:
        AudioError, SeparativeError: see :func:`embed_jointly`.

    Example:
        >>> import separative
        >>> embed_speaker(separative.load_model(), ["ann.wav", "ann-2.wav"]).shape
        (128,)
    """
    embed_RE = np.stack(
        [r.speakers[0].embedding for r in embed_jointly(model, recordings, channels) if r.speakers]
    )
    return mean_embedding(embed_RE, np.ones(len(embed_RE), np.float32))


def embed_jointly(
    model: SeparativeEncoder, recordings: Audio | Sequence[Audio], channels: ChannelPolicy = "mean"
) -> list[Recording]:
    """Embed one recording, or several of one person as views of one condition group.

    Raises:
        AudioError: a recording cannot be loaded, or no stream has MIN_SPEECH_SECONDS of speech.
        SeparativeError: there is no recording.

    Example:
        >>> import separative
        >>> model = separative.load_model()
        >>> [alone] = embed_jointly(model, "bob.wav")
        >>> view, _ = embed_jointly(model, ["bob.wav", "ann.wav"])
        >>> float(alone.speakers[0].embedding @ view.speakers[0].embedding) < 0.9999
        True
    """
    sources = _sources(recordings)
    if not sources:
        raise SeparativeError("a side of a verification needs at least one recording")
    loaded = [load(source, model.rate, channels) for source in sources]
    embedded = process_batch(model, loaded, shared=True, separate=False)
    require_speech(embedded)
    return embedded


def _sources(recordings: Any) -> list[Audio]:
    """The recordings of a side: a file or a waveform with its rate is one; anything else is several."""
    if isinstance(recordings, tuple):
        # A tuple of recordings begins with a recording, a waveform with its rate does not.
        several = not recordings or isinstance(recordings[0], str | Path | tuple)
    else:
        several = isinstance(recordings, Iterable) and not isinstance(recordings, str | bytes | np.ndarray)
    return list(recordings) if several else [recordings]
