"""Where a run starts: rows of the inventory that already know their talkers a little."""

from __future__ import annotations

import math
from pathlib import Path

import torch

from separative.corpora.manifest import Corpus
from separative.mixtures import MixtureConfig, Mixer, Stage
from separative.model import SeparativeEncoder
from separative.objectives import SeparativeObjective


@torch.no_grad()
def hear_everyone(
    model: SeparativeEncoder,
    objective: SeparativeObjective,
    corpus: Corpus,
    config: MixtureConfig,
    *,
    crops: int,
    seed: int,
    cache: Path | None = None,
) -> None:
    """Start every row at the mean embedding of ``crops`` clean crops of its identity, by the untrained network.

    Untrained embeddings tell talkers apart about as well as spectral averages do. Random rows throw that away: the
    loss then sits at ln P until rows and embeddings have found each other. Row lengths stay as they are.
    """
    alone = config.model_copy(update={"stages": (Stage(talkers=(1.0,)),)})
    # Crops of their own: the run's first steps hear other ones.
    mixer = Mixer(corpus, alone, seed=seed + 1, cache=cache)
    sums_PE = torch.zeros_like(objective.inventory.row_PE)
    steps = crops * math.ceil(len(mixer.identities) / alone.batch)
    # In training mode, as in the steps to come: statistics over the batch.
    for step in range(steps):
        batch = mixer.batch(step)
        query_BCE = model(batch.mix_BN.to(sums_PE.device), separate=False).query_BCE
        sums_PE.index_add_(0, batch.identity_BC[:, 0].to(sums_PE.device), query_BCE.mean(1))
    heard_P = sums_PE.abs().sum(1) > 0
    rows_PE = objective.inventory.row_PE
    length = rows_PE.norm(dim=1).mean()
    rows_PE[heard_P] = torch.nn.functional.normalize(sums_PE[heard_P], dim=1) * length
