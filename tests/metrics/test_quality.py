"""Calibration by quality on simulated scores, whose levels and spreads are known."""

from dataclasses import replace

import numpy as np
import pytest

from separative.errors import SeparativeError
from separative.metrics.quality import (
    RATES,
    QualityCalibration,
    channel_directions,
    fit_level,
    fit_map,
    pair_features,
)


def simulated(count=20_000, seed=0):
    """Scores of a level and a spread that depend on the speech; those of the same speaker are 0.5 higher."""
    rng = np.random.default_rng(seed)
    qualities = rng.uniform(0.0, 2.0, (2, count, 5))
    qualities[..., 4] = rng.random((2, count)) < 0.3
    features = pair_features(*qualities)
    targets = np.arange(count) % 2 == 0
    spread = 0.05 * np.exp(0.2 * features[:, 1])
    score = 0.2 + 0.1 * features[:, 1] + 0.3 * features[:, 7] + spread * rng.standard_normal(count)
    return score + 0.5 * targets, features, targets, spread


def test_the_false_alarm_rate_is_right_for_every_quality():
    score, features, targets, _ = simulated()
    other = ~targets
    level = fit_level(score[other], features[other], np.ones(other.sum()))
    fitted = fit_map(score - features @ level, features, targets, np.ones(len(score)))
    score, features, targets, _ = simulated(seed=1)
    stated = fitted.false_alarm_rate(score - features @ level, features)
    for some in (features[:, 1] < 1.5, features[:, 1] > 2.5, features[:, 7] == 1, features[:, 7] == 0):
        others = some & ~targets
        for rate in (0.02, 0.05, 0.2, 0.5):
            assert np.mean(stated[others] <= rate) == pytest.approx(rate, abs=max(0.01, 0.2 * rate))


def test_ratios_are_higher_for_the_same_speaker_and_rise_with_the_score():
    score, features, targets, spread = simulated()
    level = fit_level(score[~targets], features[~targets], np.ones((~targets).sum()))
    fitted = fit_map(score - features @ level, features, targets, np.ones(len(score)))
    llr = fitted.llr(score - features @ level, features)
    # The true ratio of two normal distributions 0.5 apart.
    above = score - 0.2 - 0.1 * features[:, 1] - 0.3 * features[:, 7]
    truth = (0.5 * above - 0.125) / spread**2
    near = np.abs(truth) < 5
    assert np.mean(np.sign(llr[near]) == np.sign(truth[near])) > 0.9
    assert (fitted.llr(score - features @ level + 0.1, features) > llr).all()
    rate = fitted.false_alarm_rate(np.linspace(-3, 3, 50), np.repeat(features[:1], 50, axis=0))
    assert (np.diff(rate) <= 0).all() and 0 < rate[-1] < 0.001 and rate[0] > 0.99


def test_directions_are_those_of_the_channel():
    rng = np.random.default_rng(0)
    channel = np.eye(8)[3]
    speakers = rng.standard_normal((6, 8))
    embeddings = np.concatenate([speakers, speakers + 2 * channel]) + 0.01 * rng.standard_normal((12, 8))
    names = [*range(6), *range(6)]
    [found] = channel_directions(embeddings, names, ["clean"] * 6 + ["telephone"] * 6, 1)
    assert abs(found @ channel) > 0.999
    assert len(channel_directions(speakers, range(6), ["clean"] * 6, 2)) == 0


@pytest.fixture
def calibration():
    score, features, targets, _ = simulated(2000)
    level = fit_level(score[~targets], features[~targets], np.ones((~targets).sum()))
    fitted = fit_map(score - features @ level, features, targets, np.ones(len(score)))
    ends = {"low": tuple(features.min(0).tolist()), "high": tuple(features.max(0).tolist())}
    direction = tuple(np.eye(4)[0].tolist())
    return QualityCalibration((direction,), **ends, level=tuple(level), alone=fitted, cohort=fitted,
                              cohort_size=8, narrow=True)  # fmt: skip


def test_a_cohort_measures_how_far_all_scores_are_shifted(calibration):
    quality = np.ones(5) * [1, 1, 0, 1, 0]
    member = np.array([0.0, 1.0, 0.0, 0.0])
    features = calibration.features(quality[None], quality[None])
    expected = 1.0 - (features @ np.array(calibration.level)).item()
    for count in (1, 8):
        cohort = np.repeat(member[None], count, axis=0)
        shift = calibration.shift(member, quality, cohort, np.repeat(quality[None], count, axis=0))
        assert shift == pytest.approx(expected * count / (count + 1))


def test_qualities_outside_the_fit_count_as_its_ends(calibration):
    far = np.full((1, 5), 1e6)
    assert (calibration.features(far, far) <= calibration.high).all()


def test_a_record_gives_the_same_answers(calibration):
    again = QualityCalibration.from_record(calibration.record())
    features = calibration.features(np.ones((1, 5)), np.ones((1, 5)))
    for name in ("llr", "false_alarm_rate"):
        one, other = (getattr(c.alone, name)(np.array([0.1]), features) for c in (calibration, again))
        np.testing.assert_allclose(one, other, rtol=1e-3)
    assert replace(again, cohort=None).record()["cohort"] is None


@pytest.mark.parametrize(
    "change",
    [{"level": [1.0]}, {"level": ["high"] * 8}, {"alone": None}, {"cohort": {"offset": 0.0}}, {"low": None}],
)
def test_a_damaged_record_is_refused(calibration, change):
    with pytest.raises(SeparativeError, match="calibration by quality"):
        QualityCalibration.from_record(calibration.record() | change)


def test_there_are_as_many_quantiles_as_rates(calibration):
    assert len(calibration.alone.tail) == len(RATES)
    assert (np.diff(calibration.alone.tail) > 0).all()
