"""Response bodies of the HTTP API for diarized recordings."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict


def remove_example(schema: dict[str, Any]) -> None:
    """Remove the example of a docstring from a JSON schema.

    >>> schema = {"description": "A name.\\n\\n>>> example()"}
    >>> remove_example(schema)
    >>> schema
    {'description': 'A name.'}
    """
    if "description" in schema:
        schema["description"] = schema["description"].partition("\n\n>>>")[0]


class ResponseBody(BaseModel):
    """Base of the bodies of responses.

    >>> ResponseBody().model_dump()
    {}
    """

    model_config = ConfigDict(use_attribute_docstrings=True, json_schema_extra=remove_example)


class CandidateOut(ResponseBody):
    """An enrolled speaker as a candidate.

    >>> CandidateOut(name="ann", score=0.8, llr=None, probability=None).score
    0.8
    """

    name: str
    score: float
    """Cosine of the embeddings."""
    llr: float | None
    """Log-likelihood ratio in nats; null if the model is not calibrated."""
    probability: float | None
    """Probability among all candidates and an unknown speaker; null if the model is not calibrated."""


class IdentityOut(ResponseBody):
    """Identity of a speaker among the enrolled speakers.

    >>> IdentityOut(name=None, unknown_probability=0.9, candidates=[]).name is None
    True
    """

    name: str | None
    """Name of the most probable speaker; null for an unknown speaker."""
    unknown_probability: float | None
    """Probability that the speaker is not enrolled; null if the model is not calibrated."""
    candidates: list[CandidateOut]
    """Enrolled speakers, the best score first."""


class SpeakerOut(ResponseBody):
    """A speaker of a diarized recording.

    >>> unknown = IdentityOut(name=None, unknown_probability=None, candidates=[])
    >>> fields = dict(number=1, named="", speech_seconds=2, audio="1", identity=unknown, peaks=[0.5])
    >>> SpeakerOut(name="speaker1", turns=[(0, 2)], confidence=[0.9], **fields).turns
    [(0.0, 2.0)]
    """

    number: int
    """Number of the speaker, from 1. It stays the same when other speakers are corrected."""
    name: str
    """Name of the speaker in all files; ``speaker1`` and so on without a name."""
    named: Literal["given", "identified", ""]
    """Whether a person gave the name, or the speaker was identified with it."""
    speech_seconds: float
    turns: list[tuple[float, float]]
    """Start and end of each turn in seconds."""
    confidence: list[float | None]
    """Probability that each turn is right; null where a person has corrected it."""
    identity: IdentityOut
    audio: str
    """Changes whenever the speaker's waveform changes."""
    peaks: list[float]
    """Peaks of the speaker's waveform in intervals of equal length."""


class SegmentOut(ResponseBody):
    """A part of a transcript that one speaker says.

    >>> SegmentOut(start=0, end=1.5, text="Hello.", speaker="Ann").speaker
    'Ann'
    """

    start: float
    end: float
    text: str
    speaker: str | None
    """Name of the speaker; null if there is no turn near the text."""


class DiarizeOut(ResponseBody):
    """Result of a job that diarizes.

    >>> fields = dict(recording="ann.wav", seconds=2, rate=16000, channels=1, damage="", unlike_training=[])
    >>> rest = dict(speakers=[], peaks=[], asked=None, revision=0, corrections=0, transcript=None)
    >>> DiarizeOut(**fields, **rest).damage
    ''
    """

    recording: str
    seconds: float
    rate: int
    """Sample rate of the mixture and of the speakers' waveforms in Hz."""
    channels: int
    """Number of channels of the recording."""
    damage: str
    """Why the recording could not be read to the end; empty if it could."""
    asked: int | None
    """Number of speakers that was asked for; null if it was estimated."""
    unlike_training: list[str]
    """How the recording differs from those of the training, so that errors are more likely."""
    peaks: list[float]
    """Peaks of the mixture's waveform in intervals of equal length."""
    speakers: list[SpeakerOut]
    revision: int
    """Counts the changes of the result. A correction names the revision that it is for."""
    corrections: int
    """Number of corrections that can be undone."""
    transcript: list[SegmentOut] | None
    """Transcript with speakers; null if none was added."""


class PeaksOut(ResponseBody):
    """Peaks of a waveform in a part of a recording.

    >>> PeaksOut(start=0, end=2, peaks=[0.1, 0.5]).end
    2.0
    """

    start: float
    """Start of the part in seconds."""
    end: float
    """End of the last interval in seconds."""
    peaks: list[float]
    """Peaks in intervals of equal length."""
