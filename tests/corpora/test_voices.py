"""Synthetic corpora are reproducible, and their speakers are distinct and have the drawn pitch."""

import hashlib
import importlib.util
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from separative import audio
from separative.corpora import Corpus, check_corpus, load_corpus, synthesize_corpus, voices
from separative.corpora.sentences import sentence
from separative.corpora.voices import draw_speakers
from separative.errors import CorpusError, MissingExtraError

RATE = 16000
PITCH_TOLERANCE = 0.25  # the melody varies around the mean pitch
SETTINGS = {"speakers": 8, "utterances": 5, "dev_speakers": 2, "seed": 3}

needs_espeak = pytest.mark.skipif(
    importlib.util.find_spec("espeakng_loader") is None, reason="the extra 'voices' is not installed"
)


@pytest.fixture(scope="module")
def synthesized(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Corpus]:
    folder = tmp_path_factory.mktemp("voices") / "eight"
    return folder, synthesize_corpus(folder, **SETTINGS)


def hashes(folder: Path) -> dict[str, str]:
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@needs_espeak
def test_the_corpus_has_the_requested_size_and_no_problems(synthesized: tuple[Path, Corpus]) -> None:
    folder, corpus = synthesized
    assert len(corpus) == 40
    assert len(corpus.speakers) == 8
    assert len(corpus.split("dev").speakers) == 2
    assert not set(corpus.split("dev").speakers) & set(corpus.split("train").speakers)
    assert load_corpus(folder) == corpus
    report = check_corpus(corpus)
    assert report.problems == ()
    assert report.rates == {RATE: 40}
    assert all(1.5 < u.seconds < 8.0 for u in corpus)


@needs_espeak
def test_the_same_seed_gives_the_same_files(synthesized: tuple[Path, Corpus], tmp_path: Path) -> None:
    folder, _ = synthesized
    synthesize_corpus(tmp_path / "again", **SETTINGS)
    first, again = hashes(folder), hashes(tmp_path / "again")
    assert len(first) == 42
    assert first == again
    assert len(set(first.values())) == 42


@needs_espeak
def test_an_interrupted_corpus_is_completed_and_a_complete_one_kept(
    synthesized: tuple[Path, Corpus], tmp_path: Path
) -> None:
    whole, corpus = synthesized
    folder = tmp_path / "part"
    shutil.copytree(whole, folder)
    (folder / "cuts.jsonl").unlink()
    half = sorted(p for p in folder.iterdir() if p.is_dir())[3]
    half.rename(folder / f".{half.name}")
    next((folder / f".{half.name}").iterdir()).write_text("incomplete")
    calls: list[tuple[int, int]] = []
    synthesize_corpus(folder, **SETTINGS, progress=lambda done, total: calls.append((done, total)))
    assert hashes(folder) == hashes(whole)
    assert calls[-1] == (8, 8)
    dates = {p: p.stat().st_mtime_ns for p in folder.rglob("*")}
    assert len(synthesize_corpus(folder, **SETTINGS)) == len(corpus)
    assert {p: p.stat().st_mtime_ns for p in folder.rglob("*")} == dates


@needs_espeak
def test_a_folder_with_other_content_is_not_changed(synthesized: tuple[Path, Corpus], tmp_path: Path) -> None:
    folder, _ = synthesized
    with pytest.raises(CorpusError, match=r"contains other voices \(speakers 8, .*seed 3"):
        synthesize_corpus(folder, **(SETTINGS | {"seed": 4}))
    (tmp_path / "letter.txt").write_text("mine")
    with pytest.raises(CorpusError, match="is not an empty folder"):
        synthesize_corpus(tmp_path, **SETTINGS)
    assert [p.name for p in tmp_path.iterdir()] == ["letter.txt"]
    with pytest.raises(CorpusError, match="each split needs at least two speakers"):
        synthesize_corpus(tmp_path / "new", speakers=3, dev_speakers=2)


def test_the_missing_extra_is_named_in_the_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'separative\[voices\]'"):
        synthesize_corpus(tmp_path / "new", **SETTINGS)
    assert not (tmp_path / "new").exists()


@needs_espeak
def test_a_failure_of_espeak_names_the_speaker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(voices, "DATA_FILES", ("phondata",))
    with pytest.raises(CorpusError, match="synthetic speaker s3-000: espeak-ng failed"):
        synthesize_corpus(tmp_path / "new", **SETTINGS)
    assert json.loads((tmp_path / "new" / "voices.json").read_text())["seed"] == 3


def frames(wave_N: np.ndarray, size: int, hop: int) -> np.ndarray:
    return np.lib.stride_tricks.sliding_window_view(wave_N.astype(np.float64), size)[::hop]


