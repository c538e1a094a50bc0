"""The curriculum between its points, and an error message for every invalid configuration."""

from typing import Any

import pytest
from pydantic import ValidationError

from separative.mixtures import MixtureConfig, Stage


def test_shares_change_linearly_and_views_in_steps() -> None:
    config = MixtureConfig(
        streams=3,
        stages=(
            Stage(step=0, views=1, speakers=(1.0,), noise=0.0),
            Stage(step=100, views=2, speakers=(0.5, 0.5), noise=0.4),
            Stage(step=300, views=4, speakers=(0.1, 0.5, 0.4), noise=0.4),
        ),
    )
    assert config.stage(0).speakers == (1.0, 0.0, 0.0)
    assert config.stage(25).speakers == pytest.approx((0.875, 0.125, 0.0))
    assert config.stage(25).noise == pytest.approx(0.1)
    assert config.stage(200).speakers == pytest.approx((0.3, 0.5, 0.2))
    assert config.stage(10**9).speakers == (0.1, 0.5, 0.4)
    assert [config.stage(step).views for step in (0, 99, 100, 299, 300, 10**9)] == [1, 1, 2, 2, 4, 4]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"sir_db": (5, -5)}, r"a range must be \(low, high\), not \(5, -5\)"),
        ({"overlap": (0.5, 1.2)}, "overlap must be a share of the mixture"),
        ({"rt60": (0.2, 9.0)}, "reverberation times"),
        ({"speeds": (1.0, 1.0)}, "speeds must be distinct"),
        ({"speeds": (3.0,)}, "speeds must be distinct factors between 0.5 and 2"),
        ({"stages": ({"speakers": (0.5, 0.4)},)}, "must sum to 1, not 0.9"),
        ({"stages": ({"step": 5},)}, r"must start at 0 and increase, not \[5\]"),
        ({"stages": ({}, {"step": 0})}, "the steps of the stages must start at 0"),
        ({"batch": 8, "stages": ({"views": 3},)}, r"batch \(8\) must be a multiple of views \(3\)"),
        ({"streams": 1}, "mixtures of 2 speakers, but streams is 1"),
        ({"room": 0.5}, "Extra inputs are not permitted"),
        ({"identity": "person"}, "'recording' or 'utterance'"),
    ],
)
def test_an_invalid_configuration_is_refused_with_the_reason(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        MixtureConfig.model_validate(wrong)
