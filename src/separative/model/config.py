"""The shape of a separative encoder, as one frozen, validated record."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class EncoderConfig(BaseModel):
    """Everything that is needed to build a :class:`~separative.model.SeparativeEncoder`.

    Lengths in milliseconds, rates in hertz. ``streams`` is C, ``width`` D, ``embedding`` E of the method.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    rate: int = Field(default=16000, ge=4000, le=96000)
    streams: int = Field(default=2, ge=1, le=8)
    front_end: Literal["stft", "conv"] = "stft"
    window_ms: float = Field(default=32.0, gt=0)
    hop_ms: float = Field(default=8.0, gt=0)
    stack: int = Field(
        default=2, ge=1, le=8, description="neighbouring front-end frames joined into one trunk frame"
    )
    mels: int = Field(default=80, ge=8, description="mean-normalised log-mel features of the stft front end")
    filters: int = Field(default=256, ge=16, description="learned filters of the conv front end")
    trunk: Literal["conv", "recurrent"] = "conv"
    width: int = Field(default=192, ge=8)
    expansion: float = Field(default=2.0, gt=0, description="inner width of a block over its outer width")
    kernel: int = Field(default=5, ge=3, description="taps of the conv operator; odd")
    dilations: tuple[int, ...] = (1, 2, 4, 8)
    span: int = Field(default=64, ge=4, description="frames in a segment of the recurrent operator")
    pool: int = Field(
        default=8, ge=1, description="trunk frames averaged into one position of global attention"
    )
    heads: int = Field(default=4, ge=1)
    shared_blocks: int = Field(default=6, ge=1)
    stream_blocks: int = Field(default=2, ge=0)
    speaker_width: int = Field(default=256, ge=8)
    speaker_blocks: int = Field(default=3, ge=0)
    segment_frames: int = Field(
        default=4, ge=1, description="trunk frames in one segment of the speaker head"
    )
    embedding: int = Field(default=128, ge=4)
    cross_attention: bool = True
    mask_hidden: int = Field(
        default=0, ge=0, description="units by which masks also see the mixture's own features; none if 0"
    )
    consistency: bool = Field(
        default=True, description="project the estimates so that they and a residual sum to the mixture"
    )
    dropout: float = Field(default=0.0, ge=0, lt=1)

    @model_validator(mode="after")
    def _fits(self) -> EncoderConfig:
        if self.kernel % 2 == 0:
            raise ValueError(f"kernel must be odd, not {self.kernel}")
        if not self.dilations or min(self.dilations) < 1:
            raise ValueError("dilations must name at least one dilation, each 1 or more")
        if not 1 <= 2 * self.hop <= self.window:
            raise ValueError(
                f"hop_ms ({self.hop_ms}) must be at least a sample and at most half of window_ms"
                f" ({self.window_ms})"
            )
        if self.window % self.hop:
            raise ValueError(
                f"window_ms and hop_ms are {self.window} and {self.hop} samples at {self.rate} Hz: the first "
                "must be a whole multiple of the second"
            )
        for name in ("width", "speaker_width", "embedding"):
            if getattr(self, name) % self.heads:
                raise ValueError(f"{name} ({getattr(self, name)}) must be a multiple of heads ({self.heads})")
        if self.front_end == "conv" and self.window != 2 * self.hop:
            raise ValueError("the conv front end has a hop of half its window: set hop_ms = window_ms / 2")
        return self

    @property
    def window(self) -> int:
        """Analysis window in samples."""
        return round(self.window_ms * self.rate / 1000)

    @property
    def hop(self) -> int:
        """Front-end hop in samples."""
        return round(self.hop_ms * self.rate / 1000)

    @property
    def segment_seconds(self) -> float:
        """Length of one segment of the speaker head, in seconds."""
        return self.segment_frames * self.stack * self.hop / self.rate
