"""The command listen reads raw samples: files in a format are refused, and earlier waveforms are kept."""

import functools
import io
import json
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile
from cli_helpers import RATE, Run, hum

from separative import audio
from separative.cli.raw_input import HEAD_BYTES, name_format
from separative.rttm import read_rttm


def file_bytes(container: str, subtype: str | None = None, rate: int = 44100, channels: int = 2) -> bytes:
    buffer = io.BytesIO()
    wave_N = np.tile(hum(0, 0, 3.0), 4)
    soundfile.write(buffer, np.stack([wave_N] * channels, 1), rate, format=container, subtype=subtype)
    return buffer.getvalue()


def raw(seconds: float) -> bytes:
    return (hum(0, 0, seconds) * 32767).astype("<i2").tobytes()


def feed(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BufferedReader(io.BytesIO(content))))


@pytest.mark.parametrize(
    ("container", "subtype", "name"),
    [
        ("WAV", "PCM_16", "a WAV file (44100 Hz, 2 channels)"),
        ("WAVEX", "PCM_24", "a WAV file (44100 Hz, 2 channels)"),
        ("RF64", "PCM_16", "a WAV file (44100 Hz, 2 channels)"),
        ("W64", "PCM_16", "a W64 file"),
        ("FLAC", "PCM_16", "a FLAC file"),
        ("OGG", "VORBIS", "an Ogg file"),
        ("OGG", "OPUS", "an Ogg file"),
        ("MP3", None, "an MP3 file"),
        ("AIFF", "PCM_16", "an AIFF file"),
        ("CAF", "PCM_16", "a CAF file"),
        ("AU", "PCM_16", "an AU file"),
        ("NIST", "PCM_16", "a SPHERE file"),
    ],
)
def test_a_file_instead_of_raw_samples_is_refused(
    cli: Run, run: Path, monkeypatch: pytest.MonkeyPatch, container: str, subtype: str | None, name: str
) -> None:
    rate = 48000 if subtype == "OPUS" else 44100
    feed(monkeypatch, file_bytes(container, subtype, rate))
    done = cli("listen", "--model", run, "--rate", RATE)
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert f"standard input is {name}, not raw samples" in done.err
    assert f"ffmpeg -i - -f s16le -ac 1 -ar {RATE} -" in done.err


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (
            b"RIFX\0\0\0\0WAVEfmt \0\0\0\x10\0\x01\0\x01\0\0\x1f\x40" + bytes(8),
            "a WAV file (8000 Hz, 1 channel)",
        ),
        (b"ID3\x04" + bytes(100), "an MP3 file"),
        (b"\0\0\0\x20ftypM4A " + bytes(100), "an MP4 or M4A file"),
        (b"\x1a\x45\xdf\xa3" + bytes(100), "a Matroska or WebM file"),
        (b"#!AMR\n" + bytes(100), "an AMR file"),
        (b"speaker,start,end\n" * 20, "text"),
    ],
)
def test_formats_that_we_cannot_write_are_recognised(head: bytes, name: str) -> None:
    assert name_format(head) == name


def test_an_mp3_stream_that_is_joined_inside_a_frame_is_recognised() -> None:
    content = file_bytes("MP3", rate=22050, channels=1)
    for start in (1, 100, 333, 5000):
        assert name_format(content[start : start + HEAD_BYTES]) == "an MP3 file"


def test_aac_is_recognised() -> None:
    frame = bytes([0xFF, 0xF1, 0x50, 0x80, 200 >> 3, (200 & 7) << 5 | 0x1F, 0xFC]) + bytes(193)
    assert name_format(frame * 5) == "an AAC file"


