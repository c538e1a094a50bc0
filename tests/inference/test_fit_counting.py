"""The fit of the constants of counting, on clusters of known speakers."""

import sys
from pathlib import Path

import numpy as np
import pytest

from separative.inference.counting import CountingRule

BENCHMARKS = str(Path(__file__).parents[2] / "benchmarks")


@pytest.fixture
def fit_same(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    from fit_counting import fit_same

    yield fit_same
    for name in ("fit_counting", "counting_data", "common"):
        sys.modules.pop(name, None)


def test_log_odds_of_one_speaker_are_found_again(fit_same) -> None:
    rng = np.random.default_rng(0)
    feature_NF = rng.standard_normal((20_000, 4))
    weights, constant = np.array([2.0, 3.0, -1.0, -0.5]), -0.7
    same_N = rng.random(20_000) < 1 / (1 + np.exp(-feature_NF @ weights - constant))
    halves = [(feature_NF[part], same_N[part]) for part in (slice(0, 9000), slice(9000, None))]
    rule = fit_same(halves, CountingRule(prior_odds=0.4))
    np.testing.assert_allclose(rule.same_weights, weights, atol=0.15)
    assert rule.same_constant == pytest.approx(constant, abs=0.15)
    assert rule.prior_odds == 0.4
