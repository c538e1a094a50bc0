"""Media files that cannot be read: one sentence each; damaged ones give an AudioError or valid samples."""

import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from media_files import FORMATS, av, speechlike, write_media
from mutations import mutate

from separative import audio
from separative.errors import AudioError

M4A, MP4, WEBM = FORMATS["M4A, AAC"], FORMATS["MP4 video, AAC"], FORMATS["WebM, Opus"]


def message(path: Path) -> str:
    """The sentence that reading a file gives, the same for all three functions."""
    found = set()
    for read in (audio.info, audio.read, lambda path: list(audio.stream(path))):
        with pytest.raises(AudioError) as error:
            read(path)
        found.add(str(error.value))
    [only] = found
    assert only.startswith(f"{path}: ")
    return only.removeprefix(f"{path}: ")


@pytest.mark.parametrize("name", ["MP4 video, AAC", "WebM video, Opus", "Matroska, AAC"])
def test_a_video_without_sound_is_called_so(tmp_path: Path, name: str) -> None:
    made = FORMATS[name]
    path = write_media(tmp_path / f"a{made.suffix}", speechlike(made.rate), made, tracks=0)
    assert message(path) == "is a video without sound; nothing in it can be read"


def test_a_codec_that_ffmpeg_lacks_is_said(tmp_path: Path) -> None:
    path = write_media(tmp_path / "a.mka", speechlike(44100), FORMATS["Matroska, AAC"]._replace(video=""))
    content = path.read_bytes()
    path.write_bytes(content.replace(b"A_AAC", b"A_XYZ"))
    assert message(path) == "FFmpeg has no decoder for the codec of its audio; convert it to WAV first"


def test_encrypted_audio_is_called_so(tmp_path: Path) -> None:
    key = {"encryption_scheme": "cenc-aes-ctr", "encryption_key": "01" * 16, "encryption_kid": "02" * 16}
    paths = [
        write_media(tmp_path / "cenc.mp4", speechlike(44100), M4A._replace(container="mp4"), options=key)
    ]
    plain = write_media(tmp_path / "a.m4a", speechlike(44100), M4A).read_bytes()
    at = plain.index(b"mp4a", plain.index(b"stsd"))
    for tag in (b"drms", b"enca"):
        paths.append(tmp_path / f"{tag.decode()}.m4a")
        paths[-1].write_bytes(plain[:at] + tag + plain[at + 4 :])
    wma = write_media(tmp_path / "a.wma", speechlike(44100), FORMATS["WMA"]).read_bytes()
    paths.append(tmp_path / "drm.wma")
    # The identifier of an object that nothing reads becomes that of the content encryption object.
    codecs = bytes.fromhex("4052d1861d31d011a3a400a0c90348f6")
    assert codecs in wma
    paths[-1].write_bytes(wma.replace(codecs, bytes.fromhex("fbb3112223bdd211b4b700a0c955fc6e")))
    for path in paths:
        assert (
            message(path) == "is encrypted (DRM) and cannot be decoded; pass a recording without protection"
        )


