"""Revisions of a stream: corrections, constant memory, and continuity of the speakers' numbers."""

import numpy as np
import pytest

import separative
from separative import audio
from separative.corpora import load_corpus
from separative.inference import StreamingTurns
from separative.inference.revision import PastWindows, _keep_numbers, free_numbers, revise
from separative.inference.streaming import StreamingDiarizer
from separative.inference.updates import Correction, StreamingUpdate, find_corrections
from separative.metrics import diarization_error
from separative.rttm import turns_to_frames

FRAME = 0.01


@pytest.fixture(scope="module")
def base():
    """The model of the package, because decisions about speakers need a trained model."""
    return separative.load_model()


@pytest.fixture(scope="module")
def meeting(base, data):
    """Turns of two speakers, 30 s."""
    corpus = load_corpus(data / "speech.csv")
    voices = [
        np.concatenate(
            [wave / np.abs(wave).max() for wave in read_all(corpus.by_speaker[speaker], base.rate)]
        )
        for speaker in ("speechocean762/0461", "speechocean762/3068")
    ]
    seconds = 5 * base.rate
    pieces = [0.2 * voices[i % 2][i // 2 * seconds :][:seconds] for i in range(6)]
    return np.concatenate(pieces).astype(np.float32)


def read_all(utterances, rate):
    return [audio.read(utterance.path, rate)[0] for utterance in utterances]


def windows(starts, labels, activity=1.0):
    """Windows with one stream; their queries are different."""
    count = len(starts)
    return PastWindows(
        np.array(starts),
        np.full((count, 1, 32), activity, np.float32),
        np.eye(count, dtype=np.float32)[:, None],
        np.zeros((count, 1, 16, count), np.float32),
        np.zeros((count, 1, 16), np.float32),
        np.zeros((count, 32), np.float32),
        np.array(labels)[:, None],
    )


def test_old_windows_are_dropped_from_the_speaker_with_the_most() -> None:
    past = windows(16 * np.arange(12), [0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 0, 0])
    kept = past.thin(16, 16 * 10, 6)
    assert len(kept.start) == 8
    assert {16 * 2, 16 * 9, 16 * 10, 16 * 11} <= set(kept.start.tolist())
    others = kept.start[(kept.label[:, 0] == 0) & (kept.start < 160)]
    assert others[0] == 0 and others[-1] == 16 * 8 and np.diff(others).max() <= 16 * 5
    assert len(past.thin(16, 0, 0).start) == 12
    assert past.thin(32, 0, 0).start.tolist() == list(range(0, 192, 32))


def test_speakers_keep_their_numbers() -> None:
    said_WC = np.array([[0], [0], [1], [1], [3], [-1]])
    found_WC = np.array([[1], [1], [1], [0], [2], [3]])
    seconds = np.ones((6, 1), np.float32)
    # Speaker 0 keeps most of its speech, number 2 is free.
    assert _keep_numbers(found_WC, said_WC, seconds, 4, 4) == [1, 0, 3, 2]
    assert free_numbers(np.array([], np.int64), 2).tolist() == [0, 1]


def test_corrections_are_the_differences() -> None:
    before_KT = np.array([[1, 1, 0, 0, 1], [0, 0, 1, 0, 0]], bool)
    after_KT = np.array([[1, 0, 1, 0, 1], [0, 1, 1, 0, 0]], bool)
    assert find_corrections(before_KT, after_KT, 10.0, 0.5) == [
        Correction(10.5, 11.0, (0,), (1,)),
        Correction(11.0, 11.5, (1,), (0, 1)),
    ]
    assert find_corrections(after_KT, after_KT, 10.0, 0.5) == []


def test_turns_follow_corrections() -> None:
    log = StreamingTurns(1.0)
    none = np.zeros((2, 0), np.float32)
    log.add([StreamingUpdate(0.0, 4.0, np.array([[1.0] * 4]), none[:1], none[:1])])
    second = np.array([[0.0] * 4, [0.9] * 4])
    log.add([StreamingUpdate(4.0, 8.0, second, none, none, (Correction(2.0, 4.0, (0,), (1,)),))])
    assert [turn[:3] for turn in log.turns()] == [("speaker1", 0.0, 2.0), ("speaker2", 2.0, 8.0)]


@pytest.mark.data
def test_results_after_corrections_are_those_of_diarize(base, meeting) -> None:
    diarizer, log = StreamingDiarizer(base), StreamingTurns(base.segment_seconds)
    updates = diarizer.push(meeting) + diarizer.finish()
    log.add(updates)
    expected = separative.diarize(base, (meeting, base.rate))
    frames = round(len(meeting) / base.rate / FRAME)
    one, other = (
        turns_to_frames(turns, sorted({turn.speaker for turn in turns}), frames, FRAME)
        for turns in (expected.turns, log.turns())
    )
    assert len(one) == len(other) == 2
    assert diarization_error(one, other, FRAME).rate < 0.08
    # Corrections stay within the horizon, and before the end of the signal.
    for update in updates:
        for change in update.corrections:
            assert update.start - 30.2 <= change.start < change.end <= update.end
            assert change.before != change.after


@pytest.mark.data
def test_without_horizon_nothing_is_corrected(base, meeting) -> None:
    diarizer = StreamingDiarizer(base, horizon=0)
    updates = diarizer.push(meeting[: 12 * base.rate]) + diarizer.finish()
    assert not any(update.corrections for update in updates)


def test_noise_is_not_a_speaker(base) -> None:
    noise_N = 0.01 * np.random.default_rng(3).standard_normal(15 * base.rate).astype(np.float32)
    diarizer, log = StreamingDiarizer(base), StreamingTurns(base.segment_seconds)
    log.add(diarizer.push(noise_N) + diarizer.finish())
    assert log.turns() == []


def test_memory_is_constant(model, record, monkeypatch) -> None:
    monkeypatch.setattr("separative.inference.streaming.MAX_WINDOWS", 6)
    monkeypatch.setattr("separative.inference.streaming.phase_count", lambda seconds: 1)
    wave_N, _ = audio.read(record("long.wav", seconds=24.0))
    diarizer = StreamingDiarizer(model, horizon=2.0)
    sizes = []
    for block_N in np.array_split(wave_N, 12):
        diarizer.push(block_N)
        sizes.append(sum(x.nbytes for x in (*vars(diarizer.state.past).values(), diarizer.state.said)))
    assert len(diarizer.state.past.start) <= 6 + 6
    assert max(sizes[8:]) <= max(sizes[:8])


def test_without_a_window_in_the_horizon_there_are_no_turns(model, record) -> None:
    wave_N, _ = audio.read(record("late.wav", seconds=8.0))
    diarizer = StreamingDiarizer(model, same_cosine=0.9)
    diarizer.push(wave_N)
    past = diarizer.state.past
    assert revise(model, diarizer.grid, past, int(past.start[-1]) + 1, 2).turns == []
