"""The store of decoded waveforms gives the same samples from memory and from its file."""

import os
import pickle
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import soundfile

from separative import audio
from separative.corpora.manifest import Utterance
from separative.corpora.store import WaveStore
from separative.errors import CorpusError

RATE = 8000
# Half a step of 16-bit integers relative to the peak, and the rounding errors of float32.
QUANTISATION = 0.51 / 32767


def speechlike(seconds: float, seed: int, rate: int = RATE) -> np.ndarray:
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * rate)) / rate
    return (0.3 * np.sin(3 * time + seed) ** 2 * rng.standard_normal(len(time))).clip(-1, 1)


def write_utterance(folder: Path, name: str, wave: np.ndarray, rate: int = RATE, **at: float) -> Utterance:
    path = folder / name
    if not path.exists():
        soundfile.write(path, wave, rate)
    return Utterance(
        id=name, path=path, seconds=at.get("seconds", len(wave) / rate), start=at.get("start", 0.0)
    )


@pytest.fixture
def utterances(tmp_path: Path) -> list[Utterance]:
    folder = tmp_path / "audio"
    folder.mkdir()
    made = [
        write_utterance(folder, f"{i}.{kind}", speechlike(0.5 + 0.2 * i, i))
        for i, kind in enumerate(["wav", "flac", "ogg"])
    ]
    long = speechlike(3.0, 9, 16000)
    made += [
        write_utterance(folder, "long.flac", long, 16000, start=start, seconds=0.75) for start in (0.0, 1.5)
    ]
    return made


def test_stored_and_lazy_samples_are_bit_identical(tmp_path: Path, utterances: list[Utterance]) -> None:
    stored, lazy = WaveStore(utterances, RATE, tmp_path / "cache"), WaveStore(utterances, RATE)
    copy = pickle.loads(pickle.dumps(stored))
    for utterance in reversed(utterances):
        length = stored.length(utterance)
        assert lazy.length(utterance) == length == copy.length(utterance)
        whole = stored.read(utterance, 0, length)
        assert whole.dtype == np.float32
        np.testing.assert_array_equal(lazy.read(utterance, 0, length), whole)
        np.testing.assert_array_equal(copy.read(utterance, 100, 200), whole[100:300])
        np.testing.assert_array_equal(lazy.active(utterance, 80, 800), stored.active(utterance)[1:11])


def test_samples_equal_those_of_the_file_up_to_quantisation(utterances: list[Utterance]) -> None:
    store = WaveStore(utterances, RATE)
    for utterance in utterances:
        wave, _ = audio.read(utterance.path, RATE, start=utterance.start, seconds=utterance.seconds)
        kept = store.read(utterance, 0, store.length(utterance))
        assert np.abs(kept - wave).max() <= QUANTISATION * np.abs(wave).max()


def test_reading_outside_an_utterance_is_an_error(utterances: list[Utterance]) -> None:
    store = WaveStore(utterances, RATE)
    with pytest.raises(CorpusError, match=r"0\.wav: samples 3999 to 4001 requested, but it has 4000"):
        store.read(utterances[0], 3999, 2)


def test_a_second_store_decodes_only_if_a_file_has_changed(
    tmp_path: Path, utterances: list[Utterance]
) -> None:
    seen: list[tuple[int, int]] = []

    def open_store() -> WaveStore:
        return WaveStore(utterances, RATE, tmp_path / "cache", lambda done, total: seen.append((done, total)))

    before = open_store().read(utterances[0], 0, 4000)
    assert seen == [(5, 5)]
    open_store()
    assert len(seen) == 1
    soundfile.write(utterances[0].path, speechlike(0.5, 77), RATE)
    after = open_store().read(utterances[0], 0, 4000)
    assert len(seen) == 2
    assert not np.array_equal(before, after)
    assert not list((tmp_path / "cache").glob("building-*"))


def test_abandoned_temporary_folders_are_removed(tmp_path: Path, utterances: list[Utterance]) -> None:
    for name, age in (("building-old", 7200), ("building-now", 0)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "samples.i16").write_bytes(bytes(100))
        for path in (tmp_path / name / "samples.i16", tmp_path / name):
            os.utime(path, (time.time() - age,) * 2)
    WaveStore(utterances, RATE, tmp_path)
    assert [path.name for path in tmp_path.glob("building-*")] == ["building-now"]


def test_stores_built_concurrently_are_equal(tmp_path: Path, utterances: list[Utterance]) -> None:
    with ThreadPoolExecutor(4) as pool:
        stores = list(pool.map(lambda _: WaveStore(utterances, RATE, tmp_path / "cache"), range(4)))
    reads = [store.read(utterances[1], 0, 5000) for store in stores]
    assert all(np.array_equal(reads[0], read) for read in reads)
    assert len(list((tmp_path / "cache").iterdir())) == 1


@pytest.mark.parametrize("folder", [None, "cache"])
def test_one_bad_file_is_skipped_and_several_are_an_error(
    tmp_path: Path, utterances: list[Utterance], folder: str | None
) -> None:
    cache = tmp_path / folder if folder else None
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"RIFF not really")
    bad = Utterance(id="broken", path=broken, seconds=1.0)
    for _ in range(2):
        store = WaveStore([*utterances, bad], RATE, cache)
        assert store.length(bad) == 0
        assert list(store.bad) == [broken]
        assert "broken.wav" in store.bad[broken]
        assert store.length(utterances[0]) == 4000
    silent = write_utterance(tmp_path, "silent.wav", np.zeros(4000))
    with pytest.raises(CorpusError, match=r"broken\.wav.*2 of 6 files are bad, over 1%"):
        store = WaveStore([*utterances, bad, silent], RATE, cache)
        for utterance in (bad, silent):
            store.length(utterance)


def test_activity_separates_speech_from_quieter_noise(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for pause_db in (-np.inf, -60.0, -25.0):
        wave = 0.1 * rng.standard_normal(2 * RATE)
        wave[: RATE // 2] *= 10 ** (pause_db / 20)
        wave[RATE:] *= 10 ** (pause_db / 20)
        utterance = write_utterance(tmp_path, f"{-pause_db:g}.wav", wave)
        active = WaveStore([utterance], RATE).active(utterance)
        expected = np.zeros(200, bool)
        expected[50:100] = True
        np.testing.assert_array_equal(active, expected)


def test_steady_noise_is_active_throughout(tmp_path: Path) -> None:
    utterance = write_utterance(tmp_path, "steady.wav", 0.01 * np.random.default_rng(1).standard_normal(RATE))
    assert WaveStore([utterance], RATE).active(utterance).all()
