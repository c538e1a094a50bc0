"""Cross-attention over the speaker representations of a condition group (method, section 3)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from separative.distributed import current_process_group

_MASKED = -1e4  # finite, so that a softmax over masked positions alone has no NaN


class CrossAttention(nn.Module):
    """attended = query + W_o · MultiHead(W_q norm(query), W_k memory, W_v memory), scaled to unit norm.

    The memory of a query consists of all segments of all streams of all views of its group, of the target
    and of the interferers. log σ(activity) is added to the attention logits, so that silent segments get
    almost no weight.

    >>> cross = CrossAttention(embedding=8, heads=2)
    >>> query = F.normalize(torch.randn(2, 3, 8), dim=-1)
    >>> segments, activity, valid = torch.randn(2, 3, 5, 8), torch.zeros(2, 3, 5), torch.ones(2, 5)
    >>> attended = cross(query, segments, activity, valid, group_B=torch.tensor([0, 0]))
    >>> torch.allclose(attended, query)  # a new module adds nothing yet
    True
    """

    def __init__(self, embedding: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(embedding)
        self.query = nn.Linear(embedding, embedding)
        self.memory_norm = nn.LayerNorm(embedding)
        self.key_value = nn.Linear(embedding, 2 * embedding)
        self.out = nn.Linear(embedding, embedding)
        # At first the attended embedding equals the query: an untrained memory would only add noise.
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
        """Attended embeddings [B,C,E] of unit norm.

        Args:
            query_BCE: bottom-up embeddings of unit norm.
            segment_BCSE: segment representations, the memory of all groups.
            activity_BCS: log-odds that a stream has speech in a segment.
            valid_BS: 1 for real segments, 0 for padding.
            group_B: group number of each view; a query attends to its own group only.
            own_drop: probability, per query, that its own view is left out of the memory. The only view of a
                group is always kept.
        """
        batch, streams, size = query_BCE.shape
        segments = segment_BCSE.shape[2]
        same_BB = group_B.unsqueeze(1) == group_B.unsqueeze(0)
        reach_BCB = same_BB.unsqueeze(1).expand(batch, streams, batch)
        if own_drop > 0:
            own_BB = torch.eye(batch, dtype=torch.bool, device=group_B.device)
            others_B = (same_BB & ~own_BB).any(1)
            # The processes of a training run share the random state: each draws for all and takes its part.
            processes = current_process_group()
            chance_WBC = torch.rand(processes.world_size, batch, streams, device=group_B.device)
            drop_BC = (chance_WBC[processes.rank] < own_drop) & others_B.unsqueeze(1)
            reach_BCB = reach_BCB & ~(drop_BC.unsqueeze(2) & own_BB.unsqueeze(1))

        bias_BCS = self.logit_bias(activity_BCS, valid_BS)
        open_QM = reach_BCB.reshape(batch * streams, batch, 1, 1).expand(-1, -1, streams, segments).flatten(1)
        bias_QM = bias_BCS.reshape(1, -1).masked_fill(~open_QM, _MASKED)
        attended_QE = self.attend(query_BCE.flatten(0, 1), segment_BCSE.flatten(0, 2), bias_QM)
        return attended_QE.view(batch, streams, size)

    @staticmethod
    def logit_bias(activity_BCS: Tensor, valid_BS: Tensor) -> Tensor:
        """Bias [B,C,S] of the attention logits: log σ(activity), and a large negative value for padding."""
        return F.logsigmoid(activity_BCS).masked_fill(valid_BS.unsqueeze(1) == 0, _MASKED)

    def attend(
        self, query_QE: Tensor, segment_ME: Tensor, bias_QM: Tensor, *, residual: bool = True
    ) -> Tensor:
        """Attended embeddings [Q,E] of unit norm, from a memory of M segments and a bias of the logits.

        Without ``residual``, the query itself is not added: the result consists of the memory alone.
        """
        q, k, v = self._heads(query_QE, segment_ME)
        found = F.scaled_dot_product_attention(q, k, v, attn_mask=bias_QM.to(q.dtype))
        attended_QE = self.out(found.squeeze(0).transpose(0, 1).flatten(1))
        if residual:
            attended_QE = query_QE + attended_QE
        return F.normalize(attended_QE.float(), dim=-1)

    def segment_weights(
        self, query_QE: Tensor, segment_BCSE: Tensor, activity_BCS: Tensor, valid_BS: Tensor
    ) -> Tensor:
        """Attention weight [Q,B,C,S] of each segment of one group for each query, for inspection."""
        bias_QM = self.logit_bias(activity_BCS, valid_BS).reshape(1, -1).expand(len(query_QE), -1)
        weight_QM = self.weights(query_QE, segment_BCSE.flatten(0, 2), bias_QM)
        return weight_QM.view(len(query_QE), *activity_BCS.shape)

    def weights(self, query_QE: Tensor, segment_ME: Tensor, bias_QM: Tensor) -> Tensor:
        """Attention weight [Q,M] of each segment for each query, averaged over the heads."""
        q, k, _ = self._heads(query_QE, segment_ME)
        logit_1HQM = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5 + bias_QM
        weight_QM: Tensor = logit_1HQM.softmax(-1).mean(1).squeeze(0)
        return weight_QM

    def _heads(self, query_QE: Tensor, segment_ME: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of each head."""
        heads = (self.heads, query_QE.shape[1] // self.heads)
        key_ME, value_ME = self.key_value(self.memory_norm(segment_ME)).chunk(2, dim=-1)
        # The leading axis of one batch is there because ONNX export supports attention with four axes only.
        q, k, v = (
            x.unflatten(-1, heads).transpose(0, 1).unsqueeze(0)
            for x in (self.query(self.norm(query_QE)), key_ME, value_ME)
        )
        return q, k, v
