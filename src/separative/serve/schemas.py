"""What comes in and goes out as JSON."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from separative.serve.jobs import State

Kind = Literal["diarize", "separate", "embed", "verify", "add", "find"]
ChannelPolicy = Annotated[Literal["mean", "first"], Field(description="What becomes of several channels.")]
Id = Annotated[str, Field(description="Of a recording that was uploaded.", max_length=64)]
Prior = Annotated[float, Field(gt=0, lt=1, description="Probability before listening.")]


def _one_line(name: str) -> str:
    if not name.isprintable():
        raise ValueError("a name is one line of printable characters")
    # Such names cannot be addressed: every client takes them for folders.
    if name in (".", ".."):
        raise ValueError("a name needs more than dots")
    return name


Name = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=200),
    AfterValidator(_one_line),
    Field(description="Of a speaker."),
]
Metadata = Annotated[
    dict[Annotated[str, Field(max_length=200)], Annotated[str, Field(max_length=2000)]],
    Field(max_length=50, description="To keep with the speaker."),
]
Force = Annotated[bool, Field(description="Enrol in spite of little speech, other speakers, clipping.")]


class _Asked(BaseModel):
    """An unknown key is an error, not ignored; and a number is no text."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Diarize(_Asked):
    recording: Id
    speakers: Annotated[int | None, Field(ge=1, le=100, description="How many there are, if known.")] = None
    active_only: Annotated[bool, Field(description="Voices silent where their speakers are.")] = False
    prior: Prior = 0.5
    channels: ChannelPolicy = "mean"


class One(_Asked):
    recording: Id
    channels: ChannelPolicy = "mean"


class Verify(_Asked):
    left: Annotated[list[Id], Field(min_length=1, max_length=10)]
    right: Annotated[list[Id], Field(min_length=1, max_length=10)]
    prior: Prior = 0.5
    channels: ChannelPolicy = "mean"


class Add(_Asked):
    name: Name
    recordings: Annotated[list[Id], Field(min_length=1, max_length=20)]
    metadata: Metadata | None = None
    keep_sound: Annotated[bool, Field(description="So that another model can hear it later.")] = False
    force: Force = False


class Find(_Asked):
    recording: Id
    count: Annotated[int, Field(ge=1, le=100, description="Candidates for each voice.")] = 3
    prior: Prior = 0.5


class Enrol(_Asked):
    name: Name
    metadata: Metadata | None = None
    force: Force = False


class ProblemOut(BaseModel):
    """What went wrong, in one sentence; ``reasons`` of a recording that is not good enough to enrol with."""

    detail: str
    reasons: list[str] | None = None


class RecordingOut(BaseModel):
    id: str
    name: str
    seconds: float
    rate: int
    channels: int
    format: str


class CandidateOut(BaseModel):
    """``probability`` beside all others and nobody; none where the model has no calibration."""

    name: str
    score: float
    llr: float | None
    probability: float | None


class IdentityOut(BaseModel):
    """``name``: none for unknown, of which ``unknown`` is the probability."""

    name: str | None
    unknown: float | None
    candidates: list[CandidateOut]


class SpeakerOut(BaseModel):
    """``turns``: start and end, in seconds · ``peaks`` of the voice's waveform, evenly over the recording."""

    name: str
    speech_seconds: float
    turns: list[tuple[float, float]]
    identity: IdentityOut
    peaks: list[float]


class DiarizeOut(BaseModel):
    """Who spoke when; ``damage``: what ended the recording before its time, if anything."""

    recording: str
    seconds: float
    rate: int
    channels: int
    damage: str
    peaks: list[float]
    speakers: list[SpeakerOut]


class StreamsOut(BaseModel):
    """Every audible stream as ``separative embed --json`` and ``separate --json`` describe it."""

    recording: str
    rate: int
    seconds: float
    channels: int
    note: str
    speakers: list[dict[str, Any]]
    inaudible_streams: int


class VerifyOut(BaseModel):
    """``same``, ``llr`` in nats and ``probability``: none where the model has no calibration."""

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


class GateOut(BaseModel):
    """An enrolment: seconds of the speaker's speech, shares of others' speech and of clipped samples."""

    seconds: float
    others: float
    clipped: float


class AddOut(BaseModel):
    name: str
    recordings: list[GateOut]


class FoundOut(BaseModel):
    speaker: str
    speech_seconds: float
    identity: IdentityOut


class FindOut(BaseModel):
    recording: str
    speakers: list[FoundOut]


class JobOut(BaseModel):
    """A job: ``progress`` from 0 to 1, what it is at (``stage``), how many are ``ahead`` of it; once it is
    over, its ``result``, or in ``detail`` why there is none, with the HTTP ``status`` that would say so."""

    id: str
    kind: Kind
    state: State
    stage: str
    progress: float
    ahead: int
    detail: str | None
    status: int | None
    result: DiarizeOut | StreamsOut | VerifyOut | AddOut | FindOut | None


class EnrolledOut(BaseModel):
    """A speaker of the gallery; ``x``, ``y`` where the map shows them, if it does."""

    name: str
    recordings: int
    seconds: float
    added: str
    metadata: dict[str, Any]
    x: float | None
    y: float | None


class GalleryOut(BaseModel):
    """The first speakers by name, of ``count``; ``spread``: share of the embeddings' variance in the map."""

    count: int
    speakers: list[EnrolledOut]
    spread: float


class ModelOut(BaseModel):
    sha256: str
    parameters: int
    rate: int
    streams: int
    calibrated_on: str | None


class LimitsOut(BaseModel):
    megabytes: float
    minutes: float
    channels: int
    waiting: int
    job_minutes: float
    keep_minutes: float


class AboutOut(BaseModel):
    version: str
    model: ModelOut
    limits: LimitsOut
