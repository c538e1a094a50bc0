"""The command transcript: from RTTM and from a recording, to the screen and to files."""

import json
from pathlib import Path

import pytest
from cli_helpers import RATE, Run

from separative import audio
from separative.rttm import Turn, write_rttm


@pytest.fixture
def talk(tmp_path: Path) -> tuple[Path, Path]:
    """A transcript in Whisper's format and the turns of its recording."""
    words = [{"word": f" w{i}", "start": 0.5 * i, "end": 0.5 * i + 0.4} for i in range(8)]
    text = "".join(word["word"] for word in words)
    segment = {"start": 0.0, "end": 4.0, "text": text, "words": words}
    (tmp_path / "talk.json").write_text(json.dumps({"segments": [segment]}))
    write_rttm(tmp_path / "talk.rttm", "talk", [Turn("ann", 0.0, 2.0), Turn("bob", 2.0, 4.0)])
    return tmp_path / "talk.json", tmp_path / "talk.rttm"


def test_a_dialogue_is_printed(cli: Run, talk: tuple[Path, Path]) -> None:
    done = cli("transcript", *talk)
    assert (done.code, done.err) == (0, "")
    assert done.out == "ann: w0 w1 w2 w3\nbob: w4 w5 w6 w7\n"


def test_files_of_every_kind_are_written_and_not_overwritten(cli: Run, talk: tuple[Path, Path]) -> None:
    texts = {}
    for suffix in ("json", "srt", "vtt", "txt"):
        out = talk[0].with_name(f"out.{suffix}")
        assert cli("transcript", *talk, "--out", out).code == 0
        texts[suffix] = out.read_text()
    assert [s["speaker"] for s in json.loads(texts["json"])["segments"]] == ["ann", "bob"]
    assert "00:00:02,000 --> 00:00:03,900\nbob: w4 w5 w6 w7\n" in texts["srt"]
    assert "<v bob>w4 w5 w6 w7\n" in texts["vtt"] and texts["txt"].startswith("ann: w0")
    done = cli("transcript", *talk, "--out", out)
    assert done.code == 2 and "out.txt exists" in done.err
    assert cli("transcript", *talk, "--out", out, "--force").code == 0
    assert cli("transcript", *talk, "--out", talk[0].with_name("out.doc")).code == 2


def test_a_recording_is_diarized_and_late_words_are_reported(
    cli: Run, voices: list[list[Path]], tmp_path: Path
) -> None:
    audio.write(tmp_path / "talk.wav", audio.read(voices[0][0], RATE)[0], RATE)
    (tmp_path / "talk.srt").write_text(
        "1\n00:00:00,500 --> 00:00:02,500\nhello\n\n2\n00:01:00,000 --> 00:01:01,000\nlate\n"
    )
    words = ("transcript", tmp_path / "talk.srt", tmp_path / "talk.wav", "--speakers", 1)
    done = cli(*words, "--json")
    assert done.code == 0
    first, late = json.loads(done.out)["segments"]
    assert first["speaker"] == "speaker1" and "speaker" not in late
    assert "the words have no times, so each segment gets one speaker" in done.err
    assert "1 of 2 words or segments of the transcript start after the end" in done.err


def test_bad_input_is_one_sentence(cli: Run, talk: tuple[Path, Path], tmp_path: Path) -> None:
    two = tmp_path / "two.rttm"
    lines = talk[1].read_text()
    two.write_text(lines.replace(" talk ", " a ") + lines.replace(" talk ", " b "))
    none = tmp_path / "none.json"
    none.write_text('{"segments": [{"text": "hello"}]}')
    for arguments, message in [
        ((talk[0], two), "has turns of 2 recordings, but none of 'talk'"),
        ((none, talk[1]), "make the transcript with timestamps"),
        ((tmp_path / "missing.srt", talk[1]), "missing.srt: cannot be read"),
        ((talk[0], tmp_path / "missing.wav"), "missing.wav: no such file"),
    ]:
        done = cli("transcript", *arguments)
        assert done.code == 2 and message in done.err and done.err.count("\n") == 1, done.err
