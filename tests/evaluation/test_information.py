"""The bound on identity information, compared with its definition and its limits."""

import numpy as np
import pytest

from separative.evaluation.bootstrap import SpeakerBootstrap
from separative.evaluation.rows import information_interval
from separative.metrics import fit_alpha

NATS = 0.02


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


@pytest.fixture
def embeddings():
    rng = np.random.default_rng(0)
    inventory = unit(rng.standard_normal((20, 32)))
    speaker = np.repeat(np.arange(20), 5)
    return rng, inventory, speaker, SpeakerBootstrap([str(i) for i in range(20)], 200, 0)


def test_distinct_embeddings_reach_the_largest_possible_value(embeddings):
    _, inventory, speaker, speakers = embeddings
    bound, low, high = information_interval(inventory[speaker], speaker, inventory, speakers)
    assert bound == pytest.approx(np.log(20), abs=NATS)
    assert low <= bound <= high <= np.log(20) + 1e-9


def test_random_and_constant_embeddings_have_no_information(embeddings):
    rng, inventory, speaker, speakers = embeddings
    bound, low, _ = information_interval(unit(rng.standard_normal((100, 32))), speaker, inventory, speakers)
    assert low <= bound < 0.1
    constant = np.tile(inventory[:1], (100, 1))
    assert information_interval(constant, speaker, inventory, speakers)[0] == pytest.approx(0.0, abs=NATS)


def test_the_fitted_alpha_is_at_least_as_good_as_a_fine_grid(embeddings):
    rng, inventory, speaker, _ = embeddings
    embedding = unit(inventory[speaker] + 0.4 * rng.standard_normal((100, 32)))

    def loss(alpha):
        """The definition, one embedding at a time (method, section 4)."""
        total = 0.0
        for e, y in zip(embedding, speaker, strict=True):
            f = np.array([-alpha * np.sum((e - row) ** 2) for row in inventory])
            total += -np.log(np.exp(f[y]) / np.exp(f).sum())
        return total / len(speaker)

    distance = ((embedding[:, None] - inventory[None]) ** 2).sum(-1)
    best = loss(fit_alpha(distance, speaker))
    grid = min(loss(alpha) for alpha in np.geomspace(0.1, 50, 60))
    assert best == pytest.approx(grid, abs=1e-3)
    assert best <= grid + 1e-9


def test_alpha_is_fitted_on_other_speakers():
    """The embeddings of half of the speakers are swapped.

    With an alpha fitted on the same speakers, the bound could not be negative.
    """
    inventory = np.eye(8)
    speaker = np.repeat(np.arange(8), 3)
    fold = np.random.default_rng(0).permutation(8) % 2
    swapped = speaker.copy()
    for place in np.flatnonzero(fold[speaker] == 1):
        mates = np.flatnonzero(fold == 1)
        swapped[place] = mates[(list(mates).index(speaker[place]) + 1) % 4]
    speakers = SpeakerBootstrap([str(i) for i in range(8)], 20, 0)
    assert information_interval(inventory[swapped], speaker, inventory, speakers)[0] < -1.0
