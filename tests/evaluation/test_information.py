"""The bound on identity information against its definition and its limits."""

import numpy as np
import pytest

from separative.evaluation.bootstrap import Talkers
from separative.evaluation.information import _best_alpha, information_bound

NATS = 0.02


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


@pytest.fixture
def voices():
    rng = np.random.default_rng(0)
    inventory = unit(rng.standard_normal((20, 32)))
    talker = np.repeat(np.arange(20), 5)
    return rng, inventory, talker, Talkers([str(i) for i in range(20)], 200, 0)


def test_distinct_voices_reach_the_ceiling(voices):
    _, inventory, talker, talkers = voices
    bound, low, high = information_bound(inventory[talker], talker, inventory, talkers)
    assert bound == pytest.approx(np.log(20), abs=NATS)
    assert low <= bound <= high <= np.log(20) + 1e-9


def test_embeddings_that_know_nothing_hold_nothing(voices):
    rng, inventory, talker, talkers = voices
    bound, low, _ = information_bound(unit(rng.standard_normal((100, 32))), talker, inventory, talkers)
    assert low <= bound < 0.1
    constant = np.tile(inventory[:1], (100, 1))
    assert information_bound(constant, talker, inventory, talkers)[0] == pytest.approx(0.0, abs=NATS)


def test_the_best_alpha_is_the_best_of_a_fine_grid(voices):
    rng, inventory, talker, _ = voices
    embedding = unit(inventory[talker] + 0.4 * rng.standard_normal((100, 32)))

    def loss(alpha):
        """The definition, one embedding at a time (method, section 4)."""
        total = 0.0
        for e, y in zip(embedding, talker, strict=True):
            f = np.array([-alpha * np.sum((e - row) ** 2) for row in inventory])
            total += -np.log(np.exp(f[y]) / np.exp(f).sum())
        return total / len(talker)

    distance = ((embedding[:, None] - inventory[None]) ** 2).sum(-1)
    best = loss(_best_alpha(distance, talker))
    grid = min(loss(alpha) for alpha in np.geomspace(0.1, 50, 60))
    assert best == pytest.approx(grid, abs=1e-3)
    assert best <= grid + 1e-9


def test_alpha_is_fitted_on_other_talkers():
    """Half the talkers are misled: an alpha fitted on the very same ones would never fall below zero."""
    inventory = np.eye(8)
    talker = np.repeat(np.arange(8), 3)
    fold = np.random.default_rng(0).permutation(8) % 2
    swapped = talker.copy()
    for place in np.flatnonzero(fold[talker] == 1):
        mates = np.flatnonzero(fold == 1)
        swapped[place] = mates[(list(mates).index(talker[place]) + 1) % 4]
    talkers = Talkers([str(i) for i in range(8)], 20, 0)
    assert information_bound(inventory[swapped], talker, inventory, talkers)[0] < -1.0
