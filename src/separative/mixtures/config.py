"""What mixtures are drawn: a frozen, validated description, a part of every recipe."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

from separative.corpora.manifest import IdentityKind

Share = Annotated[float, Field(ge=0.0, le=1.0)]


def _in_order(limits: tuple[float, float]) -> tuple[float, float]:
    if not limits[0] <= limits[1]:
        raise ValueError(f"a range is (low, high), not ({limits[0]:g}, {limits[1]:g})")
    return limits


def _possible_rt60(rt60: tuple[float, float]) -> tuple[float, float]:
    if rt60[0] < 0.1 or rt60[1] > 1.5:
        raise ValueError("reverberation times lie from 0.1 to 1.5 seconds")
    return rt60


# Lowest and highest; and those of reverberation times that rooms are simulated for.
Range = Annotated[tuple[float, float], AfterValidator(_in_order)]
RT60 = Annotated[Range, AfterValidator(_possible_rt60)]


class Stage(BaseModel):
    """A point of the curriculum; shares are linear in the step between points, ``views`` changes at points.

    Attributes:
        step: the training step of this point.
        views: mixtures (V) in a condition group from this point on.
        speakers: share of mixtures with 1, 2, ... C speakers; missing entries at the end are 0.
        noise: share of mixtures with noise.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    step: int = Field(default=0, ge=0)
    views: int = Field(default=1, ge=1)
    speakers: tuple[Share, ...] = Field(default=(0.4, 0.6), min_length=1)
    noise: Share = 0.0

    @field_validator("speakers")
    @classmethod
    def _sums_to_one(cls, speakers: tuple[float, ...]) -> tuple[float, ...]:
        if abs(sum(speakers) - 1.0) > 1e-6:
            raise ValueError(
                f"the shares of mixtures with 1, 2, ... speakers must sum to 1, not {sum(speakers):g}"
            )
        return speakers


class MixtureConfig(BaseModel):
    """How mixtures are drawn from a corpus.

    Attributes:
        rate: hertz.
        seconds: length of a mixture.
        streams: sources (C) in a mixture, the target and up to C-1 interferers.
        batch: mixtures (B) in a step.
        identity: whose embedding is learnt: the ``speaker`` label or the ``recording`` (label-free).
        unlabelled: what utterances without a speaker are for when identity is ``speaker``: they ``interfere``
            without an identity, each recording is an ``identity`` of its own, or they ``drop`` out.
        stages: the curriculum, first at step 0.
        sir_db, snr_db: target over each interferer, and over the noise; drawn uniformly.
        level_db: RMS of the mixture, dB full scale; drawn uniformly.
        speeds: playing speeds; a speaker at each speed is an identity of its own.
        rooms: share of mixtures in a simulated room (extra ``rooms``); ``rt60`` its reverberation time in
            seconds; ``room_count`` rooms are computed once.
        channel: share of sources sent through a random channel (equaliser, band limits, mu-law codec).
        overlap: share of the crop that an interferer covers, at a random place; drawn uniformly.
        turns: share of mixtures in which speakers take turns: each, the target too, covers 30 to 80 % of the
            crop, at a random place, so that some of it is one speaker's, some of it both's or nobody's.
        min_speech: share of active 10 ms frames that a crop should have; the best of a few tries is taken.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    rate: int = Field(default=16000, ge=4000)
    seconds: float = Field(default=2.0, gt=0.1)
    streams: int = Field(default=2, ge=1)
    batch: int = Field(default=32, ge=1)
    identity: IdentityKind = "speaker"
    unlabelled: Literal["interfere", "identity", "drop"] = "interfere"
    stages: tuple[Stage, ...] = Field(default=(Stage(),), min_length=1)
    sir_db: Range = (-5.0, 5.0)
    level_db: Range = (-35.0, -15.0)
    snr_db: Range = (0.0, 20.0)
    speeds: tuple[float, ...] = Field(default=(1.0,), min_length=1)
    rooms: Share = 0.0
    rt60: RT60 = (0.2, 0.6)
    room_count: int = Field(default=32, ge=1)
    channel: Share = 0.0
    overlap: Range = (1.0, 1.0)
    turns: Share = 0.0
    min_speech: Share = 0.3

    @property
    def samples(self) -> int:
        """Length N of a mixture."""
        return round(self.seconds * self.rate)

    def stage(self, step: int) -> Stage:
        """The curriculum at a step; ``speakers`` has C entries."""
        after = next((i for i, stage in enumerate(self.stages) if stage.step > step), len(self.stages))
        low, high = self.stages[after - 1], self.stages[min(after, len(self.stages) - 1)]
        part = (step - low.step) / (high.step - low.step) if high.step > low.step else 0.0

        def between(a: float, b: float) -> float:
            return a + part * (b - a)

        padded = [(*s.speakers, *[0.0] * (self.streams - len(s.speakers))) for s in (low, high)]
        speakers = tuple(between(a, b) for a, b in zip(*padded, strict=True))
        return Stage(step=step, views=low.views, speakers=speakers, noise=between(low.noise, high.noise))

    @field_validator("overlap")
    @classmethod
    def _audible_overlap(cls, overlap: Range) -> Range:
        if overlap[0] < 0.1 or overlap[1] > 1.0:
            raise ValueError("overlap is a share of the crop from 0.1 to 1")
        return overlap

    @field_validator("speeds")
    @classmethod
    def _distinct_speeds(cls, speeds: tuple[float, ...]) -> tuple[float, ...]:
        if len(set(speeds)) < len(speeds) or min(speeds) < 0.5 or max(speeds) > 2.0:
            raise ValueError("speeds are distinct factors from 0.5 to 2")
        return speeds

    @model_validator(mode="after")
    def _stages_fit(self) -> Self:
        steps = [stage.step for stage in self.stages]
        if steps[0] != 0 or any(a >= b for a, b in pairwise(steps)):
            raise ValueError(f"stages start at step 0 and rise, not {steps}")
        for stage in self.stages:
            if self.batch % stage.views:
                raise ValueError(
                    f"batch {self.batch} is no multiple of the {stage.views} views of stage {stage.step}"
                )
            if len(stage.speakers) > self.streams:
                raise ValueError(
                    f"stage {stage.step} has mixtures of {len(stage.speakers)} speakers, more than the "
                    f"{self.streams} streams"
                )
        return self
