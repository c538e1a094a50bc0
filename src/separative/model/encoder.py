"""The separative encoder: waveforms, activity and embeddings of the speakers of a mixture.

See sections 2 and 3 of the method.

Axes: B mixtures · C streams · R = B·C streams of all mixtures · N samples · F front-end frames · T trunk
frames · S segments of the speaker head · W samples of a segment · D trunk width · E embedding size · M mask
values of a frame · K size of the features or of the front end's representation, which differ.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from separative.model.attention import CrossAttention
from separative.model.blocks import build_stack, ceil_div, frame_mask, pad_size
from separative.model.config import EncoderConfig
from separative.model.frontend import FRONT_ENDS, FrontEnd, MelFrontEnd
from separative.model.heads import SeparationHead, SpeakerHead
from separative.model.highpass import HighPass
from separative.model.teacher import TeacherSpace


class EncoderOutput(NamedTuple):
    """The output of the encoder; the order of the C streams is the same in all fields.

    Attributes:
        estimate_BCN: separated waveforms at the level of the input.
        segment_BCSE: representations of the segments, the memory of the cross-attention.
        activity_BCS: log-odds that a stream has speech in a segment.
        valid_BS: 1 for segments of the mixture, 0 for padding.
        query_BCE: embeddings before the cross-attention, of unit norm.
        attended_BCE: embeddings after the cross-attention, of unit norm.
        power_BS: mean power of the mixture in each segment, after offset, rumble and hum are removed.

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


class _Valid(NamedTuple):
    """Which front-end frames, trunk frames and segments contain signal: 1 for signal, 0 for padding."""

    valid_BF: Tensor
    valid_BT: Tensor
    valid_BS: Tensor


class _TrunkOutput(NamedTuple):
    """The input of the heads.

    Attributes:
        represent_BFK: representation of the mixture that the masks are applied to.
        features_BTK: features of the mixture, the input of the trunk.
        shared_BTD: output of the trunk's shared blocks.
        stream_BCTD: output of the trunk for each stream.
    """

    represent_BFK: Tensor
    features_BTK: Tensor
    shared_BTD: Tensor
    stream_BCTD: Tensor


