"""The real corpora, if they are on this machine."""

import os
from pathlib import Path

import pytest

from separative.corpora import Corpus, check_corpus, load_corpus, save_corpus

DATA = Path(os.environ.get("SEPARATIVE_DATA", Path(__file__).parents[2].parent / "shared" / "data"))
pytestmark = [
    pytest.mark.data,
    pytest.mark.skipif(not (DATA / "speech.csv").is_file(), reason="no real corpora; set SEPARATIVE_DATA"),
]


@pytest.fixture(scope="module")
def speech() -> Corpus:
    return load_corpus(DATA / "speech.csv")


def test_no_speaker_is_in_two_splits(speech: Corpus) -> None:
    train, dev = speech.split("train"), speech.split("dev")
    assert len(speech) == len(train) + len(dev)
    assert not set(train.speakers) & set(dev.speakers)
    assert not any(name.endswith("/unknown") for name in speech.speakers)


def test_a_real_corpus_has_no_errors_and_is_saved_and_loaded(speech: Corpus, tmp_path: Path) -> None:
    sample = Corpus(speech.utterances[::40])
    report = check_corpus(sample)
    assert report.errors == ()
    assert report.rates == {16000: len(sample)}
    save_corpus(sample, tmp_path / "cuts.jsonl")
    saved = load_corpus(tmp_path)
    assert [(u.id, u.speaker, u.split) for u in saved] == [(u.id, u.speaker, u.split) for u in sample]
    assert max(abs(a.seconds - b.seconds) for a, b in zip(saved, sample, strict=True)) < 0.006


def test_noise_has_categories_and_no_speakers() -> None:
    noise = load_corpus(DATA / "noise.csv")
    assert len({u.category for u in noise}) >= 10
    assert noise.speakers == ()
