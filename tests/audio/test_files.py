"""Audio files, written and read with the real codecs."""

import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from separative import audio
from separative.errors import AudioError

RATE = 16000
# File name, libsndfile's subtype, and the largest error of the codec relative to the signal in dB.
CODECS = [
    ("a.wav", "PCM_16", -70.0),
    ("a.wav", "PCM_24", -115.0),
    ("a.wav", "FLOAT", -150.0),
    ("a.flac", "PCM_16", -70.0),
    ("a.ogg", "VORBIS", -8.0),
    ("a.ogg", "OPUS", -8.0),
    ("a.mp3", "MPEG_LAYER_III", -8.0),
]
codecs = pytest.mark.parametrize(
    ("name", "subtype", "error_db"), CODECS, ids=[f"{n}-{s}" for n, s, _ in CODECS]
)


def speechlike(seconds: float, seed: int = 0) -> np.ndarray:
    """Low-pass noise with the rhythm of syllables; broadband, so that a shift by one sample is visible."""
    rng = np.random.default_rng(seed)
    noise_N = np.convolve(rng.standard_normal(round(seconds * RATE)), np.hanning(12), "same")
    noise_N *= 1.2 + np.sin(2 * np.pi * 4 * np.arange(len(noise_N)) / RATE)
    return (0.5 * noise_N / np.abs(noise_N).max()).astype(np.float32)


@codecs
def test_written_samples_are_read_back_without_a_shift(
    tmp_path: Path, name: str, subtype: str, error_db: float
) -> None:
    wave_N = speechlike(3.0)
    soundfile.write(tmp_path / name, wave_N, RATE, subtype=subtype)
    read_N, rate = audio.read(tmp_path / name)
    assert (rate, read_N.dtype, read_N.shape) == (RATE, np.float32, wave_N.shape)
    assert audio.level_db(read_N - wave_N) - audio.level_db(wave_N) < error_db


@codecs
def test_a_part_equals_that_part_of_the_whole_file(
    tmp_path: Path, name: str, subtype: str, error_db: float
) -> None:
    audio.write(tmp_path / name, speechlike(4.0), RATE, subtype=subtype)
    whole_N, _ = audio.read(tmp_path / name)
    for start in (0.0, 0.1, 1.0, 2.7183):
        part_N, _ = audio.read(tmp_path / name, start=start, seconds=0.8)
        first = round(start * RATE)
        np.testing.assert_allclose(part_N, whole_N[first : first + 12800], atol=1e-3)


@codecs
def test_info_agrees_with_the_decoded_samples(
    tmp_path: Path, name: str, subtype: str, error_db: float
) -> None:
    audio.write(tmp_path / name, speechlike(1.25), RATE, subtype=subtype)
    header = audio.info(tmp_path / name)
    assert (header.rate, header.channels, header.frames, header.seconds) == (RATE, 1, 20000, 1.25)
    assert header.format.endswith(subtype)
    assert audio.is_complete(tmp_path / name)


@pytest.mark.parametrize("from_rate", [8000, 11025, 12000, 24000, 44100, 48000])
def test_a_part_has_exactly_the_requested_number_of_samples(tmp_path: Path, from_rate: int) -> None:
    audio.write(tmp_path / "a.wav", np.full(from_rate * 2, 0.1, np.float32), from_rate)
    for seconds in (0.1, 0.33337, 1.0):
        part_N, rate = audio.read(tmp_path / "a.wav", RATE, start=0.2501, seconds=seconds)
        assert (len(part_N), rate) == (round(seconds * RATE), RATE)
    beyond_N, _ = audio.read(tmp_path / "a.wav", RATE, start=1.0, seconds=3.0)
    assert len(beyond_N) == RATE


def test_channel_policies_average_select_or_keep_channels(tmp_path: Path) -> None:
    stereo_CN = np.stack([speechlike(0.5, 1), speechlike(0.5, 2)])
    audio.write(tmp_path / "a.wav", stereo_CN, RATE, subtype="FLOAT")
    assert audio.info(tmp_path / "a.wav").channels == 2
    np.testing.assert_array_equal(audio.read(tmp_path / "a.wav", channels="each")[0], stereo_CN)
    np.testing.assert_array_equal(audio.read(tmp_path / "a.wav", channels="first")[0], stereo_CN[0])
    np.testing.assert_allclose(audio.read(tmp_path / "a.wav")[0], stereo_CN.mean(axis=0), atol=1e-7)
    assert audio.read(tmp_path / "a.wav", 8000, channels="each")[0].shape == (2, 4000)
    with pytest.raises(AudioError, match="valid: each, first, mean"):
        audio.read(tmp_path / "a.wav", channels="left")  # type: ignore[arg-type]


