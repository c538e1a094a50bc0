"""Settings of mixtures and of simulated conversations: frozen, validated records."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

from separative.corpora.manifest import IdentityKind
from separative.mixtures.styles import StyleName

# Largest number of samples in the arrays of a training step or a conversation: 4 and 8 GiB.
MAX_STEP_SAMPLES = 1 << 30
MAX_CONVERSATION_SAMPLES = 1 << 31

Share = Annotated[float, Field(ge=0.0, le=1.0)]


def _check_order(limits: tuple[float, float]) -> tuple[float, float]:
    if not limits[0] <= limits[1]:
        raise ValueError(f"a range must be (low, high), not ({limits[0]:g}, {limits[1]:g})")
    return limits


def _check_decibels(limits: tuple[float, float]) -> tuple[float, float]:
    if limits[0] < -200 or limits[1] > 200:
        raise ValueError("levels and ratios must be between -200 and 200 dB")
    return limits


def _check_rt60(rt60: tuple[float, float]) -> tuple[float, float]:
    if rt60[0] < 0.1 or rt60[1] > 1.5:
        raise ValueError("reverberation times must be between 0.1 and 1.5 seconds")
    return rt60


# The lowest and the highest value that may be drawn.
Range = Annotated[tuple[float, float], AfterValidator(_check_order)]
# The same for levels and ratios.
Decibels = Annotated[Range, AfterValidator(_check_decibels)]
# The same for reverberation times in seconds, within what the room simulation covers.
RT60 = Annotated[Range, AfterValidator(_check_rt60)]


class Stage(BaseModel):
    """One point of the training curriculum.

    Between two points, the shares change linearly with the step. ``views`` changes only at a point.

    Attributes:
        step: the training step of this point.
        views: mixtures (V) in a condition group from this point on.
        speakers: share of mixtures with 1, 2, ... C speakers; missing entries at the end are 0.
        noise: share of mixtures with noise.
        alone: from this point on, only the speaker head learns, from mixtures of one speaker; see
            ``model.speaker_mels``. Such steps are several times as quick.

    >>> Stage(step=1000, views=4, speakers=(0.1, 0.9)).views
    4
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    step: int = Field(default=0, ge=0, le=10**9)
    views: int = Field(default=1, ge=1, le=65536)
    speakers: tuple[Share, ...] = Field(default=(0.4, 0.6), min_length=1, max_length=16)
    noise: Share = 0.0
    alone: bool = False

    @field_validator("speakers")
    @classmethod
    def _check_sum(cls, speakers: tuple[float, ...]) -> tuple[float, ...]:
        if abs(sum(speakers) - 1.0) > 1e-6:
            raise ValueError(
                f"the shares of mixtures with 1, 2, ... speakers must sum to 1, not {sum(speakers):g}"
            )
        return speakers


