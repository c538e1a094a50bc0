"""A corpus packed into tar archives gives the same samples, labels and mixtures as its files."""

import json
import shutil
import tarfile
import threading
from pathlib import Path

import fsspec
import numpy as np
import pytest
import soundfile
import torch

from separative import audio
from separative.corpora import Corpus, Utterance, load_corpus, pack_corpus
from separative.errors import AudioError, CorpusError
from separative.mixtures import Mixer, MixtureConfig

RATE = 8000
SUFFIXES = (".wav", ".flac", ".ogg", ".mp3")


def speech(folder: Path, speakers: int = 4, each: int = 4) -> Corpus:
    """Write noise in four file formats; the last file of a speaker has two utterances."""
    rng, utterances = np.random.default_rng(0), []
    for speaker in range(speakers):
        for number in range(each):
            path = folder / f"t{speaker}" / f"{number}{SUFFIXES[number % len(SUFFIXES)]}"
            path.parent.mkdir(parents=True, exist_ok=True)
            wave = 0.1 * rng.standard_normal(RATE + 100 * number)
            soundfile.write(path, wave.clip(-1, 1), RATE)
            parts = [(0.0, 0.5), (0.5, 0.5)] if number == each - 1 else [(0.0, 1.0)]
            for start, seconds in parts:
                name = f"t{speaker}-{number}-{start}"
                utterances.append(Utterance(name, path, seconds, f"t{speaker}", start, "made", "train"))
    return Corpus(tuple(utterances))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return speech(tmp_path_factory.mktemp("speech"))


@pytest.fixture(scope="module")
def shards(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("packed") / "shards"
    pack_corpus(corpus, folder, shard_mb=0.05)
    assert len(list(folder.glob("*.tar"))) > 2
    return folder


def test_packed_utterances_keep_samples_and_labels(corpus: Corpus, shards: Path) -> None:
    packed = load_corpus(shards)
    assert len(packed) == len(corpus)
    for before, after in zip(corpus, packed, strict=True):
        assert (before.id, before.speaker, before.corpus, before.split) == (
            after.id,
            after.speaker,
            after.corpus,
            after.split,
        )
        first, second = (
            audio.read(u.path, RATE, start=u.start, seconds=u.seconds)[0] for u in (before, after)
        )
        assert np.array_equal(first, second)


@pytest.mark.parametrize("cached", [True, False])
def test_mixtures_equal_those_drawn_from_files(
    corpus: Corpus, shards: Path, cached: bool, tmp_path: Path
) -> None:
    config = MixtureConfig(rate=RATE, seconds=0.5, batch=4, speeds=(0.9, 1.0))
    cache = tmp_path if cached else None
    first, second = (
        Mixer(source, config, seed=3, cache=cache).batch(5) for source in (corpus, load_corpus(shards))
    )
    assert torch.equal(first.mixtures, second.mixtures)
    assert torch.equal(first.identities, second.identities)


def test_audio_and_labels_have_the_same_stem_in_the_archive(corpus: Corpus, shards: Path) -> None:
    with tarfile.open(min(shards.glob("*.tar"))) as tar:
        recording, labels = tar.getmembers()[:2]
        assert Path(recording.name).stem == Path(labels.name).stem
        read = tar.extractfile(labels)
        assert read is not None
        assert json.load(read)[0]["speaker"] == corpus.utterances[0].speaker
        read = tar.extractfile(recording)
        assert read is not None
        assert read.read() == corpus.utterances[0].path.read_bytes()


def test_an_archive_without_an_index_can_be_read(shards: Path, tmp_path: Path) -> None:
    copied = tmp_path / "copied"
    shutil.copytree(shards, copied)
    for index in copied.glob("*.json"):
        index.unlink()
    for first, second in zip(load_corpus(shards), load_corpus(copied), strict=True):
        assert np.array_equal(audio.read(first.path)[0], audio.read(second.path)[0])


def test_equal_corpora_make_equal_archives(corpus: Corpus, shards: Path, tmp_path: Path) -> None:
    pack_corpus(corpus, tmp_path / "again", shard_mb=0.05)
    for path in shards.glob("shard-*"):
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes()


def test_a_packed_corpus_can_be_packed_again(shards: Path, tmp_path: Path) -> None:
    once = load_corpus(shards)
    pack_corpus(once, tmp_path / "whole")
    again = load_corpus(tmp_path / "whole")
    assert len(list((tmp_path / "whole").glob("*.tar"))) == 1
    for first, second in zip(once, again, strict=True):
        assert np.array_equal(audio.read(first.path)[0], audio.read(second.path)[0])


def test_shards_at_a_url_give_the_same_mixtures(corpus: Corpus, shards: Path, tmp_path: Path) -> None:
    remote = fsspec.filesystem("memory")
    remote.put(str(shards), "/speech", recursive=True)
    config = MixtureConfig(rate=RATE, seconds=0.5, batch=4)
    # The command line passes a Path, which merges the two slashes of a URL.
    for source in ("memory://speech", Path("memory://speech")):
        loaded = load_corpus(source)
        assert torch.equal(
            Mixer(loaded, config, seed=0, cache=tmp_path / "remote").batch(0).mixtures,
            Mixer(corpus, config, seed=0).batch(0).mixtures,
        )


def test_threads_can_share_an_archive(shards: Path) -> None:
    packed = load_corpus(shards)
    expected = {u.id: audio.read(u.path, start=u.start, seconds=u.seconds)[0] for u in packed}
    wrong: list[str] = []

    def read() -> None:
        for u in packed:
            if not np.array_equal(audio.read(u.path, start=u.start, seconds=u.seconds)[0], expected[u.id]):
                wrong.append(u.id)

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_missing_members_files_and_urls_are_named_in_the_error(
    shards: Path, corpus: Corpus, tmp_path: Path
) -> None:
    archive = min(shards.glob("*.tar"))
    with pytest.raises(AudioError, match=r"99\.wav: cannot be read there \(.*no member '99\.wav'"):
        audio.read(archive / "99.wav")
    with pytest.raises(AudioError, match="no such file"):
        audio.read(tmp_path / "none.tar" / "1.wav")
    with pytest.raises(CorpusError, match=r"memory:/nowhere/.*cannot be opened"):
        load_corpus("memory://nowhere")
    with pytest.raises(CorpusError, match="cannot be opened"):
        load_corpus("nosuch://bucket/speech")
    with pytest.raises(CorpusError, match="not an empty folder"):
        pack_corpus(corpus, shards)


def test_a_member_of_an_archive_cut_short_is_an_audio_error(shards: Path, tmp_path: Path) -> None:
    copied = tmp_path / "copied"
    shutil.copytree(shards, copied)
    archive = min(copied.glob("*.tar"))
    packed = [u for u in load_corpus(copied) if u.path.parent == archive]
    archive.write_bytes(archive.read_bytes()[:600])
    with pytest.raises(AudioError, match=r"ends inside member '00000000\.wav'"):
        audio.read(packed[0].path)
