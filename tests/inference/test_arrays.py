"""Waveforms as arrays: what is wrong with shape, type, values or rate is said in one sentence."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from separative import audio
from separative.errors import AudioError
from separative.inference import diarize, embed, separate, verify
from separative.inference.streaming import StreamingDiarizer

RATE = 8000
NOISE = 0.1 * np.random.default_rng(0).standard_normal(2 * RATE).astype(np.float32)
PCM = np.round(NOISE * 20000)

WRONG: list[tuple[Any, str]] = [
    ((NOISE, 0), "sampling rate of the waveform is 0; pass hertz, 1000 to 768000"),
    ((NOISE, -1), "sampling rate of the waveform is -1;"),
    ((NOISE, float("nan")), "sampling rate of the waveform is nan;"),
    ((NOISE, float("inf")), "sampling rate of the waveform is inf;"),
    ((NOISE, np.float32("nan")), "sampling rate of the waveform is "),
    ((NOISE, 8), "sampling rate of the waveform is 8;"),
    ((NOISE, 10**9), "sampling rate of the waveform is 1000000000;"),
    ((NOISE, "8000"), "sampling rate of the waveform is '8000';"),
    ((NOISE, None), "sampling rate of the waveform is None;"),
    ((NOISE, True), "sampling rate of the waveform is True;"),
    ((NOISE, np.array([RATE])), "sampling rate of the waveform is array"),
    ((RATE, NOISE), "passed as (wave, rate): first its samples"),
    ((NOISE, RATE, 2), "passed as (wave, rate)"),
    ((NOISE,), "passed as (wave, rate)"),
    (
        (np.stack([NOISE, NOISE], 1), RATE),
        "first axis is the channels and the last axis the samples, so pass wave.T",
    ),
    ((NOISE[:, None], RATE), "16000 channels of 1 samples"),
    ((NOISE[None, None], RATE), "has 3 axes (shape 1 x 1 x 16000); pass [N] or [channels, N]"),
    ((np.float32(0.1), RATE), "passed as (wave, rate)"),
    ((np.zeros(0, np.float32), RATE), "is empty (shape 0)"),
    ((np.zeros((2, 0), np.float32), RATE), "is empty (shape 2 x 0)"),
    (([], RATE), "is empty"),
    (
        (PCM.astype(np.int16), RATE),
        "has int16 samples; pass floating-point samples between -1 and 1, for example wave / 32768",
    ),
    ((PCM.astype(np.int32), RATE), "has int32 samples"),
    (((PCM / 256 + 128).astype(np.uint8), RATE), "for example (wave - 128.0) / 128"),
    ((NOISE.astype(object), RATE), "has object samples"),
    ((NOISE.astype(complex), RATE), "has complex128 samples"),
    ((NOISE > 0, RATE), "has bool samples"),
    ((NOISE.astype(str), RATE), "samples; pass floating-point"),
    (([[0.1], [0.1, 0.2]], RATE), "is not an array of samples"),
    ((np.where(np.arange(2 * RATE) == 7, np.nan, NOISE), RATE), "NaN or infinite"),
    ((np.where(np.arange(2 * RATE) == 7, np.inf, NOISE), RATE), "NaN or infinite"),
    ((NOISE.astype(np.float64) * 1e300, RATE), "holds a sample of"),
    (NOISE, "the sampling rate of the ndarray is missing; pass rate=16000"),
    (None, "cannot read a recording from NoneType"),
    (b"a.wav", "cannot read a recording from bytes"),
    (5, "cannot read a recording from int"),
]


@pytest.mark.parametrize(("source", "words"), WRONG, ids=range(len(WRONG)))
def test_a_wrong_waveform_is_refused_with_a_sentence(model, source: Any, words: str) -> None:
    for use in (
        embed,
        separate,
        lambda m, s: verify(m, s, (NOISE, RATE)),
        lambda m, s: verify(m, (NOISE, RATE), s),
    ):
        with pytest.raises(AudioError) as caught:
            use(model, source)
        assert words in str(caught.value)
    if isinstance(source, tuple):
        with pytest.raises(AudioError) as caught:
            diarize(model, source)
        assert words in str(caught.value)


def test_waveforms_that_are_right_give_the_same_embeddings(model) -> None:
    expected = embed(model, (NOISE, RATE)).streams[0].embedding
    for wave in (NOISE.astype(np.float64), NOISE.tolist(), NOISE[None], np.stack([NOISE, NOISE]), NOISE[::1]):
        for rate in (RATE, np.int64(RATE), float(RATE)):
            np.testing.assert_allclose(embed(model, (wave, rate)).streams[0].embedding, expected, atol=1e-5)
            assert verify(model, (wave, rate), [(NOISE, RATE)]).score == pytest.approx(1, abs=1e-5)
    loud = embed(model, (20 * NOISE, RATE))
    assert np.isfinite(loud.streams[0].embedding).all()


def test_channels_that_cancel_each_other_are_named(
    model, record: Callable[..., Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    opposite = np.stack([NOISE, -NOISE])
    audio.write(tmp_path / "opposite.wav", opposite, RATE, subtype="FLOAT")
    for source in ((opposite, RATE), tmp_path / "opposite.wav"):
        with pytest.raises(
            AudioError, match=r"silent throughout in the mean of its 2 channels.*--channels first"
        ):
            embed(model, source)
        assert embed(model, source, channels="first").seconds == 2.0
    caplog.clear()
    with caplog.at_level(logging.WARNING, "separative"):
        embed(model, (np.stack([NOISE, -0.9 * NOISE]), RATE))
    assert "opposite phase" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING, "separative"):
        embed(model, (np.stack([NOISE, np.roll(NOISE, 500)]), RATE))
    assert "phase" not in caplog.text


@pytest.mark.parametrize(
    ("block", "words"),
    [
        (np.stack([NOISE, NOISE]), r"the block has shape \(2, 16000\); push the samples of one channel"),
        (NOISE[:, None], r"the block has shape \(16000, 1\)"),
        (np.float32(0.1), r"the block has shape \(\)"),
        (PCM.astype(np.int16), "the block has int16 samples"),
        (NOISE.astype(object), "the block has object samples"),
        (None, "the block has object samples"),
        (b"\0\0", "samples; pass floating-point"),
        (np.array([0.1, np.nan]), "the block holds NaN"),
    ],
)
def test_a_wrong_block_is_refused_and_the_stream_continues(model, block: Any, words: str) -> None:
    diarizer = StreamingDiarizer(model)
    updates = diarizer.push(NOISE)
    with pytest.raises(AudioError, match=words):
        diarizer.push(block)
    updates += diarizer.push(NOISE.astype(np.float64)) + diarizer.push([]) + diarizer.finish()
    assert updates[-1].end == pytest.approx(4.0)
