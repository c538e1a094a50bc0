"""Random embeddings for galleries."""

import numpy as np

SIZE = 16


def unit(number: int, seed: int = 0, size: int = SIZE) -> np.ndarray:
    """Random embeddings [number,size] of unit norm."""
    rows = np.random.default_rng(seed).standard_normal((number, size)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)
