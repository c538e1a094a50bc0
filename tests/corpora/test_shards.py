"""Corpora in tar archives: what is drawn from them is what is drawn from the files."""

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
    """Bursts of noise in four kinds of file; the last of a speaker is two utterances."""
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


def test_every_utterance_sounds_and_is_labelled_as_before(corpus: Corpus, shards: Path) -> None:
    packed = load_corpus(shards)
    assert len(packed) == len(corpus)
    for before, after in zip(corpus, packed, strict=True):
        assert (before.id, before.speaker, before.corpus, before.split) == (
            after.id,
            after.speaker,
            after.corpus,
            after.split,
        )
        ours, theirs = (
            audio.read(u.path, RATE, start=u.start, seconds=u.seconds)[0] for u in (before, after)
        )
        assert np.array_equal(ours, theirs)


@pytest.mark.parametrize("cached", [True, False])
def test_mixtures_equal_those_drawn_from_files(
    corpus: Corpus, shards: Path, cached: bool, tmp_path: Path
) -> None:
    config = MixtureConfig(rate=RATE, seconds=0.5, batch=4, speeds=(0.9, 1.0))
    cache = tmp_path if cached else None
    ours, theirs = (
        Mixer(source, config, seed=3, cache=cache).batch(5) for source in (corpus, load_corpus(shards))
    )
    assert torch.equal(ours.mix_BN, theirs.mix_BN)
    assert torch.equal(ours.identity_BC, theirs.identity_BC)


def test_other_readers_of_tar_find_sound_and_labels_under_one_key(corpus: Corpus, shards: Path) -> None:
    with tarfile.open(min(shards.glob("*.tar"))) as tar:
        sound, labels = tar.getmembers()[:2]
        assert Path(sound.name).stem == Path(labels.name).stem
        read = tar.extractfile(labels)
        assert read is not None
        assert json.load(read)[0]["speaker"] == corpus.utterances[0].speaker
        read = tar.extractfile(sound)
        assert read is not None
        assert read.read() == corpus.utterances[0].path.read_bytes()


def test_an_archive_without_index_is_read_too(shards: Path, tmp_path: Path) -> None:
    copied = tmp_path / "copied"
    shutil.copytree(shards, copied)
    for index in copied.glob("*.json"):
        index.unlink()
    for ours, theirs in zip(load_corpus(shards), load_corpus(copied), strict=True):
        assert np.array_equal(audio.read(ours.path)[0], audio.read(theirs.path)[0])


def test_equal_corpora_make_equal_archives(corpus: Corpus, shards: Path, tmp_path: Path) -> None:
    pack_corpus(corpus, tmp_path / "again", shard_mb=0.05)
    for path in shards.glob("shard-*"):
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes()


def test_packed_corpora_can_be_packed_again(shards: Path, tmp_path: Path) -> None:
    once = load_corpus(shards)
    pack_corpus(once, tmp_path / "whole")
    again = load_corpus(tmp_path / "whole")
    assert len(list((tmp_path / "whole").glob("*.tar"))) == 1
    for ours, theirs in zip(once, again, strict=True):
        assert np.array_equal(audio.read(ours.path)[0], audio.read(theirs.path)[0])


def test_shards_at_an_address(corpus: Corpus, shards: Path, tmp_path: Path) -> None:
    elsewhere = fsspec.filesystem("memory")
    elsewhere.put(str(shards), "/speech", recursive=True)
    config = MixtureConfig(rate=RATE, seconds=0.5, batch=4)
    # As a command line hands it over, too: a path that has lost a slash.
    for source in ("memory://speech", Path("memory://speech")):
        far = load_corpus(source)
        assert torch.equal(
            Mixer(far, config, seed=0, cache=tmp_path / "far").batch(0).mix_BN,
            Mixer(corpus, config, seed=0).batch(0).mix_BN,
        )


def test_threads_do_not_mix_up_an_archive(shards: Path) -> None:
    packed = load_corpus(shards)
    right = {u.id: audio.read(u.path, start=u.start, seconds=u.seconds)[0] for u in packed}
    wrong: list[str] = []

    def read() -> None:
        for u in packed:
            if not np.array_equal(audio.read(u.path, start=u.start, seconds=u.seconds)[0], right[u.id]):
                wrong.append(u.id)

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_what_is_missing_is_named(shards: Path, corpus: Corpus, tmp_path: Path) -> None:
    archive = min(shards.glob("*.tar"))
    with pytest.raises(AudioError, match=r"99\.wav: cannot be read there \(.*no member '99\.wav'"):
        audio.read(archive / "99.wav")
    with pytest.raises(AudioError, match="no such file"):
        audio.read(tmp_path / "none.tar" / "1.wav")
    with pytest.raises(CorpusError, match=r"memory:/nowhere/.*cannot be opened"):
        load_corpus("memory://nowhere")
    with pytest.raises(CorpusError, match="cannot be opened"):
        load_corpus("nosuch://bucket/speech")
    with pytest.raises(CorpusError, match="not empty"):
        pack_corpus(corpus, shards)


def test_an_archive_cut_short_is_an_error_of_sound(shards: Path, tmp_path: Path) -> None:
    copied = tmp_path / "copied"
    shutil.copytree(shards, copied)
    archive = min(copied.glob("*.tar"))
    packed = [u for u in load_corpus(copied) if u.path.parent == archive]
    archive.write_bytes(archive.read_bytes()[:600])
    with pytest.raises(AudioError, match="ends inside it"):
        audio.read(packed[0].path)
