"""Files with a wrong size in the header or with several streams: no audio is lost without a warning."""

import io
import struct
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from separative import audio
from separative.audio.archive import index_path
from separative.audio.containers import Part
from separative.errors import AudioError

RATE = 16000
SECOND = 2 * RATE  # bytes


def noise(seconds: float, seed: int = 0) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(round(seconds * RATE))).clip(-1, 1)


def wav(path: Path, riff: int, data: int, more: bytes = b"", seconds: float = 3.0) -> np.ndarray:
    """Write a WAV file that states other sizes than it has; return its samples."""
    soundfile.write(path, noise(seconds), RATE, "PCM_16")
    content = bytearray(path.read_bytes())
    content[4:8], content[40:44] = struct.pack("<I", riff), struct.pack("<I", data)
    path.write_bytes(content + more)
    return np.round(noise(seconds) * 32767) / 32768


UNSTATED = {
    "killed before any size was written": (36, 0),
    "all sizes 0": (0, 0),
    "SoX to a pipe": (0x7FFFF024, 0x7FFFF000),
    "ffmpeg to a pipe": (0xFFFFFFFF, 0xFFFFFFFF),
    "signed": (0x7FFFFFFF, 0x7FFFFFFF),
    "a little below": (0x7FFF0024, 0x7FFF0000),
    "only the data size": (36 + 3 * SECOND, 0x7FFFF000),
}


@pytest.mark.parametrize("sizes", UNSTATED.values(), ids=UNSTATED)
def test_a_wav_file_without_sizes_is_read_to_its_end(tmp_path: Path, sizes: tuple[int, int]) -> None:
    path = tmp_path / "a.wav"
    samples = wav(path, *sizes)
    assert audio.info(path).seconds == 3.0
    assert audio.is_complete(path)
    np.testing.assert_allclose(audio.read(path)[0], samples, atol=1e-4)
    np.testing.assert_allclose(audio.read(path, start=2.0, seconds=0.5)[0], samples[32000:40000], atol=1e-4)
    np.testing.assert_allclose(np.concatenate(list(audio.stream(path, seconds=0.7))), samples, atol=1e-4)


@pytest.mark.parametrize("seconds", [0.1, 1.0, 2.9])
def test_audio_after_the_stated_end_of_a_wav_file_is_reported(
    tmp_path: Path, seconds: float, caplog: pytest.LogCaptureFixture
) -> None:
    path, stated = tmp_path / "early.wav", round(seconds * SECOND)
    wav(path, 36 + stated, stated)
    assert audio.info(path).seconds == pytest.approx(seconds)
    rest = 3 * SECOND - stated
    assert (
        f"early.wav: its header states {stated} bytes of audio, but {rest} more bytes follow" in caplog.text
    )
    assert "sox --ignore-length" in caplog.text
    assert len(audio.read(path)[0]) == stated // 2
    assert caplog.text.count("more bytes follow") == 1, "one warning for each file is enough"
    assert "more bytes follow" in audio.remark(path)


HARMLESS = {
    "nothing": b"",
    "a list of tags": b"LIST" + struct.pack("<I", 12) + b"INFOISFT" + bytes(4),
    "an unknown chunk": b"afsp" + struct.pack("<I", 3) + b"abc\0",
    "ID3 tags": b"id3 " + struct.pack("<I", 4) + b"ID3\x03",
    "old tags": b"TAG" + bytes(125),
    "a padding byte": b"\0",
}


