"""Verification and identification: scores between embeddings, and the evidence they give.

A score is the cosine of two embeddings. If the model's card has a calibration, the score becomes a
log-likelihood ratio, and with a prior a probability.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from separative.errors import SeparativeError
from separative.inference.cluster import mean_embedding
from separative.inference.evidence import (
    Candidate,
    MeasuredStream,
    calibrated_evidence,
    compare_streams,
    require_quality,
)
from separative.inference.forward import process_batch, require_speech
from separative.inference.long_recordings import embed_long, is_long, sample_waveform
from separative.inference.quality import Quality, stream_qualities
from separative.inference.recording import (
    MIN_SPEECH_SECONDS,
    Audio,
    ChannelPolicy,
    LoadedRecording,
    Recording,
    load,
)
from separative.inference.sources import open_source
from separative.metrics import log_odds
from separative.types import Wave

if TYPE_CHECKING:
    from separative.inference.diarize import Diarization
    from separative.inference.sources import AnyAudio
    from separative.model import SeparativeEncoder


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

        false_alarm_rate: share of comparisons of different speakers of such qualities that score as high or
            higher; None if the calibration does not depend on quality.
        left_quality, right_quality: qualities of the two streams that matched.
        cohort: number of streams of the cohort that the comparison used.
        note: a sentence if the sides are not comparable, otherwise empty.

    ``llr``, ``probability``, ``same`` and ``calibrated_on`` are None if the model is not calibrated, or if it
    cannot compare the sides (``note``).

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
    false_alarm_rate: float | None = None
    left_quality: Quality | None = None
    right_quality: Quality | None = None
    cohort: int = 0
    note: str = ""


def verify(
    model: SeparativeEncoder,
    left: AnyAudio | Sequence[AnyAudio],
    right: AnyAudio | Sequence[AnyAudio],
    *,
    rate: int | None = None,
    prior: float = 0.5,
    false_alarms: float | None = None,
    cohort: Sequence[AnyAudio] = (),
    channels: ChannelPolicy = "mean",
) -> Verification:
    """Verify whether the same speaker is on two sides, each one recording or several of one person.

    Several recordings of a side form one condition group: the cross-attention of each reads the segments of
    all (method, section 3). Recordings of over MAX_RECORDING_SECONDS have a memory of their own. The two
    sides never share a memory. Calibrations are made with one recording per side. The score is the largest
    cosine over all pairs of audible streams.

    Args:
        left, right: files, open files, arrays, tensors, or excerpts from :func:`separative.load_audio`.
        rate: sampling rate of arrays and tensors in hertz.
        prior: probability of the same speaker before the recordings are compared.
        false_alarms: decide by this false-alarm rate, for example 0.05, and not by the prior.
        cohort: recordings of other people in the same conditions, one speaker each; about eight are enough.
            False-alarm rates on recordings unlike those of the calibration are far off without them.

    Raises:
        AudioError: a recording cannot be loaded, or a side has no stream with MIN_SPEECH_SECONDS of speech.
        SeparativeError: the prior or the false-alarm rate is not between 0 and 1, a side has no recording,
            or the model's calibration does not depend on quality and ``false_alarms`` or ``cohort`` is given.

    Example:
        >>> import separative
        >>> model = separative.load_model()
        >>> same = separative.verify(model, "ann.wav", "ann-2.wav")
        >>> different = separative.verify(model, "ann.wav", "bob.wav")
        >>> same.same, same.score > different.score
        (True, True)
    """
    odds = log_odds(prior)
    if false_alarms is not None and not 0 < false_alarms < 1:
        raise SeparativeError(
            f"a false-alarm rate is between 0 and 1, both excluded (0.05 for 5 %), not {false_alarms:g}"
        )
    if false_alarms is not None or cohort:
        require_quality(model)
    sides = [_embed_with_quality(model, _sources(side, rate), channels) for side in (left, right)]
    pairs = [
        (float(np.dot(a.embedding, b.embedding)), i, a, j, b)
        for i, (one, _) in enumerate(sides[0])
        for a in one.speakers
        for j, (other, _) in enumerate(sides[1])
        for b in other.speakers
    ]
    score, i, a, j, b = max(pairs, key=lambda pair: pair[0])
    where = (i, a.stream, j, b.stream)
    compared = [
        MeasuredStream(stream.embedding, quality[stream.stream])
        for stream, quality in ((a, sides[0][i][1]), (b, sides[1][j][1]))
    ]
    others = _embed_cohort(model, _sources(list(cohort), rate), channels)
    qualities = (compared[0].quality, compared[1].quality)
    evidence = compare_streams(model, compared[0], compared[1], prior, others)
    if evidence is None:
        return Verification(score, None, None, prior, None, None, *where, None, *qualities)
    llr, measured = evidence.llr, evidence.false_alarm_rate
    same: bool | None = None
    if false_alarms is not None:
        same = None if measured is None else measured <= false_alarms
    elif llr is not None:
        same = llr > -odds
    return Verification(
        score,
        llr,
        evidence.probability,
        prior,
        same,
        None if llr is None else evidence.calibrated_on,
        *where,
        measured,
        *qualities,
        len(others),
        evidence.note,
    )


def _embed_with_quality(
    model: SeparativeEncoder, sources: list[Audio], channels: ChannelPolicy
) -> list[tuple[Recording, dict[int, Quality]]]:
    """Every recording of a side with the qualities of its audible streams."""
    embedded, loaded = _embed_side(model, sources, channels)
    measured = []
    for number, recording in enumerate(embedded):
        if number in loaded:
            wave_N = loaded[number].waveform
        else:
            wave_N = sample_waveform(model, sources[number], channels)
        measured.append((recording, stream_qualities(recording, wave_N)))
    return measured


def _embed_cohort(
    model: SeparativeEncoder, cohort: Sequence[Audio], channels: ChannelPolicy
) -> list[MeasuredStream]:
    """The stream with most speech of every recording of a cohort."""
    found = []
    for source in cohort:
        [(recording, quality)] = _embed_with_quality(model, [source], channels)
        first = recording.speakers[0]
        found.append(MeasuredStream(first.embedding, quality[first.stream]))
    return found


def identify(
    model: SeparativeEncoder,
    diarization: Diarization,
    enrolled: Mapping[str, AnyAudio | Sequence[AnyAudio]],
    *,
    rate: int | None = None,
    prior: float = 0.5,
    channels: ChannelPolicy = "mean",
) -> list[list[Candidate]]:
    """Compare every speaker of a diarized recording with every enrolled speaker.

    Returns a list for each speaker of the recording, with the best candidate first. It is empty for speakers
    with less than MIN_SPEECH_SECONDS of speech. To search many enrolled speakers, or to allow for an unknown
    one, use :class:`separative.Gallery`.

    Args:
        enrolled: by name, one recording or several; the speaker with most speech in each recording counts.
        rate: sampling rate of arrays and tensors in hertz.
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
    embeddings = {
        name: embed_speaker(model, _sources(recordings, rate), channels)
        for name, recordings in enrolled.items()
    }
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
            evidence = calibrated_evidence(model, score, prior)
            llr, probability = (evidence.llr, evidence.probability) if evidence else (None, None)
            candidates.append(Candidate(name, score, llr, probability))
        found.append(sorted(candidates, key=lambda candidate: -candidate.score))
    return found


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
    return _embed_side(model, _sources(recordings), channels)[0]


