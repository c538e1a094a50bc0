"""Cross-attention over the speaker representations of a condition group (method, section 3)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from separative.distributed import current

_FORBIDDEN = -1e4  # finite, so that a row of nothing but forbidden places stays finite


class CrossAttention(nn.Module):
    """answer = query + W_o · MultiHead(W_q norm(query), W_k memory, W_v memory), to unit norm.

    The memory of a query is every segment of every stream of every view of its group, targets and interferers
    alike; log σ(activity) is added to the attention logits, so that silence is not attended to.
    """

    def __init__(self, embedding: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(embedding)
        self.query = nn.Linear(embedding, embedding)
        self.memory_norm = nn.LayerNorm(embedding)
        self.key_value = nn.Linear(embedding, 2 * embedding)
        self.out = nn.Linear(embedding, embedding)
        # Starts as the query itself: an untrained memory only adds noise.
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(
        self,
        query_BCE: Tensor,
        segment_BCSE: Tensor,
        activity_BCS: Tensor,
        valid_BS: Tensor,
        group_B: Tensor,
        *,
        own_drop: float = 0.0,
    ) -> Tensor:
        """Answers [B,C,E] of unit norm.

        Args:
            query_BCE: bottom-up embeddings of unit norm.
            segment_BCSE: segment representations, the memory of all groups.
            activity_BCS: log-odds that a stream speaks in a segment.
            valid_BS: 1 for real segments, 0 for padding.
            group_B: group number of each view; a query sees the memory of its own group only.
            own_drop: probability, per query, that its own view is left out of its memory. A group of one view
                always keeps it.
        """
        batch, streams, size = query_BCE.shape
        segments = segment_BCSE.shape[2]
        same_BB = group_B.unsqueeze(1) == group_B.unsqueeze(0)
        reach_BCB = same_BB.unsqueeze(1).expand(batch, streams, batch)
        if own_drop > 0:
            own_BB = torch.eye(batch, dtype=torch.bool, device=group_B.device)
            others_B = (same_BB & ~own_BB).any(1)
            # Processes that train together draw alike, and each takes its part.
            processes = current()
            chance_WBC = torch.rand(processes.world, batch, streams, device=group_B.device)
            drop_BC = (chance_WBC[processes.rank] < own_drop) & others_B.unsqueeze(1)
            reach_BCB = reach_BCB & ~(drop_BC.unsqueeze(2) & own_BB.unsqueeze(1))

        weight_BCS = self.bias(activity_BCS, valid_BS)
        open_QM = reach_BCB.reshape(batch * streams, batch, 1, 1).expand(-1, -1, streams, segments).flatten(1)
        bias_QM = weight_BCS.reshape(1, -1).masked_fill(~open_QM, _FORBIDDEN)
        attended_QE = self.gather(query_BCE.flatten(0, 1), segment_BCSE.flatten(0, 2), bias_QM)
        return attended_QE.view(batch, streams, size)

    @staticmethod
    def bias(activity_BCS: Tensor, valid_BS: Tensor) -> Tensor:
        """What a segment's activity adds to its attention logits [B,C,S]; padding is never attended to."""
        return F.logsigmoid(activity_BCS).masked_fill(valid_BS.unsqueeze(1) == 0, _FORBIDDEN)

    def gather(self, query_QE: Tensor, segment_ME: Tensor, bias_QM: Tensor) -> Tensor:
        """Answers [Q,E] of unit norm from a memory of M segments; the bias goes onto the attention logits."""
        q, k, v = self._heads(query_QE, segment_ME)
        found = F.scaled_dot_product_attention(q, k, v, attn_mask=bias_QM.to(q.dtype))
        attended_QE = query_QE + self.out(found.squeeze(0).transpose(0, 1).flatten(1))
        return F.normalize(attended_QE.float(), dim=-1)

    def looked_at(
        self, query_QE: Tensor, segment_BCSE: Tensor, activity_BCS: Tensor, valid_BS: Tensor
    ) -> Tensor:
        """How much of each query's attention every segment of one group gets [Q,B,C,S]: to look at."""
        bias_QM = self.bias(activity_BCS, valid_BS).reshape(1, -1).expand(len(query_QE), -1)
        weight_QM = self.weights(query_QE, segment_BCSE.flatten(0, 2), bias_QM)
        return weight_QM.view(len(query_QE), *activity_BCS.shape)

    def weights(self, query_QE: Tensor, segment_ME: Tensor, bias_QM: Tensor) -> Tensor:
        """How much of each query's attention a segment gets [Q,M], the mean over heads."""
        q, k, _ = self._heads(query_QE, segment_ME)
        logit_1HQM = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5 + bias_QM
        weight_QM: Tensor = logit_1HQM.softmax(-1).mean(1).squeeze(0)
        return weight_QM

    def _heads(self, query_QE: Tensor, segment_ME: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        heads = (self.heads, query_QE.shape[1] // self.heads)
        key_ME, value_ME = self.key_value(self.memory_norm(segment_ME)).chunk(2, dim=-1)
        # A batch of one: exported graphs know attention in four axes only.
        q, k, v = (
            x.unflatten(-1, heads).transpose(0, 1).unsqueeze(0)
            for x in (self.query(self.norm(query_QE)), key_ME, value_ME)
        )
        return q, k, v
