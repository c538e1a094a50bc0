"""A pile of speech: what is cut, what is kept, and what is set aside for which reason."""

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest

from separative import audio
from separative.corpora.pile import cut_at_silences, read_pile
from separative.errors import CorpusError

RATE = 8000


def speech(seconds: float, seed: int) -> np.ndarray:
    """Syllables of noise, without a pause of half a second."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * RATE)) / RATE
    return (0.1 * rng.standard_normal(len(time)) * (np.sin(2 * np.pi * 3 * time) > -0.5)).astype(np.float32)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "pile"
    (root / "deep" / "er").mkdir(parents=True)
    pause = np.zeros(RATE, np.float32)
    audio.write(root / "short.wav", speech(3.0, 0), RATE)
    shutil.copy(root / "short.wav", root / "deep" / "copy.wav")
    long = np.concatenate([speech(9, 1), pause, speech(14, 2)])
    audio.write(root / "deep" / "er" / "long.flac", long, RATE)
    audio.write(root / "word.wav", speech(0.4, 3), RATE)
    audio.write(root / "silent.wav", np.zeros(2 * RATE, np.float32), RATE)
    (root / "broken.wav").write_bytes(b"RIFF")
    (root / "notes.txt").write_text("not audio")
    return root


def test_every_piece_is_kept_or_has_a_reason(folder: Path, tmp_path: Path) -> None:
    pile = read_pile(folder)
    reasons = {(piece.path.name, round(piece.start)): piece.reason.partition(":")[0] for piece in pile.pieces}
    assert reasons == {
        ("copy.wav", 0): "the same samples as",
        ("short.wav", 0): "",
        ("long.flac", 0): "",
        ("long.flac", 10): "",
        ("word.wav", 0): "less than 1 s of speech",
        ("silent.wav", 0): "less than 1 s of speech",
        ("broken.wav", 0): "cannot be read",
    }
    assert pile.summary().startswith("3 pieces kept, 0.4 minutes; 2 set aside: less than 1 s of speech")
    pile.write_log(tmp_path / "log.csv")
    with (tmp_path / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 7 and sum(row["reason"] == "kept" for row in rows) == 3


def test_kept_pieces_are_unlabelled_and_read_what_was_cut(folder: Path) -> None:
    pile = read_pile(folder)
    assert pile.corpus.speakers == () and {u.split for u in pile.corpus} == {"train"}
    second = next(u for u in pile.corpus if round(u.start) == 10)
    assert second.id == "deep/er/long.flac@10.00" and second.seconds == pytest.approx(14, abs=0.3)
    assert len(pile.corpus.identities("recording")) == 2 and len(pile.corpus.identities("utterance")) == 3


def test_judge_sees_what_energy_keeps(folder: Path) -> None:
    seen = []

    def judge(wave: np.ndarray, rate: int) -> str:
        seen.append(len(wave) / rate)
        return "two speakers" if len(wave) > 12 * rate else ""

    pile = read_pile(folder, judge=judge)
    assert len(seen) == 3
    assert [piece.path.name for piece in pile.pieces if piece.reason == "two speakers"] == ["long.flac"]
    with pytest.raises(CorpusError, match=r"no speech of use .*3 set aside: noise"):
        read_pile(folder, judge=lambda wave, rate: "noise")


def test_long_speech_without_pauses_is_divided_evenly() -> None:
    spans = cut_at_silences(speech(45, 0), RATE)
    assert [round((high - low) / RATE) for low, high in spans] == [15, 15, 15]
    assert spans[0][1] == spans[1][0]
    assert cut_at_silences(np.zeros(RATE, np.float32), RATE) == []


def test_missing_and_empty_folders_are_errors(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="no such folder"):
        read_pile(tmp_path / "none")
    with pytest.raises(CorpusError, match="no audio files"):
        read_pile(tmp_path)
