"""Pack a corpus into tar archives: few large files that are read sequentially instead of many small ones."""

from __future__ import annotations

import json
import tarfile
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from io import BytesIO
from pathlib import Path

from separative.audio.archive import file_bytes, index_path
from separative.corpora.cuts import CUT_FILES, save_corpus
from separative.corpora.manifest import Corpus, Utterance
from separative.errors import CorpusError
from separative.files import atomic_path, new_folder, write_json
from separative.types import Progress


def pack_corpus(
    corpus: Corpus, folder: str | Path, *, shard_mb: float = 512.0, progress: Progress | None = None
) -> Corpus:
    """Copy a corpus into archives ``shard-00000.tar``, ..., each with an index, and write ``cuts.jsonl.gz``.

    Audio files are copied unchanged, in corpus order. As in WebDataset, each is followed by its labels in a
    JSON file with the same stem. :func:`load_corpus` reads the folder, and a copy of it at a URL that fsspec
    can open. Mixtures drawn from it equal those drawn from the audio files. The manifest is written last, so
    a folder without it is not a corpus.

    Args:
        corpus: the utterances; a file with several utterances is copied once.
        folder: new or empty.
        shard_mb: size in MB after which the next archive is started.
        progress: called with (done, total) files.

    Returns:
        the corpus with paths in the archives.

    Raises:
        CorpusError: the folder is not empty.
        AudioError: an audio file cannot be read.

    >>> from separative import audio, load_corpus
    >>> packed = pack_corpus(load_corpus("speech"), "shards", shard_mb=1.0)
    >>> [path.name for path in sorted(Path("shards").iterdir())][:3]
    ['cuts.jsonl.gz', 'shard-00000.json', 'shard-00000.tar']
    >>> audio.read(packed.utterances[0].path)[1]
    16000
    """
    folder = Path(folder)
    new_folder(folder, "the shards", CorpusError)
    files: dict[Path, list[Utterance]] = {}
    for utterance in corpus:
        files.setdefault(utterance.path, []).append(utterance)
    remaining = deque(files)
    packed: dict[Path, Path] = {}
    for number in range(len(files)):
        with _shard(folder / f"shard-{number:05d}.tar") as shard:
            while remaining and shard.size < shard_mb * 1e6:
                path = remaining.popleft()
                key = f"{len(packed):08d}"
                name = key + path.suffix.lower()
                shard.add(name, file_bytes(path))
                shard.add(f"{key}.json", json.dumps([_labels(u) for u in files[path]]).encode())
                packed[path] = shard.path / name
                if progress is not None:
                    progress(len(packed), len(files))
        if not remaining:
            break
    result = Corpus(tuple(replace(utterance, path=packed[utterance.path]) for utterance in corpus))
    save_corpus(result, folder / CUT_FILES[0], relative=True)
    return result


def _labels(utterance: Utterance) -> dict[str, str | float | None]:
    labels = {name: getattr(utterance, name) for name in Utterance.__dataclass_fields__ if name != "path"}
    return labels if utterance.channel is not None else {k: v for k, v in labels.items() if k != "channel"}


class _Shard:
    """An archive that is being written, with the offset and size of each member."""

    def __init__(self, path: Path, tar: tarfile.TarFile) -> None:
        self.path, self.tar = path, tar
        self.members: dict[str, tuple[int, int]] = {}

    @property
    def size(self) -> int:
        return self.tar.offset

    def add(self, name: str, data: bytes) -> None:
        # The member has no date or owner, so that equal corpora give equal archives.
        member = tarfile.TarInfo(name)
        member.size = len(data)
        self.tar.addfile(member, BytesIO(data))
        blocks = -(-len(data) // tarfile.BLOCKSIZE)
        self.members[name] = self.tar.offset - blocks * tarfile.BLOCKSIZE, len(data)


@contextmanager
def _shard(path: Path) -> Iterator[_Shard]:
    with atomic_path(path) as temporary, tarfile.open(temporary, "w") as tar:
        shard = _Shard(path, tar)
        yield shard
    write_json(index_path(path), shard.members)
