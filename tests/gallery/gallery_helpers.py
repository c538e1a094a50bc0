"""Random embeddings and recordings for galleries."""

import numpy as np

from separative.gallery import EnrolledRecording

SIZE = 16


def unit(number: int, seed: int = 0, size: int = SIZE) -> np.ndarray:
    """Random embeddings [number,size] of unit norm."""
    rows = np.random.default_rng(seed).standard_normal((number, size)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def random_recording(seed: int, source: str | None = None, seconds: float = 3.0) -> EnrolledRecording:
    """A recording with a random query and memory; the same seed gives the same hash."""
    query_E, memory_ME = unit(1, seed)[0], unit(8, seed + 10_000)
    label = f"{seed}.wav" if source is None else source
    return EnrolledRecording(label, f"hash{seed}", seconds, query_E, memory_ME, np.ones(8, np.float32))
