"""Mixtures of a side are what their condition says, to 0.01 dB."""

from dataclasses import replace

import numpy as np
import pytest

from separative import audio
from separative.corpora.manifest import Corpus
from separative.errors import CorpusError, SeparativeError
from separative.evaluation import CONDITIONS, build_trials
from separative.evaluation.conditions import Parts, condition_named, mix
from separative.evaluation.sounds import Sounds
from separative.evaluation.trials import Rooms
from separative.mixtures import RoomBank

RATIO = 0.01
ROUNDING = 1e-5


@pytest.fixture(scope="module")
def sides(speech, noise):
    rooms = Rooms(count=2)
    trials = build_trials(speech, noise=noise, seconds=1.2, conditions=("overlap0x2", "noise5"), rooms=rooms)
    sounds = Sounds(speech, noise, 8000, 1.2)
    return [(side, sounds.parts(side, rivals=2, noise=True, rooms=rooms)) for side in trials.tests[:4]]


@pytest.mark.parametrize("name", CONDITIONS)
def test_ratios_and_level_are_what_was_asked(sides, name):
    condition = CONDITIONS[name]
    for side, parts in sides:
        heard = mix(parts, condition)
        assert len(heard.source_KN) == 1 + len(condition.sir_db)
        target_db = audio.level_db(heard.source_KN[0])
        if condition.seconds is None:
            for rival_N, sir_db in zip(heard.source_KN[1:], condition.sir_db, strict=True):
                begin = round(condition.begins * len(rival_N))
                assert not rival_N[:begin].any()
                rival_db = audio.level_db(rival_N[begin:])
                assert target_db - rival_db == pytest.approx(sir_db, abs=RATIO)
            if condition.snr_db is not None:
                rest = heard.mix_N - heard.source_KN.sum(0)
                assert target_db - audio.level_db(rest) == pytest.approx(condition.snr_db, abs=RATIO)
        assert audio.level_db(heard.mix_N) == pytest.approx(side.level_db, abs=RATIO)


def test_the_target_is_the_same_audio_in_every_condition(sides):
    for _, parts in sides:
        for condition in CONDITIONS.values():
            heard_N = mix(parts, condition).source_KN[0]
            target_N = parts.room_KN[0] if condition.room else parts.target_N
            clean_N = target_N[: len(heard_N)]
            gain = heard_N @ clean_N / (clean_N @ clean_N)
            np.testing.assert_allclose(heard_N, gain * clean_N, atol=ROUNDING)


def test_short_is_the_beginning_of_clean():
    time = np.arange(5 * 800) / 800
    parts = Parts(np.sin(700 * time).astype(np.float32), (), None, -20.0, 800)
    assert len(mix(parts, CONDITIONS["short"]).mix_N) == 1600
    assert len(mix(parts, CONDITIONS["clean"]).mix_N) == 4000


def test_an_at_sign_cuts_any_condition(sides):
    _, parts = sides[0]
    cut, whole = mix(parts, condition_named("overlap0@0.5")), mix(parts, CONDITIONS["overlap0"])
    assert len(cut.mix_N) == 4000
    gain = cut.mix_N @ whole.mix_N[:4000] / (whole.mix_N[:4000] @ whole.mix_N[:4000])
    np.testing.assert_allclose(cut.mix_N, gain * whole.mix_N[:4000], atol=ROUNDING)


def test_speakers_of_a_room_stand_at_places_of_their_own(sides):
    bank = RoomBank.load(8000, (0.3, 0.6), 2, 4, 0)
    for side, parts in sides:
        assert len(set(side.places)) == 3
        for dry_N, wet_N, place in zip(
            (parts.target_N, *parts.rival_KN), parts.room_KN, side.places, strict=True
        ):
            slow_N = np.convolve(dry_N.astype(float), bank.response_RPL[side.room, place])[40 : 40 + 9600]
            np.testing.assert_allclose(wet_N, slow_N, atol=1e-4 * np.abs(slow_N).max())


def test_sides_are_the_utterances_they_name(sides, speech):
    by_id = {u.id: u for u in speech}
    side, parts = sides[0]
    whole = np.concatenate([audio.read(by_id[name].path)[0] for name in side.utterances])
    np.testing.assert_array_equal(parts.target_N, whole[:9600])
    assert [len(rival_N) for rival_N in parts.rival_KN] == [9600, 9600]


def test_unknown_names(speech, noise, sides):
    with pytest.raises(SeparativeError, match=r"did you mean 'noise10'.*overlap-5"):
        condition_named("noise1")
    for wrong in ("clean@", "clean@x", "clean@0.1", "clean@inf"):
        with pytest.raises(SeparativeError, match="after the @"):
            condition_named(wrong)
    with pytest.raises(CorpusError, match="u0-"):
        Sounds(noise, None, 8000, 1.2).parts(sides[0][0], rivals=0, noise=False)


def test_half_of_a_cut_side_is_half_of_what_is_left(sides):
    for _, parts in sides:
        heard = mix(parts, condition_named("half0@0.6"))
        rival_N = heard.source_KN[1]
        half = len(rival_N) // 2
        assert not rival_N[: half - 1].any() and rival_N[half + 1 :].any()


def test_a_side_in_which_nothing_is_heard_is_refused():
    wave_N = np.concatenate([np.zeros(5000, np.float32), np.ones(5000, np.float32)])
    with pytest.raises(SeparativeError, match="silent to the last sample"):
        mix(Parts(wave_N, (), None, -20.0, 10_000), condition_named("clean@0.5"))


def test_one_id_for_speech_and_noise_is_refused(speech, noise):
    clip = replace(noise.utterances[0], id=speech.utterances[0].id)
    with pytest.raises(CorpusError, match="'u0-0' is an id of the corpus and of the noise"):
        Sounds(speech, Corpus((clip,)), 8000, 1.2)
