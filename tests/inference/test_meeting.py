"""Recordings of any length: windows that cover them, voices without clicks, the same from file and wave."""

import numpy as np
import pytest

from separative import audio
from separative.errors import AudioError, SeparativeError
from separative.inference.diarize import assign_speakers, diarize
from separative.inference.forward import forward
from separative.inference.separated import voices, write_voices
from separative.inference.windows import Views, WindowGrid, answers, hear, windows

RATE = 8000


@pytest.mark.parametrize("samples", [1, 99, 100, 101, 150, 175, 1000, 1001])
@pytest.mark.parametrize("block", [7, 64, 5000])
def test_windows_cover_every_sample_and_begin_on_the_grid(samples: int, block: int) -> None:
    wave_N = np.arange(samples, dtype=np.float32)
    found = list(windows([wave_N[i : i + block] for i in range(0, samples, block)], 100, 25))
    for number, window_N in enumerate(found):
        np.testing.assert_array_equal(window_N, wave_N[25 * number : 25 * number + 100])
    assert 25 * (len(found) - 1) + len(found[-1]) == samples
    assert all(len(window_N) == 100 for window_N in found[:-1])


def test_memory_and_activity_are_those_of_the_windows(model, record) -> None:
    wave_N, _ = audio.read(record("w.wav", seconds=9.3))
    grid = WindowGrid.of(model, 2.0, 0.5)
    views = hear(model, [wave_N], grid, len(wave_N))
    size, hop = grid.window * grid.segment, grid.hop * grid.segment
    for w in (0, 5, len(views.query_WCE) - 1):
        alone = forward(model, [wave_N[w * hop : w * hop + size]], separate=False)
        np.testing.assert_allclose(views.query_WCE[w], alone.query_BCE[0].numpy(), atol=1e-5)
        activity_CS = alone.activity_BCS[0].sigmoid().numpy()[:, : grid.window]
        np.testing.assert_allclose(views.activity_WCS[w, :, : activity_CS.shape[1]], activity_CS, atol=1e-5)
    # Every segment of the recording is in the memory once for each stream.
    assert len(views.memory_ME) == pytest.approx(model.streams * grid.segments(len(wave_N)), abs=4)
    assert views.samples == len(wave_N)


def test_the_memory_is_thinned_evenly(model, record, monkeypatch) -> None:
    wave_N, _ = audio.read(record("thin.wav", seconds=20.0))
    grid = WindowGrid.of(model, 2.0, 0.5)
    whole = hear(model, [wave_N], grid, len(wave_N))
    monkeypatch.setattr("separative.inference.windows.MEMORY", 100)
    thin = hear(model, [wave_N], grid, len(wave_N))
    assert 50 <= len(thin.memory_ME) <= 110 < len(whole.memory_ME)
    np.testing.assert_array_equal(thin.query_WCE, whole.query_WCE)


def test_one_window_answers_as_the_model_does(model, record) -> None:
    wave_N, _ = audio.read(record("one.wav", seconds=1.7))
    views = hear(model, [wave_N], WindowGrid.of(model, 4.0, 1.0), len(wave_N))
    whole = forward(model, [wave_N], separate=False)
    found_CE = answers(model, views.query_WCE[0], views)
    np.testing.assert_allclose(found_CE, whole.attended_BCE[0].numpy(), atol=1e-5)
    np.testing.assert_array_equal(
        answers(model, views.query_WCE[0], views, attention=False), views.query_WCE[0]
    )


def test_what_a_meeting_is_made_of(model, record, tmp_path) -> None:
    path = record("meeting.wav", seconds=11.0, rate=16000, channels=2)
    told: list[tuple[int, int]] = []
    meeting = diarize(model, path, progress=lambda done, total: told.append((done, total)))
    assert told[-1][0] == pytest.approx(told[-1][1], abs=2)
    assert meeting.seconds == pytest.approx(11.0, abs=0.01) and meeting.channels == 2
    assert meeting.speakers
    for number, speaker in enumerate(meeting.speakers, 1):
        assert speaker.name == f"speaker{number}"
        assert np.linalg.norm(speaker.embedding_E) == pytest.approx(1, abs=1e-5)
        assert all(0 <= t.start < t.end <= meeting.seconds for t in speaker.turns)
        assert len(speaker.activity_T) * meeting.segment_seconds == pytest.approx(11.0, abs=0.2)
    paths = write_voices(model, meeting, tmp_path)
    assert [p.name for p in paths] == [f"meeting-{s.name}.wav" for s in meeting.speakers]
    for voice_path in paths:
        wave_N, rate = audio.read(voice_path)
        assert (rate, len(wave_N)) == (RATE, round(meeting.seconds * RATE))


def test_who_says_most_comes_first_though_windows_hear_another_more_often(model) -> None:
    """The beginning lies in one window, the middle in two: the streams' seconds are not the turns'."""
    grid = WindowGrid.of(model, 4.0, 2.0)
    activity_TC = np.zeros((grid.hop * 6, 2), np.float32)
    activity_TC[: grid.hop, 1], activity_TC[grid.hop * 3 : grid.hop * 4 - 2, 0] = 1, 1
    activity_WCS = np.stack([activity_TC[w * grid.hop :][: grid.window].T for w in range(5)])
    query_WCE = np.zeros((5, 2, model.config.embedding), np.float32)
    query_WCE[:, 0, 0], query_WCE[:, 1, 1] = 1, 1
    views = Views(
        grid,
        activity_WCS,
        query_WCE,
        np.zeros((0, model.config.embedding), np.float32),
        np.zeros(0, np.float32),
        grid.hop * 6 * grid.segment - grid.lead,
    )
    speakers, label_WC = assign_speakers(model, views, speakers=2)
    assert [s.name for s in speakers] == ["speaker1", "speaker2"]
    assert speakers[0].speech_seconds > speakers[1].speech_seconds > 0
    assert speakers[0].turns[0].start == 0 and label_WC[0, 1] == 0 and label_WC[2, 0] == 1
    assert (label_WC[1:, 1] == -1).all()


