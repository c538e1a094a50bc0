"""The speaker head and the separation head, which read the same streams (method, section 2)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from separative.distributed import ProcessGroup, current_process_group
from separative.model.blocks import Stack, pad_size


class SpeakerHead(nn.Module):
    """Segments of a stream, their activity, and the stream's bottom-up embedding.

    Frames of the trunk are joined into segments of ``join`` frames, which ``stack`` processes. The embedding
    is attentive statistics pooling (arXiv 1803.10963); log σ(activity) is added to the pooling logits.

    With ``mels``, the head also gets that many log-mel energies of the separated stream per frame. They carry
    the fine structure of a voice, which the trunk's few channels do not. The trunk's own output is not used
    at first (its weights are 0), so that the head can be trained on speakers alone, without the trunk.

    >>> head = SpeakerHead(width=8, speaker_width=8, embedding=4, join=2, stack=Stack([]))
    >>> segments, activity, query = head(torch.randn(3, 10, 8), torch.ones(3, 10), torch.ones(3, 5))
    >>> segments.shape, activity.shape, query.shape
    (torch.Size([3, 5, 4]), torch.Size([3, 5]), torch.Size([3, 4]))
    """

    def __init__(
        self, width: int, speaker_width: int, embedding: int, join: int, stack: Stack, mels: int = 0
    ) -> None:
        super().__init__()
        self.join = join
        self.enter = nn.Linear(join * width, speaker_width)
        self.enter_mels = nn.Linear(join * mels, speaker_width, bias=False) if mels else None
        if mels:
            nn.init.zeros_(self.enter.weight)
        self.stack = stack
        self.norm = nn.LayerNorm(speaker_width)
        self.activity = nn.Linear(speaker_width, 1)
        self.weigh = nn.Sequential(
            nn.Linear(speaker_width, speaker_width // 2),
            nn.Tanh(),
            nn.Linear(speaker_width // 2, speaker_width),
        )
        # The statistics of an untrained network have a large part in common, which hides the differences
        # between speakers. Batch normalisation removes it; evaluation uses its running statistics.
        self.statistics = BatchNorm(2 * speaker_width, momentum=0.05)
        self.embed = nn.Linear(2 * speaker_width, embedding)
        self.segment = nn.Linear(speaker_width, embedding)

    def forward(
        self, stream_BTD: Tensor, valid_BT: Tensor, valid_BS: Tensor, mel_BTM: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Segment representations [B,S,E], activity log-odds [B,S] and query [B,E] (unit norm).

        Args:
            mel_BTM: log-mel energies of the separated stream, if the head has ``mels``.
        """
        extra = pad_size(stream_BTD.shape[1], self.join)
        joined = F.pad(stream_BTD * valid_BT.unsqueeze(-1), (0, 0, 0, extra)).unflatten(1, (-1, self.join))
        entered_BSD = self.enter(joined.flatten(2))
        if self.enter_mels is not None and mel_BTM is not None:
            mel_BSM = F.pad(mel_BTM, (0, 0, 0, extra)).unflatten(1, (-1, self.join)).flatten(2)
            entered_BSD = entered_BSD + self.enter_mels(mel_BSM)
        h_BSD = self.norm(self.stack(entered_BSD, valid_BS))
        activity_BS = self.activity(h_BSD).squeeze(-1).float()
        logits_BSD = self.weigh(h_BSD).float() + F.logsigmoid(activity_BS).unsqueeze(-1)
        weight_BSD = logits_BSD.masked_fill(valid_BS.unsqueeze(-1) == 0, -1e4).softmax(dim=1)
        h_BSD = h_BSD.float()
        mean_BD = (weight_BSD * h_BSD).sum(1)
        # The variance is computed around the mean, not as E[x²] − mean², so that it is never negative.
        spread_BD = (weight_BSD * (h_BSD - mean_BD.unsqueeze(1)).square()).sum(1)
        statistics_BD = torch.cat([mean_BD, (spread_BD + 1e-5).sqrt()], dim=-1)
        query_BE = self.embed(self.statistics(statistics_BD))
        return self.segment(h_BSD), activity_BS, F.normalize(query_BE.float(), dim=-1)


