"""Mixtures of a side are what their condition says, to 0.01 dB."""

import numpy as np
import pytest

from separative import audio
from separative.errors import CorpusError, SeparativeError
from separative.evaluation import CONDITIONS, build_trials
from separative.evaluation.conditions import Parts, conditions_named, mix
from separative.evaluation.sounds import Sounds

RATIO = 0.01
ROUNDING = 1e-5


@pytest.fixture(scope="module")
def sides(speech, noise):
    trials = build_trials(speech, noise=noise, seconds=1.2, conditions=("overlap0x2", "noise5"))
    sounds = Sounds(speech, noise, 8000, 1.2)
    return [(side, sounds.parts(side, rivals=2, noise=True)) for side in trials.tests[:4]]


@pytest.mark.parametrize("name", CONDITIONS)
def test_ratios_and_level_are_what_was_asked(sides, name):
    condition = CONDITIONS[name]
    for side, parts in sides:
        heard = mix(parts, condition)
        assert len(heard.source_KN) == 1 + len(condition.sir_db)
        target_db = audio.level_db(heard.source_KN[0])
        if condition.seconds is None:
            for rival_N, sir_db in zip(heard.source_KN[1:], condition.sir_db, strict=True):
                assert target_db - audio.level_db(rival_N) == pytest.approx(sir_db, abs=RATIO)
            if condition.snr_db is not None:
                rest = heard.mix_N - heard.source_KN.sum(0)
                assert target_db - audio.level_db(rest) == pytest.approx(condition.snr_db, abs=RATIO)
        assert audio.level_db(heard.mix_N) == pytest.approx(side.level_db, abs=RATIO)


def test_the_target_is_the_same_audio_in_every_condition(sides):
    for _, parts in sides:
        for condition in CONDITIONS.values():
            heard_N = mix(parts, condition).source_KN[0]
            clean_N = parts.target_N[: len(heard_N)]
            gain = heard_N @ clean_N / (clean_N @ clean_N)
            np.testing.assert_allclose(heard_N, gain * clean_N, atol=ROUNDING)


def test_short_is_the_beginning_of_clean():
    time = np.arange(5 * 800) / 800
    parts = Parts(np.sin(700 * time).astype(np.float32), (), None, -20.0, 800)
    assert len(mix(parts, CONDITIONS["short"]).mix_N) == 1600
    assert len(mix(parts, CONDITIONS["clean"]).mix_N) == 4000


def test_sides_are_the_utterances_they_name(sides, speech):
    by_id = {u.id: u for u in speech}
    side, parts = sides[0]
    whole = np.concatenate([audio.read(by_id[name].path)[0] for name in side.utterances])
    np.testing.assert_array_equal(parts.target_N, whole[:9600])
    assert [len(rival_N) for rival_N in parts.rival_KN] == [9600, 9600]


def test_unknown_names(speech, noise, sides):
    with pytest.raises(SeparativeError, match=r"did you mean 'noise10'.*overlap-5"):
        conditions_named(["noise1"])
    with pytest.raises(CorpusError, match="u0-"):
        Sounds(noise, None, 8000, 1.2).parts(sides[0][0], rivals=0, noise=False)
