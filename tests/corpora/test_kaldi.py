"""Kaldi directories as they are written: channels, byte order marks, segments to the end of a recording."""

from pathlib import Path

import numpy as np
import pytest

from separative import audio
from separative.corpora import Corpus, check_corpus, load_corpus, pack_corpus, save_corpus
from separative.corpora.store import WaveStore
from separative.errors import CorpusError

RATE = 8000


def noise(seconds: float, seed: int) -> np.ndarray:
    wave = 0.1 * np.random.default_rng(seed).standard_normal(round(seconds * RATE))
    return wave.clip(-1, 1).astype(np.float32)


def directory(folder: Path, **tables: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name, text in tables.items():
        (folder / {"wav": "wav.scp", "reco": "reco2file_and_channel"}.get(name, name)).write_text(
            text, encoding="utf-8"
        )
    return folder


@pytest.fixture
def call(tmp_path: Path) -> Path:
    """A call of two speakers: one per channel."""
    return directory(
        tmp_path / "k",
        wav=f"c-A {tmp_path}/call.wav\nc-B {tmp_path}/call.wav\n",
        reco="c-A c A\nc-B c B\n",
        segments="a0 c-A 0.0 1.0\na1 c-A 2.0 3.0\nb0 c-B 1.0 2.0\nb1 c-B 3.0 -1\n",
        utt2spk="a0 ann\na1 ann\nb0 bob\nb1 bob\n",
    )


@pytest.fixture
def sides(tmp_path: Path) -> np.ndarray:
    sides_CN = np.stack([noise(4.0, 1), noise(4.0, 2)])
    audio.write(tmp_path / "call.wav", sides_CN, RATE, subtype="FLOAT")
    return sides_CN


def test_each_recording_is_its_channel(call: Path, sides: np.ndarray, tmp_path: Path) -> None:
    corpus = load_corpus(call)
    assert [(u.id, u.speaker, u.channel, u.seconds) for u in corpus] == [
        ("a0", "ann", 0, 1.0),
        ("a1", "ann", 0, 1.0),
        ("b0", "bob", 1, 1.0),
        ("b1", "bob", 1, 1.0),
    ]
    for u in corpus:
        expected_N = sides[u.channel, round(u.start * RATE) : round((u.start + u.seconds) * RATE)]
        np.testing.assert_array_equal(u.read(), expected_N)
        for store in (WaveStore(corpus, RATE), WaveStore(corpus, RATE, tmp_path / "cache")):
            np.testing.assert_allclose(store.read(u, 0, RATE), expected_N, atol=1e-4)
    report = check_corpus(corpus, min_speech=0.0)
    assert report.problems == (), "no mean is used, so nothing is said about one"
    assert report.channels == {2: 4}


def test_channels_are_kept_by_manifests_and_shards(call: Path, sides: np.ndarray, tmp_path: Path) -> None:
    corpus = load_corpus(call)
    save_corpus(corpus, tmp_path / "cuts.jsonl")
    assert load_corpus(tmp_path / "cuts.jsonl") == corpus
    pack_corpus(corpus, tmp_path / "shards")
    for before, after in zip(corpus, load_corpus(tmp_path / "shards"), strict=True):
        assert before.channel == after.channel
        np.testing.assert_array_equal(before.read(), after.read())


def test_segments_may_name_the_recordings_of_a_listed_file(tmp_path: Path, sides: np.ndarray) -> None:
    folder = directory(
        tmp_path / "k",
        wav=f"c {tmp_path}/call.wav\n",
        reco="c-A c 1\nc-B c 2\n",
        segments="a c-A 0 1\nb c-B 0 1\n",
        utt2spk="a ann\nb bob\n",
    )
    assert [u.channel for u in load_corpus(folder)] == [0, 1]


def test_a_file_of_one_channel_is_that_channel(tmp_path: Path) -> None:
    audio.write(tmp_path / "b.wav", noise(1.0, 1), RATE)
    folder = directory(tmp_path / "k", wav=f"c-B {tmp_path}/b.wav\n", reco="c-B c B\n", utt2spk="c-B bob\n")
    assert [(u.channel, u.seconds) for u in load_corpus(folder)] == [(None, 1.0)]


@pytest.mark.parametrize(
    ("reco", "message"),
    [
        ("c-A c C\n", "'c-A': expected a file and a channel A or B, found 'c C'"),
        ("c-A c\n", "'c-A': expected a file and a channel A or B, found 'c'"),
        ("c-A c A x\n", "expected a file and a channel A or B"),
        ("c-A\n", "line 1: expected a name and a value"),
        ("c-A c A\nc-A c B\n", "line 2: 'c-A' occurs twice"),
    ],
)
def test_a_malformed_channel_is_an_error(call: Path, sides: np.ndarray, reco: str, message: str) -> None:
    directory(call, reco=reco)
    with pytest.raises(CorpusError, match=message):
        load_corpus(call)


@pytest.mark.parametrize("name", ["wav.scp", "utt2spk", "segments", "reco2file_and_channel"])
@pytest.mark.parametrize("change", ["mark", "windows"])
def test_byte_order_marks_and_windows_line_ends_are_accepted(
    call: Path, sides: np.ndarray, name: str, change: str
) -> None:
    before = load_corpus(call)
    content = (call / name).read_bytes()
    content = b"\xef\xbb\xbf" + content if change == "mark" else content.replace(b"\n", b"\r\n")
    (call / name).write_bytes(content)
    assert load_corpus(call) == before


@pytest.mark.parametrize("end", ["-1", "-1.0", "-1.00"])
def test_an_end_of_minus_one_is_the_end_of_the_recording(call: Path, sides: np.ndarray, end: str) -> None:
    directory(call, segments=f"a0 c-A 0.5 {end}\n")
    [utterance] = load_corpus(call)
    assert (utterance.start, utterance.seconds) == (0.5, 3.5)
    directory(call, segments="a0 c-A 0.5 -2\n")
    with pytest.raises(CorpusError, match="end is '-2', not a number of seconds"):
        load_corpus(call)


def test_utterances_without_audio_are_counted(
    call: Path, sides: np.ndarray, caplog: pytest.LogCaptureFixture
) -> None:
    directory(call, utt2spk="a0 ann\na1 ann\nb0 bob\nb1 bob\nlost cyd\n")
    assert isinstance(load_corpus(call), Corpus)
    assert "1 utterances of utt2spk are left out: segments has none" in caplog.text


@pytest.mark.parametrize("name", ["wav.scp", "utt2spk", "segments", "reco2file_and_channel"])
def test_tables_that_are_not_text_are_typed_errors(call: Path, sides: np.ndarray, name: str) -> None:
    (call / name).write_bytes(b"a0 \xff\xfe\n")
    with pytest.raises(CorpusError, match=rf"{name}, line 1: not UTF-8 text"):
        load_corpus(call)
    (call / name).write_bytes(b"a0 " + b"x" * (5 << 20))
    with pytest.raises(CorpusError, match=rf"{name}, line 1: longer than 4 MiB"):
        load_corpus(call)