def median_pitch(wave_N: np.ndarray) -> float:
    """Pitch in hertz from the autocorrelation of loud and periodic frames."""
    frames_TN = frames(wave_N, 800, 400)
    frames_TN = frames_TN[(frames_TN**2).mean(1) > 0.3 * np.mean(wave_N**2)]
    correlation_TN = np.fft.irfft(np.abs(np.fft.rfft(frames_TN, 2048)) ** 2)[:, :800]
    correlation_TN /= correlation_TN[:, :1] * (1 - np.arange(800) / 800)
    lag_T = 35 + correlation_TN[:, 35:290].argmax(axis=1)
    periodic_T = correlation_TN[np.arange(len(lag_T)), lag_T] > 0.6
    assert periodic_T.mean() > 0.3, "too few frames are voiced"
    return float(np.median(RATE / lag_T[periodic_T]))


@needs_espeak
def test_speech_has_the_pitch_drawn_for_the_speaker(synthesized: tuple[Path, Corpus]) -> None:
    _, corpus = synthesized
    for speaker in draw_speakers(8, 3):
        utterances = corpus.by_speaker[f"voices/{speaker.name}"][:3]
        measured = [median_pitch(audio.read(u.path)[0]) for u in utterances]
        assert np.median(measured) == pytest.approx(speaker.pitch, rel=PITCH_TOLERANCE)


def cepstral_statistics(wave_N: np.ndarray) -> np.ndarray:
    """Mean and deviation of 19 mel-frequency cepstra over the louder frames: a simple speaker embedding."""
    power_TF = np.abs(np.fft.rfft(frames(wave_N, 400, 160) * np.hanning(400), 512)) ** 2
    power_TF = power_TF[power_TF.sum(1) > 1e-4 * power_TF.sum(1).max()]
    edges = 700 * (10 ** (np.linspace(64, 2787, 42) / 2595) - 1)
    hertz = np.arange(257) * RATE / 512
    low, mid, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    mel_MF = np.maximum(0, np.minimum((hertz - low) / (mid - low), (high - hertz) / (high - mid)))
    cosine_MK = np.cos(np.pi * np.arange(1, 20) * (np.arange(40)[:, None] + 0.5) / 40)
    cepstra_TK = np.log(power_TF @ mel_MF.T + 1e-10) @ cosine_MK
    return np.concatenate([cepstra_TK.mean(0), cepstra_TK.std(0)])


def equal_error(scores: np.ndarray, same: np.ndarray) -> float:
    order = np.argsort(scores)
    missed = np.cumsum(same[order]) / same.sum()
    false = 1 - np.cumsum(~same[order]) / (~same).sum()
    nearest = np.abs(missed - false).argmin()
    return float(missed[nearest] + false[nearest]) / 2


@needs_espeak
@pytest.mark.slow
def test_sixty_speakers_are_distinct_but_vary(tmp_path: Path) -> None:
    corpus = synthesize_corpus(tmp_path / "sixty", speakers=60, utterances=4, dev_speakers=20, seed=1)
    embeddings = np.stack([cepstral_statistics(audio.read(u.path)[0]) for u in corpus])
    embeddings = (embeddings - embeddings.mean(0)) / embeddings.std(0)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    scores = embeddings @ embeddings.T
    speaker = np.array([u.speaker for u in corpus])
    same = speaker[:, None] == speaker[None]
    upper = np.triu_indices(len(speaker), 1)
    # Sentences differ within a pair. The error is above zero, since speakers vary, and far below chance.
    assert 0.002 < equal_error(scores[upper], same[upper]) < 0.06
    np.fill_diagonal(scores, -1)
    assert same[np.arange(len(speaker)), scores.argmax(1)].mean() > 0.9


def test_speakers_depend_on_the_seed_but_not_on_the_count() -> None:
    many = draw_speakers(100, 0)
    assert draw_speakers(30, 0) == many[:30]
    assert draw_speakers(30, 1) != many[:30]
    assert len({speaker.variant.partition("pitch")[2] for speaker in many}) == 100
    pitches = [speaker.pitch for speaker in many]
    assert min(pitches) < 100 < 220 < max(pitches)


def test_sentences_are_varied_plain_text() -> None:
    rng = np.random.default_rng(0)
    texts = [sentence(rng) for _ in range(500)]
    assert len(set(texts)) > 495
    assert len({word for text in texts for word in text.lower().strip(".?").split()}) > 250
    assert all(5 <= len(text.split()) <= 22 and text[0].isupper() and text[-1] in ".?" for text in texts)
    assert not any("~" in text or " ," in text or "  " in text for text in texts)
