"""The interface of an objective: it runs the model on a batch and returns the loss to minimise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from separative.objectives.contrastive import Inventory
from separative.objectives.separation import audible_sources, speech_activity

if TYPE_CHECKING:
    from separative.model import SeparativeEncoder


class ObjectiveConfig(BaseModel):
    """The section ``loss`` of a recipe. Subclasses declare ``objective`` as a Literal with their name.

    >>> from typing import Literal
    >>> class MyConfig(ObjectiveConfig):
    ...     objective: Literal["mine"] = "mine"
    ...     weight: float = 1.0
    >>> MyConfig(weight=0.5)
    MyConfig(objective='mine', weight=0.5)
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    objective: str


@dataclass(frozen=True)
class Losses:
    """Losses of one batch.

    Attributes:
        total: scalar to minimise.
        parts: named values for the log, in nats or dB, without gradient.
        order: the stream of each source [B,K]; None for objectives that do not separate.

    >>> import torch
    >>> Losses(torch.tensor(1.5), {"csc": torch.tensor(1.5)}).order is None
    True
    """

    total: Tensor
    parts: dict[str, Tensor]
    order: Tensor | None = None


class Objective(nn.Module):
    """Runs the model on a batch of mixtures and computes the losses.

    Subclasses are constructed from their configuration, the number of identities and the embedding size.

    Attributes:
        inventory: global speaker vectors with one row per identity, or None.
        streams: number of streams that the model must have; None for one stream per source of a mixture.
        min_views: smallest number of views in a condition group.
        single_process: whether the whole batch must be in one process.
        needs_teacher: whether :meth:`forward` also takes ``targets``, see :class:`TeachObjective`.
        learns_alone: whether :meth:`forward` also takes ``alone``, for stages in which only the speaker head
            learns.

    >>> Objective.min_views, Objective().inventory is None
    (1, True)
    """

    inventory: Inventory | None
    streams: ClassVar[int | None] = None
    min_views: ClassVar[int] = 1
    single_process: ClassVar[bool] = True
    needs_teacher: ClassVar[bool] = False
    learns_alone: ClassVar[bool] = False

    def __init__(self) -> None:
        super().__init__()
        self.inventory = None

    def prepare(self, model: SeparativeEncoder) -> None:
        """Prepare a new model, or what depends on its architecture, once before training starts."""

    def forward(
        self, model: SeparativeEncoder, mixtures: Tensor, sources: Tensor, identities: Tensor, groups: Tensor
    ) -> Losses:
        """Compute the losses of a batch.

        Args:
            model: the encoder. Objectives call it and read its attributes; they do not change its parameters.
            mixtures: waveforms [B,N].
            sources: what each speaker contributes to a mixture [B,C,N]. The first source is the target of the
                condition group. Missing sources are zero.
            identities: identity of each source [B,C], 0 to P−1, or −1 if it has none.
            groups: condition group of each mixture [B], in ascending order.
        """
        raise NotImplementedError


def activity_and_audible(
    model: SeparativeEncoder, mixtures: Tensor, sources: Tensor, identities: Tensor
) -> tuple[Tensor, Tensor]:
    """Activity of each source [B,C,S], and the mask [B,C] of sources that carry an identity loss.

    A source carries an identity loss if it has an identity and is audible
    (:func:`~separative.objectives.audible_sources`).

    >>> import torch, separative
    >>> sources = 0.1 * torch.randn(1, 2, 16000)
    >>> sources[0, 1] = 0
    >>> activity, audible = activity_and_audible(
    ...     separative.load_model(), sources.sum(1), sources, torch.tensor([[4, -1]])
    ... )
    >>> audible
    tensor([[ True, False]])
    """
    active_BCS = speech_activity(model.segment_power(sources), mixtures.square().mean(-1))
    audible_BC = audible_sources(sources, mixtures, active_BCS, model.segment_seconds)
    return active_BCS, audible_BC & (identities >= 0)
