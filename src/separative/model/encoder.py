"""The separative encoder: waveforms, activity and embeddings of the speakers of a mixture.

See sections 2 and 3 of the method.

Axes: B mixtures · C streams · N samples · F front-end frames · T trunk frames · S segments · D trunk width ·
E embedding size.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from separative.model.attention import CrossAttention
from separative.model.blocks import build_stack, ceil_div, frame_mask, pad_size
from separative.model.config import EncoderConfig
from separative.model.frontend import FRONT_ENDS, FrontEnd
from separative.model.heads import SeparationHead, SpeakerHead
from separative.model.highpass import HighPass


class EncoderOutput(NamedTuple):
    """The output of the encoder; the order of the C streams is the same in all fields.

    Attributes:
        estimate_BCN: separated waveforms at the level of the input.
        segment_BCSE: segment representations.
        activity_BCS: log-odds that a stream has speech in a segment.
        valid_BS: 1 for segments of the recording, 0 for padding.
        query_BCE: bottom-up embeddings of unit norm.
        attended_BCE: embeddings of unit norm after the cross-attention.
        power_BS: mean power of the mixture in a segment, without offset, rumble and hum.

    >>> encoder = SeparativeEncoder(EncoderConfig(width=16, speaker_width=16, embedding=8)).eval()
    >>> output = encoder(torch.randn(2, 16000))
    >>> output.attended_BCE.norm(dim=-1).allclose(torch.ones(2, 2))
    True
    """

    estimate_BCN: Tensor
    segment_BCSE: Tensor
    activity_BCS: Tensor
    valid_BS: Tensor
    query_BCE: Tensor
    attended_BCE: Tensor
    power_BS: Tensor


class _Masks(NamedTuple):
    """1 for what contains signal and 0 for padding: front-end frames, trunk frames and segments."""

    valid_BF: Tensor
    valid_BT: Tensor
    valid_BS: Tensor


class _Trunk(NamedTuple):
    """What the heads read: representation and features of the mixture, shared embedding and streams."""

    represent_BFK: Tensor
    features_BTK: Tensor
    shared_BTD: Tensor
    stream_BCTD: Tensor


class SeparativeEncoder(nn.Module):
    """Separates the speakers of a mixture and embeds each of them.

    Attributes:
        config: sizes of the encoder.
        card: the record that is saved with the model; empty for a new one.

    >>> encoder = SeparativeEncoder(EncoderConfig(rate=8000, width=16, speaker_width=16, embedding=8))
    >>> output = encoder(torch.randn(3, 8000))
    >>> output.estimate_BCN.shape, output.attended_BCE.shape
    (torch.Size([3, 2, 8000]), torch.Size([3, 2, 8]))
    """

    front_end: FrontEnd

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.card: dict[str, Any] = {}
        self.high_pass = HighPass(config.rate)
        self.front_end = FRONT_ENDS[config.front_end](config)
        features, mask_size = self.front_end.features, self.front_end.mask_size
        self.enter = nn.Linear(config.stack * features, config.width)
        self.shared = build_stack(config, config.shared_blocks, config.width, trunk=config.trunk)
        self.split = nn.Linear(config.width, config.streams * config.width)
        self.per_stream = build_stack(
            config, config.stream_blocks, config.width, trunk=config.trunk, first=config.shared_blocks
        )
        head_sizes = (config.width, mask_size, config.stack, features, config.mask_hidden)
        self.separation = SeparationHead(*head_sizes)
        self.residual = SeparationHead(*head_sizes) if config.consistency else None
        # With small branches, an untrained speaker head passes its features on, which already distinguish
        # speakers a little. The trunk starts at full scale, because separation would start late otherwise.
        speaker_stack = build_stack(
            config, config.speaker_blocks, config.speaker_width, trunk="conv", branch_scale=0.2
        )
        self.speaker = SpeakerHead(
            config.width, config.speaker_width, config.embedding, config.segment_frames, speaker_stack
        )
        self.cross = CrossAttention(config.embedding, config.heads) if config.cross_attention else None

    @property
    def rate(self) -> int:
        """Sample rate in hertz."""
        return self.config.rate

    @property
    def streams(self) -> int:
        """Number of streams C."""
        return self.config.streams

    @property
    def training_speakers(self) -> frozenset[str]:
        """Names of the speakers in the training data, from the card; empty if the card has none."""
        return frozenset(self.card.get("data", {}).get("speakers", ()))

    @property
    def segment_seconds(self) -> float:
        """Length of a segment of the speaker head in seconds."""
        return self.config.segment_seconds

    def frames(self, samples: int) -> int:
        """Number of front-end frames of a signal of ``samples`` samples."""
        return self.front_end.grid.frames(samples)

    def segments(self, samples: int) -> int:
        """Number of segments of the speaker head in a signal of ``samples`` samples."""
        return ceil_div(self.frames(samples), self.config.stack * self.config.segment_frames)

    def segment_grid(self) -> tuple[int, int]:
        """Samples before the signal in its first segment, and samples in a segment."""
        hop = self.config.hop
        # The centre of frame t is half a window before sample t·hop + hop.
        return self.config.window // 2 - hop, hop * self.config.stack * self.config.segment_frames

    def cut_segments(self, wave_BCN: Tensor) -> Tensor:
        """Cut waveforms into the segments of the speaker head [B,C,S,W], with zeros beyond their ends."""
        lead, size = self.segment_grid()
        count = self.segments(wave_BCN.shape[-1])
        padded = F.pad(wave_BCN, (lead, count * size - wave_BCN.shape[-1] - lead))
        piece_BCSW: Tensor = padded.unflatten(-1, (count, size))
        return piece_BCSW

    def join_segments(self, piece_BSW: Tensor, samples: int) -> Tensor:
        """Waveforms [B,samples] from segments; the inverse of :meth:`cut_segments`."""
        lead, _ = self.segment_grid()
        return piece_BSW.flatten(-2)[..., lead : lead + samples]

    def segment_power(self, wave_BCN: Tensor) -> Tensor:
        """Mean power [B,C,S] of waveforms in each segment of the speaker head."""
        return self.cut_segments(wave_BCN).square().mean(-1)

    def forward(
        self,
        mix_BN: Tensor,
        *,
        group_B: Tensor | None = None,
        length_B: Tensor | None = None,
        own_drop: float = 0.0,
        separate: bool = True,
    ) -> EncoderOutput:
        """Separate and embed.

        Offset, rumble and hum are removed first, see :class:`HighPass`; the streams lack them too.

        Args:
            mix_BN: mixtures at :attr:`rate`, with zeros after the end of each.
            group_B: condition group of each mixture; by default each mixture is a group.
            length_B: length of each mixture in samples; by default N.
            own_drop: probability that a query does not see its own mixture, see :class:`CrossAttention`.
            separate: False skips the waveforms; ``estimate_BCN`` is then empty.
        """
        batch, samples = mix_BN.shape
        if length_B is None:
            length_B = torch.full((batch,), samples, device=mix_BN.device)
        if group_B is None:
            group_B = torch.arange(batch, device=mix_BN.device)
        masks = self._masks(length_B, samples)
        mix_BN = self.high_pass(mix_BN, length_B)
        power_B1 = mix_BN.square().sum(1, keepdim=True) / length_B.unsqueeze(1).clamp(min=1)
        level_B1 = power_B1.sqrt().clamp(min=1e-6)
        trunk = self._streams(mix_BN / level_B1, masks)
        segment_BCSE, activity_BCS, query_BCE = self._speakers(trunk, masks)
        attended_BCE = self.attend(
            query_BCE, segment_BCSE, activity_BCS, masks.valid_BS, group_B, own_drop=own_drop
        )
        estimate_BCN = mix_BN.new_zeros(batch, self.config.streams, 0)
        if separate:
            estimate_BCN = self._estimates(trunk, mix_BN, level_B1)
            estimate_BCN = estimate_BCN * frame_mask(length_B, samples).unsqueeze(1)
        power_BS = self.segment_power(mix_BN.unsqueeze(1)).squeeze(1)
        return EncoderOutput(
            estimate_BCN, segment_BCSE, activity_BCS, masks.valid_BS, query_BCE, attended_BCE, power_BS
        )

    def attend(
        self,
        query_BCE: Tensor,
        segment_BCSE: Tensor,
        activity_BCS: Tensor,
        valid_BS: Tensor,
        group_B: Tensor,
        *,
        own_drop: float = 0.0,
    ) -> Tensor:
        """Attended embeddings [B,C,E] of queries, see :class:`CrossAttention`; without it, the queries."""
        if self.cross is None:
            return query_BCE
        attended_BCE: Tensor = self.cross(
            query_BCE, segment_BCSE, activity_BCS, valid_BS, group_B, own_drop=own_drop
        )
        return attended_BCE

    def _masks(self, length_B: Tensor, samples: int) -> _Masks:
        """Masks of valid frames and segments, for mixtures of ``length_B`` in ``samples`` samples."""
        frame_B, frames = self.front_end.grid.frames(length_B), self.frames(samples)
        stack = self.config.stack
        return _Masks(
            frame_mask(frame_B, frames),
            frame_mask(ceil_div(frame_B, stack), ceil_div(frames, stack)),
            frame_mask(ceil_div(frame_B, stack * self.config.segment_frames), self.segments(samples)),
        )

    def _streams(self, mix_BN: Tensor, masks: _Masks) -> _Trunk:
        """Run front end and trunk on mixtures of power 1, and split the result into streams."""
        stack, streams = self.config.stack, self.config.streams
        features_BFK, represent_BFK = self.front_end.analyse(mix_BN, masks.valid_BF)
        extra = pad_size(features_BFK.shape[1], stack)
        features_BTK = F.pad(features_BFK, (0, 0, 0, extra)).unflatten(1, (-1, stack)).flatten(2)
        shared_BTD = self.shared(self.enter(features_BTK), masks.valid_BT)
        # Each stream is the shared embedding plus an offset, so that all streams are in the same space.
        offset_BCTD = self.split(shared_BTD).unflatten(-1, (streams, -1)).transpose(1, 2)
        split_RTD = (shared_BTD.unsqueeze(1) + offset_BCTD).flatten(0, 1)
        stream_RTD = self.per_stream(split_RTD, masks.valid_BT.repeat_interleave(streams, dim=0))
        # An exported graph needs the size from ``shape``: len() would fix it to that of the example.
        stream_BCTD = stream_RTD.unflatten(0, (mix_BN.shape[0], streams))
        return _Trunk(represent_BFK, features_BTK, shared_BTD, stream_BCTD)

    def _speakers(self, trunk: _Trunk, masks: _Masks) -> tuple[Tensor, Tensor, Tensor]:
        """Segment representations [B,C,S,E], activity [B,C,S] and queries [B,C,E] of streams."""
        batch, streams = trunk.stream_BCTD.shape[:2]
        valid_RT, valid_RS = (v.repeat_interleave(streams, dim=0) for v in (masks.valid_BT, masks.valid_BS))
        segment_RSE, activity_RS, query_RE = self.speaker(trunk.stream_BCTD.flatten(0, 1), valid_RT, valid_RS)
        segment_BCSE, activity_BCS, query_BCE = (
            x.unflatten(0, (batch, streams)) for x in (segment_RSE, activity_RS, query_RE)
        )
        return segment_BCSE, activity_BCS, query_BCE

    def _estimates(self, trunk: _Trunk, mix_BN: Tensor, level_B1: Tensor) -> Tensor:
        """Separated waveforms [B,C,N] at the level of the mixtures."""
        frames, streams = trunk.represent_BFK.shape[1], self.config.streams
        raw_BCFM = self.separation(trunk.stream_BCTD, trunk.features_BTK, frames)
        if self.residual is not None:
            rest_B1FM = self.residual(trunk.shared_BTD.unsqueeze(1), trunk.features_BTK, frames)
            raw_BCFM = torch.cat([raw_BCFM, rest_B1FM], dim=1)
        wave_BCN = self.front_end.synthesise(raw_BCFM, trunk.represent_BFK, mix_BN.shape[1])
        estimate_BCN = wave_BCN * level_B1.unsqueeze(2)
        if self.residual is not None:
            # Project onto the nearest waveforms that sum to the mixture, together with the residual.
            excess_B1N = mix_BN.unsqueeze(1) - estimate_BCN.sum(1, keepdim=True)
            estimate_BCN = (estimate_BCN + excess_B1N / (streams + 1))[:, :streams]
        return estimate_BCN
