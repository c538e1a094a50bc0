"""Identification rates and score normalisation against loops over all probes and sides."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from separative.errors import SeparativeError
from separative.metrics import adaptive_snorm, identification_rates, open_set_rate

EXACT = 1e-9


@st.composite
def galleries(draw):
    probes, entries = draw(st.integers(1, 30)), draw(st.integers(2, 6))
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    true = rng.integers(entries, size=probes)
    score = rng.integers(-3, 4, size=(probes, entries)).astype(float)
    score[np.arange(probes), true] += draw(st.sampled_from([0, 1, 3]))
    return score, true


@settings(deadline=None)
@given(galleries())
def test_ties_count_against_the_correct_entry(some):
    score, true = some
    found = identification_rates(score, true, ranks=(1, 2, score.shape[1]))
    for rank, share in found.items():
        hits = 0
        for row, own in zip(score, true, strict=True):
            others = [s for g, s in enumerate(row) if g != own]
            hits += sum(s >= row[own] for s in others) < rank
        assert share == pytest.approx(hits / len(true), abs=EXACT)
    assert found[score.shape[1]] == 1.0


@settings(deadline=None)
@given(galleries(), st.sampled_from([0.0, 0.01, 0.1, 0.3]))
def test_the_open_set_rate_is_the_best_over_all_allowed_thresholds(some, false_accepts):
    score, true = some
    rows = range(len(true))
    impostors = [max(s for g, s in enumerate(score[r]) if g != true[r]) for r in rows]
    best = 0.0
    for threshold in [-np.inf, *np.unique(score)]:
        if np.mean([i > threshold for i in impostors]) <= false_accepts:
            hits = [score[r, true[r]] > max(impostors[r], threshold) for r in rows]
            best = max(best, float(np.mean(hits)))
    assert open_set_rate(score, true, false_accepts) == pytest.approx(best, abs=EXACT)


def test_a_constant_score_identifies_no_probe():
    score, true = np.zeros((4, 3)), np.array([0, 1, 2, 0])
    assert identification_rates(score, true, ranks=(1, 3)) == {1: 0.0, 3: 1.0}
    assert open_set_rate(score, true) == 0.0
    assert open_set_rate(np.eye(3), np.arange(3)) == 1.0


def test_snorm_equals_a_loop_over_its_definition():
    rng = np.random.default_rng(0)
    score, left, right = rng.random((4, 3)), rng.random((4, 20)), rng.random((3, 30))
    for top in (5, 1000):
        fast = adaptive_snorm(score, left, right, top=top)
        for i in range(4):
            for j in range(3):
                one, other = sorted(left[i])[-top:], sorted(right[j])[-top:]
                slow = (score[i, j] - np.mean(one)) / np.std(one)
                slow = (slow + (score[i, j] - np.mean(other)) / np.std(other)) / 2
                assert fast[i, j] == pytest.approx(slow, abs=EXACT)


def test_snorm_removes_gain_and_offset_of_a_side():
    rng = np.random.default_rng(1)
    score, left, right = rng.random((3, 2)), rng.random((3, 50)), rng.random((2, 50))
    one_sided = adaptive_snorm(score, left, np.tile([0.0, 1.0], (2, 25)))
    gain = np.array([[0.5], [1.0], [4.0]])
    shifted = adaptive_snorm(gain * score + 1, gain * left + 1, np.tile([0.0, 1.0], (2, 25)))
    # The half normalised by right sides still changes with the score; the other half must not change.
    raw = (gain * score + 1 - score) / 0.5 / 2
    np.testing.assert_allclose(shifted - one_sided, raw, atol=EXACT)
    np.testing.assert_allclose(
        adaptive_snorm(3 * score - 1, 3 * left - 1, 3 * right - 1),
        adaptive_snorm(score, left, right),
        atol=EXACT,
    )


BAD = np.array([[0.0, 1.0], [np.nan, 0.0]])


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: identification_rates(BAD, np.array([0, 1])), "number 1, 0 is nan"),
        (lambda: identification_rates(np.eye(2), np.array([0, 1]), ranks=(0,)), "ranks begin at 1"),
        (lambda: open_set_rate(np.ones((2, 1)), np.array([0, 0])), "at least two speakers"),
        (lambda: open_set_rate(np.eye(2), np.array([0, 1]), false_accepts=1.0), "false_accepts"),
        (lambda: adaptive_snorm(np.eye(2), BAD, np.eye(2)), "number 1, 0 is nan"),
        (lambda: adaptive_snorm(np.eye(2), np.eye(2), np.eye(2), top=1), "at least 2, not 1"),
        (lambda: adaptive_snorm(np.eye(2), np.eye(2), np.ones((2, 5))), "right side number 0"),
    ],
)
def test_bad_input_is_refused(call, words):
    with pytest.raises(SeparativeError, match=words):
        call()