def test_a_recorder_that_was_stopped_leaves_a_file_without_an_index(tmp_path: Path) -> None:
    content = write_media(tmp_path / "a.m4a", speechlike(44100), M4A).read_bytes()
    path = tmp_path / "stopped.m4a"
    path.write_bytes(content[: len(content) // 2])
    assert message(path).startswith("is a damaged or incomplete M4A or MP4 file (")


@pytest.mark.parametrize(
    "name", ["M4A, AAC", "WebM, Opus", "AAC", "AMR", "WMA", "MPEG transport stream, AAC"]
)
def test_a_file_that_is_cut_short_is_read_as_far_as_it_goes(
    tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    made = FORMATS[name]
    start = {"movflags": "faststart"} if made.container == "ipod" else {}
    whole = write_media(tmp_path / f"a{made.suffix}", speechlike(made.rate, 4.0), made, options=start)
    path = tmp_path / f"cut{made.suffix}"
    content = whole.read_bytes()
    path.write_bytes(content[: round(0.6 * len(content))])
    found, rate = audio.read(path)
    assert 1.0 < len(found) / rate < 3.5
    expected, _ = audio.read(whole)
    assert np.abs(found[:rate] - expected[:rate]).max() < 1e-6
    if made.container == "ipod":
        assert not audio.is_complete(path) and audio.is_complete(whole)
        assert "cut.m4a: cut short, it is read as far as it goes" in caplog.text


def test_a_playlist_opens_no_other_file(tmp_path: Path) -> None:
    secret = write_media(tmp_path / "secret.ts", speechlike(44100), FORMATS["MPEG transport stream, AAC"])
    hls = f"#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:3,\nfile://{secret}\n#EXT-X-ENDLIST\n"
    for name, text in (
        ("a.m3u8", hls),
        ("a.m4a", hls),
        ("a.txt", f"ffconcat version 1.0\nfile {secret}\n"),
        ("a.mp4", f"ffconcat version 1.0\nfile {secret}\n"),
        ("a.sdp", "v=0\nm=audio 5004 RTP/AVP 0\n"),
    ):
        (tmp_path / name).write_text(text)
        with pytest.raises(AudioError):
            audio.read(tmp_path / name)
    assert message(tmp_path / "a.m3u8") == "is a playlist, not a recording; download the recording itself"


def test_a_track_with_another_file_as_its_data_is_not_followed(tmp_path: Path) -> None:
    secret = write_media(tmp_path / "secret.m4a", speechlike(16000), FORMATS["M4A, Apple Lossless"])
    content = secret.read_bytes()
    at = content.index(b"url ", content.index(b"dref"))
    # A data reference that is not in this file, but in the other one.
    path = tmp_path / "refers.m4a"
    path.write_bytes(content[: at + 4] + b"\0\0\0\0" + content[at + 8 :])
    try:
        audio.read(path)
    except AudioError as error:
        assert str(path) in str(error)


def test_damage_in_the_middle_is_an_error_after_the_samples_before_it(tmp_path: Path) -> None:
    made = FORMATS["Matroska, FLAC"]
    path = write_media(tmp_path / "a.mka", speechlike(made.rate, 8.0), made)
    expected, _ = audio.read(path)
    with av.open(str(path)) as opened:
        places = [packet.pos for packet in opened.demux(audio=0) if packet.size]
    content = bytearray(path.read_bytes())
    middle = places[len(places) // 2]
    content[middle + 40 : middle + 240] = bytes(200)
    path.write_bytes(content)
    blocks, stopped = [], ""
    try:
        for block in audio.stream(path, seconds=0.5):
            blocks.append(block)
    except AudioError as error:
        stopped = str(error)
    found = np.concatenate(blocks)
    assert len(found) > made.rate and np.isfinite(found).all()
    np.testing.assert_allclose(found[: made.rate], expected[: made.rate], atol=1e-6)
    assert "damaged, it cannot be decoded after" in stopped


def test_damaged_files_are_errors_or_valid_samples(tmp_path: Path) -> None:
    outcomes: Counter[str] = Counter()
    whole = {
        name: write_media(tmp_path / f"whole{made.suffix}", speechlike(made.rate, 0.7), made).read_bytes()
        for name, made in (("m4a", M4A), ("mp4", MP4), ("webm", WEBM), ("3gp", FORMATS["3GP, AMR"]))
    }
    for seed in range(100):
        kind = list(whole)[seed % len(whole)]
        path = tmp_path / f"mutant.{kind}"
        path.write_bytes(mutate(whole[kind], seed))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            try:
                found, rate = audio.read(path, 16000)
            except AudioError as error:
                assert str(path) in str(error) and "\n" not in str(error)
                outcomes["error"] += 1
                continue
        assert rate == 16000 and found.dtype == np.float32 and found.ndim == 1
        assert len(found) > 0 and np.isfinite(found).all()
        outcomes["samples"] += 1
    assert outcomes["error"] > 10 and outcomes["samples"] > 10