@pytest.mark.parametrize("more", HARMLESS.values(), ids=HARMLESS)
def test_chunks_and_tags_after_the_audio_are_no_audio(
    tmp_path: Path, more: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "a.wav"
    wav(path, 36 + 3 * SECOND + len(more), 3 * SECOND, more)
    assert (audio.info(path).seconds, audio.remark(path), audio.is_complete(path)) == (3.0, "", True)
    wav(path, 36 + len(more), 0, more, seconds=0.0)
    with pytest.raises(AudioError, match="empty"):
        audio.read(path)
    assert caplog.text == ""


@pytest.mark.parametrize("suffix", [".aiff", ".au", ".caf", ".rf64"])
@pytest.mark.parametrize("kind", ["zero", "early", "whole"])
def test_other_containers_with_wrong_sizes_lose_nothing_without_a_word(
    tmp_path: Path, suffix: str, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / f"a{suffix}"
    soundfile.write(path, noise(2.0), RATE, "PCM_16", format=suffix[1:].upper())
    content = bytearray(path.read_bytes())
    at, form, fields = {
        ".aiff": (content.find(b"SSND") + 4, ">I", 8),
        ".au": (8, ">I", 0),
        ".caf": (content.find(b"data") + 4, ">Q", 4),
        ".rf64": (content.find(b"ds64") + 16, "<Q", 0),
    }[suffix]
    assert struct.unpack_from(form, content, at) == (2 * SECOND + fields,)
    if kind != "whole":
        struct.pack_into(form, content, at, fields + (SECOND if kind == "early" else 0))
    path.write_bytes(content)
    assert audio.info(path).seconds == (1.0 if kind == "early" else 2.0)
    assert len(audio.read(path)[0]) == (RATE if kind == "early" else 2 * RATE)
    message = {"zero": "states 0 as the size", "early": f"{SECOND} more bytes follow", "whole": ""}[kind]
    assert message in caplog.text if message else caplog.text == ""


JOINED = {"vorbis": (".ogg", "VORBIS"), "opus": (".opus", "OPUS"), "mp3": (".mp3", "MPEG_LAYER_III")}


@pytest.mark.parametrize(("suffix", "subtype"), JOINED.values(), ids=JOINED)
@pytest.mark.parametrize("same", [False, True], ids=["different", "the same twice"])
def test_all_streams_of_a_chained_file_are_read(
    tmp_path: Path, suffix: str, subtype: str, same: bool
) -> None:
    parts, content = [], b""
    for number in range(3):
        path = tmp_path / f"{0 if same else number}{suffix}"
        if not path.exists():
            audio.write(path, noise(1.0 + 0.3 * number, number).astype(np.float32), RATE, subtype=subtype)
        parts.append(audio.read(path)[0])
        content += path.read_bytes()
    chained = tmp_path / f"chained{suffix}"
    chained.write_bytes(content)
    whole = np.concatenate(parts)
    assert audio.info(chained).frames == len(whole)
    assert audio.is_complete(chained)
    np.testing.assert_array_equal(audio.read(chained)[0], whole)
    streamed = np.concatenate(list(audio.stream(chained, seconds=0.3)))
    np.testing.assert_allclose(streamed, whole, atol=1e-6)
    for start in (0.5, 0.95, 1.0, 1.2, 2.5):
        first = round(start * RATE)
        part_N, _ = audio.read(chained, start=start, seconds=0.4)
        np.testing.assert_allclose(part_N, whole[first : first + 6400], atol=1e-3)
    with pytest.raises(AudioError, match="no audio at"):
        audio.read(chained, start=len(whole) / RATE)


def test_tags_between_joined_mp3_files_are_skipped(tmp_path: Path) -> None:
    audio.write(tmp_path / "a.mp3", noise(1.0).astype(np.float32), RATE)
    one = (tmp_path / "a.mp3").read_bytes()
    tags = b"ID3\x03\x00\x00" + bytes([0, 0, 1, 2]) + bytes(130)
    (tmp_path / "ab.mp3").write_bytes(one + b"TAG" + bytes(125) + tags + one)
    assert audio.info(tmp_path / "ab.mp3").seconds == 2.0
    (tmp_path / "tagged.mp3").write_bytes(tags + one + b"TAG" + bytes(125))
    assert audio.info(tmp_path / "tagged.mp3").seconds == 1.0


def test_streams_that_differ_are_an_error_that_says_so(tmp_path: Path) -> None:
    audio.write(tmp_path / "a.ogg", noise(1.0).astype(np.float32), RATE)
    audio.write(tmp_path / "b.ogg", noise(1.0).astype(np.float32), 8000)
    both = tmp_path / "both.ogg"
    both.write_bytes((tmp_path / "a.ogg").read_bytes() + (tmp_path / "b.ogg").read_bytes())
    with pytest.raises(AudioError, match=r"both\.ogg: holds 2 streams of different rates or channels; split"):
        audio.read(both)


def test_a_second_flac_stream_is_reported(tmp_path: Path) -> None:
    audio.write(tmp_path / "a.flac", noise(1.0).astype(np.float32), RATE)
    one = (tmp_path / "a.flac").read_bytes()
    assert audio.remark(tmp_path / "a.flac") == ""
    (tmp_path / "ab.flac").write_bytes(one + one)
    assert "holds 2 FLAC streams, of which only the first is read" in audio.remark(tmp_path / "ab.flac")


def test_a_file_replaced_by_another_is_inspected_again(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    wav(path, 36, 0)
    assert audio.info(path).seconds == 3.0
    time.sleep(0.01)
    soundfile.write(path, noise(1.0), RATE)
    assert audio.info(path).seconds == 1.0


def test_a_part_of_a_file_reads_like_a_file() -> None:
    part = Part(io.BytesIO(b"0123456789"), 2, 8, ((1, b"ab"), (5, b"cd")))
    assert part.read() == b"2ab56c"
    assert (part.seek(-2, io.SEEK_END), part.read(1), part.tell(), part.seek(1, io.SEEK_CUR)) == (
        4,
        b"6",
        5,
        6,
    )
    assert part.read() == b""


def tar_of(path: Path, names: list[str], seconds: float) -> dict[str, bytes]:
    """Write an archive of WAV files, with its index; return the files by name."""
    import json
    import tarfile

    files, index = {}, {}
    with tarfile.open(path, "w") as tar:
        for number, name in enumerate(names):
            buffer = io.BytesIO()
            soundfile.write(buffer, noise(seconds, hash(name) % 999 + number), RATE, format="WAV")
            files[name] = buffer.getvalue()
            member = tarfile.TarInfo(name)
            member.size = len(files[name])
            tar.addfile(member, io.BytesIO(files[name]))
    with tarfile.open(path) as tar:
        index = {m.name: [m.offset_data, m.size] for m in tar}
    index_path(path).write_text(json.dumps(index))
    return files


def test_a_stale_index_never_gives_the_sound_of_another_member(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shard = tmp_path / "shard.tar"
    tar_of(shard, ["a.wav", "b.wav", "c.wav"], 0.5)
    stale = index_path(shard).read_bytes()
    # The same names in another order and of other lengths, one that is gone and one that is new.
    files = tar_of(shard, ["c.wav", "a.wav", "d.wav"], 0.7)
    index_path(shard).write_bytes(stale)
    for name, content in files.items():
        expected, _ = soundfile.read(io.BytesIO(content), dtype="float32")
        np.testing.assert_array_equal(audio.read(shard / name)[0], expected)
    with pytest.raises(AudioError, match=r"no member 'b\.wav'"):
        audio.read(shard / "b.wav")
    assert "shard.json: does not fit its archive and is ignored; delete it" in caplog.text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        '{"a.wav": null}',
        '{"a.wav": [0, 1e99]}',
        '{"a.wav": [true, 5]}',
        '{"a.wav": [-5, 5]}',
        '{"a.wav": [512, 99999999999999]}',
        "[" * 99999,
        '{"a.wav": [1, ' + "9" * 5000 + "]}",
    ],
)
def test_a_damaged_index_is_ignored(tmp_path: Path, text: str) -> None:
    shard = tmp_path / "shard.tar"
    files = tar_of(shard, ["a.wav"], 0.5)
    index_path(shard).write_text(text)
    expected, _ = soundfile.read(io.BytesIO(files["a.wav"]), dtype="float32")
    np.testing.assert_array_equal(audio.read(shard / "a.wav")[0], expected)
