"""Manifests and settings in which values have other types or are extreme give typed errors."""

import gzip
import json
import os
import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from separative import audio
from separative.audio.archive import index_path
from separative.corpora import Corpus, Utterance, load_corpus, pack_corpus, save_corpus, synthesize_corpus
from separative.corpora.store import WaveStore
from separative.errors import AudioError, CorpusError, SeparativeError
from structures import variant

RATE = 8000
SETTINGS = {"speakers": 4, "utterances": 2, "dev_speakers": 2, "seed": 1, "rate": 16000}


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    wave_CN = 0.1 * np.random.default_rng(0).standard_normal((2, 2 * RATE)).astype(np.float32)
    audio.write(tmp_path / "a.wav", wave_CN, RATE)
    audio.write(tmp_path / "b.wav", wave_CN[1], RATE)
    return Corpus(
        (
            Utterance("a", tmp_path / "a.wav", 1.0, "ann", split="train", channel=1),
            Utterance("b", tmp_path / "b.wav", 1.5, "bob", 0.5, "x", "dev"),
        )
    )


def use(source: Path) -> str:
    """Load and use a corpus; return what came of it. Anything but a typed error fails the test."""
    try:
        loaded = load_corpus(source, keep_damaged=True)
    except CorpusError as error:
        assert len(str(error)) < 1000
        return "error"
    assert all(isinstance(name, str) for name in loaded.speakers)
    for utterance in loaded:
        try:
            utterance.read(RATE)
        except AudioError:
            return "audio error"
    return "valid"


def test_cuts_with_strange_values_are_typed_errors_or_valid(corpus: Corpus, tmp_path: Path) -> None:
    save_corpus(corpus, tmp_path / "cuts.jsonl", relative=True)
    lines = (tmp_path / "cuts.jsonl").read_text().splitlines()
    outcomes: Counter[str] = Counter()
    for seed in range(1000):
        text = variant(json.loads(lines[seed % 2]), seed)
        (tmp_path / "cuts.jsonl").write_text(f"{text}\n{lines[1 - seed % 2]}\n")
        outcomes[use(tmp_path / "cuts.jsonl")] += 1
    assert outcomes["error"] > 500
    assert outcomes["valid"] > 50


CUTS = {
    "a deep list": "[" * 100_000,
    "a long number": '{"id": ' + "9" * 5000 + "}",
    "no object": "[]",
    "no type": '{"id": "a"}',
    "text for a time": {"start": "1.0"},
    "a boolean for a time": {"start": True},
    "no number": {"duration": float("nan")},
    "infinite": {"duration": float("inf")},
    "very long": {"duration": 10**400},
    "negative": {"start": -1},
    "no duration": {"duration": 0},
    "a number for a speaker": {"supervisions": [{"speaker": 5}]},
    "text for supervisions": {"supervisions": "ann"},
    "a list for an id": {"id": ["a"]},
    "a long id": {"id": "x" * 5000},
    "a number for a split": {"custom": {"split": 1}},
    "a list for custom": {"custom": [1]},
    "no recording": {"recording": None},
    "text for a channel": {"channel": "0"},
    "a list for a source": {"recording": {"sources": [["a.wav"]]}},
}


@pytest.mark.parametrize("change", CUTS.values(), ids=CUTS)
@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz"])
def test_the_line_and_the_key_are_named(corpus: Corpus, tmp_path: Path, change: object, suffix: str) -> None:
    save_corpus(corpus, tmp_path / "cuts.jsonl", relative=True)
    first, second = (tmp_path / "cuts.jsonl").read_text().splitlines()
    (tmp_path / "cuts.jsonl").unlink()
    line = change if isinstance(change, str) else json.dumps(json.loads(second) | dict(change))  # type: ignore[call-overload]
    data = f"{first}\n{line}\n".encode()
    path = tmp_path / f"cuts{suffix}"
    path.write_bytes(gzip.compress(data) if suffix.endswith("gz") else data)
    with pytest.raises(CorpusError, match=r"cuts\.jsonl(\.gz)?, line 2: ") as caught:
        load_corpus(path)
    assert len(str(caught.value)) < 400
    if isinstance(change, dict):
        words = {"supervisions": "speaker", "custom": "split", "recording": "source"}
        [key] = change
        assert key in str(caught.value) or words[key] in str(caught.value)


