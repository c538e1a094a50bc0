"""`check_corpus` finds every kind of problem, in real audio files."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from separative import audio
from separative.corpora import Corpus, CorpusReport, Utterance, check_corpus, load_corpus
from separative.corpora.check import active_seconds
from separative.errors import AudioError

RATE = 16000


def noise(seconds: float, seed: int, db: float = -25.0) -> np.ndarray:
    wave_N = np.random.default_rng(seed).standard_normal(round(seconds * RATE)).astype(np.float32)
    return audio.with_level(wave_N, db)


@pytest.fixture
def healthy(tmp_path: Path) -> Path:
    root = tmp_path / "corpus"
    for seed, name in enumerate(("ann/1.wav", "ann/2.flac", "bob/1.ogg", "bob/2.wav")):
        audio.write(root / name, noise(2.5, seed), RATE)
    return root


def rows(report: CorpusReport, kind: str) -> list[str]:
    return [f"{Path(p.where).name}: {p.problem}" for p in report.problems if p.kind == kind]


def test_a_healthy_corpus_has_no_problems(healthy: Path) -> None:
    calls: list[tuple[int, int]] = []
    report = check_corpus(load_corpus(healthy), progress=lambda done, total: calls.append((done, total)))
    assert report.problems == ()
    assert (report.total.speakers, report.total.utterances) == (2, 4)
    assert report.total.hours == pytest.approx(10 / 3600)
    assert report.by_corpus == {"corpus": report.total}
    assert (report.rates, report.channels) == ({RATE: 4}, {1: 4})
    assert calls == [(1, 4), (2, 4), (3, 4), (4, 4)]


def halve(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def rewrite(wave: np.ndarray, rate: int = RATE) -> Callable[[Path], None]:
    return lambda path: soundfile.write(path, wave.T, rate)


def copy_of(name: str) -> Callable[[Path], None]:
    return lambda path: shutil.copy(path.parents[1] / name, path) and None


# File, change to it, kind and text of the problem.
PROBLEMS = {
    "cut WAV": ("ann/1.wav", halve, "error", "1.wav: cut short"),
    "cut Ogg": ("bob/1.ogg", halve, "error", "1.ogg: cut short"),
    "cut FLAC": ("ann/2.flac", halve, "error", "2.flac: not readable"),
    "not audio": ("bob/2.wav", lambda path: path.write_text("text"), "error", "2.wav: not readable"),
    "missing": ("bob/2.wav", Path.unlink, "error", "2.wav: no such file"),
    "empty": ("bob/2.wav", rewrite(np.zeros(0)), "error", "2.wav: empty"),
    "silent": ("bob/2.wav", rewrite(np.zeros(40000)), "error", "2.wav: silent"),
    "quiet": ("bob/2.wav", rewrite(noise(2.5, 9, -60)), "warning", "2.wav: very quiet"),
    "short": ("bob/2.wav", rewrite(noise(2.0, 9)), "error", "states 2.50 s, the file holds 2.00 s"),
    "copied": ("ann/2.flac", copy_of("ann/1.wav"), "warning", "2.flac: the same audio as"),
    "copied over": ("bob/2.wav", copy_of("ann/1.wav"), "error", "under corpus/ann and corpus/bob"),
    "rates": ("bob/2.wav", rewrite(noise(1.25, 9), 8000), "warning", "16000 Hz (3), 8000 Hz (1)"),
    "stereo": ("bob/2.wav", rewrite(np.stack([noise(2.5, 9)] * 2)), "warning", "1 utterances have several"),
}


@pytest.mark.parametrize(("name", "damage", "kind", "message"), PROBLEMS.values(), ids=PROBLEMS)
def test_a_problem_is_reported(
    healthy: Path, name: str, damage: Callable[[Path], object], kind: str, message: str
) -> None:
    corpus = load_corpus(healthy)
    damage(healthy / name)
    report = check_corpus(corpus, min_speech=0.0)
    [found] = rows(report, kind)
    assert message in found
    assert len(report.problems) == 1
    assert report.errors + report.warnings == report.problems


def stated(size: int) -> Callable[[Path], None]:
    """Let a WAV file state another size of its audio than it has."""

    def change(path: Path) -> None:
        content = bytearray(path.read_bytes())
        content[40:44] = size.to_bytes(4, "little")
        path.write_bytes(content)

    return change


STEREO = {
    "opposite": (
        rewrite(np.stack([noise(2.5, 9), -noise(2.5, 9)])),
        "error",
        "2.wav: silent: its channels have",
    ),
    "nearly opposite": (
        rewrite(np.stack([noise(2.5, 9), -0.9 * noise(2.5, 9)])),
        "warning",
        "2.wav: the mean is 26 dB weaker than the channels: its channels have opposite phase",
    ),
}


@pytest.mark.parametrize(("damage", "kind", "message"), STEREO.values(), ids=STEREO)
def test_channels_of_opposite_phase_are_reported(
    healthy: Path, damage: Callable[[Path], object], kind: str, message: str
) -> None:
    corpus = load_corpus(healthy)
    damage(healthy / "bob/2.wav")
    report = check_corpus(corpus, min_speech=0.0)
    assert message in rows(report, kind)[0]
    assert "use one channel" in rows(report, kind)[0]
    one = Corpus(tuple(replace(u, channel=0) if u.id == "bob/2" else u for u in corpus))
    assert check_corpus(one, min_speech=0.0).problems == ()


@pytest.mark.parametrize(
    ("size", "problem"), [(0, "states 0 as the size"), (32000, "48000 more bytes follow"), (0x7FFFF000, "")]
)
def test_sizes_of_writers_that_cannot_seek_are_no_errors(healthy: Path, size: int, problem: str) -> None:
    stated(size)(healthy / "ann/1.wav")
    report = check_corpus(load_corpus(healthy, keep_damaged=True), min_speech=0.0)
    assert report.errors == ()
    assert [problem in p.problem for p in report.warnings] == [True] * bool(problem)
    assert report.total.hours == pytest.approx((10 - 1.5 * (size == 32000)) / 3600)


def test_a_file_that_ends_before_its_audio_is_cut_short(healthy: Path) -> None:
    # The size of the whole file is right: only the chunk of the audio says that some is missing.
    stated(160_000)(healthy / "ann/1.wav")
    [found] = rows(check_corpus(load_corpus(healthy), min_speech=0.0), "error")
    assert found == "1.wav: cut short: the file is shorter than its header states"


def test_problems_of_speakers_and_labels_are_reported(healthy: Path) -> None:
    corpus = load_corpus(healthy)
    assert rows(check_corpus(corpus.filter(lambda u: u.speaker == "corpus/ann")), "error") == [
        "corpus: only one speaker (corpus/ann); at least two are needed"
    ]
    short = corpus.filter(lambda u: u.id != "bob/2")
    assert rows(check_corpus(short), "warning") == ["bob: too little speech: 2.5 s active, under 4 s"]
    assert check_corpus(short, min_speech=2.0).problems == ()
    unlabelled = Corpus(tuple(replace(u, speaker=None) for u in corpus))
    assert "no speaker labels" in rows(check_corpus(unlabelled), "warning")[0]
    clips = Corpus(tuple(replace(u, speaker=None, category="rain") for u in corpus))
    assert check_corpus(clips).problems == ()


def test_two_utterances_of_one_long_file_are_measured_separately(tmp_path: Path) -> None:
    # Each utterance is longer than PIECE_SECONDS, so it is decoded in two pieces.
    audio.write(tmp_path / "long.wav", noise(130.0, 0), RATE)
    halves = [Utterance(str(i), tmp_path / "long.wav", 65.0, f"speaker{i}", start=65.0 * i) for i in range(2)]
    report = check_corpus(Corpus(tuple(halves)))
    assert report.problems == ()
    assert report.total.hours == pytest.approx(130 / 3600)
    late = replace(halves[1], seconds=70.0)
    [found] = rows(check_corpus(Corpus((halves[0], late))), "error")
    assert "the manifest states 70.00 s, the file holds 65.00 s from 65 s on" in found


def test_active_seconds_excludes_pauses() -> None:
    wave_N = np.concatenate([noise(1.0, 0), noise(1.0, 1, -70), noise(0.5, 2), np.zeros(RATE, np.float32)])
    assert active_seconds(wave_N, RATE) == pytest.approx(1.5, abs=0.02)
    assert active_seconds(np.zeros(RATE, np.float32), RATE) == active_seconds(wave_N[:10], RATE) == 0.0


def test_a_damaged_file_does_not_prevent_the_check_of_others(healthy: Path) -> None:
    # A folder states no durations, so `load_corpus` reads the headers; `keep_damaged` keeps unreadable files.
    (healthy / "ann/1.wav").write_bytes(b"not audio at all")
    with pytest.raises(AudioError, match=r"ann/1\.wav"):
        load_corpus(healthy)
    corpus = load_corpus(healthy, keep_damaged=True)
    assert len(corpus) == 4
    [problem] = check_corpus(corpus).errors
    assert problem.where.endswith("ann/1.wav")
