"""Request bodies of the HTTP API."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, model_validator

from separative.gallery.records import check_name
from separative.serve.results import remove_example

ChannelChoice = Annotated[
    Literal["mean", "first"], Field(description="How to handle multichannel audio: mean or first channel.")
]
RecordingId = Annotated[str, Field(description="Id of an uploaded recording.", max_length=64)]
Prior = Annotated[
    float,
    Field(
        gt=0,
        lt=1,
        description="Probability of the same or an enrolled speaker before the recording is known.",
    ),
]


def _check_name(name: str) -> str:
    name = check_name(name)
    # Clients would take these names for folders in a URL.
    if name in (".", ".."):
        raise ValueError("a name must not consist of dots only")
    return name


Name = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=200),
    AfterValidator(_check_name),
    Field(description="Name of the speaker."),
]
Metadata = Annotated[
    dict[Annotated[str, Field(max_length=200)], Annotated[str, Field(max_length=2000)]],
    Field(max_length=50, description="Text values to store with the speaker."),
]
Force = Annotated[
    bool, Field(description="Enrol even with too little speech, other speakers or clipping in the recording.")
]


class _Request(BaseModel):
    # Unknown keys are errors, and text is not converted to numbers.
    model_config = ConfigDict(
        extra="forbid", strict=True, use_attribute_docstrings=True, json_schema_extra=remove_example
    )


class DiarizeIn(_Request):
    """Request to diarize a recording.

    >>> DiarizeIn(recording="3f2a", speakers=2).channels
    'mean'
    """

    recording: RecordingId
    speakers: Annotated[int | None, Field(ge=1, le=100)] = None
    """Number of speakers, if known."""
    active_only: bool = False
    """Silence each speaker's waveform outside their turns."""
    prior: Prior = 0.5
    channels: ChannelChoice = "mean"


class RecordingIn(_Request):
    """Request to process one recording.

    >>> RecordingIn(recording="3f2a").channels
    'mean'
    """

    recording: RecordingId
    channels: ChannelChoice = "mean"


class VerifyIn(_Request):
    """Request to verify whether a speaker is the same on two sides.

    >>> VerifyIn(left=["3f2a"], right=["77b1", "90c4"]).prior
    0.5
    """

    left: Annotated[list[RecordingId], Field(min_length=1, max_length=10)]
    """Recordings of one speaker."""
    right: Annotated[list[RecordingId], Field(min_length=1, max_length=10)]
    """Recordings to compare with, of one speaker."""
    prior: Prior = 0.5
    channels: ChannelChoice = "mean"


class AddIn(_Request):
    """Request to enrol a speaker with uploaded recordings.

    >>> AddIn(name=" Ada ", recordings=["3f2a"]).name
    'Ada'
    """

    name: Name
    recordings: Annotated[list[RecordingId], Field(min_length=1, max_length=20)]
    """Recordings of this speaker alone."""
    metadata: Metadata | None = None
    keep_audio: bool = False
    """Store the audio, so that another model can embed it later."""
    force: Force = False


class FindIn(_Request):
    """Request to identify the speakers of a recording.

    >>> FindIn(recording="3f2a").count
    3
    """

    recording: RecordingId
    count: Annotated[int, Field(ge=1, le=100)] = 3
    """Number of candidates to return for each speaker."""
    prior: Prior = 0.5


class RenameIn(_Request):
    """Request to give a speaker another name.

    >>> RenameIn(name=" Ada Lovelace ").name
    'Ada Lovelace'
    """

    name: Name


class EnrolIn(_Request):
    """Request to enrol a speaker of a diarized recording.

    >>> EnrolIn(name="Ada").force
    False
    """

    name: Name
    metadata: Metadata | None = None
    force: Force = False


class CorrectIn(_Request):
    """Request to correct the speakers or turns of a diarized recording.

    >>> CorrectIn(action="merge", revision=0, speaker=2, to=1).turn is None
    True
    >>> CorrectIn(action="split", revision=0, speaker=2)
    Traceback (most recent call last):
    pydantic_core._pydantic_core.ValidationError: ... split needs turn and at...
    """

    action: Literal["rename", "merge", "split", "assign", "undo"]
    """``rename`` needs ``name``; ``merge`` needs ``to``; ``split`` needs ``turn`` and ``at``; ``assign``
    needs ``turn``, and ``to`` unless the turn belongs to a new speaker; ``undo`` takes back the last one."""
    revision: int
    """Revision of the result that the correction is for."""
    speaker: Annotated[int | None, Field(ge=1, le=1000)] = None
    """Number of the speaker to correct."""
    turn: Annotated[int | None, Field(ge=1)] = None
    """Number of a turn of the speaker, from 1."""
    to: Annotated[int | None, Field(ge=1, le=1000)] = None
    """Number of the speaker who gets the turn, or all turns."""
    at: float | None = None
    """Time in seconds at which to split the turn."""
    name: Name | None = None
    """New name of the speaker; null removes it."""

    @model_validator(mode="after")
    def _check_fields(self) -> CorrectIn:
        needed = {"merge": ("speaker", "to"), "split": ("speaker", "turn", "at"), "undo": ()}
        fields = needed.get(self.action, ("speaker", "turn") if self.action == "assign" else ("speaker",))
        if any(getattr(self, field) is None for field in fields):
            raise ValueError(f"{self.action} needs {' and '.join(fields[1:] or fields)}")
        return self


class RecountIn(_Request):
    """Request to diarize a recording again with another number of speakers.

    >>> RecountIn(speakers=3).prior
    0.5
    """

    speakers: Annotated[int | None, Field(ge=1, le=100)] = None
    """Number of speakers; null to estimate it."""
    prior: Prior = 0.5
