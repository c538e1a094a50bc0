"""Listening to a stream: the same however it is cut, in time, and with speakers known again."""

import numpy as np
import pytest

from separative import audio
from separative.errors import AudioError
from separative.inference.forward import forward
from separative.inference.streaming import StreamingDiarizer

EXACT = 1e-5


def told(model, wave_N, blocks):
    listener = StreamingDiarizer(model, same=0.9)
    updates = []
    for block_N in np.split(wave_N, blocks):
        updates += listener.push(block_N)
    return updates + listener.finish()


def whole(updates):
    """All samples and activities, speakers that came later silent before."""
    count = len(updates[-1].embedding_KE)
    pads = [((0, count - len(u.embedding_KE)), (0, 0)) for u in updates]
    voices = [np.pad(u.voice_KN, pad) for u, pad in zip(updates, pads, strict=True)]
    activities = [np.pad(u.activity_KS, pad) for u, pad in zip(updates, pads, strict=True)]
    return np.concatenate(voices, 1), np.concatenate(activities, 1)


def test_blocks_of_any_size_say_the_same(model, record) -> None:
    wave_N, rate = audio.read(record("stream.wav", seconds=11.3))
    once = told(model, wave_N, [])
    pieces = told(model, wave_N, [1, 700, 701, 9000, 50_000])
    assert [(u.start, u.end) for u in once] == [(u.start, u.end) for u in pieces]
    for one, other in zip(whole(once), whole(pieces), strict=True):
        np.testing.assert_allclose(one, other, atol=EXACT)
    np.testing.assert_allclose(once[-1].embedding_KE, pieces[-1].embedding_KE, atol=EXACT)
    # Every sample is spoken of once.
    assert [u.start for u in once[1:]] == pytest.approx([u.end for u in once[:-1]])
    assert once[0].start == 0 and once[-1].end == pytest.approx(len(wave_N) / rate)
    assert whole(once)[0].shape[1] == len(wave_N)


def test_what_is_said_comes_in_time(model, record) -> None:
    wave_N, rate = audio.read(record("time.wav", seconds=8.0))
    listener = StreamingDiarizer(model)
    assert listener.latency <= 2.0
    pushed, spoken = 0, 0.0
    for block_N in np.array_split(wave_N, 200):
        updates = listener.push(block_N)
        pushed += len(block_N)
        spoken = updates[-1].end if updates else spoken
        assert pushed / rate - spoken <= listener.latency + 1e-9


def test_a_piece_is_the_models_own_estimate(model, record) -> None:
    """Away from the fades, what one stream says goes to its speaker unchanged."""
    wave_N, rate = audio.read(record("piece.wav", seconds=9.0))
    listener = StreamingDiarizer(model, same=-2.0)  # all streams are one speaker's
    updates = listener.push(wave_N)
    grid, hop = listener.grid, listener.grid.hop * listener.grid.segment
    size, stop = grid.window * grid.segment, round(updates[-1].end * rate)
    first = stop - hop
    begin = first - (size - listener._ahead - hop)
    estimate_N = forward(model, [wave_N[begin : begin + size]]).estimate_BCN[0].sum(0).numpy()
    fade = round(0.02 * rate)
    np.testing.assert_allclose(
        updates[-1].voice_KN[0, fade:], estimate_N[first - begin + fade : stop - begin], atol=EXACT
    )


def test_silence_is_nobody_and_short_signals_end_well(model) -> None:
    updates = told(model, np.zeros(30_000, np.float32), [10_000])
    assert all(len(u.embedding_KE) == 0 and u.voice_KN.shape[0] == 0 for u in updates)
    assert StreamingDiarizer(model).finish() == []
    few = told(model, 0.1 * np.ones(100, np.float32), [50])
    assert len(few) == 1 and few[0].end == pytest.approx(100 / model.rate)


def test_listening_goes_on_from_its_state(model, record) -> None:
    wave_N, _ = audio.read(record("state.wav", seconds=7.0))
    whole_time = told(model, wave_N, [31_000])
    first = StreamingDiarizer(model, same=0.9)
    updates = first.push(wave_N[:31_000])
    second = StreamingDiarizer(model, same=0.9)
    second.state = first.state
    updates += second.push(wave_N[31_000:]) + second.finish()
    for one, other in zip(whole(whole_time), whole(updates), strict=True):
        np.testing.assert_array_equal(one, other)


def test_samples_that_are_no_numbers_are_refused_and_spoil_nothing(model, record) -> None:
    wave_N, _ = audio.read(record("nan.wav", seconds=6.0))
    listener = StreamingDiarizer(model, same=0.9)
    with pytest.raises(AudioError, match="NaN or infinite"):
        listener.push(np.array([0.1, np.nan], np.float32))
    updates = listener.push(wave_N) + listener.finish()
    for one, other in zip(whole(updates), whole(told(model, wave_N, [])), strict=True):
        np.testing.assert_array_equal(one, other)
