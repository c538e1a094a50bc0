"""Learning without labels on the command line: a pile of speech, found speakers, and a run on those."""

import csv
from pathlib import Path

import numpy as np
from cli_helpers import RATE, Run, hum

from separative import audio, load_corpus, load_model

SIZES = [
    *("mixtures.rate=8000", "mixtures.seconds=1", "mixtures.batch=4", "mixtures.nuisances={}"),
    *("model.rate=8000", "model.stack=1", "model.width=16", "model.heads=2", "model.shared_blocks=1"),
    *("model.stream_blocks=1", "model.speaker_width=16", "model.speaker_blocks=1", "model.embedding=16"),
    *("run.workers=0", "run.threads=1", "run.log_every=1", "loss.presence.queue=4"),
]


def settings() -> list[str]:
    return [word for key in SIZES for word in ("--set", key)]


def test_a_pile_is_learnt_from_and_its_speakers_are_found(cli: Run, tmp_path: Path) -> None:
    pile, out = tmp_path / "pile", tmp_path / "runs" / "free"
    for speaker in range(4):
        for take in range(2):
            audio.write(pile / f"{take}" / f"{speaker}.flac", hum(speaker, take, 2.5), RATE)
    audio.write(pile / "word.wav", hum(0, 9, 0.3), RATE)
    joined = [hum(9, 0, 12.0), np.zeros(RATE, np.float32), hum(9, 1, 11.0)]
    audio.write(pile / "long.flac", np.concatenate(joined), RATE)
    train = ("train", "--label-free", "--corpus", pile, "--out", out, "--screen", "none")
    done = cli(*train, *settings(), "--steps", 2)
    assert done.code == 0, done.err
    assert "10 pieces kept" in done.out and "1 set aside: less than 1 s of speech" in done.out
    with (tmp_path / "runs" / "free-pile.csv").open() as file:
        assert [Path(row["path"]).name for row in csv.DictReader(file) if row["reason"] != "kept"] == [
            "word.wav"
        ]
    card = load_model(out).card
    assert card["identity"] == "utterance" and card["data"]["speaker_count"] == 0
    assert card["recipe"]["loss"]["objective"] == "presence"
    # The pile is not read again on resume.
    audio.write(pile / "new.wav", hum(5, 0, 2.5), RATE)
    done = cli(*train, "--resume", "--steps", 3)
    assert done.code == 0, done.err
    assert load_model(out).card["training"]["steps"] == 3

    manifest = tmp_path / "runs" / "free-pile.jsonl"
    found = tmp_path / "found.jsonl"
    done = cli("find-identities", out, "--corpus", manifest, "--out", found, "--identity", "utterance")
    assert done.code == 0, done.err
    assert "of 10 recordings" in done.out and "purity" not in done.out
    speakers = load_corpus(found).speakers
    assert speakers and all(name.startswith("found-") for name in speakers)


def test_found_speakers_are_compared_with_labels_and_can_be_trained_on(
    cli: Run, run: Path, speech: Path, recipe: Path, tmp_path: Path
) -> None:
    found = tmp_path / "found.jsonl"
    done = cli("find-identities", run, "--corpus", speech, "--out", found, "--smallest", 1)
    assert done.code == 0, done.err
    assert "purity" in done.out and "coverage" in done.out and "100% of 24 recordings" in done.out
    done = cli(
        *("train", "--recipe", recipe, "--corpus", found, "--from", run, "--out", tmp_path / "second"),
        *("--steps", 2, "--set", "mixtures.batch=2"),
    )
    assert done.code == 0, done.err
    assert all(name.startswith("found-") for name in load_corpus(found).speakers)


def test_a_pile_that_does_not_exist_is_an_error_of_one_sentence(cli: Run, tmp_path: Path) -> None:
    done = cli("train", "--label-free", "--corpus", tmp_path / "none", "--out", tmp_path / "run")
    assert done.code != 0 and "no such folder" in done.err and "Traceback" not in done.err
