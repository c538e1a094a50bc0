"""Files of phones, cameras and browsers are read through FFmpeg: length, place in time, tracks, excerpts."""

import logging
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from media_files import FORMATS, Format, lag, speechlike, write_media

from separative import audio
from separative.errors import AudioError

M4A, MP4, WEBM = FORMATS["M4A, AAC"], FORMATS["MP4 video, AAC"], FORMATS["WebM, Opus"]
LOSSLESS = FORMATS["M4A, Apple Lossless"]
LONG = FORMATS["Matroska, FLAC"]._replace(rate=8000)


@pytest.mark.parametrize("name", FORMATS)
def test_audio_has_the_length_and_the_place_in_time_of_what_was_encoded(tmp_path: Path, name: str) -> None:
    made = FORMATS[name]
    wave = speechlike(made.rate)
    path = write_media(tmp_path / f"a{made.suffix}", wave, made)
    header = audio.info(path)
    found, rate = audio.read(path)
    assert (header.rate, header.channels, header.frames) == (made.rate, 1, len(found)) and rate == made.rate
    # A frame of a codec has up to 2048 samples; containers without a length also have the delay.
    assert 0 <= len(found) - wave.shape[1] <= 2048 + round(made.delay * rate) + 1
    if made.container in ("ipod", "webm"):
        assert len(found) - wave.shape[1] <= 1024
    late = lag(found, wave[0]) / rate - made.delay
    # For AMR, FFmpeg counts 6.25 ms of delay, of which there are 5 ms.
    assert abs(late) <= (0.0014 if "amr" in made.codec else 0.001)
    blocks = np.concatenate(list(audio.stream(path, seconds=0.3)))
    np.testing.assert_array_equal(blocks, found)


@pytest.mark.parametrize("name", FORMATS)
def test_an_excerpt_is_the_same_part_of_the_whole(tmp_path: Path, name: str) -> None:
    made = FORMATS[name]
    path = write_media(tmp_path / f"a{made.suffix}", speechlike(made.rate, 4.0), made)
    whole, rate = audio.read(path)
    for start in (0.0, 0.4, 2.345):
        part, _ = audio.read(path, start=start, seconds=1.0)
        assert len(part) == rate
        same = whole[round(start * rate) :][:rate]
        # Time stamps of Matroska are in milliseconds.
        assert abs(lag(part, same)) / rate <= 0.001
        if made.container not in ("webm", "matroska"):
            # Each frame of AMR depends on all frames before it.
            allowed = 0.1 if "amr" in made.codec else 0.001
            assert np.sqrt(np.mean((part - same) ** 2)) < allowed * np.sqrt(np.mean(same**2))
    with pytest.raises(AudioError, match="no audio at 60"):
        audio.read(path, start=60.0)


def test_lossless_audio_is_the_same_sample_by_sample(tmp_path: Path) -> None:
    wave = speechlike(16000, 3.0, channels=2)
    for name in ("M4A, Apple Lossless", "Matroska, FLAC", "WavPack"):
        made = FORMATS[name]
        path = write_media(tmp_path / f"a{made.suffix}", wave, made)
        found, _ = audio.read(path, channels="each")
        np.testing.assert_allclose(found, wave, atol=1 / 32768)
    part, _ = audio.read(tmp_path / "a.m4a", channels=1, start=2.0)
    np.testing.assert_allclose(part, wave[1, 32000:], atol=1 / 32768)


