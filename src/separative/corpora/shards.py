"""Corpora as tar archives of many sound files each: few large files, read from beginning to end."""

from __future__ import annotations

import json
import tarfile
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from io import BytesIO
from pathlib import Path

from separative.audio.archive import file_bytes, index_of
from separative.corpora.cuts import CUT_FILES, save_corpus
from separative.corpora.manifest import Corpus, Utterance
from separative.errors import CorpusError
from separative.files import atomic_path, write_json
from separative.types import Progress


def pack_corpus(
    corpus: Corpus, folder: str | Path, *, shard_mb: float = 512.0, progress: Progress | None = None
) -> Corpus:
    """Copy a corpus into ``shard-00000.tar``, ... with an index beside each, and ``cuts.jsonl.gz``.

    Sound files go in as they are, in the order of the corpus, each with its labels as JSON under the same
    key, as WebDataset has it. :func:`load_corpus` reads the folder, and also a copy of it at an address that
    fsspec can open; mixtures drawn from it equal those from the files. The manifest comes last: a folder
    without it is no corpus.

    Args:
        corpus: what to pack; a file of several utterances goes in once.
        folder: new or empty.
        shard_mb: megabytes after which the next archive begins.
        progress: called with (done, total) files.

    Raises:
        CorpusError: the folder is not empty.
        AudioError: a sound file that cannot be read.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise CorpusError(f"{folder} is not empty: name a new folder for the shards")
    files: dict[Path, list[Utterance]] = {}
    for utterance in corpus:
        files.setdefault(utterance.path, []).append(utterance)
    left = deque(files)
    place: dict[Path, Path] = {}
    for number in range(len(files)):
        with _shard(folder / f"shard-{number:05d}.tar") as shard:
            while left and shard.size < shard_mb * 1e6:
                path = left.popleft()
                key = f"{len(place):08d}"
                name = key + path.suffix.lower()
                shard.add(name, file_bytes(path))
                shard.add(f"{key}.json", json.dumps([_labels(u) for u in files[path]]).encode())
                place[path] = shard.path / name
                if progress is not None:
                    progress(len(place), len(files))
        if not left:
            break
    packed = Corpus(tuple(replace(utterance, path=place[utterance.path]) for utterance in corpus))
    save_corpus(packed, folder / CUT_FILES[0], relative=True)
    return packed


def _labels(utterance: Utterance) -> dict[str, str | float | None]:
    return {name: getattr(utterance, name) for name in Utterance.__dataclass_fields__ if name != "path"}


class _Shard:
    def __init__(self, path: Path, tar: tarfile.TarFile) -> None:
        self.path, self.tar = path, tar
        self.places: dict[str, tuple[int, int]] = {}

    @property
    def size(self) -> int:
        return self.tar.offset

    def add(self, name: str, data: bytes) -> None:
        # Nothing of the moment goes in, so that equal corpora make equal archives.
        member = tarfile.TarInfo(name)
        member.size = len(data)
        self.tar.addfile(member, BytesIO(data))
        blocks = -(-len(data) // tarfile.BLOCKSIZE)
        self.places[name] = self.tar.offset - blocks * tarfile.BLOCKSIZE, len(data)


@contextmanager
def _shard(path: Path) -> Iterator[_Shard]:
    with atomic_path(path) as beside, tarfile.open(beside, "w") as tar:
        shard = _Shard(path, tar)
        yield shard
    write_json(index_of(path), shard.places)