class NuisanceConfig(BaseModel):
    """What stands between speakers and the file, as widely as real recordings vary; off by default.

    Every view of a condition group, and every source in it, gets nuisances of its own.

    Attributes:
        channels: share of sources with a wide frequency response of their own
            (:meth:`Channel.draw_wide`).
        rooms: share of mixtures in a synthetic room, each source at its distance (:class:`SyntheticRoom`).
        distance_m: range of the distances from the microphone in metres.
        noises: share of mixtures with synthetic noise or with babble (:class:`BackgroundNoise`).
        noise_db: power of the speech over that of this noise in dB, drawn uniformly.
        microphones: share of mixtures that pass one microphone: response, gain control, clipping, codec, lost
            packets (:class:`Microphone`). Its kind determines the level; ``mixtures.level_db`` is for the
            other mixtures.

    >>> NuisanceConfig(microphones=0.5).active
    True
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    channels: Share = 0.0
    rooms: Share = 0.0
    distance_m: Range = (0.3, 4.0)
    noises: Share = 0.0
    noise_db: Decibels = (5.0, 35.0)
    microphones: Share = 0.0

    @property
    def active(self) -> bool:
        """Whether any share is above 0."""
        return max(self.channels, self.rooms, self.noises, self.microphones) > 0

    @field_validator("distance_m")
    @classmethod
    def _check_distance(cls, distance_m: Range) -> Range:
        if distance_m[0] < 0.05 or distance_m[1] > 20.0:
            raise ValueError("distances must be between 0.05 and 20 metres")
        return distance_m


class MixtureConfig(BaseModel):
    """How mixtures are drawn from a corpus.

    Attributes:
        rate: sample rate in hertz.
        seconds: length of a mixture.
        streams: highest number of sources (C) in a mixture: the target and up to C-1 interferers.
        batch: mixtures (B) in a training step.
        identity: what an embedding identifies: the ``speaker`` (labels needed), the ``recording`` that an
            utterance was cut from, or each ``utterance`` (no labels needed).
        unlabelled: use of utterances without a speaker label when ``identity`` is ``speaker``. With
            ``interfere`` they are interferers without an identity, with ``identity`` each recording is an
            identity, with ``drop`` they are not used. With ``presence`` they are targets without a row in
            the inventory, for objectives with the term of presence.
        share: share of the speakers or recordings to use, chosen by their names; for curves over the
            amount of data.
        stages: the curriculum; the first stage is at step 0.
        sir_db: power of the target over that of each interferer, drawn uniformly from this range.
        snr_db: power of the target over that of the noise, drawn uniformly.
        level_db: RMS level of the mixture in dB relative to full scale, drawn uniformly.
        speeds: playback speeds. Each speaker at each speed is a separate identity.
        rooms: share of mixtures in a simulated room (needs the extra ``rooms``).
        rt60: range of the rooms' reverberation times in seconds.
        room_count: number of rooms, which are simulated once.
        channel: share of sources that pass a random channel (equaliser, band limits, mu-law codec).
        overlap: share of the mixture that an interferer covers, drawn uniformly; its place is random.
        turns: share of mixtures in which the speakers take turns: each speaker, also the target, covers 30 to
            80 % of the mixture at a random place. Such mixtures have parts with one speaker, with several
            speakers and with none.
        min_speech: share of 10 ms frames with speech that a crop should have. The best of a few random crops
            is taken.
        similar: share of the interferers with a label that are one of the speakers most similar to the
            target, by a teacher's vectors; the others are anybody. For harder mixtures, often of one sex.
        disjoint: whether the views of a group have parts of the target's speech that do not overlap, where
            its length allows.
        nuisances: wide channels, distances, noise and microphones; see :class:`NuisanceConfig`.
        empty: share of mixtures without a speaker: noise, music or silence alone. All their sources are zero
            and have no identity.

    >>> stages = ({"speakers": (1.0,)}, {"step": 1000, "speakers": (0.2, 0.8)})
    >>> config = MixtureConfig(seconds=4.0, sir_db=(-5, 5), stages=stages)
    >>> config.samples
    64000
    >>> config.stage(step=500).speakers
    (0.6, 0.4)
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    rate: int = Field(default=16000, ge=4000, le=96000)
    seconds: float = Field(default=2.0, gt=0.1, le=600)
    streams: int = Field(default=2, ge=1, le=16)
    batch: int = Field(default=32, ge=1, le=65536)
    identity: IdentityKind = "speaker"
    unlabelled: Literal["interfere", "identity", "presence", "drop"] = "interfere"
    share: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    stages: tuple[Stage, ...] = Field(default=(Stage(),), min_length=1, max_length=1000)
    sir_db: Decibels = (-5.0, 5.0)
    level_db: Decibels = (-35.0, -15.0)
    snr_db: Decibels = (0.0, 20.0)
    speeds: tuple[float, ...] = Field(default=(1.0,), min_length=1, max_length=64)
    rooms: Share = 0.0
    rt60: RT60 = (0.2, 0.6)
    room_count: int = Field(default=32, ge=1, le=10_000)
    channel: Share = 0.0
    overlap: Range = (1.0, 1.0)
    turns: Share = 0.0
    min_speech: Share = 0.3
    similar: Share = 0.0
    disjoint: bool = False
    nuisances: NuisanceConfig = NuisanceConfig()
    empty: Annotated[float, Field(ge=0.0, le=0.9)] = 0.0

    @property
    def samples(self) -> int:
        """Length N of a mixture in samples."""
        return round(self.seconds * self.rate)

    def stage(self, step: int) -> Stage:
        """The curriculum interpolated at a step; ``speakers`` has C entries."""
        after = next((i for i, stage in enumerate(self.stages) if stage.step > step), len(self.stages))
        low, high = self.stages[after - 1], self.stages[min(after, len(self.stages) - 1)]
        part = (step - low.step) / (high.step - low.step) if high.step > low.step else 0.0

        def between(a: float, b: float) -> float:
            return a + part * (b - a)

        padded = [(*s.speakers, *[0.0] * (self.streams - len(s.speakers))) for s in (low, high)]
        speakers = tuple(between(a, b) for a, b in zip(*padded, strict=True))
        if low.alone:
            speakers = padded[0]
        noise = between(low.noise, high.noise)
        return Stage(step=step, views=low.views, speakers=speakers, noise=noise, alone=low.alone)

    @field_validator("overlap")
    @classmethod
    def _check_overlap(cls, overlap: Range) -> Range:
        if overlap[0] < 0.1 or overlap[1] > 1.0:
            raise ValueError("overlap must be a share of the mixture between 0.1 and 1")
        return overlap

    @field_validator("speeds")
    @classmethod
    def _check_speeds(cls, speeds: tuple[float, ...]) -> tuple[float, ...]:
        if len(set(speeds)) < len(speeds) or min(speeds) < 0.5 or max(speeds) > 2.0:
            raise ValueError("speeds must be distinct factors between 0.5 and 2")
        return speeds

    @model_validator(mode="after")
    def _check_stages(self) -> Self:
        steps = [stage.step for stage in self.stages]
        if steps[0] != 0 or any(a >= b for a, b in pairwise(steps)):
            raise ValueError(f"the steps of the stages must start at 0 and increase, not {steps}")
        samples = self.batch * (1 + self.streams) * self.samples
        if samples > MAX_STEP_SAMPLES:
            raise ValueError(
                f"a training step would have {samples:.2g} samples of audio; at most {MAX_STEP_SAMPLES:.2g}"
                " are allowed: lower batch, seconds, rate or streams"
            )
        for stage in self.stages:
            if stage.alone and sum(stage.speakers[1:]) > 0:
                raise ValueError(
                    f"the stage at step {stage.step} is alone, but has mixtures of several speakers: set its"
                    " speakers to [1.0]"
                )
            if self.batch % stage.views:
                raise ValueError(
                    f"batch ({self.batch}) must be a multiple of views ({stage.views}) of the stage at step "
                    f"{stage.step}"
                )
            if len(stage.speakers) > self.streams:
                raise ValueError(
                    f"the stage at step {stage.step} has mixtures of {len(stage.speakers)} speakers, but "
                    f"streams is {self.streams}: raise streams or shorten speakers"
                )
        return self


