"""Conversations in a style: turn-taking as published, one microphone, and a reference of speech alone."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from separative import audio
from separative.corpora.manifest import Corpus
from separative.mixtures import STYLES, Conversation, ConversationConfig, ConversationSimulator
from separative.mixtures.phrases import cut_phrases, make_sound
from separative.mixtures.styles import StyleName
from separative.mixtures.turn_taking import ConversationPlan, plan_style
from separative.mixtures.voices import even_spectra, long_term_spectrum, vary_voice
from separative.rttm import turns_to_frames

RATE = 8000
NAMES: list[StyleName] = ["meeting", "call", "interview", "broadcast", "clips"]


def planned(name: StyleName, seconds: float = 3600.0, seed: int = 0, **changes: object) -> ConversationPlan:
    style = replace(STYLES[name], **changes)
    return plan_style(
        np.random.default_rng(seed),
        style,
        speakers=style.speakers,
        seconds=seconds,
        rate=RATE,
        speech_seconds=np.full(style.speakers, 60.0),
    )


def counts(plan: ConversationPlan, seconds: float) -> np.ndarray:
    """Number of speakers in frames of 10 ms."""
    count_T = np.zeros(round(seconds * 100), int)
    for turn in plan.turns:
        count_T[turn.start // 80 : turn.end // 80] += 1
    return count_T


def simulated(speech: Corpus, style: StyleName, seed: int = 0, seconds: float = 20.0) -> Conversation:
    config = ConversationConfig(rate=RATE, seconds=seconds, speakers=STYLES[style].speakers, style=style)
    return ConversationSimulator(speech, config, seed=seed).conversation(1)


@pytest.mark.parametrize("name", NAMES)
def test_no_speaker_overlaps_himself_and_turns_are_inside_the_recording(name: StyleName) -> None:
    plan = planned(name, seconds=600.0)
    assert [turn.start for turn in plan.turns] == sorted(turn.start for turn in plan.turns)
    for speaker in range(STYLES[name].speakers):
        own = [turn for turn in plan.turns if turn.speaker == speaker]
        assert all(one.end < other.start for one, other in pairwise(own))
    for span in (*plan.turns, *plan.sounds):
        assert 0 <= span.start < span.end <= 600 * RATE


@pytest.mark.parametrize(
    ("name", "overlap", "short"),
    [
        # Calls overlap in about a tenth of their speech, lively parts of meetings in a quarter.
        ("meeting", (0.18, 0.32), (0.45, 0.7)),
        ("call", (0.04, 0.16), (0.3, 0.7)),
        ("interview", (0.01, 0.08), (0.2, 0.5)),
        ("broadcast", (0.0, 0.05), (0.0, 0.05)),
        ("clips", (-0.001, 0.001), (-0.001, 0.02)),
    ],
)
def test_overlap_and_short_turns_are_as_published(
    name: StyleName, overlap: tuple[float, float], short: tuple[float, float]
) -> None:
    plan = planned(name, seconds=4 * 3600.0)
    count_T = counts(plan, 4 * 3600.0)
    assert overlap[0] < (count_T > 1).sum() / (count_T > 0).sum() < overlap[1]
    assert short[0] < np.mean([turn.samples < RATE for turn in plan.turns]) < short[1]


def test_the_next_speaker_of_a_call_starts_near_the_end_of_the_turn() -> None:
    plan = planned("call", backchannels=0.0, parallel=0.0, interruption=0.0, silences=0.0)
    gaps = [(b.start - a.end) / RATE for a, b in pairwise(plan.turns) if a.speaker != b.speaker]
    assert 0.1 < np.median(gaps) < 0.35
    assert 0.15 < np.mean(np.array(gaps) < 0) < 0.45
    assert np.quantile(gaps, 0.95) > 0.6


def test_there_are_pauses_of_a_minute_and_chains_of_short_turns() -> None:
    plan = planned("meeting", seconds=4 * 3600.0)
    edge = np.flatnonzero(np.diff((counts(plan, 4 * 3600.0) == 0).astype(int), prepend=0, append=0))
    assert (edge[1::2] - edge[0::2]).max() > 6000
    # Backchannels and parallel turns come between the turns of a chain.
    chained = planned("meeting", backchannels=0.0, parallel=0.0).turns
    short = np.array([turn.samples < RATE for turn in chained])
    assert short[1:][short[:-1]].mean() > short.mean() + 0.05


def test_participation_is_uneven() -> None:
    shares = []
    for seed in range(20):
        seconds_K = np.zeros(4)
        for turn in planned("meeting", seconds=600.0, seed=seed).turns:
            seconds_K[turn.speaker] += turn.samples
        shares.append(seconds_K.max() / seconds_K.sum())
    # With even participation of four speakers, the most talkative one would have little above 0.25.
    assert np.mean(shares) > 0.35


def test_joined_clips_have_every_speaker_once_and_silence_between_them() -> None:
    for seed in range(5):
        turns = planned("clips", seconds=60.0, seed=seed).turns
        assert all(len({turn.speaker for turn in turns[k : k + 3]}) == 3 for k in range(len(turns) - 2))
        gaps = [(b.start - a.end) / RATE for a, b in pairwise(turns)]
        assert min(gaps) > 1.0 and max(gaps) < 3.0
        assert turns[0].start > 0


def test_all_speakers_of_a_meeting_have_one_long_term_spectrum(speech: Corpus) -> None:
    talk = simulated(speech, "meeting")
    store, pool = talk.simulator.store, talk.simulator.pool

    def spread(even: bool) -> float:
        spectra = []
        for index, speaker in enumerate(talk.speakers):
            utterances = pool.utterances[speaker]
            spectrum_B = long_term_spectrum(store, utterances)
            if even:
                wave_N = np.concatenate([store.read(u, 0, store.length(u)) for u in utterances])
                response_B = talk._channels[index].response(90.0 * 2.0 ** np.arange(8))
                assert talk._channels[index].apply(wave_N, RATE).shape == wave_N.shape
                spectrum_B = spectrum_B + 20 * np.log10(response_B)
            spectra.append(spectrum_B[:6] - spectrum_B[:6].mean())
        return float(np.std(spectra, axis=0).mean())

    assert spread(True) < 0.5 * spread(False)
    assert simulated(speech, "call")._channels == ()


def test_a_gain_of_the_common_spectrum_is_limited() -> None:
    spectra_KB = np.zeros((2, 8))
    spectra_KB[0, 7] = -80.0
    assert even_spectra(spectra_KB)[0].eq_db[7] == 12.0


def test_level_and_treble_of_a_voice_change_within_seconds() -> None:
    noise_N = np.random.default_rng(0).standard_normal(60 * RATE).astype(np.float32)
    for level_db, treble_db in ((3.0, 0.0), (0.0, 4.0)):
        varied_N = vary_voice(noise_N, RATE, level_db, treble_db, np.random.default_rng(1))
        power_TF = np.abs(np.fft.rfft(varied_N.reshape(60, RATE))) ** 2
        low_T, high_T = (
            10 * np.log10(power_TF[:, band].mean(1)) for band in (slice(50, 400), slice(3000, None))
        )
        assert 1.5 < np.std(high_T) < 5
        # Head turns change the treble alone.
        assert np.std(low_T) > 1.5 if level_db else np.std(low_T) < 1
    np.testing.assert_allclose(
        vary_voice(noise_N, RATE, 0.0, 0.0, np.random.default_rng(1)), noise_N, atol=1e-5
    )


@pytest.mark.parametrize("name", NAMES)
def test_blocks_of_a_styled_conversation_add_up(speech: Corpus, name: StyleName) -> None:
    talk = simulated(speech, name)
    whole_N, source_KN = talk.render(0, talk.samples)
    assert whole_N.shape == (talk.samples,) and source_KN.shape == (len(talk.speakers), talk.samples)
    edges = [0, 12_345, 70_000, talk.samples]
    blocks = [talk.render(a, b) for a, b in pairwise(edges)]
    mix_N = np.concatenate([mix for mix, _ in blocks])
    joined_KN = np.concatenate([sources for _, sources in blocks], axis=1)
    # The response of the microphone reaches a little beyond the context of a block, and so does its gain.
    assert np.mean((mix_N - whole_N) ** 2) < 1e-3 * np.mean(whole_N**2)
    assert np.mean((joined_KN - source_KN) ** 2) < 1e-3 * np.mean(source_KN**2)


def test_a_styled_conversation_depends_on_seed_and_number_alone(speech: Corpus) -> None:
    one, other = (simulated(speech, "meeting", seed=3) for _ in range(2))
    assert one.plan == other.plan and one.describe() == other.describe()
    np.testing.assert_array_equal(one.render(0, 40_000)[0], other.render(0, 40_000)[0])
    assert simulated(speech, "meeting", seed=4).plan != one.plan


@pytest.mark.parametrize("name", NAMES)
def test_the_reference_of_a_style_marks_speech(speech: Corpus, name: StyleName) -> None:
    talk = simulated(speech, name, seed=5)
    frames = talk.samples // 80
    active_KT = turns_to_frames(talk.speech_turns(), talk.names, frames, 0.01)
    dry = replace(talk, scene=replace(talk.scene, room=None))  # type: ignore[type-var]
    power_KT = (dry._sources(0, frames * 80).reshape(len(talk.speakers), frames, 80) ** 2).mean(-1)
    assert active_KT.any()
    # Speech of below 0.1 s between two pauses is not in the reference, and may be loud.
    assert power_KT[active_KT].sum() > 0.9 * power_KT.sum()


def test_breaths_and_laughs_are_in_the_recording_but_in_no_source(speech: Corpus) -> None:
    talk = simulated(speech, "interview", seed=6, seconds=60.0)
    sound = next(s for s in talk.plan.sounds if s.kind == "breath")
    sound_N = talk._sounds(sound.start, sound.end)
    assert np.abs(sound_N).max() > 0
    without = replace(talk, plan=replace(talk.plan, sounds=()))
    mix_N, other_N = (t.render(sound.start, sound.end)[0] for t in (talk, without))
    assert np.abs(mix_N - other_N).max() > 0
    assert without.speech_turns() == talk.speech_turns()
    np.testing.assert_array_equal(without._sources(0, 80_000), talk._sources(0, 80_000))


def test_a_muted_span_is_digital_zero(speech: Corpus) -> None:
    talk = simulated(speech, "call")
    muted = replace(talk, plan=replace(talk.plan, muted=((16_000, 24_000),)))
    mix_N, source_KN = muted.render(8_000, 30_000)
    assert not mix_N[8_000:16_000].any() and not source_KN[:, 8_000:16_000].any()
    assert mix_N[:8_000].any() and mix_N[16_000:].any()


def test_a_laugh_is_a_row_of_bursts_and_a_breath_has_no_bass() -> None:
    rng = np.random.default_rng(0)
    breath_N, laugh_N = (make_sound(kind, 16_000, 16_000, rng) for kind in ("breath", "laugh"))
    power_F = np.abs(np.fft.rfft(breath_N)) ** 2
    assert power_F[:100].sum() < 0.01 * power_F.sum()
    envelope_T = (laugh_N.reshape(-1, 160) ** 2).mean(1)
    pulse_F = np.abs(np.fft.rfft(envelope_T - envelope_T.mean()))
    assert 3 <= pulse_F.argmax() <= 6
    assert np.sqrt(np.mean(laugh_N**2)) == pytest.approx(1.0, abs=1e-3)


def test_phrases_fill_a_turn_with_speech(speech: Corpus) -> None:
    talk = simulated(speech, "meeting")
    store, utterances = talk.simulator.store, speech.by_speaker["t0"]
    # The speaker has three seconds; a longer turn uses them again.
    phrases = cut_phrases(store, utterances, 10 * RATE, (0.1, 0.3), np.random.default_rng(0))
    assert all(a.at + a.samples < b.at for a, b in pairwise(phrases))
    assert sum(phrase.samples for phrase in phrases) > 0.6 * 10 * RATE
    short = cut_phrases(store, utterances, RATE // 4, (0.1, 0.3), np.random.default_rng(1))[0]
    assert store.active(short.utterance, short.start, 800).any()


def test_hours_of_a_meeting_are_written_in_blocks(speech: Corpus, tmp_path: Path) -> None:
    talk = simulated(speech, "call", seconds=2 * 3600.0)
    mix_N, _ = talk.render(talk.samples - 8_000, talk.samples)
    assert mix_N.shape == (8_000,)
    path = simulated(speech, "call", seconds=40.0).write(tmp_path, "call")
    assert audio.info(path).seconds == pytest.approx(40.0)


def test_settings_of_plain_conversations_are_refused_in_a_style() -> None:
    with pytest.raises(ValidationError, match="overlap is a setting of the style 'plain'"):
        ConversationConfig(style="meeting", overlap=0.4)
    with pytest.raises(ValidationError, match="rooms"):
        ConversationConfig(style="call", rooms=2)
