"""Corpora whose folders say who speaks: a folder per talker, LibriSpeech, VoxCeleb.

Talkers are named ``corpus/talker``, so that corpora can be joined.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from separative.corpora.headers import UNKNOWN_SECONDS
from separative.corpora.manifest import Utterance
from separative.errors import CorpusError

SUFFIXES = {".wav", ".flac", ".ogg", ".opus", ".mp3"}
SPLITS = ("train", "dev", "test")
LIBRISPEECH_NAME = re.compile(r"(\d+)-\d+-\d+")
VOXCELEB_TALKER = re.compile(r"id\d{5}")


def _sound_files(folder: Path) -> Iterator[Path]:
    """All sound files below a folder, sorted; hidden files and folders are left out."""
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        for name in sorted(names):
            path = Path(parent, name)
            if path.suffix.lower() in SUFFIXES and not name.startswith("."):
                yield path


def _stem(path: Path, root: Path) -> str:
    """The path below the root, without suffix: the id of an utterance."""
    return path.relative_to(root).with_suffix("").as_posix()


def read_folders(root: Path) -> Iterator[Utterance]:
    """A folder per talker, sound files at any depth below it; the folder's name is the talker's."""
    root = root.resolve()
    loose = True
    for path in _sound_files(root):
        talker, *inner = path.relative_to(root).parts
        if not inner:
            continue
        loose = False
        yield Utterance(_stem(path, root), path, UNKNOWN_SECONDS, f"{root.name}/{talker}", corpus=root.name)
    if loose:
        raise CorpusError(
            f"{root}: no speech found; expected a folder per talker with {_suffixes()} files in it"
        )


def looks_like_librispeech(root: Path) -> bool:
    first = next(_sound_files(root), None)
    return first is not None and bool(LIBRISPEECH_NAME.fullmatch(first.stem))


def read_librispeech(root: Path) -> Iterator[Utterance]:
    """``[subset/]talker/chapter/talker-chapter-number.flac``; the split is the subset's first word."""
    root = root.resolve()
    for path in _sound_files(root):
        match = LIBRISPEECH_NAME.fullmatch(path.stem)
        if match is None:
            raise CorpusError(f"{path}: not a LibriSpeech name (talker-chapter-number); try another layout")
        split = path.parents[2].name.partition("-")[0]
        talker = f"librispeech/{match[1]}"
        split = split if split in SPLITS else ""
        yield Utterance(path.stem, path, UNKNOWN_SECONDS, talker, corpus="librispeech", split=split)


def looks_like_voxceleb(root: Path) -> bool:
    first = next(_sound_files(root), None)
    return first is not None and bool(VOXCELEB_TALKER.fullmatch(first.parents[1].name))


def read_voxceleb(root: Path) -> Iterator[Utterance]:
    """``[dev|test/…/]idXXXXX/video/number.wav``; the split is ``dev`` or ``test`` where a folder says so."""
    root = root.resolve()
    for path in _sound_files(root):
        talker = path.parents[1].name
        if not VOXCELEB_TALKER.fullmatch(talker):
            raise CorpusError(f"{path}: not a VoxCeleb path (idXXXXX/video/number.wav); try another layout")
        split = next((part for part in path.parts[len(root.parent.parts) : -3] if part in SPLITS), "")
        utterance = f"{talker}/{path.parent.name}/{path.stem}"
        yield Utterance(
            utterance, path, UNKNOWN_SECONDS, f"voxceleb/{talker}", corpus="voxceleb", split=split
        )


def _suffixes() -> str:
    return ", ".join(sorted(SUFFIXES))
