"""Embeddings on a plane, to look at."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from separative.types import Floats


def plane(embed_NE: ArrayLike) -> tuple[Floats, float]:
    """Embeddings on their first two principal components [N,2], and the share of the variance in these.

    Components point where their largest entry is positive, so that the map is not mirrored by chance.
    """
    embed = np.asarray(embed_NE, np.float64)
    place_N2 = np.zeros((len(embed), 2))
    if len(embed) < 2:
        return place_N2, 1.0
    centred_NE = embed - embed.mean(0)
    _, size_K, axis_KE = np.linalg.svd(centred_NE, full_matrices=False)
    axis_2E = axis_KE[:2]
    sign_2 = np.sign(axis_2E[np.arange(len(axis_2E)), np.abs(axis_2E).argmax(1)])
    place_N2[:, : len(axis_2E)] = centred_NE @ (axis_2E * sign_2[:, None]).T
    power_K = size_K**2
    return place_N2, float(power_K[:2].sum() / max(float(power_K.sum()), 1e-12))
