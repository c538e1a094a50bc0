"""The separative encoder: one second of audio from waveform to speakers (method, sections 2 and 3).

Axes: B mixtures · C speaker streams · N samples · T frames · S segments · D trunk width · E embedding size.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from separative.model.attention import CrossAttention
from separative.model.blocks import (
    Block,
    ConvLocal,
    PooledAttention,
    RecurrentLocal,
    Stack,
    ceil_div,
    frame_mask,
    shortfall,
)
from separative.model.config import EncoderConfig
from separative.model.frontend import FRONT_ENDS, FrontEnd
from separative.model.heads import SeparationHead, SpeakerHead


class Separated(NamedTuple):
    """What the encoder says of a batch of mixtures; the C streams come in one and the same order everywhere.

    ``estimate_BCN`` waveforms at the input's level · ``segment_BCSE`` segment representations ·
    ``activity_BCS`` log-odds of speech · ``valid_BS`` 1 for segments of the recording, 0 for padding ·
    ``query_BCE`` bottom-up and ``attended_BCE`` gathered embeddings, both of unit norm.
    """

    estimate_BCN: Tensor
    segment_BCSE: Tensor
    activity_BCS: Tensor
    valid_BS: Tensor
    query_BCE: Tensor
    attended_BCE: Tensor


class SeparativeEncoder(nn.Module):
    """Separates the speakers of a mixture and embeds each of them.

    ``card`` is the record a saved model travels with (empty for a new one).
    """

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.card: dict[str, Any] = {}
        self.front_end: nn.Module = FRONT_ENDS[config.front_end](config)
        front = self._front
        self.enter = nn.Linear(config.stack * front.features, config.width)
        self.shared = _stack(config, config.shared_blocks, config.width, first=0)
        self.split = nn.Linear(config.width, config.streams * config.width)
        self.per_stream = _stack(config, config.stream_blocks, config.width, first=config.shared_blocks)
        masks = (config.width, front.mask_size, config.stack, front.features, config.mask_hidden)
        self.separation = SeparationHead(*masks)
        self.residual = SeparationHead(*masks) if config.consistency else None
        # Small branches: an untrained speaker head then passes its features on, which are worth more.
        # The trunk starts at full size, or separation starts late.
        speaker_stack = _stack(
            config, config.speaker_blocks, config.speaker_width, first=0, conv=True, branch=0.2
        )
        self.speaker = SpeakerHead(
            config.width, config.speaker_width, config.embedding, config.segment_frames, speaker_stack
        )
        self.cross = CrossAttention(config.embedding, config.heads) if config.cross_attention else None

    @property
    def _front(self) -> FrontEnd:
        return self.front_end  # type: ignore[return-value]

    @property
    def rate(self) -> int:
        """Sample rate in hertz."""
        return self.config.rate

    @property
    def streams(self) -> int:
        """Number of speaker slots C."""
        return self.config.streams

    @property
    def training_speakers(self) -> frozenset[str]:
        """Names of the speakers it was trained on, by its card; none if that does not say."""
        return frozenset(self.card.get("data", {}).get("speakers", ()))

    @property
    def segment_seconds(self) -> float:
        """Length of a segment of the speaker head, in seconds."""
        return self.config.segment_seconds

    def frames(self, samples: int) -> int:
        """Front-end frames of a signal of ``samples`` samples."""
        return self._front.grid.frames(samples)

    def segments(self, samples: int) -> int:
        """Segments of the speaker head in a signal of ``samples`` samples."""
        return ceil_div(self.frames(samples), self.config.stack * self.config.segment_frames)

    def segment_waves(self, wave_BCN: Tensor) -> Tensor:
        """Waveforms cut into the segments of the speaker head [B,C,S,W], zeros beyond their ends."""
        lead, size = self.segment_grid()
        count = self.segments(wave_BCN.shape[-1])
        padded = F.pad(wave_BCN, (lead, count * size - wave_BCN.shape[-1] - lead))
        piece_BCSW: Tensor = padded.unflatten(-1, (count, size))
        return piece_BCSW

    def from_segments(self, piece_BSW: Tensor, samples: int) -> Tensor:
        """Waveforms [B,samples] from the pieces of :meth:`segment_waves`."""
        lead, _ = self.segment_grid()
        return piece_BSW.flatten(-2)[..., lead : lead + samples]

    def segment_power(self, wave_BCN: Tensor) -> Tensor:
        """Mean power [B,C,S] of waveforms in each segment of the speaker head."""
        return self.segment_waves(wave_BCN).square().mean(-1)

    def segment_grid(self) -> tuple[int, int]:
        """Samples before the signal in its first segment, and samples in a segment."""
        hop = self.config.hop
        # Frame t is centred half a window before t·hop + hop.
        return self.config.window // 2 - hop, hop * self.config.stack * self.config.segment_frames

    def forward(
        self,
        mix_BN: Tensor,
        *,
        group_B: Tensor | None = None,
        length_B: Tensor | None = None,
        own_drop: float = 0.0,
        separate: bool = True,
    ) -> Separated:
        """Separate and embed.

        Args:
            mix_BN: mixtures at :attr:`rate`; zeros beyond each one's length.
            group_B: condition group of each mixture; each is its own group if not given.
            length_B: samples of each mixture; all of them if not given.
            own_drop: see :class:`CrossAttention`; for training.
            separate: leave out the waveforms (``estimate_BCN`` is then empty) if False.
        """
        batch, samples = mix_BN.shape
        if length_B is None:
            length_B = torch.full((batch,), samples, device=mix_BN.device)
        if group_B is None:
            group_B = torch.arange(batch, device=mix_BN.device)
        stack = self.config.stack
        frame_B = self._front.grid.frames(length_B)
        valid_BF = frame_mask(frame_B, self.frames(samples))
        valid_BT = frame_mask(ceil_div(frame_B, stack), ceil_div(self.frames(samples), stack))
        join = stack * self.config.segment_frames
        valid_BS = frame_mask(ceil_div(frame_B, join), self.segments(samples))

        power_B1 = mix_BN.square().sum(1, keepdim=True) / length_B.unsqueeze(1).clamp(min=1)
        level_B1 = power_B1.sqrt().clamp(min=1e-6)
        features_BFK, represent_BFK = self._front.analyse(mix_BN / level_B1, valid_BF)
        extra = shortfall(features_BFK.shape[1], stack)
        features_BTK = F.pad(features_BFK, (0, 0, 0, extra)).unflatten(1, (-1, stack)).flatten(2)
        shared_BTD = self.shared(self.enter(features_BTK), valid_BT)

        streams = self.config.streams
        # Every stream is the shared embedding moved its own way, so all are in the one space the heads read.
        moves_BCTD = self.split(shared_BTD).unflatten(-1, (streams, -1)).transpose(1, 2)
        apart = (shared_BTD.unsqueeze(1) + moves_BCTD).flatten(0, 1)
        valid_RT, valid_RS = (v.repeat_interleave(streams, dim=0) for v in (valid_BT, valid_BS))
        stream_RTD = self.per_stream(apart, valid_RT)

        segment_RSE, activity_RS, query_RE = self.speaker(stream_RTD, valid_RT, valid_RS)
        segment_BCSE, activity_BCS, query_BCE = (
            x.unflatten(0, (batch, streams)) for x in (segment_RSE, activity_RS, query_RE)
        )
        attended_BCE = self.answer(
            query_BCE, segment_BCSE, activity_BCS, valid_BS, group_B, own_drop=own_drop
        )

        estimate_BCN = mix_BN.new_zeros(batch, streams, 0)
        if separate:
            stream_BCTD = stream_RTD.unflatten(0, (batch, streams))
            raw_BCFM = self.separation(stream_BCTD, features_BTK, represent_BFK.shape[1])
            if self.residual is not None:
                rest_B1FM = self.residual(shared_BTD.unsqueeze(1), features_BTK, represent_BFK.shape[1])
                raw_BCFM = torch.cat([raw_BCFM, rest_B1FM], dim=1)
            estimate_BCN = self._front.synthesise(raw_BCFM, represent_BFK, samples) * level_B1.unsqueeze(2)
            if self.residual is not None:
                # The nearest point to the estimates and the residual at which they sum to the mixture.
                excess_B1N = mix_BN.unsqueeze(1) - estimate_BCN.sum(1, keepdim=True)
                estimate_BCN = (estimate_BCN + excess_B1N / (streams + 1))[:, :streams]
            inside_BN = frame_mask(length_B, samples)
            estimate_BCN = estimate_BCN * inside_BN.unsqueeze(1)
        return Separated(estimate_BCN, segment_BCSE, activity_BCS, valid_BS, query_BCE, attended_BCE)

    def answer(
        self,
        query_BCE: Tensor,
        segment_BCSE: Tensor,
        activity_BCS: Tensor,
        valid_BS: Tensor,
        group_B: Tensor,
        *,
        own_drop: float = 0.0,
    ) -> Tensor:
        """Answers [B,C,E]: what the cross-attention makes of queries and any memory; the query without it."""
        if self.cross is None:
            return query_BCE
        found: Tensor = self.cross(
            query_BCE, segment_BCSE, activity_BCS, valid_BS, group_B, own_drop=own_drop
        )
        return found


def _stack(
    config: EncoderConfig, count: int, width: int, *, first: int, conv: bool = False, branch: float = 1.0
) -> Stack:
    """``count`` blocks of the configured operator; dilations go on from block number ``first``."""
    blocks = []
    for index in range(first, first + count):
        local: ConvLocal | RecurrentLocal
        if config.trunk == "conv" or conv:
            dilation = config.dilations[index % len(config.dilations)]
            local = ConvLocal(width, int(width * config.expansion), config.kernel, dilation)
        else:
            local = RecurrentLocal(width, width, config.span)
        across = PooledAttention(width, config.heads, config.pool)
        blocks.append(Block(local, across, config.dropout, branch))
    return Stack(blocks)