class ConversationConfig(BaseModel):
    """How conversations are simulated.

    Attributes:
        rate: sample rate in hertz.
        seconds: length of a conversation.
        speakers: number of speakers, all from the same corpus. In a short conversation with a style, some of
            them may get no turn.
        style: how speakers take turns and how they are recorded: as in a ``meeting``, a ``call``, an
            ``interview``, a ``broadcast`` or joined ``clips`` (see :mod:`separative.mixtures.styles`), or
            ``plain``, for which the settings below hold.
        overlap: time in which turns overlap, divided by the time covered by turns.
        turn_seconds: range of turn lengths, drawn log-uniformly.
        pause_seconds: mean pause between turns that do not overlap, drawn from an exponential distribution.
        backchannels: share of turns in which another speaker says something short.
        level_db: level of each speaker relative to the common level, drawn uniformly.
        snr_db: speech over noise for the whole conversation, drawn uniformly; None for no noise.
        rooms: number of simulated rooms to choose from (needs the extra ``rooms``); 0 for no room. A
            conversation takes place in one room, each speaker at a different place.
        rt60: range of the rooms' reverberation times in seconds.

    >>> ConversationConfig(seconds=60.0, speakers=4, overlap=0.1).turn_seconds
    (0.8, 8.0)
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    rate: int = Field(default=16000, ge=4000, le=96000)
    seconds: float = Field(default=600.0, ge=5.0, le=86_400)
    speakers: int = Field(default=3, ge=1, le=16)
    style: StyleName = "plain"
    overlap: Share = 0.2
    turn_seconds: Range = (0.8, 8.0)
    pause_seconds: float = Field(default=0.5, ge=0.0, le=3600)
    backchannels: Share = 0.1
    level_db: Decibels = (-3.0, 3.0)
    snr_db: Decibels | None = None
    rooms: int = Field(default=0, ge=0, le=10_000)
    rt60: RT60 = (0.3, 0.6)

    @field_validator("turn_seconds")
    @classmethod
    def _check_turn_seconds(cls, turn_seconds: Range) -> Range:
        if turn_seconds[0] < 0.1 or turn_seconds[1] > 3600:
            raise ValueError("turns must last 0.1 seconds or more, and at most an hour")
        return turn_seconds

    @field_validator("overlap")
    @classmethod
    def _check_overlap(cls, overlap: float) -> float:
        if overlap > 0.7:
            raise ValueError("overlap is a share of the time with speech and must be at most 0.7")
        return overlap

    @model_validator(mode="after")
    def _check_style(self) -> Self:
        of_plain = ("overlap", "turn_seconds", "pause_seconds", "backchannels", "level_db", "rooms", "rt60")
        fields = type(self).model_fields
        changed = [name for name in of_plain if getattr(self, name) != fields[name].default]
        if self.style != "plain" and changed:
            raise ValueError(
                f"{changed[0]} is a setting of the style 'plain', but the style is '{self.style}': remove"
                f" {changed[0]} or set the style to 'plain'"
            )
        return self

    @model_validator(mode="after")
    def _check_size(self) -> Self:
        samples = (1 + self.speakers) * self.seconds * self.rate
        if samples > MAX_CONVERSATION_SAMPLES:
            raise ValueError(
                f"the conversation would have {samples:.2g} samples of audio; at most"
                f" {MAX_CONVERSATION_SAMPLES:.2g} are allowed: lower seconds, rate or speakers"
            )
        return self
