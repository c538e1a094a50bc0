"""The store of decoded waveforms repairs what the disk damages, and keeps no momentary error for ever."""

import os
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import soundfile

from separative.corpora.decoded import BLOCK
from separative.corpora.manifest import Utterance
from separative.corpora.store import WaveStore
from separative.errors import CorpusError

RATE = 8000


@pytest.fixture
def utterances(tmp_path: Path) -> list[Utterance]:
    """Write utterances of 30 s in total: two blocks of the store, one utterance in both."""
    made = []
    for number, seconds in enumerate((0.5, 15.0, 6.0, 8.0, 0.25)):
        rng = np.random.default_rng(number)
        path = tmp_path / f"{number}.flac"
        soundfile.write(path, (0.1 * rng.standard_normal(round(seconds * RATE))).clip(-1, 1), RATE)
        made.append(Utterance(str(number), path, seconds, f"s{number % 2}"))
    assert BLOCK < 29.75 * RATE < 2 * BLOCK
    return made


def contents(store: WaveStore, utterances: list[Utterance]) -> list[np.ndarray]:
    return [store.read(u, 0, store.length(u)) for u in utterances]


def stored(cache: Path) -> Path:
    [folder] = cache.iterdir()
    return folder


def equal(first: list[np.ndarray], second: list[np.ndarray]) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def zero(path: Path, start: int, count: int) -> None:
    with path.open("r+b") as file:
        file.seek(start)
        file.write(bytes(count))


DAMAGE = {
    "all zero": (0, 475_998),
    "a page of zeros": (4096, 4096),
    "the border of two blocks": (2 * BLOCK - 100, 200),
    "one sample": (20_000, 2),
    "the end": (475_900, 98),
}


@pytest.mark.parametrize(("start", "count"), DAMAGE.values(), ids=DAMAGE)
def test_samples_damaged_on_the_disk_are_decoded_again(
    tmp_path: Path, utterances: list[Utterance], start: int, count: int, caplog: pytest.LogCaptureFixture
) -> None:
    cache = tmp_path / "cache"
    expected = contents(WaveStore(utterances, RATE, cache), utterances)
    samples = stored(cache) / "samples.i16"
    before = samples.read_bytes()
    zero(samples, start, count)
    assert samples.read_bytes() != before
    store = WaveStore(utterances, RATE, cache)
    assert equal(contents(store, utterances), expected)
    assert store.active(utterances[1]).any()
    assert samples.read_bytes() == before, "the file is repaired for later runs"
    assert "samples.i16: damaged on the disk" in caplog.text


def test_damage_is_found_where_only_a_part_is_read(tmp_path: Path, utterances: list[Utterance]) -> None:
    cache = tmp_path / "cache"
    expected = contents(WaveStore(utterances, RATE, cache), utterances)
    zero(stored(cache) / "samples.i16", 2 * BLOCK + 2000, 20)
    store = pickle.loads(pickle.dumps(WaveStore(utterances, RATE, cache)))
    at = BLOCK + 1000 - sum(store.length(u) for u in utterances[:2])
    for first in (at - 2000, at, at + 5):
        assert np.array_equal(store.read(utterances[2], first, 50), expected[2][first : first + 50])


def test_a_store_that_cannot_be_repaired_says_what_to_delete(
    tmp_path: Path, utterances: list[Utterance]
) -> None:
    cache = tmp_path / "cache"
    store = WaveStore(utterances, RATE, cache)
    zero(stored(cache) / "samples.i16", 100, 100)
    # While the training runs, the audio file disappears.
    utterances[0].path.rename(tmp_path / "moved.flac")
    with pytest.raises(CorpusError, match=r"samples\.i16: damaged on the disk; delete the folder .*waves-"):
        store.read(utterances[0], 0, 100)


WRECKS = {
    "no index": lambda folder: (folder / "index.npz").unlink(),
    "an empty index": lambda folder: (folder / "index.npz").write_bytes(b""),
    "a zeroed index": lambda folder: zero(folder / "index.npz", 0, (folder / "index.npz").stat().st_size),
    "half an index": lambda folder: os.truncate(folder / "index.npz", 300),
    "another index": lambda folder: np.savez(folder / "index.npz", length=np.zeros(3)),
    "no samples": lambda folder: (folder / "samples.i16").unlink(),
    "samples cut short": lambda folder: os.truncate(folder / "samples.i16", 1000),
    "nothing": lambda folder: [path.unlink() for path in folder.iterdir()],
}


@pytest.mark.parametrize("wreck", WRECKS.values(), ids=WRECKS)
def test_a_damaged_store_is_made_again(tmp_path: Path, utterances: list[Utterance], wreck) -> None:  # type: ignore[no-untyped-def]
    cache = tmp_path / "cache"
    expected = contents(WaveStore(utterances, RATE, cache), utterances)
    folder = stored(cache)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    wreck(folder)
    assert equal(contents(WaveStore(utterances, RATE, cache), utterances), expected)
    assert stored(cache) == folder
    assert {path.name: path.read_bytes() for path in folder.iterdir()}.keys() == before.keys()
    assert (folder / "samples.i16").read_bytes() == before["samples.i16"]


def test_every_flipped_byte_of_the_index_is_found_or_harmless(
    tmp_path: Path, utterances: list[Utterance]
) -> None:
    cache, few = tmp_path / "cache", [utterances[0], utterances[4]]
    expected = contents(WaveStore(few, RATE, cache), few)
    index = stored(cache) / "index.npz"
    content = index.read_bytes()
    for at in range(0, len(content), 7):
        index.write_bytes(content[:at] + bytes([content[at] ^ 0x55]) + content[at + 1 :])
        assert equal(contents(WaveStore(few, RATE, cache), few), expected)


def test_a_store_made_again_at_the_same_time_by_several_is_one(
    tmp_path: Path, utterances: list[Utterance]
) -> None:
    cache = tmp_path / "cache"
    expected = contents(WaveStore(utterances, RATE, cache), utterances)
    zero(stored(cache) / "index.npz", 0, 500)
    with ThreadPoolExecutor(4) as pool:
        stores = list(pool.map(lambda _: WaveStore(utterances, RATE, cache), range(4)))
    assert all(equal(contents(store, utterances), expected) for store in stores)
    assert len(list(cache.iterdir())) == 1


def test_a_file_that_can_be_read_again_is_used_again(
    tmp_path: Path, utterances: list[Utterance], caplog: pytest.LogCaptureFixture
) -> None:
    expected = contents(WaveStore(utterances, RATE), utterances)
    cache, path = tmp_path / "cache", utterances[1].path
    whole, status = path.read_bytes(), path.stat()

    def replace(content: bytes) -> None:
        """Change what is read of the file, but not its size and date, as an error of a network drive does."""
        path.write_bytes(content)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))

    replace(bytes(len(whole)))
    for _ in range(2):
        store = WaveStore(utterances, RATE, cache)
        assert store.length(utterances[1]) == 0
        assert list(store.bad) == [path]
    assert "decoded again" not in caplog.text
    replace(whole)
    again = WaveStore(utterances, RATE, cache)
    assert again.bad == {}
    assert equal(contents(again, utterances), expected)
    assert "1.flac: could not be read before and can be now" in caplog.text
    assert len(list(cache.iterdir())) == 1
