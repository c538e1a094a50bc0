"""Response bodies of the HTTP API."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from separative.serve.jobs import JobState
from separative.serve.results import DiarizeOut, IdentityOut, ResponseBody

JobKind = Literal["diarize", "separate", "embed", "verify", "add", "find"]


class ErrorOut(ResponseBody):
    """An error.

    >>> ErrorOut(detail="no such recording").reasons is None
    True
    """

    detail: str
    """What is wrong and what to do."""
    reasons: list[str] | None = None
    """Why a recording is not good enough for enrolment."""


class RecordingOut(ResponseBody):
    """An uploaded recording.

    >>> RecordingOut(id="3f2a", name="ann.wav", seconds=3, rate=16000, channels=1, format="WAV").seconds
    3.0
    """

    id: str
    name: str
    seconds: float
    rate: int
    """Sample rate in Hz."""
    channels: int
    format: str


class StreamsOut(ResponseBody):
    """Audible streams of a recording, as ``separative embed --json`` and ``separate --json`` describe them.

    >>> fields = dict(recording="ann.wav", rate=16000, seconds=2, channels=1, note="")
    >>> StreamsOut(speakers=[], inaudible_streams=2, **fields).inaudible_streams
    2
    """

    recording: str
    rate: int
    """Sample rate in Hz."""
    seconds: float
    channels: int
    """Number of channels of the recording."""
    note: str
    """A remark on the recording; empty if there is none."""
    speakers: list[dict[str, Any]]
    inaudible_streams: int


class VerifyOut(ResponseBody):
    """Result of a job that verifies.

    >>> sides = dict(left_recording=0, left_stream=0, right_recording=0, right_stream=1)
    >>> VerifyOut(
    ...     score=0.4, llr=None, probability=None, prior=0.5, same=None, calibrated_on=None, **sides
    ... ).right_stream
    1
    """

    score: float
    """Largest cosine between a stream on the left and one on the right."""
    llr: float | None
    """Log-likelihood ratio in nats; null if the model is not calibrated."""
    probability: float | None
    """Probability of the same speaker; null if the model is not calibrated."""
    prior: float
    same: bool | None
    """Decision at the prior; null if the model is not calibrated."""
    calibrated_on: str | None
    """Data of the calibration; null if the model is not calibrated."""
    left_recording: int
    """Index of the matching recording on the left."""
    left_stream: int
    """Index of the matching stream in this recording."""
    right_recording: int
    """Index of the matching recording on the right."""
    right_stream: int
    """Index of the matching stream in this recording."""


class QualityOut(ResponseBody):
    """Quality of a recording for enrolment.

    >>> QualityOut(speech_seconds=12.5, other_speech=0, clipped=0).speech_seconds
    12.5
    """

    speech_seconds: float
    """Speech of the enrolled speaker in seconds."""
    other_speech: float
    """Speech of other speakers, as a share of the speaker's."""
    clipped: float
    """Share of clipped samples."""
    warnings: list[str] = Field(default_factory=list)
    """What to check after the enrolment: another speaker has nearly the same name, or the same recording."""


class AddOut(ResponseBody):
    """Result of a job that enrols a speaker.

    >>> AddOut(name="Ada", recordings=[]).name
    'Ada'
    """

    name: str
    recordings: list[QualityOut]
    warnings: list[str] = Field(default_factory=list)
    """What to check after the enrolment: another speaker has nearly the same name, or the same recording."""


class RenameOut(ResponseBody):
    """A renamed speaker.

    >>> RenameOut(name="Ada", warnings=[]).name
    'Ada'
    """

    name: str
    """New name."""
    warnings: list[str]
    """What to check: another speaker has nearly the same name."""


class FoundSpeakerOut(ResponseBody):
    """A speaker of a recording with their identity.

    >>> unknown = IdentityOut(name=None, unknown_probability=None, candidates=[])
    >>> FoundSpeakerOut(name="speaker1", speech_seconds=2, identity=unknown).name
    'speaker1'
    """

    name: str
    speech_seconds: float
    identity: IdentityOut


class FindOut(ResponseBody):
    """Result of a job that identifies the speakers of a recording.

    >>> FindOut(recording="meeting.wav", speakers=[]).speakers
    []
    """

    recording: str
    speakers: list[FoundSpeakerOut]


class JobOut(ResponseBody):
    """State of a job.

    >>> fields = dict(id="3f2a", kind="embed", stage="", progress=0, detail=None, status=None, result=None)
    >>> JobOut(state="waiting", jobs_ahead=1, **fields).jobs_ahead
    1
    """

    id: str
    kind: JobKind
    state: JobState
    stage: str
    """What the job is doing."""
    progress: float
    """Progress from 0 to 1."""
    jobs_ahead: int
    """Number of jobs that run before this one."""
    detail: str | None
    """Why the job failed; null if it did not."""
    status: int | None
    """HTTP status that fits the failure; null if the job did not fail."""
    result: DiarizeOut | StreamsOut | VerifyOut | AddOut | FindOut | None
    """Result of a job that is done."""


class EnrolledSpeakerOut(ResponseBody):
    """An enrolled speaker.

    >>> fields = dict(recordings=1, speech_seconds=12, added="2026-05-01T12:00:00+00:00", metadata={})
    >>> EnrolledSpeakerOut(name="Ada", x=None, y=None, **fields).speech_seconds
    12.0
    """

    name: str
    recordings: int
    """Number of recordings."""
    speech_seconds: float
    """Speech in all recordings together."""
    added: str
    """Time of enrolment (UTC)."""
    metadata: dict[str, Any]
    x: float | None
    """Horizontal position on the map; null if the speaker is not on it."""
    y: float | None
    """Vertical position on the map; null if the speaker is not on it."""


class GalleryOut(ResponseBody):
    """Enrolled speakers.

    >>> GalleryOut(count=0, speakers=[], explained_variance=0).count
    0
    """

    count: int
    """Number of all enrolled speakers."""
    speakers: list[EnrolledSpeakerOut]
    """The first speakers by name."""
    explained_variance: float
    """Share of the embeddings' variance that the map shows."""


class ModelOut(ResponseBody):
    """The model of the server.

    >>> ModelOut(sha256="3f2a", parameters=10, rate=16000, streams=2, calibrated_on=None).rate
    16000
    """

    sha256: str
    """Hash of the weights."""
    parameters: int
    """Number of parameters."""
    rate: int
    """Sample rate in Hz."""
    streams: int
    calibrated_on: str | None
    """Data of the calibration; null if the model is not calibrated."""


class LimitsOut(ResponseBody):
    """Limits of the server.

    >>> limits = LimitsOut(megabytes=200, minutes=60, channels=8, waiting=8, job_minutes=30, keep_minutes=30)
    >>> limits.keep_minutes
    30.0
    """

    megabytes: float
    """Size of an uploaded recording."""
    minutes: float
    """Duration of an uploaded recording."""
    channels: int
    """Number of channels of an uploaded recording."""
    waiting: int
    """Number of jobs in the queue."""
    job_minutes: float
    """Running time of a job."""
    keep_minutes: float
    """Time from the last use of a recording or result until it is removed."""


class AboutOut(ResponseBody):
    """The server's version, model and limits.

    >>> sorted(AboutOut.model_fields)
    ['limits', 'model', 'version']
    """

    version: str
    model: ModelOut
    limits: LimitsOut
