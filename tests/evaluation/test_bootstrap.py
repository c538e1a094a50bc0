"""Bootstrap over speakers: weights equal copies of speakers, intervals agree with theory."""

import numpy as np
import pytest

from separative.errors import SeparativeError
from separative.evaluation import eer
from separative.evaluation.bootstrap import SpeakerBootstrap, bootstrap_interval


def test_weighted_trials_equal_the_trials_of_copied_speakers():
    rng = np.random.default_rng(0)
    speakers = SpeakerBootstrap(list("abcde"), resamples=20, seed=1)
    pairs = [(i, j) for i in range(5) for j in range(5) for _ in range(2)]
    left, right = np.array(pairs).T
    target = left == right
    score = rng.integers(0, 6, len(left)) + 2.0 * target
    for resample in range(20):
        times = speakers.counts[resample].astype(int)
        copies = [(t, copy) for t in range(5) for copy in range(times[t])]
        scores, targets = [], []
        for s, i, j in zip(score, left, right, strict=True):
            for one in (c for c in copies if c[0] == i):
                for other in (c for c in copies if c[0] == j):
                    if i != j or one == other:  # copies of one speaker are not compared
                        scores.append(s)
                        targets.append(i == j)
        weighted = eer(score, target, speakers.trial_weights(left, right)[resample])
        if all(targets):
            assert np.isnan(weighted)
        else:
            assert weighted == pytest.approx(eer(np.array(scores), np.array(targets)), abs=1e-9)


def test_resamples_keep_the_number_of_speakers_of_each_stratum():
    speakers = SpeakerBootstrap(list("abcdefg"), 50, 0, strata=list("xxxyyyy"))
    assert (speakers.counts[:, :3].sum(1) == 3).all()
    assert (speakers.counts[:, 3:].sum(1) == 4).all()


def test_the_interval_of_a_mean_agrees_with_the_central_limit_theorem():
    rng = np.random.default_rng(2)
    value = rng.standard_normal(400)
    speakers = SpeakerBootstrap([str(i) for i in range(400)], 2000, 0)
    mean, low, high = speakers.mean(value, np.arange(400))
    error = value.std() / 20
    assert mean == pytest.approx(value.mean())
    assert low == pytest.approx(mean - 1.96 * error, abs=0.2 * error)
    assert high == pytest.approx(mean + 1.96 * error, abs=0.2 * error)


def test_speakers_have_equal_weight_regardless_of_their_number_of_values():
    speakers = SpeakerBootstrap(["a", "b"], 10, 0)
    assert speakers.mean(np.array([1.0, 1.0, 1.0, 3.0]), np.array([0, 0, 0, 1]))[0] == 2.0


def test_intervals_are_corrected_for_bias():
    value_R = np.random.default_rng(0).standard_normal(20000)
    plain = bootstrap_interval(value_R, 0.0)
    np.testing.assert_allclose(plain, [-1.96, 1.96], atol=0.06)
    # The estimate is half a standard deviation above its resamples, so both ends move up by a whole one.
    np.testing.assert_allclose(bootstrap_interval(value_R, 0.5), [-0.96, 2.96], atol=0.25)


def test_an_interval_without_defined_resamples_raises_an_error():
    with pytest.raises(SeparativeError, match="an interval needs more speakers"):
        bootstrap_interval(np.full(5, np.nan), 1.0)


def test_undefined_resamples_are_ignored():
    assert bootstrap_interval(np.array([np.nan, 2.0, 2.0, np.nan]), 2.0) == (2.0, 2.0)