class BatchNorm(nn.BatchNorm1d):
    """Batch normalisation [B,D] over the batches of all processes, on any device.

    >>> BatchNorm(3)(torch.randn(8, 3)).mean(0).abs().max() < 1e-6
    tensor(True)
    """

    def forward(self, x_BD: Tensor) -> Tensor:
        processes = current_process_group()
        if not self.training or processes.world_size == 1:
            return super().forward(x_BD)
        sums = torch.cat([x_BD.sum(0), x_BD.new_tensor([float(len(x_BD))])])
        sum_D, count = _sum_over_processes(sums, processes).split([x_BD.shape[1], 1])
        mean_D = sum_D / count
        variance_D = _sum_over_processes((x_BD - mean_D).square().sum(0), processes) / count
        with torch.no_grad():
            assert (
                self.running_mean is not None and self.running_var is not None and self.momentum is not None
            )
            self.running_mean.lerp_(mean_D, self.momentum)
            self.running_var.lerp_(variance_D * count / (count - 1), self.momentum)
            if self.num_batches_tracked is not None:
                self.num_batches_tracked.add_(1)
        y_BD: Tensor = (x_BD - mean_D) * (variance_D + self.eps).rsqrt() * self.weight + self.bias
        return y_BD


class _SumOverProcesses(torch.autograd.Function):
    """The sum over all processes. Gradients are summed too, since the result enters every process's loss."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, processes: ProcessGroup) -> Tensor:
        ctx.processes = processes
        return processes.sum(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return ctx.processes.sum(grad), None


def _sum_over_processes(x: Tensor, processes: ProcessGroup) -> Tensor:
    total: Tensor = _SumOverProcesses.apply(x, processes)  # type: ignore[no-untyped-call]
    return total


class SeparationHead(nn.Module):
    """Raw mask values of ``stack`` front-end frames from each trunk frame of a stream.

    With ``hidden`` units, the stream also gates the mixture's own features, so that the fine structure of a
    mask does not have to pass through the trunk.

    >>> head = SeparationHead(width=8, mask_size=6, stack=2)
    >>> head(torch.randn(1, 3, 5, 8), torch.randn(1, 5, 12), frames=9).shape
    torch.Size([1, 3, 9, 6])
    """

    def __init__(self, width: int, mask_size: int, stack: int, features: int = 0, hidden: int = 0) -> None:
        super().__init__()
        self.stack = stack
        self.norm = nn.LayerNorm(width)
        self.mask = nn.Linear(width, stack * mask_size)
        # Small weights, so that the first masks are close to the mask of raw values 0.
        nn.init.normal_(self.mask.weight, std=0.1 * width**-0.5)
        nn.init.zeros_(self.mask.bias)
        self.gate = self.look = self.fine = None
        if hidden:
            self.gate = nn.Linear(width, hidden)
            self.look = nn.Linear(stack * features, hidden)
            self.fine = nn.Linear(hidden, stack * mask_size, bias=False)
            nn.init.zeros_(self.fine.weight)

    def forward(self, stream_BCTD: Tensor, features_BTK: Tensor, frames: int) -> Tensor:
        """Raw mask values [B,C,frames,M] of streams [B,C,T,D], given the mixture's features [B,T,K]."""
        h_BCTD = self.norm(stream_BCTD)
        joined = self.mask(h_BCTD)
        if self.gate is not None and self.look is not None and self.fine is not None:
            joined = joined + self.fine(F.silu(self.gate(h_BCTD)) * self.look(features_BTK).unsqueeze(1))
        raw_BCFM: Tensor = joined.unflatten(-1, (self.stack, -1)).flatten(-3, -2)[..., :frames, :]
        return raw_BCFM
