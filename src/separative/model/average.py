"""One model from several of one descent: the mean of their weights."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from separative.errors import ModelError
from separative.model.encoder import SeparativeEncoder
from separative.model.files import load_strictly


def average_models(models: Sequence[SeparativeEncoder], *, attention: float = 1.0) -> SeparativeEncoder:
    """The mean of all weights: often better than each where one was trained on from the other.

    Wortsman et al., "Model soups", 2022.

    ``attention``: how much is kept of what the cross-attention adds to a query (0: nothing, 1: all). Trained
    with several views it adds too much where a memory holds but one recording.

    The card is the last one's, with the hashes of all in ``averaged`` and everybody's talkers; figures and
    calibration of a single one are left out.

    Raises:
        ModelError: fewer than two models, or of several architectures; a share out of range.
    """
    if len(models) < 2:
        raise ModelError("a mean is of two models or more")
    if not 0 <= attention <= 1:
        raise ModelError(f"attention {attention:g}: a share from 0 to 1 is wanted")
    last = models[-1]
    mean = SeparativeEncoder(last.config)
    states = [model.state_dict() for model in models]
    for model, state in zip(models, states, strict=True):
        load_strictly(mean, state, f"the model {str(model.card.get('sha256'))[:12]}")
    mean.load_state_dict(
        {
            # Counters among the buffers are the last one's.
            name: torch.stack([state[name] for state in states]).mean(0) if own.is_floating_point() else own
            for name, own in states[-1].items()
        }
    )
    if mean.cross is not None and attention != 1:
        with torch.no_grad():
            for weight in mean.cross.out.parameters():
                weight.mul_(attention)
    talkers = sorted({talker for model in models for talker in model.talkers_met})
    kept = {key: value for key, value in last.card.items() if key not in ("metrics", "calibration")}
    mean.card = kept | {
        "data": {**last.card.get("data", {}), "speakers": talkers},
        "averaged": [model.card.get("sha256") for model in models],
        "attention": attention,
    }
    return mean.eval()
