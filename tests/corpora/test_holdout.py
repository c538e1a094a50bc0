"""Speakers that are held out of a corpus for validation."""

from pathlib import Path

import pytest

from separative.corpora import Corpus, Utterance, hold_out_speakers
from separative.errors import CorpusError


def corpus(speakers: int, takes: int = 2, split: str = "") -> Corpus:
    return Corpus(
        tuple(
            Utterance(f"s{n}-{take}", Path(f"s{n}-{take}.wav"), 1.0, speaker=f"s{n:03}", split=split)
            for n in range(speakers)
            for take in range(takes)
        )
    )


def test_the_splits_have_different_speakers_and_all_utterances() -> None:
    whole = corpus(100)
    divided = hold_out_speakers(whole, 0.1)
    train, dev = divided.split("train"), divided.split("dev")
    assert len(dev.speakers) == 10 and not set(train.speakers) & set(dev.speakers)
    assert [u.id for u in divided] == [u.id for u in whole]


def test_the_choice_depends_on_the_seed_and_not_on_the_order() -> None:
    whole = corpus(100)
    chosen = hold_out_speakers(whole, 0.1).split("dev").speakers
    assert hold_out_speakers(Corpus(whole.utterances[::-1]), 0.1).split("dev").speakers == chosen
    assert hold_out_speakers(whole, 0.1, seed=1).split("dev").speakers != chosen
    # A larger share adds speakers, and keeps those of a smaller one.
    assert set(chosen) < set(hold_out_speakers(whole, 0.2).split("dev").speakers)


def test_three_speakers_with_two_utterances_are_held_out_at_least() -> None:
    mixed = Corpus((*corpus(3).utterances, *(u for u in corpus(40, takes=1) if u.speaker > "s002")))
    assert hold_out_speakers(mixed, 0.01).split("dev").speakers == ("s000", "s001", "s002")


@pytest.mark.parametrize(
    ("given", "share", "message"),
    [
        (corpus(4), 0.1, "3 speakers .* the corpus has 4 labelled speakers"),
        (corpus(40, takes=1), 0.1, "4 speakers .* 0 of them with two or more"),
        (corpus(40, split="train"), 0.1, "has splits already .train."),
        (corpus(40), 1.5, "the share of speakers to hold out is 1.5"),
        (Corpus((Utterance("one", Path("one.wav"), 1.0),)), 0.5, "0 labelled speakers"),
    ],
)
def test_a_corpus_that_cannot_be_divided_is_refused(given: Corpus, share: float, message: str) -> None:
    with pytest.raises(CorpusError, match=message):
        hold_out_speakers(given, share)
