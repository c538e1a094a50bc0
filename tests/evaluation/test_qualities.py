"""Calibration by quality: sides, comparisons, and the entry of the card."""

import numpy as np
import pytest

from separative.errors import SeparativeError
from separative.evaluation import calibrate
from separative.evaluation.qualities import (
    QualitySide,
    cohort_shifts,
    fit_qualities,
    make_pairs,
)
from separative.metrics.quality import QualityCalibration


def side(corpus, speaker, take, condition, present=()):
    """An embedding of the speaker, with a part that all of the corpus share and one of the condition."""
    rng = np.random.default_rng([ord(corpus), speaker, take, len(condition)])
    embedding = np.random.default_rng([ord(corpus), speaker]).standard_normal(32) + 0.6 * rng.standard_normal(
        32
    )
    embedding[0] += {"a": 0.0, "b": 6.0}[corpus]
    embedding[1] += 8.0 * (condition == "telephone")
    quality = np.array(
        [[1.0, 2.0, 0.0, -1.0 - 2.0 * (condition == "telephone"), condition == "telephone"]], float
    )
    name = f"{corpus}{speaker}"
    return QualitySide(
        f"{name}:{take}", name, corpus, condition, frozenset([name, *present]),
        embedding[None] / np.linalg.norm(embedding), quality,
    )  # fmt: skip


def sides(corpora="ab", conditions=("clean", "telephone"), speakers=14):
    return [side(c, s, t, k) for c in corpora for s in range(speakers) for t in range(3) for k in conditions]


def test_comparisons_are_within_a_corpus_and_share_only_the_compared_speaker():
    some = [side("a", 0, 0, "clean"), side("a", 1, 0, "clean"), side("b", 0, 0, "clean")]
    some += [side("a", 1, 1, "overlap0", present=["a0"]), side("a", 2, 1, "overlap0", present=["a3"])]
    pairs = make_pairs(some)
    found = set(pairs.speakers)
    assert ("a0", "a1") in found and ("a0", "a2") in found and not any("b0" in pair for pair in found)
    # a0 is the interferer of the overlapped side of a1, so only the clean sides are compared.
    assert pairs.speakers.count(("a0", "a1")) == 1 and pairs.targets.sum() == 1
    assert len(make_pairs(some, only=("clean", "overlap0")).targets) == 3
    with pytest.raises(SeparativeError, match="no two sides"):
        make_pairs(some[:1])


def test_the_channel_is_removed_and_a_stated_rate_holds_on_other_speakers():
    calibration = fit_qualities(sides("a"))
    assert calibration.narrow and abs(np.array(calibration.directions)[0][1]) > 0.9
    known = {s.speaker for s in sides("a")}
    pairs = make_pairs([s for s in sides("a", speakers=30) if s.speaker not in known], most=5000)
    score = np.sum(calibration.project(pairs.left) * calibration.project(pairs.right), axis=1)
    features = calibration.features(pairs.left_quality, pairs.right_quality)
    rate = calibration.alone.false_alarm_rate(calibration.centred(score, features), features)
    assert 0.02 < np.mean(rate[~pairs.targets] <= 0.05) < 0.1
    assert np.mean(rate[pairs.targets] <= 0.05) > 0.9


def test_a_cohort_keeps_the_stated_rate_in_a_corpus_with_a_level_of_its_own():
    calibration = fit_qualities(sides("a"))
    own = sides("b")
    pairs = make_pairs(own)
    score = np.sum(calibration.project(pairs.left) * calibration.project(pairs.right), axis=1)
    features = calibration.features(pairs.left_quality, pairs.right_quality)
    above, other = calibration.centred(score, features), ~pairs.targets
    alone = np.mean(calibration.alone.false_alarm_rate(above, features)[other] <= 0.05)
    shift = cohort_shifts(calibration, pairs, own)
    with_cohort = np.mean(calibration.cohort.false_alarm_rate(above - shift, features)[other] <= 0.05)
    assert alone > 0.5 and with_cohort < 0.15


def test_too_few_speakers_give_no_cohort_map():
    assert fit_qualities(sides("a", speakers=2)).cohort is None
    with pytest.raises(SeparativeError, match="'clean'"):
        fit_qualities([side("a", 0, 0, "overlap0", present=["a1"])])


def test_calibrate_writes_the_entry_and_its_conditions(model, speech, noise):
    record = calibrate(model, speech, qualities=["clean", "telephone"], seconds=0.6, folds=3)
    entry = record["quality"]
    assert entry["conditions"] == ["clean", "telephone"]
    assert QualityCalibration.from_record(entry).cohort_size == 8
    assert "quality" not in calibrate(model, speech, qualities=[], seconds=0.6, folds=3)
    with pytest.raises(SeparativeError, match="'telefone'"):
        calibrate(model, speech, qualities=["telefone"], seconds=0.6, folds=3)
