"""Confidence of turns and of the number of speakers."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from separative.errors import ModelError
from separative.inference.confidence import ConfidenceRule, mean_confidence, rate_turns, turn_features
from separative.inference.diarize import Diarization
from separative.inference.speakers import Speaker
from separative.inference.windows import WindowGrid, WindowOutputs
from separative.model import SeparativeEncoder
from separative.rttm import Turn

RATE, SEGMENT, WINDOW, HOP, WINDOWS = 8000, 800, 20, 10, 9


def conversation(
    embeddings: np.ndarray,
    labels: np.ndarray,
    activity: np.ndarray,
    turns: list[tuple[Turn, ...]],
    **how: Any,
) -> Diarization:
    """A diarization with one stream per window, of windows of 2 s."""
    windows = WindowOutputs(
        WindowGrid(SEGMENT, 0, WINDOW, HOP),
        np.ones((WINDOWS, 1, WINDOW), np.float32),
        embeddings[:, None].astype(np.float32),
        np.zeros((0, embeddings.shape[1]), np.float32),
        np.zeros(0, np.float32),
        np.zeros((WINDOWS, WINDOW), np.float32),
        SEGMENT * HOP * (WINDOWS + 1),
    )
    speakers = tuple(Speaker(f"speaker{k + 1}", own, np.ones(4), activity[k]) for k, own in enumerate(turns))
    probability = np.array([0.0, 0.1, 0.9])
    return Diarization(
        *("a", "a", RATE, 10.0, 1, "mean", SEGMENT / RATE, speakers, windows, labels[:, None]),
        count_probability=probability,
        **how,
    )


@pytest.fixture
def two() -> Diarization:
    embeddings = np.eye(4)[[0, 0, 0, 0, 1, 1, 1, 1, 0]]
    labels = np.array([0, 0, 0, 0, 1, 1, 1, 1, 0])
    activity = np.full((2, 100), 0.01)
    activity[0, :50], activity[1, 50:90], activity[0, 90:] = 0.99, 0.9, 0.6
    turns = [
        (Turn("speaker1", 0.0, 4.0), Turn("speaker1", 9.0, 10.0)),
        (Turn("speaker2", 5.0, 8.0),),
    ]
    return conversation(embeddings, labels, activity, turns)


def test_features_are_activity_margins_and_missing_speakers(two: Diarization) -> None:
    first, second = turn_features(two)
    assert first.shape == (2, 4) and second.shape == (1, 4)
    np.testing.assert_allclose(first[:, 0], [np.log(99), np.log(1.5)], rtol=1e-6)
    # Both turns of the first speaker are like the other one, and unlike the second speaker.
    np.testing.assert_allclose(first[:, 1], [1, 1], atol=1e-6)
    # All windows of the second speaker touch the only turn: there is a rest of it before and after.
    assert -1 <= second[0, 1] <= 1
    # The embeddings of the first speaker are all the same, so there are no two halves.
    np.testing.assert_allclose(first[:, 2], 0)
    # One or two speakers, and two are found.
    np.testing.assert_allclose(np.r_[first[:, 3], second[:, 3]], 0)


def test_a_turn_that_sounds_like_another_speaker_has_a_smaller_margin(two: Diarization) -> None:
    query = two.windows.query.copy()
    query[8] = np.eye(4)[1]
    changed = replace(two, windows=replace(two.windows, query=query))
    assert turn_features(changed)[0][1, 1] < turn_features(two)[0][1, 1] - 1


def test_windows_outside_a_turn_do_not_change_its_embedding(two: Diarization) -> None:
    query = two.windows.query.copy()
    query[8] = np.eye(4)[3]
    changed = replace(two, windows=replace(two.windows, query=query))
    before, after = turn_features(two)[1], turn_features(changed)[1]
    assert after[0, 0] == before[0, 0]
    assert after[0, 1] >= before[0, 1]


def test_a_speaker_alone_with_one_turn_has_no_margin() -> None:
    turns = [(Turn("speaker1", 0.0, 10.0),)]
    alone = conversation(
        np.eye(4)[np.zeros(WINDOWS, int)], np.zeros(WINDOWS, int), np.full((1, 100), 0.9), turns
    )
    [features] = turn_features(alone)
    assert features[0, 1] == 0


def test_missing_speakers_are_expected_from_the_probabilities(two: Diarization) -> None:
    unsure = replace(two, count_probability=np.array([0.0, 0.1, 0.5, 0.3, 0.1]))
    np.testing.assert_allclose(np.concatenate(turn_features(unsure))[:, 3], -0.5)


def test_turns_of_a_second_person_in_one_speaker_are_near_the_smaller_half() -> None:
    embeddings = np.eye(4)[[0, 0, 0, 0, 0, 0, 0, 1, 1]]
    turns = [(Turn("speaker1", 0.0, 3.0), Turn("speaker1", 9.0, 10.0))]
    merged = conversation(embeddings, np.zeros(WINDOWS, int), np.full((1, 100), 0.9), turns)
    [features] = turn_features(merged)
    np.testing.assert_allclose(features[:, 2], [1, -1], atol=1e-6)


def test_confidence_grows_with_every_feature(model: SeparativeEncoder, two: Diarization) -> None:
    rule = ConfidenceRule(activity=0.5, margin=1.0, half=1.0, missing=1.0, constant=0.0)
    low = np.zeros((1, 4))
    for feature in range(4):
        high = low.copy()
        high[0, feature] = 1
        assert rule.probability(high) > rule.probability(low)
    tiny = SeparativeEncoder(model.config)
    tiny.card = {"confidence": {"activity": 0.5, "margin": 1.0}}
    rated = rate_turns(tiny, two)
    values = [turn.confidence for turn in rated.turns]
    assert all(value is not None and 0 < value < 1 for value in values)
    assert rated.turns[0].confidence > rated.turns[-1].confidence
    assert [turn[:3] for turn in rated.turns] == [turn[:3] for turn in two.turns]


def test_calibrated_numbers_of_speakers_add_up_to_one_and_keep_their_order() -> None:
    raw = np.array([0.0, 0.02, 0.9, 0.08])
    found = ConfidenceRule(sharpness=0.5, other=0.1).calibrate_count(raw)
    assert found.sum() == pytest.approx(1) and found[0] == 0
    assert (np.argsort(found[1:]) == np.argsort(raw[1:])).all()
    assert found.max() < raw.max()
    np.testing.assert_allclose(ConfidenceRule(sharpness=1.0, other=0.0).calibrate_count(raw), raw, atol=1e-9)
    assert ConfidenceRule().calibrate_count(np.ones(1)).tolist() == [1.0]


@pytest.mark.parametrize(
    "entry", [{"activity": "x"}, {"slope": 1.0}, [1.0], {"sharpness": 0.0}, {"other": 2.0}]
)
def test_a_damaged_entry_of_the_card_is_refused(model: SeparativeEncoder, entry: Any) -> None:
    broken = SeparativeEncoder(model.config)
    broken.card = {"confidence": entry}
    with pytest.raises(ModelError, match="model card: 'confidence'"):
        ConfidenceRule.of(broken)


def test_mean_confidence_weighs_with_time() -> None:
    turns = (Turn("a", 0.0, 1.0, 0.0), Turn("a", 2.0, 5.0, 1.0))
    assert mean_confidence([Speaker("a", turns, np.zeros(1), np.zeros(1))]) == pytest.approx(0.75)
    assert mean_confidence([]) is None
