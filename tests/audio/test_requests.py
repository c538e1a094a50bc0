"""Channels that cancel each other are reported, and requests that no file can satisfy are errors."""

from pathlib import Path

import numpy as np
import pytest

from separative import audio
from separative.errors import AudioError

RATE = 16000


def speech(seconds: float = 2.0, seed: int = 0) -> np.ndarray:
    time = np.arange(round(seconds * RATE)) / RATE
    return 0.1 * np.random.default_rng(seed).standard_normal(len(time)) * np.abs(np.sin(9 * time))


def stereo(path: Path, left: np.ndarray, right: np.ndarray) -> Path:
    audio.write(path, np.stack([left, right]).astype(np.float32), RATE, subtype="FLOAT")
    return path


CANCELLED = {
    "opposite": -speech(),
    "nearly opposite": -0.9 * speech(),
    "half as loud": -0.5 * speech(),
    "with noise": -speech() + 0.003 * np.random.default_rng(5).standard_normal(2 * RATE),
}


@pytest.mark.parametrize("right", CANCELLED.values(), ids=CANCELLED)
@pytest.mark.parametrize("how", ["read", "stream", "part"])
def test_channels_of_opposite_phase_are_reported_with_the_cure(
    tmp_path: Path, right: np.ndarray, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = stereo(tmp_path / "call.wav", speech(), right)
    if how == "read":
        audio.read(path)
    elif how == "part":
        audio.read(path, 8000, start=0.3, seconds=1.0)
    else:
        list(audio.stream(path))
    assert "call.wav: its channels have opposite phase and cancel each other" in caplog.text
    assert "--channels first" in caplog.text
    assert audio.level_db(audio.read(path, channels="first")[0]) > -30
    assert caplog.text.count("opposite phase") == 1


def test_a_long_stream_is_reported_before_its_end(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = stereo(tmp_path / "long.wav", speech(15.0), -speech(15.0))
    blocks = audio.stream(path, seconds=1.0)
    for _ in range(11):
        next(blocks)
    assert "opposite phase" in caplog.text


SOUND = {
    "equal": speech(),
    "silent": 0 * speech(),
    "unrelated": speech(seed=7),
    "weakly opposite": -0.3 * speech(),
    "one at a time": np.concatenate([np.zeros(RATE), speech(1.0, 3)]),
}


@pytest.mark.parametrize("right", SOUND.values(), ids=SOUND)
def test_ordinary_stereo_is_not_reported(
    tmp_path: Path, right: np.ndarray, caplog: pytest.LogCaptureFixture
) -> None:
    left = np.concatenate([speech(1.0), np.zeros(RATE)]) if right[:RATE].any() == 0 else speech()
    path = stereo(tmp_path / "a.wav", left, right)
    audio.read(path)
    list(audio.stream(path))
    several = np.stack([speech(seed=n) for n in range(8)]).astype(np.float32)
    audio.write(tmp_path / "array.wav", several, RATE)
    audio.read(tmp_path / "array.wav")
    audio.write(tmp_path / "quiet.wav", 1e-5 * np.stack([speech(), -speech()]), RATE, subtype="FLOAT")
    audio.read(tmp_path / "quiet.wav")
    assert caplog.text == ""


def test_a_channel_can_be_chosen_by_number(tmp_path: Path) -> None:
    path = stereo(tmp_path / "a.wav", speech(seed=1), speech(seed=2))
    each_CN, _ = audio.read(path, channels="each")
    for channel in (0, 1):
        np.testing.assert_array_equal(audio.read(path, channels=channel)[0], each_CN[channel])
        streamed = np.concatenate(list(audio.stream(path, channels=channel, seconds=0.3)))
        np.testing.assert_array_equal(streamed, each_CN[channel])
    for channel in (2, -1):
        with pytest.raises(AudioError, match=rf"a\.wav: no channel {channel}; it has 2, counted from 0"):
            audio.read(path, channels=channel)
    for policy in ("left", None, True, 1.0):
        with pytest.raises(AudioError, match="valid: each, first, mean"):
            audio.read(path, channels=policy)  # type: ignore[arg-type]


@pytest.mark.parametrize("seconds", [0.0, 1e-5, -1.0, float("nan"), float("inf"), 1e300])
def test_blocks_without_a_sample_are_an_error(tmp_path: Path, seconds: float) -> None:
    path = stereo(tmp_path / "a.wav", speech(), speech())
    with pytest.raises(AudioError, match=r"a\.wav: (blocks of .* hold no sample at|seconds is)"):
        next(audio.stream(path, seconds=seconds))
    assert next(audio.stream(path, seconds=1 / RATE)).shape == (1,)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 1e300, -1e300])
def test_times_that_are_no_numbers_are_an_error(tmp_path: Path, value: float) -> None:
    path = stereo(tmp_path / "a.wav", speech(), speech())
    with pytest.raises(AudioError, match=r"a\.wav: start is"):
        audio.read(path, start=value)
    with pytest.raises(AudioError, match=r"a\.wav: seconds is"):
        audio.read(path, seconds=value)


@pytest.mark.parametrize("rate", [0, -1, -16000, 10**9])
def test_a_rate_that_cannot_be_is_an_error(tmp_path: Path, rate: int) -> None:
    path = stereo(tmp_path / "a.wav", speech(), speech())
    for call in (audio.read, lambda *a: next(audio.stream(*a))):
        with pytest.raises(AudioError, match=rf"a\.wav: a rate of {rate} Hz is not possible"):
            call(path, rate)