def test_a_file_that_does_not_state_its_length_is_measured(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    wave_N = np.round(speechlike(2.0) * 32767) / np.float32(32768)
    audio.write(path, wave_N, RATE)
    data = bytearray(path.read_bytes())
    # The 36-bit sample count of STREAMINFO; zero means unknown (RFC 9639, section 8.2).
    data[21] &= 0xF0
    data[22:26] = bytes(4)
    path.write_bytes(data)
    assert audio.info(path).seconds == 2.0
    np.testing.assert_array_equal(audio.read(path)[0], wave_N)
    np.testing.assert_array_equal(audio.read(path, start=1.0, seconds=0.5)[0], wave_N[16000:24000])
    with pytest.raises(AudioError, match=r"a\.flac: no audio at 2\.00 s"):
        audio.read(path, start=2.0)


def test_a_wrong_length_in_the_header_allocates_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    audio.write(path, speechlike(0.5), RATE)
    data = bytearray(path.read_bytes())
    data[21] |= 0x0F  # 64 billion samples: 240 GB
    path.write_bytes(data)
    with pytest.raises(AudioError, match=r"a\.flac"):
        audio.read(path)


@pytest.mark.parametrize("extra", [1, 4000, 10**9])
def test_a_flac_header_with_too_many_samples_is_reported_as_cut_short(tmp_path: Path, extra: int) -> None:
    path = tmp_path / "a.flac"
    audio.write(path, speechlike(2.5), RATE)
    data = bytearray(path.read_bytes())
    data[22:26] = (40000 + extra).to_bytes(4, "big")
    path.write_bytes(data)
    sentence = rf"a\.flac: cut short, 40000 of {40000 + extra} frames can be decoded"
    for call in (lambda: audio.read(path), lambda: audio.read(path, start=2.4, seconds=10.0)):
        with pytest.raises(AudioError, match=sentence):
            call()
    samples = 0
    with pytest.raises(AudioError, match=sentence):
        for block_N in audio.stream(path, seconds=1.0):
            samples += len(block_N)
    assert samples == 40000
    # What is there can be read.
    assert len(audio.read(path, start=1.0, seconds=1.0)[0]) == RATE
    if extra > 4000:
        with pytest.raises(AudioError, match=r"cut short, it cannot be decoded at 3\.00 s"):
            audio.read(path, start=3.0)


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg", "a.opus", "a.mp3"])
def test_a_file_cut_short_is_detected(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    audio.write(path, speechlike(2.0), RATE)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    if name in ("a.flac", "a.mp3"):
        with pytest.raises(AudioError, match=name):
            audio.read(path)
    else:
        assert not audio.is_complete(path)


@pytest.mark.parametrize("name", ["x.wav", "x.flac", "x.ogg", "x.mp3", "x.raw", "x"])
@pytest.mark.parametrize("content", [b"", b"RIFF", b"not audio " * 50], ids=["none", "stub", "text"])
def test_files_that_are_not_audio_are_named_in_the_error(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    for call in (audio.info, audio.read):
        with pytest.raises(AudioError, match=f"{name}: not readable"):
            call(tmp_path / name)


def test_missing_empty_and_invalid_files_are_errors(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match=r"gone\.wav: no such file"):
        audio.read(tmp_path / "gone.wav")
    with pytest.raises(AudioError, match="is a folder"):
        audio.info(tmp_path)
    soundfile.write(tmp_path / "empty.wav", np.zeros(0), RATE)
    for call in (audio.info, audio.read):
        with pytest.raises(AudioError, match=r"empty\.wav: empty"):
            call(tmp_path / "empty.wav")
    for value in (np.nan, np.inf, 1e30):
        soundfile.write(tmp_path / "bad.wav", np.array([0.0, value, 0.0], np.float32), RATE, subtype="FLOAT")
        with pytest.raises(
            AudioError, match=r"bad\.wav: (holds NaN or infinite|damaged, it holds a sample of 1e\+30)"
        ):
            audio.read(tmp_path / "bad.wav")
    soundfile.write(tmp_path / "one.wav", np.array([0.5]), RATE)
    assert audio.read(tmp_path / "one.wav")[0].shape == (1,)
    with pytest.raises(AudioError, match=r"one\.wav: no audio at"):
        audio.read(tmp_path / "one.wav", start=-1.0)


def test_an_implausible_sampling_rate_is_an_error(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "slow.wav", np.zeros(10), 1)
    with pytest.raises(AudioError, match=r"slow\.wav: a sampling rate of 1 Hz"):
        audio.read(tmp_path / "slow.wav", RATE)


@pytest.mark.parametrize(
    ("name", "wave", "rate", "subtype", "message"),
    [
        ("a.aac", [0.1], RATE, None, r"valid: \.flac, \.mp3, \.ogg, \.opus, \.wav"),
        ("a.wav", [], RATE, None, "is empty"),
        ("a.wav", [np.nan], RATE, None, "NaN"),
        ("a.wav", [1.5], RATE, None, r"reach 1\.5"),
        ("a.flac", [0.1], RATE, "FLOAT", "unknown FLAC subtype"),
        ("a.opus", [0.1], 44100, None, "8000, 12000, 16000, 24000"),
    ],
)
def test_a_failed_write_leaves_no_file(tmp_path: Path, name, wave, rate, subtype, message) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(AudioError, match=message):
        audio.write(tmp_path / name, np.array(wave, np.float32), rate, subtype=subtype)
    assert list(tmp_path.iterdir()) == []


def test_float_files_store_samples_beyond_full_scale(tmp_path: Path) -> None:
    audio.write(tmp_path / "deep" / "a.wav", np.array([1.5, -2.0], np.float32), RATE, subtype="FLOAT")
    np.testing.assert_array_equal(audio.read(tmp_path / "deep" / "a.wav")[0], [1.5, -2.0])
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["a.wav"]


@pytest.mark.parametrize("subtype", ["PCM_16", "FLOAT", "DOUBLE"])
def test_the_time_of_writing_is_not_in_the_file(tmp_path: Path, subtype: str) -> None:
    wave_CN = np.linspace(-0.5, 0.5, 600, dtype=np.float32).reshape(2, 300)
    for name in ("a.wav", "b.wav"):
        audio.write(tmp_path / name, wave_CN, RATE, subtype=subtype)
        time.sleep(1.1)  # past the next full second
    assert (tmp_path / "a.wav").read_bytes() == (tmp_path / "b.wav").read_bytes()
    assert np.abs(audio.read(tmp_path / "a.wav", channels="each")[0] - wave_CN).max() < 2**-15


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg", ".mp3"])
@pytest.mark.parametrize("rate", [None, 8000, 22050])
def test_blocks_of_a_stream_join_to_the_whole_file(tmp_path: Path, suffix: str, rate: int | None) -> None:
    rng = np.random.default_rng(0)
    wave = (0.1 * rng.standard_normal((2, 100_000))).astype(np.float32)
    path = tmp_path / f"long{suffix}"
    audio.write(path, wave, 16000)
    for channels in ("mean", "first", "each"):
        whole, own = audio.read(path, rate, channels=channels)
        blocks = list(audio.stream(path, rate, channels=channels, seconds=0.7))
        assert {block.shape[-1] for block in blocks[:-1]} == {round(0.7 * own)}
        np.testing.assert_allclose(np.concatenate(blocks, axis=-1), whole, atol=1e-5)


def test_streaming_a_damaged_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="no such file"):
        next(audio.stream(tmp_path / "none.wav"))
    with pytest.raises(AudioError, match="channel policy"):
        next(audio.stream(tmp_path / "none.wav", channels="both"))
    bad = np.zeros(3000, np.float32)
    bad[2000] = np.nan
    audio.write(tmp_path / "good.wav", np.zeros(3000, np.float32), 8000, subtype="FLOAT")
    soundfile.write(tmp_path / "nan.wav", bad, 8000, subtype="FLOAT")
    with pytest.raises(AudioError, match="NaN"):
        list(audio.stream(tmp_path / "nan.wav"))


def test_a_file_written_in_blocks_appears_when_it_is_complete(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "blocks.wav"
    with audio.writer(path, 8000) as write_block:
        for level in (0.5, -0.5, 2.0):
            write_block(np.full(100, level, np.float32))
            assert not path.exists()
    wave_N, _ = audio.read(path)
    np.testing.assert_allclose(wave_N, np.repeat([0.5, -0.5, 1.0], 100), atol=1e-4)
    assert "100 samples beyond full scale were clipped" in caplog.text
    with (
        pytest.raises(AudioError, match="NaN or infinite"),
        audio.writer(tmp_path / "no.wav", 8000) as write_block,
    ):
        write_block(np.full(3, np.nan, np.float32))
    with pytest.raises(RuntimeError, match="stop"), audio.writer(tmp_path / "no.wav", 8000) as write_block:
        write_block(np.zeros(3, np.float32))
        raise RuntimeError("stop")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["blocks.wav"]
