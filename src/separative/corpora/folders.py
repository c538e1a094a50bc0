"""Corpora that are folders of audio files: which files count, and what their folders say about speakers."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from separative.audio.foreign import HEAD_BYTES, MEDIA_SUFFIXES, media_installed, media_kind
from separative.corpora.manifest import UNKNOWN_SECONDS, Utterance
from separative.errors import CorpusError

# Names of files that libsndfile reads.
SUFFIXES = {
    *(".wav", ".wave", ".bwf", ".rf64", ".w64", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".mp2", ".mp1"),
    *(".aiff", ".aif", ".aifc", ".caf", ".au", ".snd", ".sph", ".nist", ".voc", ".sf", ".ircam", ".paf"),
    *(".pvf", ".avr", ".svx", ".8svx"),
}
# Names of other files with sound in them, which are counted when they are left out.
OTHER_MEDIA = {".alac", ".gsm", ".shn", ".raw", ".pcm", ".dss", ".ds2"}
# Names of files that are common in corpora and hold no sound; they are not opened to find out.
NOT_AUDIO = {
    *(
        ".txt",
        ".lab",
        ".json",
        ".jsonl",
        ".csv",
        ".tsv",
        ".xml",
        ".html",
        ".md",
        ".trn",
        ".textgrid",
        ".rttm",
    ),
    *(
        ".ctm",
        ".stm",
        ".srt",
        ".vtt",
        ".npy",
        ".npz",
        ".pt",
        ".h5",
        ".mat",
        ".gz",
        ".zip",
        ".tar",
        ".jpg",
        ".png",
    ),
}
# First bytes of audio files, for files with an unusual name.
MAGICS = (
    b"RIFF",
    b"RIFX",
    b"RF64",
    b"FORM",
    b"fLaC",
    b"OggS",
    b"ID3",
    b"caff",
    b".snd",
    b"NIST_1A",
    b"riff\x2e",
)

SPLITS = ("train", "dev", "test")
SPLIT_WORDS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("dev", "devel", "development", "val", "valid", "validation"), "dev"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), "test"),
}
# LibriSpeech: speaker-chapter-number. LibriTTS and Multilingual LibriSpeech: speaker_chapter_number[_number].
LIBRISPEECH_NAME = re.compile(r"(\d+)(?:-\d+-\d+|_\d+_\d+(?:_\d+)?)")
VOXCELEB_SPEAKER = re.compile(r"id\d{5}")
MAX_NAMED = 5


def read_folders(root: Path) -> Iterator[Utterance]:
    """Read a folder with one folder per speaker; the audio files are at any depth below it.

    If every folder is named after a split (train, dev-clean, valid, ...), the folders in it are the speakers.

    >>> _ = Path("mine/ann").mkdir(parents=True), Path("ann.wav").rename("mine/ann/1.wav")
    >>> [(u.id, u.speaker) for u in read_folders(Path("mine"))]
    [('ann/1', 'mine/ann')]
    """
    root = root.resolve()
    inner = [path for path in audio_files(root) if path.parent != root]
    splits = has_splits(root, inner)
    for path in inner:
        parts = path.relative_to(root).parts
        split, speaker = (split_of(parts[0]), parts[1]) if splits else ("", parts[0])
        name = path.relative_to(root).with_suffix("").as_posix()
        yield Utterance(name, path, UNKNOWN_SECONDS, f"{root.name}/{speaker}", corpus=root.name, split=split)
    if not inner:
        left = left_out(root, ())
        raise CorpusError(
            f"{root}: no speech found; expected a folder per speaker with audio files in it"
            f"{f'; {left}' if left else ''}"
        )


def read_librispeech(root: Path) -> Iterator[Utterance]:
    """Read ``[subset/]speaker/chapter/speaker-chapter-number.flac``, and LibriTTS, which has ``_`` for ``-``.

    The split is the first word of the subset's name: ``train`` for ``train-clean-100``. Speakers of both have
    equal names, because they have the same numbers.

    >>> folder = Path("train-clean-100/19/198")
    >>> folder.mkdir(parents=True)
    >>> _ = Path("ann.wav").rename(folder / "19-198-0001.wav")
    >>> [(u.id, u.speaker, u.split) for u in read_librispeech(Path("train-clean-100"))]
    [('19-198-0001', 'librispeech/19', 'train')]
    """
    root = root.resolve()
    for path in audio_files(root):
        if not fits_librispeech(path):
            raise CorpusError(
                f"{path}: not a LibriSpeech path (speaker/chapter/speaker-chapter-number); try another layout"
            )
        speaker = f"librispeech/{path.parents[1].name}"
        split = next((s for folder in path.parents[2:4] if (s := split_of(folder.name))), "")
        yield Utterance(path.stem, path, UNKNOWN_SECONDS, speaker, corpus="librispeech", split=split)


def read_voxceleb(root: Path) -> Iterator[Utterance]:
    """Read ``[dev|test/…/]idXXXXX/video/number.wav``; a folder name ``dev`` or ``test`` gives the split.

    >>> folder = Path("dev/wav/id10001/1zcIwhmdeo4")
    >>> folder.mkdir(parents=True)
    >>> _ = Path("ann.wav").rename(folder / "00001.wav")
    >>> [(u.id, u.speaker, u.split) for u in read_voxceleb(Path("dev"))]
    [('id10001/1zcIwhmdeo4/00001', 'voxceleb/id10001', 'dev')]
    """
    root = root.resolve()
    for path in audio_files(root):
        speaker = path.parents[1].name
        if not fits_voxceleb(path):
            raise CorpusError(f"{path}: not a VoxCeleb path (idXXXXX/video/number.wav); try another layout")
        split = next((part for part in path.parts[len(root.parent.parts) : -3] if part in SPLITS), "")
        name = f"{speaker}/{path.parent.name}/{path.stem}"
        yield Utterance(name, path, UNKNOWN_SECONDS, f"voxceleb/{speaker}", corpus="voxceleb", split=split)


def fits_librispeech(path: Path) -> bool:
    """Return True for a file that is named after the folder of its speaker, as in LibriSpeech.

    >>> fits_librispeech(Path("19/198/19-198-0001.flac")), fits_librispeech(Path("ann/2024-05-01.wav"))
    (True, False)
    """
    match = LIBRISPEECH_NAME.fullmatch(path.stem)
    return match is not None and len(path.parents) > 2 and path.parents[1].name == match[1]


def fits_voxceleb(path: Path) -> bool:
    """Return True for ``idXXXXX/video/FILE``.

    >>> fits_voxceleb(Path("id10001/1zcIwhmdeo4/00001.wav")), fits_voxceleb(Path("ann/1.wav"))
    (True, False)
    """
    return len(path.parents) > 2 and VOXCELEB_SPEAKER.fullmatch(path.parents[1].name) is not None


def detect_folders(root: Path) -> str:
    """Return the layout of a folder of audio files; it must fit every file.

    Raises:
        CorpusError: a layout fits most files but not all, or some folders are named after splits.

    >>> detect_folders(Path("speech"))
    'folders'
    """
    root = root.resolve()
    files = list(audio_files(root))
    for layout, fits in (("librispeech", fits_librispeech), ("voxceleb", fits_voxceleb)):
        others = [path for path in files if not fits(path)]
        if files and not others:
            return layout
        if 2 * len(others) < len(files):
            raise CorpusError(
                f"{root}: {len(files) - len(others)} of {len(files)} files fit the layout {layout}, but "
                f"{others[0]} does not; move it away, or pass --layout folders to read a folder per speaker"
            )
    tops = sorted({path.relative_to(root).parts[0] for path in files if path.parent != root})
    named = [name for name in tops if split_of(name)]
    if len(named) > 1 and not has_splits(root, [path for path in files if path.parent != root]):
        raise CorpusError(
            f"{root}: {', '.join(named)} are named after splits, but other folders are not, or not all files "
            "are in a folder per speaker; pass --layout folders to read each folder as one speaker"
        )
    return "folders"


def describe(root: Path, layout: str, splits: Iterable[str], speakers: tuple[str, ...]) -> str:
    """Return a sentence that says how a folder was read.

    >>> describe(Path("mine"), "folders", [""], ("mine/ann", "mine/bob"))
    'mine: read as folders (a folder per speaker): 2 speakers, ann, bob; --layout chooses another layout'
    """
    how = {
        "folders": "a folder per split, and in it a folder per speaker"
        if any(splits)
        else "a folder per speaker",
        "librispeech": "speaker/chapter/speaker-chapter-number",
        "voxceleb": "speaker/video/number",
    }[layout]
    return (
        f"{root}: read as {layout} ({how}): {len(speakers)} speakers, {first_names(speakers)}; "
        "--layout chooses another layout"
    )


def first_names(speakers: tuple[str, ...]) -> str:
    """Return the names of the first few speakers, without the name of their corpus if they share it.

    >>> first_names(("mine/ann", "mine/bob"))
    'ann, bob'
    """
    shared = len({name.rpartition("/")[0] for name in speakers}) == 1
    shown = [name.rpartition("/")[2] if shared else name for name in speakers[:MAX_NAMED]]
    return ", ".join(shown) + (", ..." if len(speakers) > MAX_NAMED else "")


def split_of(folder: str) -> str:
    """Return the split that a folder is named after, or an empty string.

    >>> split_of("train-clean-100"), split_of("valid"), split_of("ann")
    ('train', 'dev', '')
    """
    return SPLIT_WORDS.get(re.split(r"[-_. ]", folder.lower())[0], "")


def has_splits(root: Path, files: Iterable[Path]) -> bool:
    """Return True if each file is in a folder of a speaker in a folder that is named after a split.

    >>> has_splits(Path("."), [Path("train/ann/1.wav"), Path("dev/bob/1.wav")])
    True
    """
    parts = [path.relative_to(root).parts for path in files]
    return bool(parts) and all(len(part) > 2 and split_of(part[0]) for part in parts)


def audio_files(folder: Path) -> Iterator[Path]:
    """Yield all audio files below a folder, sorted, without hidden files and folders.

    Media files, such as .m4a and .mp4, are among them if the extra ``media`` is installed, except those next
    to an audio file of the same name.

    Raises:
        OSError: a folder cannot be listed.

    >>> sorted(path.name for path in audio_files(Path(".")) if path.parent == Path("."))[:2]
    ['ann-2.wav', 'ann.wav']
    """
    paths = list(_files(folder))
    sounds = {path.with_suffix("") for path in paths if path.suffix.lower() in SUFFIXES}
    for path in paths:
        if _is_sound(path) or (media_installed() and _is_media(path) and path.with_suffix("") not in sounds):
            yield path


def left_out(root: Path, used: Iterable[Path]) -> str:
    """Return a phrase that counts the files with sound below a folder that are not used, or an empty string.

    >>> _ = Path("mine/ann").mkdir(parents=True), Path("mine/ann/1.dss").write_bytes(b"")
    >>> left_out(Path("mine"), [])
    '1 file left out: 1 .dss (convert: ffmpeg -i FILE.dss FILE.flac)'
    """
    root, taken = root.resolve(), set(used)
    stems = {path.with_suffix("") for path in taken}
    media: Counter[str] = Counter()
    renamed: Counter[str] = Counter()
    twins: Counter[str] = Counter()
    loose = 0
    for path in _files(root):
        suffix = path.suffix.lower()
        if path in taken:
            continue
        if _is_sound(path):
            loose += 1
        elif _is_media(path) and media_installed():
            if path.with_suffix("") in stems:
                twins[suffix] += 1
            else:
                loose += 1
        elif suffix in OTHER_MEDIA or _is_media(path):
            media[suffix] += 1
        elif _starts_like_audio(path):
            renamed[suffix] += 1
    total = loose + media.total() + renamed.total() + twins.total()
    if not total:
        return ""
    parts = [f"{n} {suffix} ({_remedy(suffix)})" for suffix, n in media.most_common()]
    parts += [f"{n} {suffix} (audio under another name: rename)" for suffix, n in renamed.most_common()]
    parts += [f"{n} {suffix} (next to an audio file of the same name)" for suffix, n in twins.most_common()]
    parts += [f"{loose} next to the speakers' folders (move into a folder per speaker)"] if loose else []
    return f"{total} file{'s' if total > 1 else ''} left out: {', '.join(parts)}"


def _remedy(suffix: str) -> str:
    extra = "pip install 'separative[media]', or " if suffix in MEDIA_SUFFIXES else ""
    return f"{extra}convert: ffmpeg -i FILE{suffix} FILE.flac"


def _is_sound(path: Path) -> bool:
    suffix = path.suffix.lower()
    return suffix in SUFFIXES or (suffix == "" and _starts_like_audio(path))


def _is_media(path: Path) -> bool:
    suffix = path.suffix.lower()
    # Programs in TypeScript have the suffix of MPEG transport streams.
    return suffix in MEDIA_SUFFIXES and (suffix not in (".ts", ".mts") or media_kind(_head(path)) is not None)


def _files(folder: Path, above: tuple[Path, ...] = ()) -> Iterator[Path]:
    """Yield all files below a folder, sorted, also in linked folders, without hidden files and folders."""
    real = folder.resolve()
    if real in above:  # A link to a folder above would be followed for ever.
        return
    with os.scandir(folder) as entries:
        shown = sorted((e for e in entries if not e.name.startswith(".")), key=lambda entry: entry.name)
    yield from (folder / entry.name for entry in shown if not entry.is_dir())
    for entry in shown:
        if entry.is_dir():
            yield from _files(folder / entry.name, (*above, real))


def _starts_like_audio(path: Path) -> bool:
    return path.suffix.lower() not in NOT_AUDIO and path.is_file() and _head(path).startswith(MAGICS)


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(HEAD_BYTES)
    except OSError:
        return b""
