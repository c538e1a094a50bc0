"""Where a run starts: rows of the inventory that already know their talkers a little."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from separative.mixtures import Mixer, MixtureConfig, Stage, loader
from separative.model import SeparativeEncoder
from separative.objectives import Inventory

# Forward passes only: about a minute on two cores.
MOST_STEPS = 200


def only_one_talker(config: MixtureConfig) -> MixtureConfig:
    """The same crops, each alone and without noise."""
    return config.model_copy(update={"stages": (Stage(talkers=(1.0,)),)})


@torch.no_grad()
def hear_everyone(
    model: SeparativeEncoder,
    inventory: Inventory,
    mixer: Mixer,
    *,
    crops: int,
    workers: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Start every row at the mean embedding of ``crops`` crops of its identity by the untrained network.

    Untrained embeddings tell talkers apart about as well as spectral averages do. Random rows throw that
    away: the loss then stays at ln P until rows and embeddings have found each other. Lengths are kept.
    Identities beyond what :data:`MOST_STEPS` steps can hold (label-free corpora) keep their random rows.
    """
    row_PE = inventory.row_PE
    sum_PE = row_PE.new_zeros(len(mixer.identities), row_PE.shape[1])
    steps = min(MOST_STEPS, crops * math.ceil(len(mixer.identities) / mixer.config.batch))
    # In training mode, as in the steps to come: statistics are those of the batch.
    ranks = inventory.ranks
    for done, batch in enumerate(loader(mixer, steps=steps, workers=workers, ranks=ranks), 1):
        query_BCE = model(batch.mix_BN.to(row_PE.device), separate=False).query_BCE
        sum_PE.index_add_(0, batch.identity_BC[:, 0].to(row_PE.device), query_BCE.mean(1))
        if progress is not None:
            progress(done, steps)
    length = ranks.total(row_PE.norm(dim=1).sum()) / len(sum_PE)
    rows = inventory.rows
    sum_PE = ranks.total(sum_PE)[rows.start : rows.stop]
    heard_P = sum_PE.abs().sum(1) > 0
    row_PE[heard_P] = torch.nn.functional.normalize(sum_PE[heard_P], dim=1) * length