def test_a_cut_that_is_repeated_ends_the_reading(corpus: Corpus, tmp_path: Path) -> None:
    save_corpus(corpus, tmp_path / "one.jsonl", relative=True)
    line = (tmp_path / "one.jsonl").read_bytes().splitlines(keepends=True)[0]
    (tmp_path / "many.jsonl.gz").write_bytes(gzip.compress(line * 100_000))
    with pytest.raises(CorpusError, match="2 utterances have the id 'a'"):
        load_corpus(tmp_path / "many.jsonl.gz")


def test_indices_with_strange_values_never_give_other_samples(corpus: Corpus, tmp_path: Path) -> None:
    pack_corpus(corpus, tmp_path / "shards")
    packed = load_corpus(tmp_path / "shards")
    expected = [u.read() for u in packed]
    [shard] = (tmp_path / "shards").glob("*.tar")
    index = json.loads(index_path(shard).read_text())
    for seed in range(300):
        index_path(shard).write_text(variant(index, seed))
        shard.touch()
        for utterance, wave_N in zip(packed, expected, strict=True):
            np.testing.assert_array_equal(utterance.read(), wave_N)


def test_settings_of_voices_with_strange_values_are_typed_errors(tmp_path: Path) -> None:
    folder = tmp_path / "voices"
    folder.mkdir()
    outcomes: Counter[str] = Counter()
    for seed in range(300):
        (folder / "voices.json").write_text(variant(SETTINGS, seed))
        with pytest.raises(CorpusError, match="voices") as caught:
            synthesize_corpus(folder, **(SETTINGS | {"seed": 99}))
        outcomes[str(caught.value).partition(" ")[2][:12]] += 1
    assert len(outcomes) > 2


TOKENS = [
    *(b"", b"\0", b"\xff", b"-1", b"nan", b"1e999", b"9" * 5000, b"x" * 200_000),
    *(b'"', b",", b"\n", b"|", b"/", b"..", b" ", b"\xe2\x80\xa8"),
]


@pytest.mark.parametrize("kind", ["csv", "kaldi"])
def test_tables_with_strange_tokens_are_typed_errors_or_valid(
    corpus: Corpus, tmp_path: Path, kind: str
) -> None:
    tables = {
        "csv": {"m.csv": b"path,speaker,start,seconds\na.wav,ann,0,1\nb.wav,bob,0.5,1\n"},
        "kaldi": {
            "wav.scp": b"a a.wav\nb b.wav\n",
            "segments": b"u a 0 1\nv b 0.5 -1\n",
            "utt2spk": b"u ann\nv bob\n",
            "reco2file_and_channel": b"a x A\nb x B\n",
        },
    }[kind]
    outcomes: Counter[str] = Counter()
    for seed in range(300):
        rng = random.Random(seed)
        for name, content in tables.items():
            (tmp_path / name).write_bytes(content)
        name, content = rng.choice(list(tables.items()))
        for _ in range(rng.randint(1, 2)):
            at = rng.randrange(len(content))
            content = content[:at] + rng.choice(TOKENS) + content[at + rng.randint(0, 3) :]
        (tmp_path / name).write_bytes(content)
        outcomes[use(tmp_path / "m.csv" if kind == "csv" else tmp_path)] += 1
    assert outcomes["error"] > 30
    assert outcomes["valid"] > 30


def test_a_file_name_that_is_not_utf8_can_be_used(corpus: Corpus, tmp_path: Path) -> None:
    odd = tmp_path / "c" / os.fsdecode(b"\xff") / os.fsdecode(b"b\xe9.wav")
    odd.parent.mkdir(parents=True)
    corpus.utterances[1].path.rename(odd)
    loaded = load_corpus(tmp_path / "c")
    save_corpus(loaded, tmp_path / "cuts.jsonl")
    assert load_corpus(tmp_path / "cuts.jsonl") == loaded
    store = WaveStore(loaded, RATE, tmp_path / "cache")
    assert store.length(loaded.utterances[0]) == 2 * RATE
    pack_corpus(loaded, tmp_path / "shards")
    assert isinstance(load_corpus(tmp_path / "shards").utterances[0].read(), np.ndarray)
    with pytest.raises(SeparativeError):
        load_corpus(odd)
