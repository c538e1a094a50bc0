"""Simulated conversations: the overlap is as configured, blocks add up, and the reference is correct."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from separative import audio
from separative.corpora.manifest import Corpus
from separative.errors import CorpusError
from separative.mixtures import ConversationConfig, ConversationSimulator
from separative.rttm import read_rttm, turns_to_frames

RATE = 8000


def config(**changes: object) -> ConversationConfig:
    return ConversationConfig.model_validate(
        {"rate": RATE, "seconds": 60.0, "turn_seconds": (0.5, 2.0)} | changes
    )


@pytest.mark.parametrize("speakers", [2, 4])
@pytest.mark.parametrize("overlap", [0.0, 0.2, 0.4, 0.6])
def test_overlap_is_as_configured(speech: Corpus, speakers: int, overlap: float) -> None:
    made = ConversationSimulator(
        speech, config(seconds=600.0, speakers=speakers, overlap=overlap, backchannels=0.0), seed=0
    )
    assert made.conversation(0).overlap == pytest.approx(overlap, abs=0.04)


def test_at_most_two_turns_overlap_without_backchannels(speech: Corpus) -> None:
    talk = ConversationSimulator(
        speech, config(speakers=4, overlap=0.6, backchannels=0.0, seconds=300.0), seed=1
    ).conversation(3)
    count_N = np.zeros(talk.samples, int)
    for turn in talk.turns:
        count_N[turn.start : turn.end] += 1
    assert count_N.max() == 2
    assert {turn.speaker for turn in talk.turns} == set(range(4))
    assert max(turn.end for turn in talk.turns) <= talk.samples


def test_rendered_blocks_add_up_to_the_whole_conversation(speech: Corpus, noise: Corpus) -> None:
    talk = ConversationSimulator(speech, config(snr_db=(10.0, 10.0)), seed=2, noise=noise).conversation(1)
    mix_N, source_KN = talk.render(0, talk.samples)
    edges = [0, 7, 12_345, 200_000, 200_001, talk.samples]
    blocks = [talk.render(a, b) for a, b in pairwise(edges)]
    np.testing.assert_array_equal(np.concatenate([mix for mix, _ in blocks]), mix_N)
    np.testing.assert_array_equal(np.concatenate([s for _, s in blocks], axis=1), source_KN)
    hiss_N = mix_N - source_KN.sum(0)
    loud_N = np.abs(source_KN).sum(0) > 0
    snr_db = 10 * np.log10(np.mean(source_KN.sum(0)[loud_N] ** 2) / np.mean(hiss_N**2))
    assert snr_db == pytest.approx(10.0, abs=3.5)


def test_seed_and_number_determine_a_conversation(speech: Corpus) -> None:
    one, other = (ConversationSimulator(speech, config(), seed=3).conversation(2) for _ in range(2))
    assert one.turns == other.turns and one.names == other.names
    np.testing.assert_array_equal(one.render(1000, 90_000)[0], other.render(1000, 90_000)[0])
    assert ConversationSimulator(speech, config(), seed=4).conversation(2).turns != one.turns
    assert ConversationSimulator(speech, config(), seed=3).conversation(3).turns != one.turns


def test_the_reference_marks_where_each_speaker_has_energy(speech: Corpus) -> None:
    talk = ConversationSimulator(speech, config(overlap=0.3), seed=5).conversation(0)
    _, source_KN = talk.render(0, talk.samples)
    frames = talk.samples // (RATE // 100)
    active_KT = turns_to_frames(talk.speech_turns(), talk.names, frames, 0.01)
    power_KT = (source_KN[:, : frames * 80].reshape(len(source_KN), frames, 80) ** 2).mean(-1)
    for power_T, active_T in zip(power_KT, active_KT, strict=True):
        # Outside the reference there is almost no energy, and most frames inside it have some.
        assert power_T[active_T].sum() > 0.97 * power_T.sum()
        assert (power_T[active_T] > 1e-4 * power_T.max()).mean() > 0.8


def test_reverberation_continues_after_a_turn(speech: Corpus, tmp_path: Path) -> None:
    pytest.importorskip("pyroomacoustics")
    rooms = ConversationSimulator(
        speech, config(seconds=20.0, rooms=1, rt60=(0.4, 0.4)), seed=6, cache=tmp_path
    )
    talk = rooms.conversation(0)
    last = talk.turns[0]
    _, source_KN = talk.render(last.end, last.end + 400)
    assert np.abs(source_KN[last.speaker]).max() > 0
    assert talk.describe()["room"]["rt60"] == pytest.approx(0.4)
    whole, halves = talk.render(0, 80_000)[0], [talk.render(0, 41_000)[0], talk.render(41_000, 80_000)[0]]
    np.testing.assert_array_equal(np.concatenate(halves), whole)


def test_written_files_hold_the_conversation_and_its_reference(speech: Corpus, tmp_path: Path) -> None:
    talk = ConversationSimulator(speech, config(seconds=40.0), seed=7).conversation(0)
    reports: list[tuple[int, int]] = []
    path = talk.write(tmp_path, "talk", progress=lambda done, total: reports.append((done, total)))
    wave_N, rate = audio.read(path)
    assert rate == RATE and len(wave_N) == talk.samples
    np.testing.assert_allclose(wave_N, talk.render(0, talk.samples)[0], atol=1 / 2**15)
    found = read_rttm(tmp_path / "talk.rttm")["talk"]
    assert [(t.speaker, round(t.start, 3)) for t in talk.speech_turns()] == [
        (t.speaker, t.start) for t in found
    ]
    assert reports[-1] == (talk.samples, talk.samples) and len(reports) == 2


def test_hours_can_be_planned_and_rendered_at_the_end(speech: Corpus) -> None:
    talk = ConversationSimulator(speech, config(seconds=4 * 3600.0, overlap=0.2), seed=8).conversation(0)
    assert len(talk.turns) > 4000
    assert talk.overlap == pytest.approx(0.2, abs=0.04)
    mix_N, _ = talk.render(talk.samples - 16_000, talk.samples)
    assert np.abs(mix_N).max() > 0


def test_missing_speakers_and_noise_and_too_much_overlap_are_refused(speech: Corpus) -> None:
    few = speech.filter(lambda u: u.speaker in ("t0", "t1"))
    with pytest.raises(CorpusError, match="needs 3 speakers of one corpus, but the largest corpus has 2"):
        ConversationSimulator(few, config(), seed=0)
    with pytest.raises(CorpusError, match="no noise clips"):
        ConversationSimulator(speech, config(snr_db=(5.0, 10.0)), seed=0)
    with pytest.raises(ValidationError, match=r"at most 0\.7"):
        config(overlap=0.9)


@pytest.mark.parametrize(
    "settings",
    [{"turn_seconds": (8, 0.8)}, {"turn_seconds": (0, 8)}, {"rt60": (0.05, 0.3)}, {"snr_db": (9, 3)}],
)
def test_invalid_ranges_are_refused(settings: dict[str, tuple[float, float]]) -> None:
    with pytest.raises(ValidationError):
        ConversationConfig(**settings)


def test_a_conversation_of_one_speaker_has_no_overlap(speech: Corpus) -> None:
    talk = ConversationSimulator(speech, config(speakers=1, overlap=0.0), seed=9).conversation(0)
    assert talk.overlap == 0.0 and {t.speaker for t in talk.turns} == {0}
