"""Mixtures of trial sides: ratios and levels are those of the condition, to 0.01 dB."""

from dataclasses import replace

import numpy as np
import pytest

from separative import audio
from separative.corpora.manifest import Corpus
from separative.errors import CorpusError, SeparativeError
from separative.evaluation import CONDITIONS, build_trials
from separative.evaluation.conditions import SideWaveforms, mix_side, parse_condition
from separative.evaluation.trial_recordings import TrialRecordings
from separative.evaluation.trials import RoomSettings
from separative.mixtures import RoomBank

RATIO = 0.01
ROUNDING = 1e-5


@pytest.fixture(scope="module")
def sides(speech, noise):
    rooms = RoomSettings(count=2)
    trials = build_trials(speech, noise=noise, seconds=1.2, conditions=("overlap0x2", "noise5"), rooms=rooms)
    recordings = TrialRecordings(speech, noise, 8000, 1.2)
    return [
        (side, recordings.load(side, interferers=2, noise=True, rooms=rooms)) for side in trials.tests[:4]
    ]


@pytest.mark.parametrize("name", CONDITIONS)
def test_ratios_and_level_are_those_of_the_condition(sides, name):
    condition = CONDITIONS[name]
    for side, parts in sides:
        mixed = mix_side(parts, condition)
        assert len(mixed.sources) == 1 + len(condition.sir_db)
        target_db = audio.level_db(mixed.sources[0])
        if condition.seconds is None:
            for interferer_N, sir_db in zip(mixed.sources[1:], condition.sir_db, strict=True):
                begin = round(condition.onset * len(interferer_N))
                assert not interferer_N[:begin].any()
                interferer_db = audio.level_db(interferer_N[begin:])
                assert target_db - interferer_db == pytest.approx(sir_db, abs=RATIO)
            if condition.snr_db is not None:
                rest = mixed.waveform - mixed.sources.sum(0)
                assert target_db - audio.level_db(rest) == pytest.approx(condition.snr_db, abs=RATIO)
        assert audio.level_db(mixed.waveform) == pytest.approx(side.level_db, abs=RATIO)


def test_the_target_is_the_same_in_every_condition(sides):
    for _, parts in sides:
        for condition in CONDITIONS.values():
            if condition.codec is not None:
                continue  # the next test
            mixed_N = mix_side(parts, condition).sources[0]
            target_N = parts.room[0] if condition.room else parts.target
            clean_N = target_N[: len(mixed_N)]
            gain = mixed_N @ clean_N / (clean_N @ clean_N)
            np.testing.assert_allclose(mixed_N, gain * clean_N, atol=ROUNDING)


@pytest.mark.parametrize(("name", "high_hz"), [("telephone", 3400), ("opus", 4000)])
def test_a_codec_limits_the_band_and_keeps_level_and_target(name, high_hz):
    rng = np.random.default_rng(0)
    parts = SideWaveforms(rng.standard_normal(32000).astype(np.float32), (), None, -25.0, 16000)
    mixed = mix_side(parts, CONDITIONS[name])
    assert audio.level_db(mixed.waveform) == pytest.approx(-25.0, abs=RATIO)
    power = np.abs(np.fft.rfft(mixed.waveform)) ** 2
    hertz = np.fft.rfftfreq(32000, 1 / 16000)
    assert power[hertz > 1.1 * high_hz].sum() < 1e-3 * power.sum()
    target = mixed.sources[0]
    assert np.corrcoef(target, mixed.waveform)[0, 1] > 0.7


def test_short_has_the_length_of_its_condition():
    time = np.arange(5 * 800) / 800
    parts = SideWaveforms(np.sin(700 * time).astype(np.float32), (), None, -20.0, 800)
    assert len(mix_side(parts, CONDITIONS["short"]).waveform) == 1600
    assert len(mix_side(parts, CONDITIONS["clean"]).waveform) == 4000


def test_an_at_sign_cuts_any_condition_to_a_length(sides):
    _, parts = sides[0]
    cut, whole = mix_side(parts, parse_condition("overlap0@0.5")), mix_side(parts, CONDITIONS["overlap0"])
    assert len(cut.waveform) == 4000
    gain = cut.waveform @ whole.waveform[:4000] / (whole.waveform[:4000] @ whole.waveform[:4000])
    np.testing.assert_allclose(cut.waveform, gain * whole.waveform[:4000], atol=ROUNDING)


def test_speakers_in_a_room_have_different_positions(sides):
    bank = RoomBank.load(8000, (0.3, 0.6), 2, 4, 0)
    for side, parts in sides:
        assert len(set(side.positions)) == 3
        for dry_N, wet_N, position in zip(
            (parts.target, *parts.interferers), parts.room, side.positions, strict=True
        ):
            slow_N = np.convolve(dry_N.astype(float), bank.responses[side.room, position])[40 : 40 + 9600]
            np.testing.assert_allclose(wet_N, slow_N, atol=1e-4 * np.abs(slow_N).max())


def test_sides_consist_of_the_utterances_they_name(sides, speech):
    by_id = {u.id: u for u in speech}
    side, parts = sides[0]
    whole = np.concatenate([audio.read(by_id[name].path)[0] for name in side.utterances])
    np.testing.assert_array_equal(parts.target, whole[:9600])
    assert [len(interferer_N) for interferer_N in parts.interferers] == [9600, 9600]


def test_unknown_conditions_lengths_and_utterances_raise_an_error(speech, noise, sides):
    with pytest.raises(SeparativeError, match=r"did you mean 'noise10'.*overlap-5"):
        parse_condition("noise1")
    for wrong in ("clean@", "clean@x", "clean@0.1", "clean@inf"):
        with pytest.raises(SeparativeError, match="must follow the @"):
            parse_condition(wrong)
    with pytest.raises(CorpusError, match="u0-"):
        TrialRecordings(noise, None, 8000, 1.2).load(sides[0][0], interferers=0, noise=False)


def test_the_interferer_of_half0_starts_in_the_middle_of_a_cut_side(sides):
    for _, parts in sides:
        mixed = mix_side(parts, parse_condition("half0@0.6"))
        interferer_N = mixed.sources[1]
        half = len(interferer_N) // 2
        assert not interferer_N[: half - 1].any() and interferer_N[half + 1 :].any()


def test_a_silent_side_raises_an_error():
    wave_N = np.concatenate([np.zeros(5000, np.float32), np.ones(5000, np.float32)])
    with pytest.raises(SeparativeError, match="digital silence"):
        mix_side(SideWaveforms(wave_N, (), None, -20.0, 10_000), parse_condition("clean@0.5"))


def test_an_id_of_speech_and_of_noise_raises_an_error(speech, noise):
    clip = replace(noise.utterances[0], id=speech.utterances[0].id)
    with pytest.raises(CorpusError, match="the id 'u0-0' is in the corpus and in the noise"):
        TrialRecordings(speech, Corpus((clip,)), 8000, 1.2)
