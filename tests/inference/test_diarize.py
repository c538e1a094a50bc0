"""Diarization of recordings of any length: windows, memory, speakers, separated waveforms and the cache."""

import numpy as np
import pytest

from separative import audio
from separative.errors import AudioError, SeparativeError
from separative.inference.diarize import diarize
from separative.inference.forward import forward
from separative.inference.separated import speaker_waveforms, write_speakers
from separative.inference.speakers import describe_speakers
from separative.inference.windows import (
    WindowGrid,
    WindowOutputs,
    attend_recording,
    run_windows,
    split_windows,
)

RATE = 8000


@pytest.mark.parametrize("samples", [1, 99, 100, 101, 150, 175, 1000, 1001])
@pytest.mark.parametrize("block", [7, 64, 5000])
def test_windows_cover_every_sample_and_start_every_hop(samples: int, block: int) -> None:
    wave_N = np.arange(samples, dtype=np.float32)
    found = list(split_windows([wave_N[i : i + block] for i in range(0, samples, block)], 100, 25))
    for number, window_N in enumerate(found):
        np.testing.assert_array_equal(window_N, wave_N[25 * number : 25 * number + 100])
    assert 25 * (len(found) - 1) + len(found[-1]) == samples
    assert all(len(window_N) == 100 for window_N in found[:-1])


def test_outputs_are_those_of_single_windows(model, record) -> None:
    wave_N, _ = audio.read(record("w.wav", seconds=9.3))
    grid = WindowGrid.for_model(model, 2.0, 0.5)
    windows = run_windows(model, [wave_N], grid, len(wave_N))
    size, hop = grid.window * grid.segment, grid.hop * grid.segment
    for w in (0, 5, len(windows.query) - 1):
        alone = forward(model, [wave_N[w * hop : w * hop + size]], separate=False)
        np.testing.assert_allclose(windows.query[w], alone.query_BCE[0].numpy(), atol=1e-5)
        activity_CS = alone.activity_BCS[0].sigmoid().numpy()[:, : grid.window]
        np.testing.assert_allclose(windows.activity[w, :, : activity_CS.shape[1]], activity_CS, atol=1e-5)
    # The memory holds every segment of the recording once per stream.
    assert len(windows.memory) == pytest.approx(model.streams * grid.segments(len(wave_N)), abs=4)
    assert windows.samples == len(wave_N)


def test_the_memory_is_thinned_evenly(model, record, monkeypatch) -> None:
    wave_N, _ = audio.read(record("thin.wav", seconds=20.0))
    grid = WindowGrid.for_model(model, 2.0, 0.5)
    whole = run_windows(model, [wave_N], grid, len(wave_N))
    monkeypatch.setattr("separative.inference.windows.MAX_MEMORY_SEGMENTS", 100)
    thin = run_windows(model, [wave_N], grid, len(wave_N))
    assert 50 <= len(thin.memory) <= 110 < len(whole.memory)
    np.testing.assert_array_equal(thin.query, whole.query)


def test_attending_to_one_window_gives_the_embeddings_of_the_model(model, record) -> None:
    wave_N, _ = audio.read(record("one.wav", seconds=1.7))
    windows = run_windows(model, [wave_N], WindowGrid.for_model(model, 4.0, 1.0), len(wave_N))
    whole = forward(model, [wave_N], separate=False)
    found_CE = attend_recording(model, windows.query[0], windows)
    np.testing.assert_allclose(found_CE, whole.attended_BCE[0].numpy(), atol=1e-5)
    np.testing.assert_array_equal(
        attend_recording(model, windows.query[0], windows, attention=False), windows.query[0]
    )


