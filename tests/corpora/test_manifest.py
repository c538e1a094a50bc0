"""Corpora in memory: identities and splits."""

from pathlib import Path

import pytest

from separative.corpora import Corpus, Utterance
from separative.errors import CorpusError

LONG = Path("long.wav")
CORPUS = Corpus(
    (
        Utterance("3", LONG, 1.0, "bob", start=1.0, split="train"),
        Utterance("1", LONG, 1.0, "ann", split="train"),
        Utterance("2", Path("b.wav"), 1.0, "ann", split="dev"),
        Utterance("4", Path("c.wav"), 1.0, split="dev"),
    )
)


def test_identities_are_speakers_or_recordings() -> None:
    assert CORPUS.speakers == ("ann", "bob")
    assert [u.id for u in CORPUS.identities("speaker")["ann"]] == ["1", "2"]
    recordings = CORPUS.identities("recording")
    assert {name: [u.id for u in cuts] for name, cuts in recordings.items()} == {
        "b.wav": ["2"],
        "c.wav": ["4"],
        "long.wav": ["3", "1"],
    }


def test_a_split_is_selected_by_name() -> None:
    assert [u.id for u in CORPUS.split("dev")] == ["2", "4"]
    with pytest.raises(CorpusError, match="no split 'test'; valid: dev, train"):
        CORPUS.split("test")
    unsplit = Corpus((Utterance("1", LONG, 1.0, "ann"),))
    assert unsplit.split("dev") is unsplit