def test_audio_that_starts_after_the_video_keeps_its_place(tmp_path: Path) -> None:
    for made in (MP4, FORMATS["Matroska, AAC"], FORMATS["WebM video, Opus"]):
        wave = speechlike(made.rate)
        path = write_media(tmp_path / f"late{made.suffix}", wave, made, offset=0.5)
        found, rate = audio.read(path)
        assert abs(lag(found, wave[0]) - rate // 2) <= rate // 1000
        assert np.abs(found[: round(0.4 * rate)]).max() < 1e-6


@pytest.mark.parametrize("made", [M4A, FORMATS["Matroska, FLAC"], WEBM], ids=["m4a", "mka", "webm"])
def test_a_pause_in_the_time_stamps_is_silence(tmp_path: Path, made: Format) -> None:
    wave = speechlike(made.rate, 3.0)
    path = write_media(tmp_path / f"pause{made.suffix}", wave, made, pause=(1.5, 2.0))
    found, rate = audio.read(path)
    assert len(found) / rate == pytest.approx(5.0, abs=0.06)
    assert np.abs(found[round(2.2 * rate) : round(3.3 * rate)]).max() < 1e-6
    before, after = found[: round(1.4 * rate)], found[round(3.6 * rate) :]
    assert abs(lag(before, wave[0][: len(before)])) / rate <= 0.001
    assert abs(lag(after, wave[0][round(1.6 * rate) :])) / rate <= 0.001
    part, _ = audio.read(path, start=3.6, seconds=0.5)
    assert abs(lag(part, after[: len(part)])) / rate <= 0.001


def test_the_first_of_several_tracks_is_read_and_this_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    wave = speechlike(44100)
    path = write_media(tmp_path / "two.mp4", wave, MP4, tracks=3)
    found, _ = audio.read(path)
    assert np.sqrt(np.mean(found**2)) > 0.5 * np.sqrt(np.mean(wave**2))
    assert "two.mp4: it holds 3 audio tracks, of which only the first is read" in caplog.text


def test_cover_art_is_ignored(tmp_path: Path) -> None:
    import av

    wave = speechlike(16000)
    plain = write_media(tmp_path / "plain.m4a", wave, LOSSLESS)
    with av.open(str(plain)) as source, av.open(str(tmp_path / "cover.m4a"), "w", format="mp4") as out:
        sound = out.add_stream_from_template(source.streams.audio[0])
        cover = out.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 64, 48, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        picture = av.VideoFrame(64, 48, "yuvj420p")
        picture.pts = 0
        out.mux(cover.encode(picture))
        out.mux(cover.encode(None))
        for packet in source.demux(source.streams.audio[0]):
            if packet.dts is not None:
                packet.stream = sound
                out.mux(packet)
    found, _ = audio.read(tmp_path / "cover.m4a")
    np.testing.assert_allclose(found, wave[0], atol=1 / 32768)


def test_a_file_in_an_archive_is_read(tmp_path: Path) -> None:
    import tarfile

    wave = speechlike(16000)
    path = write_media(tmp_path / "a.m4a", wave, LOSSLESS)
    with tarfile.open(tmp_path / "speech.tar", "w") as tar:
        tar.add(path, "ann/a.m4a")
    found, _ = audio.read(tmp_path / "speech.tar" / "ann" / "a.m4a")
    np.testing.assert_allclose(found, wave[0], atol=1 / 32768)


def test_the_name_of_a_file_does_not_matter(tmp_path: Path) -> None:
    path = write_media(tmp_path / "a.m4a", speechlike(44100), M4A)
    expected, _ = audio.read(path)
    for name in ("http:x", "concat:a.m4a|b.m4a", "recording", "a.wav", "b\udce9.m4a"):
        named = tmp_path / name
        named.write_bytes(path.read_bytes())
        assert len(audio.read(named)[0]) == len(expected)


def test_a_long_recording_needs_little_memory(tmp_path: Path) -> None:
    minute = speechlike(8000, 60.0)
    path = write_media(tmp_path / "long.mka", np.tile(minute, (1, 10)), LONG)
    script = """
import resource, sys
from separative import audio
next(audio.stream(sys.argv[1], 16000))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
seconds = sum(len(block) for block in audio.stream(sys.argv[1], 16000)) / 16000
print(seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, path], capture_output=True, text=True, check=True
    ).stdout.split()
    assert float(done[0]) == pytest.approx(600, abs=0.1)
    assert int(done[1]) < 10_000, "ten minutes are 38 MB of samples"


def test_without_the_extra_the_remedy_is_named(tmp_path: Path) -> None:
    path = write_media(tmp_path / "my memo.m4a", speechlike(44100), M4A)
    script = """
import sys
sys.modules["av"] = None
from separative import audio
from separative.errors import AudioError
try:
    audio.info(sys.argv[1])
except AudioError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == (
        f"{path}: is an M4A or MP4 file; to read it, pip install 'separative[media]', or convert it first: "
        "ffmpeg -i 'my memo.m4a' 'my memo.wav'"
    )


def test_ffmpeg_is_loaded_only_when_it_is_needed(tmp_path: Path) -> None:
    audio.write(tmp_path / "a.wav", speechlike(16000)[0], 16000)
    script = """
import sys
from separative import audio
audio.read(sys.argv[1])
print("av" in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, tmp_path / "a.wav"], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"


def test_nothing_is_logged_for_an_ordinary_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "separative")
    path = write_media(tmp_path / "a.m4a", speechlike(44100), M4A)
    audio.read(path)
    assert caplog.text == "" and audio.is_complete(path) and audio.remark(path) == ""


def test_a_track_that_changes_its_rate_and_channels_is_read_as_a_whole(tmp_path: Path) -> None:
    made = FORMATS["AAC"]
    parts = [
        write_media(tmp_path / "1.aac", speechlike(44100, 2.0), made),
        write_media(tmp_path / "2.aac", speechlike(22050, 2.0, channels=2), made._replace(rate=22050)),
    ]
    path = tmp_path / "both.aac"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    found, rate = audio.read(path)
    assert rate == 44100 and len(found) / rate == pytest.approx(4.1, abs=0.1)
    assert audio.info(path).frames == len(found)
    second = audio.resample(speechlike(22050, 2.0)[0], 22050, 44100)
    assert lag(found, second) / rate == pytest.approx(2.0 + 0.023 + 2 * 1024 / 22050, abs=0.05)
