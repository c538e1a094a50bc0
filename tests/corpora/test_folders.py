"""Folders of audio files: a detected layout fits every file and is said, and files left out are counted."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from separative import audio
from separative.cli import main
from separative.corpora import check_corpus, load_corpus, save_corpus
from separative.errors import CorpusError

RATE = 8000


def tone(path: Path, **options: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, 0.1 * np.random.default_rng(0).standard_normal(RATE), RATE, "PCM_16", **options)
    return path


def speakers(root: Path, **options: str) -> dict[str, str]:
    """Load a folder; return the split of each speaker."""
    return {u.speaker: u.split for u in load_corpus(root, **options)}


def test_dates_in_file_names_are_not_speakers(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = tmp_path / "dated"
    for number, speaker in enumerate(("ann", "bob", "cyd")):
        for year in (2023, 2024):
            tone(root / speaker / f"{year}-05-0{number}.wav")
    assert speakers(root) == {"dated/ann": "", "dated/bob": "", "dated/cyd": ""}
    assert "dated: read as folders (a folder per speaker): 3 speakers, ann, bob, cyd; --layout" in caplog.text


@pytest.mark.parametrize(
    ("folders", "splits"),
    [
        (("train", "dev"), ("train", "dev")),
        (("training", "validation", "testing"), ("train", "dev", "test")),
        (("Train", "VAL", "eval"), ("train", "dev", "test")),
        (("train-clean-100", "dev_other"), ("train", "dev")),
        (("test",), ("test",)),
    ],
)
def test_folders_named_after_splits_are_splits(
    tmp_path: Path, folders: tuple[str, ...], splits: tuple[str, ...], caplog: pytest.LogCaptureFixture
) -> None:
    for number, folder in enumerate(folders):
        for speaker in (2 * number, 2 * number + 1):
            tone(tmp_path / "c" / folder / f"spk{speaker}" / "session" / "a.wav")
            tone(tmp_path / "c" / folder / f"spk{speaker}" / "b.wav")
    expected = {f"c/spk{2 * n + i}": split for n, split in enumerate(splits) for i in range(2)}
    assert speakers(tmp_path / "c") == expected
    assert "a folder per split, and in it a folder per speaker" in caplog.text
    assert load_corpus(tmp_path / "c", split=splits[0]).speakers == ("c/spk0", "c/spk1")


def test_folders_of_which_only_some_are_named_after_splits_are_refused(tmp_path: Path) -> None:
    for folder in ("train/ann", "dev/bob", "more/cyd"):
        tone(tmp_path / folder / "a.wav")
    with pytest.raises(
        CorpusError, match=r"dev, train are named after splits, but other .* --layout folders"
    ):
        load_corpus(tmp_path)
    assert len(speakers(tmp_path, layout="folders")) == 3
    tone(tmp_path / "flat" / "train" / "a.wav")
    tone(tmp_path / "flat" / "dev" / "a.wav")
    with pytest.raises(CorpusError, match="or not all files are in a folder per speaker"):
        load_corpus(tmp_path / "flat")


def test_one_folder_named_like_a_split_can_be_a_speaker(tmp_path: Path) -> None:
    for speaker in ("dev", "ann"):
        tone(tmp_path / "c" / speaker / "a.wav")
    assert speakers(tmp_path / "c") == {"c/ann": "", "c/dev": ""}


@pytest.mark.parametrize("name", ["{}_1211_000007_000001", "{}-1211-0001", "{}_1211_0007"])
def test_relatives_of_librispeech_have_speakers_and_splits(tmp_path: Path, name: str) -> None:
    for subset, numbers in (("train-clean-100", (80, 81)), ("dev-clean", (82, 83))):
        for number in numbers:
            tone(tmp_path / subset / str(number) / "1211" / f"{name.format(number)}.wav")
    assert speakers(tmp_path) == {
        "librispeech/80": "train",
        "librispeech/81": "train",
        "librispeech/82": "dev",
        "librispeech/83": "dev",
    }


def test_a_layout_that_fits_most_files_is_not_guessed(tmp_path: Path) -> None:
    for speaker in (19, 26, 32):
        tone(tmp_path / str(speaker) / "198" / f"{speaker}-198-0001.flac")
    tone(tmp_path / "extra" / "music.wav")
    with pytest.raises(
        CorpusError, match=r"3 of 4 files fit the layout librispeech, but .*music\.wav does not"
    ):
        load_corpus(tmp_path)
    assert len(speakers(tmp_path, layout="folders")) == 4
    for path in ("id10001/x/1.wav", "id10002/x/1.wav", "odd.wav"):
        tone(tmp_path / "vox" / path)
    with pytest.raises(CorpusError, match=r"2 of 3 files fit the layout voxceleb, but .*odd\.wav does not"):
        load_corpus(tmp_path / "vox")


def test_only_a_detected_layout_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for speaker in ("ann", "bob"):
        tone(tmp_path / "c" / speaker / "a.wav")
    corpus = load_corpus(tmp_path / "c", log_notes=False)
    assert corpus.read_as.startswith(f"{tmp_path}/c: read as folders")
    assert check_corpus(corpus, min_speech=0.0).read_as == corpus.read_as
    assert load_corpus(tmp_path / "c", layout="folders").read_as == ""
    save_corpus(corpus, tmp_path / "cuts.jsonl")
    assert load_corpus(tmp_path / "cuts.jsonl").read_as == ""
    assert caplog.text == ""


READABLE = {
    ".wav": "WAV",
    ".WAV": "WAV",
    ".flac": "FLAC",
    ".aiff": "AIFF",
    ".aif": "AIFF",
    ".caf": "CAF",
    ".w64": "W64",
    ".sph": "NIST",
    ".au": "AU",
    ".snd": "AU",
    ".rf64": "RF64",
    ".voc": "VOC",
    "": "WAV",
}


@pytest.mark.parametrize(("suffix", "container"), READABLE.items(), ids=READABLE)
def test_every_format_that_can_be_read_is_used(tmp_path: Path, suffix: str, container: str) -> None:
    path = tone(tmp_path / "c" / "ann" / f"1{suffix}", format=container)
    tone(tmp_path / "c" / "bob" / "1.wav")
    assert audio.info(path).frames == RATE
    assert load_corpus(tmp_path / "c").speakers == ("c/ann", "c/bob")


@pytest.mark.parametrize("suffix", [".ogg", ".oga", ".opus", ".mp3", ".mp2"])
def test_compressed_formats_are_used(tmp_path: Path, suffix: str) -> None:
    kinds = {".mp3": ("MP3", "MPEG_LAYER_III"), ".mp2": ("MP3", "MPEG_LAYER_III"), ".opus": ("OGG", "OPUS")}
    container, subtype = kinds.get(suffix, ("OGG", "VORBIS"))
    path = tmp_path / "c" / "ann" / f"1{suffix}"
    path.parent.mkdir(parents=True)
    soundfile.write(path, np.full(16000, 0.1), 16000, subtype, format=container)
    assert load_corpus(tmp_path / "c").speakers == ("c/ann",)


def test_files_left_out_are_counted_by_kind(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = tmp_path / "c"
    for name in ("ann/1.wav", "bob/1.wav", "loose.wav", "loose.flac"):
        tone(root / name)
    tone(root / "ann" / "1.bak", format="WAV")
    for name in ("phone/1.dss", "phone/2.dss", "ann/film.shn", "ann/notes.txt", "ann/.hidden.m4a", "README"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(b"\0\0\0\x1cftypM4A ")
    corpus = load_corpus(root)
    [note] = corpus.notes
    assert note == (
        f"{root}: 6 files left out: 2 .dss (convert: ffmpeg -i FILE.dss FILE.flac), 1 .shn (convert: ffmpeg "
        "-i FILE.shn FILE.flac), 1 .bak (audio under another name: rename), 2 next to the speakers' folders "
        "(move into a folder per speaker)"
    )
    assert note in caplog.text
    [problem] = check_corpus(corpus, min_speech=0.0).warnings[-1:]
    assert problem.problem == note


def test_a_folder_without_readable_files_says_which_are_there(tmp_path: Path) -> None:
    for number in range(2):
        path = tmp_path / "id00012" / "video" / f"{number}.dss"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"\0\0\0\x1cftypM4A ")
    with pytest.raises(CorpusError, match=r"no speech found.*2 files left out: 2 \.dss \(convert: ffmpeg -i"):
        load_corpus(tmp_path)


def test_the_command_names_the_speakers_it_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for speaker in "abcdefg":
        tone(tmp_path / "c" / f"s{speaker}" / "1.wav")
    (tmp_path / "c" / "sa" / "2.dss").write_bytes(b"")
    (tmp_path / "list.csv").write_text("path,speaker\nc/sa/1.wav,ann\nc/sb/1.wav,bob\n")
    main(["corpus", "check", "c"])
    printed = capsys.readouterr()
    assert (
        "c: read as folders (a folder per speaker): 7 speakers, sa, sb, sc, sd, se, ...; --layout"
        in printed.out
    )
    assert printed.out.count("1 file left out: 1 .dss") == 1
    assert printed.err == "", "the table holds all of it"
    main(["corpus", "check", "list.csv"])
    assert "speakers: ann, bob\n" in capsys.readouterr().out
    assert main(["corpus", "import", "c", "c.jsonl"]) == 0
    printed = capsys.readouterr()
    assert "separative: c: read as folders" in printed.err
    assert "separative: c: 1 file left out: 1 .dss" in printed.err


def test_linked_folders_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    root = tmp_path / "c"
    tone(root / "ann" / "1.wav")
    tone(tmp_path / "elsewhere" / "1.wav")
    (root / "bob").symlink_to(tmp_path / "elsewhere")
    (root / "ann" / "up").symlink_to(root)
    (tmp_path / "elsewhere" / "back").symlink_to(root / "ann")
    assert load_corpus(root).speakers == ("c/ann", "c/bob")