def test_a_file_and_its_wave_say_the_same(model, record) -> None:
    path = record("same.wav", seconds=7.0)
    wave_N, rate = audio.read(path)
    one, other = diarize(model, path), diarize(model, (wave_N, rate))
    np.testing.assert_array_equal(one.label_WC, other.label_WC)
    for a, b in zip(one.speakers, other.speakers, strict=True):
        np.testing.assert_allclose(a.embedding_E, b.embedding_E, atol=1e-5)
        assert a.turns == b.turns


def test_voices_are_the_estimates_where_windows_agree(model, record) -> None:
    """With all streams of all windows one speaker's, fading adds up: the voice is the sum of the estimates."""
    wave_N, rate = audio.read(record("sum.wav", seconds=9.0))
    meeting = diarize(model, (wave_N, rate), window=2.0, hop=0.5)
    meeting.label_WC[:] = 0
    one = type(meeting)(**{**vars(meeting), "speakers": meeting.speakers[:1]})
    voice_N = np.concatenate([v[0] for v in voices(model, one)])
    assert len(voice_N) == len(wave_N)
    size = meeting.views.grid.window * meeting.views.grid.segment
    first_N = forward(model, [wave_N[:size]]).estimate_BCN[0].sum(0).numpy()
    np.testing.assert_allclose(voice_N[: size // 2], first_N[: size // 2], atol=1e-5)
    # No click where one window hands over to the next: steps there are no larger than elsewhere.
    step_N = np.abs(np.diff(voice_N))
    border = np.arange(size // 2, len(voice_N) - 2, size // 2)
    assert step_N[border - 1].max() <= step_N.max()


def test_silence_and_bad_requests_are_said(model, tmp_path) -> None:
    with pytest.raises(AudioError, match=r"needs 0\.5 s of speech"):
        diarize(model, (np.ones(100, np.float32), RATE))
    with pytest.raises(AudioError, match="silent throughout"):
        diarize(model, (np.zeros(9000, np.float32), RATE))
    with pytest.raises(SeparativeError, match="speakers 0"):
        diarize(model, (np.ones(9000, np.float32), RATE), speakers=0)
    audio.write(tmp_path / "quiet.wav", np.zeros(40_000, np.float32), RATE)
    with pytest.raises(AudioError, match="silent throughout"):
        diarize(model, tmp_path / "quiet.wav")


def test_what_was_heard_before_a_stop_is_not_heard_again(model, record, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("separative.inference.windows.KEEP_EVERY", 4)
    monkeypatch.setattr("separative.inference.windows.BATCH", 4)
    path, keep = record("stopped.wav", seconds=14.0), tmp_path / "kept.npz"
    whole = diarize(model, path)

    def stop(done: int, total: int) -> None:
        if done > 0.6 * total:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        diarize(model, path, keep=keep, progress=stop)
    told: list[int] = []
    again = diarize(model, path, keep=keep, progress=lambda done, total: told.append(done))
    assert told[0] > 0.6 * whole.seconds * RATE
    np.testing.assert_array_equal(again.label_WC, whole.label_WC)
    for one, other in zip(again.speakers, whole.speakers, strict=True):
        np.testing.assert_array_equal(one.embedding_E, other.embedding_E)
        assert one.turns == other.turns
    # Another recording, or what is no such file, is heard from the start.
    other_path = record("other.wav", seconds=14.0, seed=5)
    told.clear()
    diarize(model, other_path, keep=keep, progress=lambda done, total: told.append(done))
    assert told[0] < 0.6 * whole.seconds * RATE
    keep.write_bytes(b"nothing of the kind")
    diarize(model, path, keep=keep)


def test_a_recording_cut_short_is_analyzed_up_to_there(model, record, tmp_path) -> None:
    whole = record("cut.flac", seconds=12.0)
    path = tmp_path / "cut.flac"
    path.write_bytes(whole.read_bytes()[: whole.stat().st_size * 2 // 3])
    meeting = diarize(model, path)
    assert "cut.flac" in meeting.damage and 5.0 < meeting.seconds < 9.0
    assert meeting.speakers
    assert diarize(model, whole).damage == ""


def test_voices_of_active_parts_are_silent_elsewhere(model, record, tmp_path) -> None:
    path = record("parts.wav", seconds=8.0)
    meeting = diarize(model, path)
    meeting.speakers[0].activity_T[:] = 0
    first = meeting.speakers[0]
    half = type(first)(
        first.name, (first.turns[0]._replace(start=1.0, end=2.0),), first.embedding_E, first.activity_T
    )
    meeting = type(meeting)(**{**vars(meeting), "speakers": (half, *meeting.speakers[1:])})
    whole_N, _ = audio.read(write_voices(model, meeting, tmp_path / "whole")[0])
    part_N, _ = audio.read(write_voices(model, meeting, tmp_path / "part", active_only=True)[0])
    np.testing.assert_array_equal(part_N[RATE : 2 * RATE], whole_N[RATE : 2 * RATE])
    # Speech may begin up to half a segment before a turn, and is faded in.
    margin = round((meeting.segment_seconds / 2 + 0.025) * RATE)
    assert part_N[RATE - margin // 2 : RATE].any()
    assert not part_N[: RATE - margin].any() and not part_N[2 * RATE + margin :].any()