def test_fields_of_a_diarization_and_files_of_its_speakers(model, record, tmp_path) -> None:
    path = record("meeting.wav", seconds=11.0, rate=16000, channels=2)
    reported: list[tuple[int, int]] = []
    diarization = diarize(model, path, progress=lambda done, total: reported.append((done, total)))
    assert reported[-1][0] == pytest.approx(reported[-1][1], abs=2)
    assert diarization.seconds == pytest.approx(11.0, abs=0.01) and diarization.channels == 2
    assert diarization.speakers
    for number, speaker in enumerate(diarization.speakers, 1):
        assert speaker.name == f"speaker{number}"
        assert np.linalg.norm(speaker.embedding) == pytest.approx(1, abs=1e-5)
        assert all(0 <= t.start < t.end <= diarization.seconds for t in speaker.turns)
        assert len(speaker.activity) * diarization.segment_seconds == pytest.approx(11.0, abs=0.2)
    paths = write_speakers(model, diarization, tmp_path)
    assert [p.name for p in paths] == [f"meeting-{s.name}.wav" for s in diarization.speakers]
    for speaker_path in paths:
        wave_N, rate = audio.read(speaker_path)
        assert (rate, len(wave_N)) == (RATE, round(diarization.seconds * RATE))


def test_speakers_are_ordered_by_their_turns_not_by_windows(model) -> None:
    """The beginning is in one window and the middle in two, so seconds summed over windows would mislead."""
    grid = WindowGrid.for_model(model, 4.0, 2.0)
    activity_TC = np.zeros((grid.hop * 6, 2), np.float32)
    activity_TC[: grid.hop, 1], activity_TC[grid.hop * 3 : grid.hop * 4 - 2, 0] = 1, 1
    activity_WCS = np.stack([activity_TC[w * grid.hop :][: grid.window].T for w in range(5)])
    query_WCE = np.zeros((5, 2, model.config.embedding), np.float32)
    query_WCE[:, 0, 0], query_WCE[:, 1, 1] = 1, 1
    windows = WindowOutputs(
        grid,
        activity_WCS,
        query_WCE,
        np.zeros((0, model.config.embedding), np.float32),
        np.zeros(0, np.float32),
        np.zeros((5, grid.window), np.float32),
        grid.hop * 6 * grid.segment - grid.lead,
    )
    streams = np.where(activity_WCS.any(-1), [0, 1], -1)
    speakers, label_WC = describe_speakers(model, windows, streams)
    assert [s.name for s in speakers] == ["speaker1", "speaker2"]
    assert speakers[0].speech_seconds > speakers[1].speech_seconds > 0
    assert speakers[0].turns[0].start == 0 and label_WC[0, 1] == 0 and label_WC[2, 0] == 1
    assert (label_WC[1:, 1] == -1).all()


def test_a_file_and_its_waveform_give_the_same_result(model, record) -> None:
    path = record("same.wav", seconds=7.0)
    wave_N, rate = audio.read(path)
    one, other = diarize(model, path), diarize(model, (wave_N, rate))
    np.testing.assert_array_equal(one.window_speaker, other.window_speaker)
    for a, b in zip(one.speakers, other.speakers, strict=True):
        np.testing.assert_allclose(a.embedding, b.embedding, atol=1e-5)
        assert a.turns == b.turns


