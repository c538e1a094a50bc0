"""Extract one person's voice from a recording, or from a live signal; say if the person is absent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from separative.inference.cluster import keep_speakers
from separative.inference.diarize import Diarization
from separative.inference.identities import identify_from_scores
from separative.inference.recording import MIN_SPEECH_SECONDS
from separative.inference.separated import write_waves
from separative.inference.streaming import LATENCY, StreamingDiarizer
from separative.inference.updates import StreamingUpdate
from separative.metrics import log_odds
from separative.types import Floats, Progress, Wave

if TYPE_CHECKING:
    from separative.model import SeparativeEncoder

PRESENT_PROBABILITY = 0.9
"""A person is present if the probability is above this. With it, over 95 % of the absent persons are rejected
(benchmarks/bench_extract.py)."""


@dataclass(frozen=True)
class Presence:
    """Whether a person is in a recording, and which of its speakers the person is.

    Attributes:
        speaker: index of the most similar speaker; None if there is no speaker with enough speech.
        score: cosine of the two embeddings; None like ``speaker``.
        probability: probability that the person is one of the speakers; None if the model is not calibrated.
        present: the decision.

    Example:
        >>> Presence(speaker=0, score=0.8, probability=0.99, present=True).present
        True
    """

    speaker: int | None
    score: float | None
    probability: float | None
    present: bool


def find_person(
    model: SeparativeEncoder,
    diarization: Diarization,
    person: Floats,
    *,
    prior: float = 0.5,
    threshold: float = PRESENT_PROBABILITY,
) -> Presence:
    """Find out whether a person is one of the speakers of a diarized recording.

    Args:
        person: embedding of the person [E], from :func:`separative.inference.verify.embed_speaker` or a
            gallery.
        prior: probability that the person is in the recording, before it is known.
        threshold: probability from which the person counts as present. A model without a calibration uses its
            cosine for the same speaker instead.

    Raises:
        SeparativeError: the prior is not between 0 and 1.

    Example:
        >>> import separative
        >>> from separative.inference.verify import embed_speaker
        >>> model = separative.load_model()
        >>> diarization = separative.diarize(model, "ann-2.wav")
        >>> ann, bob = (find_person(model, diarization, embed_speaker(model, f"{name}.wav"))
        ...             for name in ("ann", "bob"))
        >>> ann.present, ann.probability > bob.probability
        (True, True)
    """
    seconds = [speaker.speech_seconds for speaker in diarization.speakers]
    return match_person(
        model,
        person,
        [speaker.embedding for speaker in diarization.speakers],
        seconds,
        prior=prior,
        threshold=threshold,
    )


def match_person(
    model: SeparativeEncoder,
    person: Floats,
    embeddings: Sequence[Floats],
    seconds: Sequence[float],
    *,
    prior: float = 0.5,
    threshold: float = PRESENT_PROBABILITY,
) -> Presence:
    """Find out which of K speakers a person is, if any; :func:`find_person` for embeddings.

    Args:
        embeddings: embedding of each speaker [E].
        seconds: speech of each speaker; with less than MIN_SPEECH_SECONDS a speaker is not compared.

    Example:
        >>> import separative
        >>> model, (ann, bob) = separative.load_model(), np.eye(2, 128)
        >>> match_person(model, ann, [bob, ann], [5.0, 5.0]).speaker
        1
    """
    log_odds(prior)
    scores = [
        (str(k), float(np.dot(person, embedding)))
        for k, (embedding, speech) in enumerate(zip(embeddings, seconds, strict=True))
        if speech >= MIN_SPEECH_SECONDS
    ]
    if not scores:
        return Presence(None, None, 0.0, False)
    # This is identification with the roles exchanged: the speakers of the recording are the candidates.
    found = identify_from_scores(model, scores, len(scores), prior)
    best = found.candidates[0]
    if found.unknown_probability is None:
        return Presence(int(best.name), best.score, None, found.name is not None)
    probability = 1 - found.unknown_probability
    return Presence(int(best.name), best.score, probability, probability > threshold)


def write_person(
    model: SeparativeEncoder,
    diarization: Diarization,
    speaker: int,
    path: str | Path,
    *,
    original_rate: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Write the separated voice of one speaker, muted outside the speaker's turns, and return the path.

    The file is as long as the recording.

    Args:
        speaker: index of the speaker.
        path: ends in .wav or .flac.
        original_rate: as in :func:`separative.write_speakers`.
        progress: called with (done, total) windows.

    Raises:
        AudioError: the recording cannot be read, or the file cannot be written.

    Example:
        >>> import separative
        >>> model = separative.load_model()
        >>> write_person(model, separative.diarize(model, "meeting.wav", speakers=2), 0, "person.wav").name
        'person.wav'
    """
    kept = np.arange(len(diarization.speakers)) == speaker
    alone = replace(
        diarization,
        speakers=(diarization.speakers[speaker],),
        window_speaker=keep_speakers(diarization.window_speaker, kept),
    )
    write_waves(model, alone, [Path(path)], active_only=True, original_rate=original_rate, progress=progress)
    return Path(path)