def _embed_side(
    model: SeparativeEncoder, sources: list[Audio], channels: ChannelPolicy
) -> tuple[list[Recording], dict[int, LoadedRecording]]:
    """The recordings of a side, embedded, and those that were loaded as a whole, by their number.

    Long recordings are embedded one by one, each with its own memory.
    """
    if not sources:
        raise SeparativeError("a side of a verification needs at least one recording")
    embedded: dict[int, Recording] = {}
    loaded: dict[int, LoadedRecording] = {}
    for number, source in enumerate(sources):
        if is_long(source):
            embedded[number] = embed_long(model, source, channels)[0]
        else:
            loaded[number] = load(source, model.rate, channels)
    if loaded:
        together = process_batch(model, list(loaded.values()), shared=True, separate=False)
        embedded |= dict(zip(loaded, together, strict=True))
    recordings = [embedded[number] for number in range(len(sources))]
    require_speech(recordings)
    return recordings, loaded


def _sources(recordings: Any, rate: int | None = None) -> list[Audio]:
    """The recordings of a side: a file, an array or a waveform with its rate is one; others are several.

    ``rate`` is that of arrays.
    """
    if isinstance(recordings, tuple):
        # A tuple of recordings begins with a recording, a waveform with its rate does not.
        several = not recordings or isinstance(recordings[0], str | Path | tuple)
    else:
        # Open files and tensors can be iterated over too.
        single = isinstance(recordings, str | bytes | np.ndarray) or hasattr(recordings, "read")
        several = isinstance(recordings, Iterable) and not single and not hasattr(recordings, "detach")
    return [open_source(source, rate, 0.0, None) for source in (recordings if several else [recordings])]