class SeparativeEncoder(nn.Module):
    """Separates the speakers of a mixture and embeds each of them.

    Attributes:
        config: sizes of the encoder.
        card: content of the model card, which is saved with the model; empty for a new model.
        space: the teacher's space that the embeddings are in; None for a model without a teacher.

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
        # In the speaker head, residual branches start at a small scale. The untrained head is then
        # nearly a linear map of the trunk's output, which already distinguishes speakers a little. In the
        # trunk, branches start at full scale. If they were small, separation would improve later in training.
        speaker_stack = build_stack(
            config, config.speaker_blocks, config.speaker_width, trunk="conv", branch_scale=0.2
        )
        self.speaker = SpeakerHead(
            config.width,
            config.speaker_width,
            config.embedding,
            config.segment_frames,
            speaker_stack,
            mels=config.stack * config.mels if config.speaker_mels else 0,
        )
        self.cross = CrossAttention(config.embedding, config.heads) if config.cross_attention else None
        self.space = TeacherSpace(config.teacher, config.embedding) if config.teacher else None

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

    def save(self, folder: str | Path, *, half: bool = False) -> Path:
        """Write weights and card into a folder, and return it; see :func:`separative.save_model`."""
        from separative.model.files import save_model

        return save_model(self, folder, half=half, **self.card)

    def push(self, repo: str, *, private: bool = True) -> str:
        """Upload the model to the Hugging Face Hub; see :func:`separative.model.hub.push_model`."""
        from separative.model.hub import push_model

        return push_model(self, repo, private=private)

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
        """Position and length of the segments of the speaker head, in samples.

        Returns how far before the signal the first segment begins, and the length of a segment.
        """
        hop = self.config.hop
        # A segment begins at the centre of its first frame. Frame 0 ends at sample ``hop`` of the signal, and
        # its centre is half a window earlier.
        return self.config.window // 2 - hop, hop * self.config.stack * self.config.segment_frames

    def cut_segments(self, wave_BCN: Tensor) -> Tensor:
        """Cut waveforms into the segments of the speaker head [B,C,S,W], with zeros beyond both ends."""
        lead, size = self.segment_grid()
        count = self.segments(wave_BCN.shape[-1])
        padded = F.pad(wave_BCN, (lead, count * size - wave_BCN.shape[-1] - lead))
        cut_BCSW: Tensor = padded.unflatten(-1, (count, size))
        return cut_BCSW

    def join_segments(self, cut_BSW: Tensor, samples: int) -> Tensor:
        """Join segments [B,S,W] to waveforms [B,samples]; the inverse of :meth:`cut_segments`."""
        lead, _ = self.segment_grid()
        return cut_BSW.flatten(-2)[..., lead : lead + samples]

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
        alone: bool = False,
    ) -> EncoderOutput:
        """Separate and embed the speakers of mixtures.

        Offset, rumble and hum are removed from the mixtures first, see :class:`HighPass`. So the separated
        waveforms do not contain them either.

        Args:
            mix_BN: mixtures at :attr:`rate`, with zeros after the end of each.
            group_B: number of the condition group of each mixture; by default each mixture is its own group.
            length_B: length of each mixture in samples; by default N.
            own_drop: probability that a query does not attend to its own mixture, see
                :class:`CrossAttention`.
            separate: False computes embeddings only; ``estimate_BCN`` is then empty.
            alone: True for mixtures of one speaker: only the speaker head runs, on log-mel energies of the
                mixture itself. The output has one stream and no waveform. Needs ``speaker_mels``.
        """
        batch, samples = mix_BN.shape
        if length_B is None:
            length_B = torch.full((batch,), samples, device=mix_BN.device)
        if group_B is None:
            group_B = torch.arange(batch, device=mix_BN.device)
        valid = self._find_valid(length_B, samples)
        mix_BN = self.high_pass(mix_BN, length_B)
        power_B1 = mix_BN.square().sum(1, keepdim=True) / length_B.unsqueeze(1).clamp(min=1)
        level_B1 = power_B1.sqrt().clamp(min=1e-6)
        run = self._skip_trunk if alone else self._run_trunk
        trunk, raw_BCFM = run(mix_BN / level_B1, valid), None
        if not alone and (separate or self.config.speaker_mels):
            frames = trunk.represent_BFK.shape[1]
            raw_BCFM = self.separation(trunk.stream_BCTD, trunk.features_BTK, frames)
        segment_BCSE, activity_BCS, query_BCE = self._run_speaker_head(trunk, raw_BCFM, valid)
        attended_BCE = self.attend(
            query_BCE, segment_BCSE, activity_BCS, valid.valid_BS, group_B, own_drop=own_drop
        )
        estimate_BCN = mix_BN.new_zeros(batch, query_BCE.shape[1], 0)
        if separate and raw_BCFM is not None:
            estimate_BCN = self._synthesise(raw_BCFM, trunk, mix_BN, level_B1)
            estimate_BCN = estimate_BCN * frame_mask(length_B, samples).unsqueeze(1)
        power_BS = self.segment_power(mix_BN.unsqueeze(1)).squeeze(1)
        return EncoderOutput(
            estimate_BCN, segment_BCSE, activity_BCS, valid.valid_BS, query_BCE, attended_BCE, power_BS
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
        """Attended embeddings [B,C,E] of queries, see :class:`CrossAttention`.

        A model without cross-attention returns the queries unchanged.
        """
        if self.cross is None:
            return query_BCE
        attended_BCE: Tensor = self.cross(
            query_BCE, segment_BCSE, activity_BCS, valid_BS, group_B, own_drop=own_drop
        )
        return attended_BCE

    def _find_valid(self, length_B: Tensor, samples: int) -> _Valid:
        """Mark valid frames and segments of mixtures of ``length_B`` samples, padded to ``samples``."""
        frame_B, frames = self.front_end.grid.frames(length_B), self.frames(samples)
        stack = self.config.stack
        return _Valid(
            frame_mask(frame_B, frames),
            frame_mask(ceil_div(frame_B, stack), ceil_div(frames, stack)),
            frame_mask(ceil_div(frame_B, stack * self.config.segment_frames), self.segments(samples)),
        )

    def _run_trunk(self, mix_BN: Tensor, valid: _Valid) -> _TrunkOutput:
        """Run front end and trunk on mixtures of power 1, and split the result into streams."""
        stack, streams = self.config.stack, self.config.streams
        features_BFK, represent_BFK = self.front_end.analyse(mix_BN, valid.valid_BF)
        extra = pad_size(features_BFK.shape[1], stack)
        features_BTK = F.pad(features_BFK, (0, 0, 0, extra)).unflatten(1, (-1, stack)).flatten(2)
        shared_BTD = self.shared(self.enter(features_BTK), valid.valid_BT)
        # Each stream is the shared output plus an offset of its own, so that all streams are in one space.
        offset_BCTD = self.split(shared_BTD).unflatten(-1, (streams, -1)).transpose(1, 2)
        split_RTD = (shared_BTD.unsqueeze(1) + offset_BCTD).flatten(0, 1)
        stream_RTD = self.per_stream(split_RTD, valid.valid_BT.repeat_interleave(streams, dim=0))
        # With len() instead of ``shape``, an exported model would accept only the batch size of its example.
        stream_BCTD = stream_RTD.unflatten(0, (mix_BN.shape[0], streams))
        return _TrunkOutput(represent_BFK, features_BTK, shared_BTD, stream_BCTD)

    def _skip_trunk(self, mix_BN: Tensor, valid: _Valid) -> _TrunkOutput:
        """Output of the front end, and zeros instead of that of the trunk, for one stream."""
        features_BFK, represent_BFK = self.front_end.analyse(mix_BN, valid.valid_BF)
        zero_B1TD = mix_BN.new_zeros(mix_BN.shape[0], 1, valid.valid_BT.shape[1], self.config.width)
        return _TrunkOutput(represent_BFK, features_BFK, zero_B1TD[:, 0], zero_B1TD)

    def _run_speaker_head(
        self, trunk: _TrunkOutput, raw_BCFM: Tensor | None, valid: _Valid
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Segment representations [B,C,S,E], log-odds of speech [B,C,S] and queries [B,C,E]."""
        batch, streams = trunk.stream_BCTD.shape[:2]
        mel_RTM = None
        if self.config.speaker_mels:
            front_end, stack = cast(MelFrontEnd, self.front_end), self.config.stack
            # Without gradient: the losses of the embeddings do not change the masks.
            with torch.no_grad():
                mel_BCFM = front_end.masked_mels(raw_BCFM, trunk.represent_BFK, valid.valid_BF)
            extra = pad_size(mel_BCFM.shape[2], stack)
            mel_BCTM = F.pad(mel_BCFM, (0, 0, 0, extra)).unflatten(2, (-1, stack)).flatten(3)
            mel_RTM = mel_BCTM.flatten(0, 1)
        valid_RT, valid_RS = (v.repeat_interleave(streams, dim=0) for v in (valid.valid_BT, valid.valid_BS))
        segment_RSE, activity_RS, query_RE = self.speaker(
            trunk.stream_BCTD.flatten(0, 1), valid_RT, valid_RS, mel_RTM
        )
        segment_BCSE, activity_BCS, query_BCE = (
            x.unflatten(0, (batch, streams)) for x in (segment_RSE, activity_RS, query_RE)
        )
        return segment_BCSE, activity_BCS, query_BCE

    def _synthesise(self, raw_BCFM: Tensor, trunk: _TrunkOutput, mix_BN: Tensor, level_B1: Tensor) -> Tensor:
        """Separated waveforms [B,C,N] at the level of the mixtures, from raw mask values."""
        frames, streams = trunk.represent_BFK.shape[1], self.config.streams
        if self.residual is not None:
            residual_B1FM = self.residual(trunk.shared_BTD.unsqueeze(1), trunk.features_BTK, frames)
            raw_BCFM = torch.cat([raw_BCFM, residual_B1FM], dim=1)
        wave_BCN = self.front_end.synthesise(raw_BCFM, trunk.represent_BFK, mix_BN.shape[1])
        estimate_BCN = wave_BCN * level_B1.unsqueeze(2)
        if self.residual is not None:
            # Change the waveforms and the residual as little as possible so that they sum to the mixture:
            # each gets an equal share of the difference.
            missing_B1N = mix_BN.unsqueeze(1) - estimate_BCN.sum(1, keepdim=True)
            estimate_BCN = (estimate_BCN + missing_B1N / (streams + 1))[:, :streams]
        return estimate_BCN