def test_waveforms_are_sums_of_estimates_without_clicks(model, record) -> None:
    """If one speaker gets all streams, the fades cancel and the waveform is the sum of the estimates."""
    wave_N, rate = audio.read(record("sum.wav", seconds=9.0))
    diarization = diarize(model, (wave_N, rate), window=2.0, hop=0.5)
    diarization.window_speaker[:] = 0
    one = type(diarization)(**{**vars(diarization), "speakers": diarization.speakers[:1]})
    speaker_N = np.concatenate([v[0] for v in speaker_waveforms(model, one)])
    assert len(speaker_N) == len(wave_N)
    size = diarization.windows.grid.window * diarization.windows.grid.segment
    first_N = forward(model, [wave_N[:size]]).estimate_BCN[0].sum(0).numpy()
    np.testing.assert_allclose(speaker_N[: size // 2], first_N[: size // 2], atol=1e-5)
    # Steps between samples are not larger where two windows meet.
    step_N = np.abs(np.diff(speaker_N))
    border = np.arange(size // 2, len(speaker_N) - 2, size // 2)
    assert step_N[border - 1].max() <= step_N.max()


def test_short_and_silent_recordings_and_zero_speakers_are_refused(model, tmp_path) -> None:
    with pytest.raises(AudioError, match=r"needs 0\.5 s of speech"):
        diarize(model, (np.ones(100, np.float32), RATE))
    with pytest.raises(AudioError, match="silent throughout"):
        diarize(model, (np.zeros(9000, np.float32), RATE))
    with pytest.raises(SeparativeError, match="speakers is 0"):
        diarize(model, (np.ones(9000, np.float32), RATE), speakers=0)
    audio.write(tmp_path / "quiet.wav", np.zeros(40_000, np.float32), RATE)
    with pytest.raises(AudioError, match="silent throughout"):
        diarize(model, tmp_path / "quiet.wav")


def test_an_interrupted_call_continues_from_the_cache(model, record, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("separative.inference.windows.CACHE_EVERY", 4)
    monkeypatch.setattr("separative.inference.windows.BATCH", 4)
    path, cache = record("stopped.wav", seconds=14.0), tmp_path / "cache.npz"
    whole = diarize(model, path)

    def stop(done: int, total: int) -> None:
        if done > 0.6 * total:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        diarize(model, path, cache=cache, progress=stop)
    reported: list[int] = []
    again = diarize(model, path, cache=cache, progress=lambda done, total: reported.append(done))
    assert reported[0] > 0.6 * whole.seconds * RATE
    np.testing.assert_array_equal(again.window_speaker, whole.window_speaker)
    for one, other in zip(again.speakers, whole.speakers, strict=True):
        np.testing.assert_array_equal(one.embedding, other.embedding)
        assert one.turns == other.turns
    # A cache of another recording, or a damaged one, is ignored.
    other_path = record("other.wav", seconds=14.0, seed=5)
    reported.clear()
    diarize(model, other_path, cache=cache, progress=lambda done, total: reported.append(done))
    assert reported[0] < 0.6 * whole.seconds * RATE
    cache.write_bytes(b"not a cache")
    diarize(model, path, cache=cache)


def test_a_damaged_file_is_diarized_up_to_the_damage(model, record, tmp_path) -> None:
    whole = record("cut.flac", seconds=12.0)
    path = tmp_path / "cut.flac"
    path.write_bytes(whole.read_bytes()[: whole.stat().st_size * 2 // 3])
    diarization = diarize(model, path)
    assert "cut.flac" in diarization.damage and 5.0 < diarization.seconds < 9.0
    assert diarization.speakers
    assert diarize(model, whole).damage == ""


def test_active_only_mutes_waveforms_outside_turns(model, record, tmp_path) -> None:
    path = record("parts.wav", seconds=8.0)
    diarization = diarize(model, path)
    diarization.speakers[0].activity[:] = 0
    first = diarization.speakers[0]
    half = type(first)(
        first.name, (first.turns[0]._replace(start=1.0, end=2.0),), first.embedding, first.activity
    )
    diarization = type(diarization)(**{**vars(diarization), "speakers": (half, *diarization.speakers[1:])})
    whole_N, _ = audio.read(write_speakers(model, diarization, tmp_path / "whole")[0])
    part_N, _ = audio.read(write_speakers(model, diarization, tmp_path / "part", active_only=True)[0])
    np.testing.assert_array_equal(part_N[RATE : 2 * RATE], whole_N[RATE : 2 * RATE])
    # The waveform fades in up to half a segment before the turn.
    margin = round(diarization.windows.grid.segment / 2 + 0.025 * RATE)
    assert part_N[RATE - margin // 2 : RATE].any()
    assert not part_N[: RATE - margin].any() and not part_N[2 * RATE + margin :].any()
