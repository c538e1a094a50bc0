"""From a path to a corpus, whatever its layout."""

from __future__ import annotations

import csv
import zlib
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

from separative.corpora.cuts import cuts_in, read_cuts
from separative.corpora.headers import Progress, with_durations
from separative.corpora.manifest import Corpus, Utterance
from separative.corpora.tables import read_csv, read_kaldi
from separative.corpora.trees import (
    looks_like_librispeech,
    looks_like_voxceleb,
    read_folders,
    read_librispeech,
    read_voxceleb,
)
from separative.errors import CorpusError, SeparativeError, choose
from separative.files import address

LAYOUTS: dict[str, Callable[[Path], Iterable[Utterance]]] = {
    "csv": read_csv,
    "folders": read_folders,
    "kaldi": read_kaldi,
    "lhotse": read_cuts,
    "librispeech": read_librispeech,
    "voxceleb": read_voxceleb,
}


def load_corpus(
    source: str | Path,
    *,
    layout: str | None = None,
    split: str | None = None,
    keep_damaged: bool = False,
    progress: Progress | None = None,
) -> Corpus:
    """Read a corpus from disk.

    Args:
        source: a CSV file, a Lhotse cut manifest (.jsonl, .jsonl.gz), a folder, or the address of a folder of
            shards (``s3://bucket/speech``; see :func:`pack_corpus`).
        layout: a name of ``LAYOUTS``; None finds it out from the path.
        split: keep this split only.
        keep_damaged: do not refuse files that cannot be read: they stay, 0 seconds long, for
            :func:`check_corpus` to report or for training to skip and count.
        progress: called with (done, total) while durations are read from file headers.

    Raises:
        CorpusError: nothing there, no speech found, a malformed or inconsistent manifest, duplicate ids,
            unknown layout or split.
        AudioError: a header that is needed for a duration cannot be read.
    """
    source = Path(source)
    if address(source):
        layout = "lhotse"
    elif not source.exists():
        raise CorpusError(f"{source}: no such file or folder")
    reader = LAYOUTS[
        detect_layout(source) if layout is None else choose(layout, LAYOUTS, "layout", CorpusError)
    ]
    try:
        listed = list(reader(source))
    except SeparativeError:
        raise
    except (ValueError, OSError, EOFError, csv.Error, zlib.error) as error:
        # Not text in UTF-8, not compressed as its name says, a path that no system can have.
        raise CorpusError(f"{source} cannot be read as a corpus: {error}") from error
    utterances = with_durations(listed, progress, keep_damaged=keep_damaged)
    if not utterances:
        raise CorpusError(f"{source}: no speech found; a corpus is one of: {', '.join(LAYOUTS)}")
    [(commonest, count)] = Counter(u.id for u in utterances).most_common(1)
    if count > 1:
        raise CorpusError(f"{source}: {count} utterances have the id '{commonest}'; ids must be unique")
    corpus = Corpus(tuple(utterances))
    return corpus if split is None else corpus.split(split)


def detect_layout(source: Path) -> str:
    """Name the layout of an existing file or folder.

    Raises:
        CorpusError: a file that is neither a CSV nor a cut manifest.
    """
    source = source.resolve()
    if source.is_file():
        if source.suffix.lower() == ".csv":
            return "csv"
        if source.name.endswith((".jsonl", ".jsonl.gz")):
            return "lhotse"
        raise CorpusError(
            f"{source}: not a corpus; give a folder, a .csv, or a Lhotse cuts .jsonl or .jsonl.gz"
        )
    if (source / "wav.scp").is_file():
        return "kaldi"
    if cuts_in(source) is not None:
        return "lhotse"
    if looks_like_librispeech(source):
        return "librispeech"
    return "voxceleb" if looks_like_voxceleb(source) else "folders"