def test_raw_samples_of_any_level_are_not_taken_for_a_format() -> None:
    rng = np.random.default_rng(0)
    assert name_format(b"") == name_format(bytes(HEAD_BYTES)) == ""
    for scale in (0.5, 1, 3, 30, 300, 3000, 20000):
        for _ in range(300):
            samples = np.clip(rng.standard_normal(HEAD_BYTES // 2) * scale, -32768, 32767).astype("<i2")
            assert name_format(samples.tobytes()) == ""


def test_waveforms_of_an_earlier_stream_are_kept(
    cli: Run, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("listen", "--model", run, "--rate", RATE, "--out", tmp_path)
    feed(monkeypatch, raw(6.0))
    assert cli(*words).code == 0
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    assert before
    feed(monkeypatch, raw(4.0))
    done = cli(*words)
    assert done.code == 2 and "speaker1.wav exists" in done.err and "--force" in done.err
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    feed(monkeypatch, raw(4.0))
    assert cli(*words, "--force").code == 0
    assert audio.info(tmp_path / "speaker1.wav").seconds == pytest.approx(4.0)


@pytest.mark.parametrize("rate", [0, -1, 10**9])
def test_an_impossible_rate_is_refused(rate: int) -> None:
    words = [sys.executable, "-m", "separative", "listen", "--rate", str(rate)]
    done = subprocess.run(words, input=b"", capture_output=True, check=False)
    assert done.returncode == 2 and b"--rate" in done.stderr and b"Traceback" not in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_keeps_the_waveforms(run: Path, tmp_path: Path, number: signal.Signals) -> None:
    words = ["listen", "--model", str(run), "--rate", str(RATE), "--out", str(tmp_path), "--json"]
    pipe = subprocess.PIPE
    command = [sys.executable, "-m", "separative", *words]
    # A shell that runs the tests in the background ignores Ctrl-C for all of its children.
    heed = functools.partial(signal.signal, signal.SIGINT, signal.default_int_handler)
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, preexec_fn=heed) as process:
        assert process.stdin and process.stdout and process.stderr
        alarm = threading.Timer(300, process.kill)
        alarm.start()
        # The stream does not end; the signal comes after some updates were written.
        process.stdin.write(raw(20.0))
        process.stdin.flush()
        for _ in range(20):
            assert process.stdout.readline()
        process.send_signal(number)
        process.stdout.read()
        message = process.stderr.read().decode()
        assert process.wait() == 130
        alarm.cancel()
    assert "interrupted" in message and str(tmp_path) in message
    assert audio.info(tmp_path / "speaker1.wav").seconds > 5.0


def test_a_reader_of_the_lines_that_ends_does_not_cost_the_results(run: Path, tmp_path: Path) -> None:
    live = tmp_path / "live.rttm"
    words = ["listen", "--model", str(run), "--rate", str(RATE), "--out", str(tmp_path), "--rttm", str(live)]
    pipe = subprocess.PIPE
    command = [sys.executable, "-m", "separative", *words, "--json"]
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe) as process:
        assert process.stdin and process.stdout and process.stderr
        process.stdin.write(raw(12.0))
        process.stdin.flush()
        assert process.stdout.readline()
        process.stdout.close()
        process.stdin.close()
        assert b"Traceback" not in process.stderr.read()
        assert process.wait(300) != 0
    assert live.is_file() and audio.info(tmp_path / "speaker1.wav").seconds > 0


def test_corrections_are_records_and_the_corrected_turns_are_saved(
    cli: Run, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("listen", "--model", run, "--rate", RATE, "--rttm", tmp_path / "live.rttm")
    feed(monkeypatch, raw(9.0))
    done = cli(*words, "--json", "--latency", 1, "--horizon", 5)
    assert done.code == 0, done.err
    updates = [json.loads(line) for line in done.out.splitlines()]
    # Apply the corrections again: the result must be the saved turns.
    active = {}
    tick = updates[0]["end"] / 8
    for update in updates:
        for name, share in update["activity"].items():
            assert 0 <= share <= 1 and name.startswith("speaker")
        for change in update["corrections"]:
            assert change["before"] != change["after"]
            assert update["start"] - 5.3 <= change["start"] < change["end"] <= 9.0
            for at in range(round(change["start"] / tick), round(change["end"] / tick)):
                active[at] = change["after"]
    turns = read_rttm(tmp_path / "live.rttm").get("live", [])
    for at, names in active.items():
        middle = (at + 0.5) * tick
        # Short pauses are filled and short turns dropped, so only most of the time is equal.
        active[at] = set(names) == {turn.speaker for turn in turns if turn.start <= middle < turn.end}
    assert not active or np.mean(list(active.values())) > 0.8
    again = cli(*words)
    assert again.code == 2 and "live.rttm exists" in again.err and "--force" in again.err
