"""Settings of a separative encoder: one frozen, validated record."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

# Limits on the size of a model, so that a damaged or hostile card cannot take all memory: 1 GiB of weights in
# single precision, 50 times the largest model of the package.
MAX_PARAMETERS = 1 << 28
MAX_BLOCKS = 256
MAX_WIDTH = 8192

Dilation = Annotated[int, Field(le=65536)]


class EncoderConfig(BaseModel):
    """Everything needed to build a :class:`~separative.model.SeparativeEncoder`.

    A *frame* below is a frame of the trunk, made of ``stack`` frames of the front end. Each setting has an
    upper limit, and so has the number of the model's parameters (:data:`MAX_PARAMETERS`).

    Attributes:
        rate: sample rate in hertz.
        streams: number of output streams (C), the highest number of speakers at a time.
        front_end: ``stft`` (short-time Fourier transform) or ``conv`` (learned filters).
        window_ms: window of the front end in milliseconds.
        hop_ms: hop of the front end in milliseconds; ``window_ms`` must be a multiple of it.
        stack: neighbouring front-end frames that are joined into one frame of the trunk.
        mels: log-mel features of the ``stft`` front end.
        filters: learned filters of the ``conv`` front end.
        trunk: local operator of the trunk's blocks: ``conv`` (depthwise convolution) or ``recurrent`` (LSTM).
        width: channels of the trunk (D).
        expansion: inner channels of a ``conv`` block, as a multiple of its outer channels.
        kernel: taps of a ``conv`` block; odd.
        dilations: dilations of consecutive ``conv`` blocks, repeated when all are used.
        span: frames in a segment of a ``recurrent`` block.
        pool: frames that are averaged into one position of global attention.
        heads: attention heads, in the blocks and in the cross-attention.
        shared_blocks: blocks before the split into streams.
        stream_blocks: blocks applied to each stream after the split.
        speaker_width: channels of the speaker head.
        speaker_blocks: blocks of the speaker head.
        speaker_mels: whether the speaker head also gets the log-mel energies of each separated stream, minus
            their mean over the recording. Needs the ``stft`` front end. Masks are then computed for every
            embedding.
        segment_frames: frames in one segment of the speaker head.
        embedding: size of an embedding (E).
        cross_attention: whether queries attend to the segments of their condition group.
        mask_hidden: hidden units through which masks depend on the mixture's features directly; 0 for none.
        consistency: project the estimates so that they and a residual sum to the mixture.
        dropout: dropout probability in the blocks.
        teacher: size of the vectors of the teacher whose space the embeddings share; 0 for none.

    >>> config = EncoderConfig(rate=8000, segment_frames=2)
    >>> config.window, config.hop, config.segment_seconds
    (256, 64, 0.032)
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    rate: int = Field(default=16000, ge=4000, le=96000)
    streams: int = Field(default=2, ge=1, le=8)
    front_end: Literal["stft", "conv"] = "stft"
    window_ms: float = Field(default=32.0, gt=0, le=1000)
    hop_ms: float = Field(default=8.0, gt=0, le=500)
    stack: int = Field(default=2, ge=1, le=8)
    mels: int = Field(default=80, ge=8, le=512)
    filters: int = Field(default=256, ge=16, le=MAX_WIDTH)
    trunk: Literal["conv", "recurrent"] = "conv"
    width: int = Field(default=192, ge=8, le=MAX_WIDTH)
    expansion: float = Field(default=2.0, gt=0, le=16)
    kernel: int = Field(default=5, ge=3, le=1023)
    dilations: tuple[Dilation, ...] = Field(default=(1, 2, 4, 8), max_length=MAX_BLOCKS)
    span: int = Field(default=64, ge=4, le=65536)
    pool: int = Field(default=8, ge=1, le=65536)
    heads: int = Field(default=4, ge=1, le=1024)
    shared_blocks: int = Field(default=6, ge=1, le=MAX_BLOCKS)
    stream_blocks: int = Field(default=2, ge=0, le=MAX_BLOCKS)
    speaker_width: int = Field(default=256, ge=8, le=MAX_WIDTH)
    speaker_blocks: int = Field(default=3, ge=0, le=MAX_BLOCKS)
    speaker_mels: bool = False
    segment_frames: int = Field(default=4, ge=1, le=1024)
    embedding: int = Field(default=128, ge=4, le=MAX_WIDTH)
    cross_attention: bool = True
    mask_hidden: int = Field(default=0, ge=0, le=MAX_WIDTH)
    consistency: bool = True
    dropout: float = Field(default=0.0, ge=0, lt=1)
    teacher: int = Field(default=0, ge=0, le=MAX_WIDTH)

    @model_validator(mode="after")
    def _check(self) -> EncoderConfig:
        if self.kernel % 2 == 0:
            raise ValueError(f"kernel must be odd, not {self.kernel}")
        if int(min(self.width, self.speaker_width) * self.expansion) < 1:
            raise ValueError(
                f"expansion ({self.expansion:g}) leaves a block without inner channels; raise it"
            )
        if not self.dilations or min(self.dilations) < 1:
            raise ValueError("dilations must contain at least one dilation, each 1 or more")
        if not 1 <= 2 * self.hop <= self.window:
            raise ValueError(
                f"hop_ms ({self.hop_ms}) must be at least one sample and at most half of window_ms"
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
            raise ValueError("the conv front end needs a hop of half its window: set hop_ms = window_ms / 2")
        if self.speaker_mels and self.front_end != "stft":
            raise ValueError("speaker_mels needs the stft front end: set it to false, or front_end to stft")
        if 0 < self.teacher < self.embedding:
            raise ValueError(
                f"vectors of {self.teacher} values cannot teach embeddings of {self.embedding}: set embedding"
                f" to {self.teacher} or less"
            )
        if self.parameters > MAX_PARAMETERS:
            raise ValueError(
                f"the model would have {self.parameters:.2g} parameters; at most {MAX_PARAMETERS:.2g} are"
                " allowed: lower width, speaker_width, expansion or the numbers of blocks"
            )
        return self

    @property
    def window(self) -> int:
        """Window of the front end in samples."""
        return round(self.window_ms * self.rate / 1000)

    @property
    def hop(self) -> int:
        """Hop of the front end in samples."""
        return round(self.hop_ms * self.rate / 1000)

    @property
    def parameters(self) -> int:
        """Number of parameters of the model, computed without building it."""
        features = mask_size = self.filters
        front_end = 2 * self.window * self.filters
        if self.front_end == "stft":
            bins = self.window // 2 + 1
            features, mask_size, front_end = 2 * (bins + self.mels), 2 * bins, 0
        width, speaker, size, hidden = self.width, self.speaker_width, self.embedding, self.mask_hidden
        head = 2 * width + (width + 1) * self.stack * mask_size
        if hidden:
            head += (
                (width + 1) * hidden + (self.stack * features + 1) * hidden + hidden * self.stack * mask_size
            )
        speaker_head = (self.segment_frames * width + 1) * speaker + 2 * speaker + speaker + 1
        if self.speaker_mels:
            speaker_head += self.segment_frames * self.stack * self.mels * speaker
        speaker_head += (speaker + 1) * (speaker // 2) + (speaker // 2 + 1) * speaker
        speaker_head += 4 * speaker + (2 * speaker + 1) * size + (speaker + 1) * size
        return (
            front_end
            + (self.stack * features + 1) * width
            + (self.shared_blocks + self.stream_blocks) * self._block(width, self.trunk)
            + (width + 1) * self.streams * width
            + (2 if self.consistency else 1) * head
            + self.speaker_blocks * self._block(speaker, "conv")
            + speaker_head
            + (4 * size + 4 * (size + 1) * size if self.cross_attention else 0)
        )

    def _block(self, width: int, trunk: str) -> int:
        """Number of parameters of a block of ``width`` channels."""
        inner = int(width * self.expansion)
        if trunk == "conv":
            local = 2 * (width + 1) * inner + (self.kernel + 1) * inner + (inner + 1) * width
        else:
            local = 16 * (width + 1) * width + (2 * width + 1) * width
        return 2 * width + local + 2 * width + 4 * (width + 1) * width

    @property
    def segment_seconds(self) -> float:
        """Length of one segment of the speaker head in seconds."""
        return self.segment_frames * self.stack * self.hop / self.rate
