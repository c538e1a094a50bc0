"""Streaming diarization: equal results for any block size, bounded latency, and a state to continue from."""

import itertools

import numpy as np
import pytest

from separative import audio
from separative.errors import AudioError, SeparativeError
from separative.inference.forward import forward
from separative.inference.streaming import STEPS_PER_HOP, StreamingDiarizer

EXACT = 1e-5


def process(model, wave_N, cuts):
    """All updates for a waveform that is pushed in blocks, cut at the given samples."""
    diarizer = StreamingDiarizer(model, same_cosine=0.9)
    updates = []
    for block_N in np.split(wave_N, cuts):
        updates += diarizer.push(block_N)
    return updates + diarizer.finish()


def join(updates):
    """Waveforms and activities of all updates; speakers that appear later are silent before."""
    count = len(updates[-1].embedding)
    pads = [((0, count - len(u.embedding)), (0, 0)) for u in updates]
    waveforms = [np.pad(u.waveform, pad) for u, pad in zip(updates, pads, strict=True)]
    activities = [np.pad(u.activity, pad) for u, pad in zip(updates, pads, strict=True)]
    return np.concatenate(waveforms, 1), np.concatenate(activities, 1)


def test_the_block_size_does_not_change_results(model, record) -> None:
    wave_N, rate = audio.read(record("stream.wav", seconds=11.3))
    whole = process(model, wave_N, [])
    pieces = process(model, wave_N, [1, 700, 701, 9000, 50_000])
    assert [(u.start, u.end) for u in whole] == [(u.start, u.end) for u in pieces]
    for one, other in zip(join(whole), join(pieces), strict=True):
        np.testing.assert_allclose(one, other, atol=EXACT)
    np.testing.assert_allclose(whole[-1].embedding, pieces[-1].embedding, atol=EXACT)
    assert [u.corrections for u in whole] == [u.corrections for u in pieces]
    # The updates cover every sample exactly once.
    assert [u.start for u in whole[1:]] == pytest.approx([u.end for u in whole[:-1]])
    assert whole[0].start == 0 and whole[-1].end == pytest.approx(len(wave_N) / rate)
    assert join(whole)[0].shape[1] == len(wave_N)


@pytest.mark.parametrize("latency", [0.5, 1.5])
def test_results_come_within_the_latency(model, record, latency) -> None:
    wave_N, rate = audio.read(record("time.wav", seconds=8.0))
    diarizer = StreamingDiarizer(model, latency=latency)
    assert diarizer.latency <= latency + 0.1
    pushed, covered = 0, 0.0
    for block_N in np.array_split(wave_N, 200):
        updates = diarizer.push(block_N)
        pushed += len(block_N)
        covered = updates[-1].end if updates else covered
        assert pushed / rate - covered <= diarizer.latency + 1e-9


def test_waveforms_are_the_estimates_of_the_model(model, record) -> None:
    """Outside the fades, a speaker's waveform is the sum of some of the streams of a window."""
    wave_N, rate = audio.read(record("piece.wav", seconds=9.0))
    diarizer = StreamingDiarizer(model)
    updates = diarizer.push(wave_N)
    grid, hop = diarizer.grid, diarizer.grid.hop * diarizer.grid.segment // STEPS_PER_HOP
    size, stop = grid.window * grid.segment, round(updates[-1].end * rate)
    begin = stop + round(diarizer.latency * rate) - hop - size
    estimate_CN = forward(model, [wave_N[begin : begin + size]]).estimate_BCN[0].numpy()
    fade = round(0.02 * rate)
    piece_CN = estimate_CN[:, stop - hop + fade - begin : stop - begin]
    choices = np.array(list(itertools.product([0, 1], repeat=len(piece_CN))), np.float32)
    assert len(updates[-1].waveform)
    for wave in updates[-1].waveform:
        assert np.abs(choices @ piece_CN - wave[fade:]).max(1).min() < EXACT


def test_silence_has_no_speakers_and_short_signals_are_complete(model) -> None:
    updates = process(model, np.zeros(30_000, np.float32), [10_000])
    assert all(len(u.embedding) == 0 and u.waveform.shape[0] == 0 for u in updates)
    assert StreamingDiarizer(model).finish() == []
    few = process(model, 0.1 * np.ones(100, np.float32), [50])
    assert len(few) == 1 and few[0].end == pytest.approx(100 / model.rate)


def test_another_instance_continues_from_the_state(model, record) -> None:
    wave_N, _ = audio.read(record("state.wav", seconds=7.0))
    uninterrupted = process(model, wave_N, [31_000])
    first = StreamingDiarizer(model, same_cosine=0.9)
    updates = first.push(wave_N[:31_000])
    second = StreamingDiarizer(model, same_cosine=0.9)
    second.state = first.state
    updates += second.push(wave_N[31_000:]) + second.finish()
    for one, other in zip(join(uninterrupted), join(updates), strict=True):
        np.testing.assert_array_equal(one, other)


def test_nan_samples_are_refused_and_not_used(model, record) -> None:
    wave_N, _ = audio.read(record("nan.wav", seconds=6.0))
    diarizer = StreamingDiarizer(model, same_cosine=0.9)
    with pytest.raises(AudioError, match="NaN or infinite"):
        diarizer.push(np.array([0.1, np.nan], np.float32))
    updates = diarizer.push(wave_N) + diarizer.finish()
    for one, other in zip(join(updates), join(process(model, wave_N, [])), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(("name", "value"), [("latency", 0.1), ("latency", 9.0), ("horizon", -1.0)])
def test_settings_out_of_bounds_are_refused(model, name, value) -> None:
    with pytest.raises(SeparativeError, match=f"{name} is {value}; pass"):
        StreamingDiarizer(model, **{name: value})