@dataclass(frozen=True)
class PersonUpdate:
    """The voice of a person in a part of a live signal.

    Attributes:
        start, end: the part, in seconds.
        waveform: the voice [N] at the model's rate; zeros while the person is silent or not yet recognised.
        presence: whether the person is among the speakers so far.
        active: whether the person speaks in most of this part.

    Example:
        >>> update = PersonUpdate(0.0, 0.25, np.zeros(4000), Presence(None, None, 0.0, False), False)
        >>> update.presence.present
        False
    """

    start: float
    end: float
    waveform: Floats
    presence: Presence
    active: bool


class LiveExtractor:
    """Extract one person's voice from a live signal, with the delay of :class:`StreamingDiarizer`.

    Args:
        model: a model in evaluation mode.
        person: embedding of the person [E].
        prior, threshold: as in :func:`find_person`.
        latency: longest time from pushing a sample to its result, in seconds.

    Raises:
        SeparativeError: the prior or the latency is out of bounds.

    Example:
        >>> import separative
        >>> from separative.inference.verify import embed_speaker
        >>> model = separative.load_model()
        >>> extractor = LiveExtractor(model, embed_speaker(model, "ann.wav"))
        >>> wave, _ = separative.audio.read("ann-2.wav", model.rate)
        >>> updates = extractor.push(wave) + extractor.finish()
        >>> updates[-1].presence.present, sum(len(update.waveform) for update in updates) == len(wave)
        (True, True)
    """

    def __init__(
        self,
        model: SeparativeEncoder,
        person: Floats,
        *,
        prior: float = 0.5,
        threshold: float = PRESENT_PROBABILITY,
        latency: float = LATENCY,
    ) -> None:
        log_odds(prior)
        self.model, self.person, self.prior, self.threshold = model, person, prior, threshold
        self.diarizer = StreamingDiarizer(model, latency=latency)
        self._seconds = np.zeros(0)
        self.presence = Presence(None, None, 0.0, False)

    def push(self, waveform: Wave) -> list[PersonUpdate]:
        """Add the next samples [N] (float32, at the model's rate); returns the updates they complete."""
        return [self._extract(update) for update in self.diarizer.push(waveform)]

    def finish(self) -> list[PersonUpdate]:
        """Return the remaining updates at the end of the signal."""
        return [self._extract(update) for update in self.diarizer.finish()]

    def _extract(self, update: StreamingUpdate) -> PersonUpdate:
        count = len(update.embedding)
        self._seconds = np.pad(self._seconds, (0, count - len(self._seconds)))
        active_K = (update.activity > 0.5).mean(1)
        self._seconds += active_K * (update.end - update.start)
        # Speakers who turned out to be others have no embedding any more.
        seconds_K = np.where(update.embedding.any(1), self._seconds, 0.0)
        presence = match_person(
            self.model,
            self.person,
            list(update.embedding),
            seconds_K.tolist(),
            prior=self.prior,
            threshold=self.threshold,
        )
        self.presence = presence
        samples = update.waveform.shape[1]
        if not presence.present or presence.speaker is None:
            return PersonUpdate(update.start, update.end, np.zeros(samples, np.float32), presence, False)
        active = bool(active_K[presence.speaker] > 0.5)
        return PersonUpdate(update.start, update.end, update.waveform[presence.speaker], presence, active)
