"""Every layout is detected and read; malformed input gives an error that names the place."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from separative import audio
from separative.corpora import LAYOUTS, load_corpus
from separative.corpora.layouts import detect_layout
from separative.errors import AudioError, CorpusError

RATE = 8000


def tone(path: Path, seconds: float = 1.0) -> Path:
    audio.write(path, np.full(round(seconds * RATE), 0.1, np.float32), RATE)
    return path


def test_folders_are_speakers(tmp_path: Path) -> None:
    root = tmp_path / "mine"
    tone(root / "bob" / "b.wav", 0.5)
    tone(root / "ann" / "session" / "a.flac", 1.25)
    tone(root / "ann" / "c.ogg", 0.75)
    tone(root / ".cache" / "x.wav")
    (root / "ann" / "notes.txt").write_text("not audio")
    assert detect_layout(root) == "folders"
    corpus = load_corpus(root)
    assert corpus.speakers == ("mine/ann", "mine/bob")
    assert {u.id: u.seconds for u in corpus} == {"ann/c": 0.75, "ann/session/a": 1.25, "bob/b": 0.5}


def test_csv_columns_are_read(tmp_path: Path) -> None:
    tone(tmp_path / "w" / "a.wav", 2.0)
    (tmp_path / "list.csv").write_text(
        "\ufeffpath,speaker,id,corpus,seconds,split,start,gender\n"
        "w/a.wav,ann,first,x,1.5,train,0.5,f\nw/a.wav,unknown,,,,dev,0.25,\nw/a.wav,x/unknown,,,,dev,,\n",
        encoding="utf-8",
    )
    first, second, third = load_corpus(tmp_path / "list.csv")
    assert (first.id, first.speaker, first.corpus, first.split) == ("first", "ann", "x", "train")
    assert (first.start, first.seconds, first.path) == (0.5, 1.5, tmp_path / "w" / "a.wav")
    assert (second.id, second.speaker, second.seconds) == ("w/a@0.25", None, 1.75)
    assert (third.id, third.speaker, third.corpus, third.seconds) == ("w/a", None, "list", 2.0)
    assert len(load_corpus(tmp_path / "list.csv", split="dev")) == 2


def test_csv_with_categories_is_noise(tmp_path: Path) -> None:
    tone(tmp_path / "rain.wav")
    (tmp_path / "noise.csv").write_text("category,path,seconds,split\nrain,rain.wav,1.0,train\n")
    [clip] = load_corpus(tmp_path / "noise.csv")
    assert (clip.category, clip.speaker, clip.seconds) == ("rain", None, 1.0)


def test_librispeech_names_give_speakers_and_splits(tmp_path: Path) -> None:
    tone(tmp_path / "train-clean-100" / "19" / "198" / "19-198-0001.flac")
    tone(tmp_path / "dev-other" / "26" / "495" / "26-495-0000.flac")
    assert detect_layout(tmp_path) == "librispeech"
    assert {(u.id, u.speaker, u.split) for u in load_corpus(tmp_path)} == {
        ("19-198-0001", "librispeech/19", "train"),
        ("26-495-0000", "librispeech/26", "dev"),
    }
    [alone] = load_corpus(tmp_path / "dev-other")
    assert alone.split == "dev"


def test_voxceleb_paths_give_speakers_and_splits(tmp_path: Path) -> None:
    tone(tmp_path / "dev" / "wav" / "id10001" / "1zcIwhmdeo4" / "00001.wav")
    tone(tmp_path / "test" / "wav" / "id10270" / "5r0dWxy17C8" / "00001.wav")
    assert detect_layout(tmp_path) == "voxceleb"
    corpus = load_corpus(tmp_path)
    assert corpus.speakers == ("voxceleb/id10001", "voxceleb/id10270")
    assert [u.split for u in corpus] == ["dev", "test"]
    assert corpus.utterances[0].id == "id10001/1zcIwhmdeo4/00001"


def test_kaldi_directories_with_and_without_segments_are_read(tmp_path: Path) -> None:
    tone(tmp_path / "long.wav", 3.0)
    data = tmp_path / "data"
    data.mkdir()
    (data / "wav.scp").write_text(f"rec1 {tmp_path / 'long.wav'}\nrec2 ../long.wav\n")
    (data / "utt2spk").write_text("rec1\tann\nrec2 \t bob\nu1 ann\nu2 bob\n")
    whole = load_corpus(data)
    assert [(u.id, u.speaker, u.seconds) for u in whole] == [("rec1", "ann", 3.0), ("rec2", "bob", 3.0)]
    assert {u.path for u in whole} == {tmp_path / "long.wav"}
    (data / "segments").write_text("u1 rec1 0.5 1.25\nu2 rec2 1.0 3.0\n")
    cut = load_corpus(data)
    assert [(u.id, u.speaker, u.start, u.seconds) for u in cut] == [
        ("u1", "ann", 0.5, 0.75),
        ("u2", "bob", 1.0, 2.0),
    ]


KALDI_MISTAKES = {
    "a command": ({"wav.scp": "r sph2pipe a.sph |"}, "is a command, which is never run"),
    "no utt2spk": ({"wav.scp": "r a.wav"}, "utt2spk: no such file"),
    "no speaker": ({"wav.scp": "r a.wav", "utt2spk": "x ann"}, "no speaker for utterance 'r'"),
    "no value": ({"wav.scp": "r"}, r"wav\.scp, line 1"),
    "no recording": ({"wav.scp": "r a.wav", "utt2spk": "u ann", "segments": "u q 0 1"}, "cut from 'q'"),
    "backwards": ({"wav.scp": "r a.wav", "utt2spk": "u ann", "segments": "u r 2 1"}, "ends at 1.0 s"),
    "three times": (
        {"wav.scp": "r a.wav", "utt2spk": "u ann", "segments": "u r 0 1 2"},
        "expected recording",
    ),
}


@pytest.mark.parametrize(("files", "message"), KALDI_MISTAKES.values(), ids=KALDI_MISTAKES)
def test_malformed_kaldi_directories_are_errors(tmp_path: Path, files: dict[str, str], message: str) -> None:
    tone(tmp_path / "a.wav")
    for name, line in files.items():
        (tmp_path / name).write_text(line + "\n")
    with pytest.raises(CorpusError, match=message):
        load_corpus(tmp_path)


CSV_MISTAKES = {
    "no path column": ("file,speaker\na.wav,ann", "no column 'path'"),
    "misspelt": ("path,speakr\na.wav,ann", r"no column 'speaker' \(is it 'speakr'\?\)"),
    "a bad number": ("path,speaker,seconds\na.wav,ann,long", "line 2: seconds is 'long'"),
    "negative": ("path,speaker,start\na.wav,ann,-1", "line 2: start is '-1'"),
    "no path": ("path,speaker\n,ann", "line 2: the column 'path' is empty"),
    "twice": ("path,speaker\na.wav,ann\na.wav,bob", "2 utterances have the id 'a'"),
    "past the end": ("path,speaker,start\na.wav,ann,1.5", "starts at 1.5 s, but the file ends at 1.00 s"),
    "no rows": ("path,speaker", "no speech found"),
    "no such split": ("path,speaker,split\na.wav,ann,train", "no split 'dev'; valid: train"),
}


@pytest.mark.parametrize(("text", "message"), CSV_MISTAKES.values(), ids=CSV_MISTAKES)
def test_malformed_csv_files_are_errors(tmp_path: Path, text: str, message: str) -> None:
    tone(tmp_path / "a.wav")
    (tmp_path / "list.csv").write_text(text + "\n")
    with pytest.raises(CorpusError, match=message):
        load_corpus(tmp_path / "list.csv", split="dev")


def test_paths_that_are_not_a_corpus_are_errors(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="gone: no such file or folder"):
        load_corpus(tmp_path / "gone")
    with pytest.raises(CorpusError, match="no speech found; expected a folder per speaker"):
        load_corpus(tmp_path)
    wav = tone(tmp_path / "loose.wav")
    with pytest.raises(CorpusError, match="no speech found; expected a folder per speaker"):
        load_corpus(tmp_path)
    with pytest.raises(CorpusError, match="not a corpus"):
        load_corpus(wav)
    with pytest.raises(CorpusError, match="did you mean 'kaldi'"):
        load_corpus(tmp_path, layout="kald")
    for layout in ("librispeech", "voxceleb"):
        with pytest.raises(CorpusError, match="try another layout"):
            load_corpus(tmp_path, layout=layout)
    (tmp_path / "list.csv").write_text("path,speaker\ngone.wav,ann\n")
    with pytest.raises(AudioError, match=r"gone\.wav: no such file"):
        load_corpus(tmp_path / "list.csv")


MONO = {"type": "MonoCut", "id": "c", "start": 0, "duration": 1.0, "channel": 0, "supervisions": []}
SOURCE = {"type": "file", "channels": [0], "source": "a.wav"}
FILE = {"id": "r", "sources": [SOURCE]}
COMMAND = {"id": "r", "sources": [SOURCE | {"type": "command"}]}
CUT_MISTAKES = {
    "not JSON": ("{", "line 1: not a Lhotse cut"),
    "another JSON": ("[1]", "line 1: not a Lhotse cut"),
    "mixed": ({"type": "MixedCut", "id": "c", "tracks": []}, "'c' is a MixedCut"),
    "a command": (MONO | {"recording": COMMAND}, "not a part of one plain audio file"),
    "a channel": (MONO | {"channel": 1, "recording": FILE}, r"uses channels \[1\] of \[0\]"),
    "two speakers": (
        MONO | {"recording": FILE, "supervisions": [{"speaker": "a"}, {"speaker": "b"}]},
        "several",
    ),
}


@pytest.mark.parametrize(("cut", "message"), CUT_MISTAKES.values(), ids=CUT_MISTAKES)
@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz"])
def test_unusable_cuts_are_errors(tmp_path: Path, cut: object, message: str, suffix: str) -> None:
    line = cut if isinstance(cut, str) else json.dumps(cut)
    data = line.encode()
    (tmp_path / f"cuts{suffix}").write_bytes(gzip.compress(data) if suffix.endswith("gz") else data)
    with pytest.raises(CorpusError, match=message):
        load_corpus(tmp_path)


def test_layouts_are_those_in_the_documentation() -> None:
    assert set(LAYOUTS) == {"folders", "csv", "librispeech", "voxceleb", "kaldi", "lhotse"}


UNREADABLE = {
    "not UTF-8": ("it.csv", b"path,speaker\n\xff\xfe.wav,ann\n"),
    "a path without a name": ("it.csv", b"path,speaker\n/,ann\n"),
    "lines within a column's name": ("it.csv", b'"pa\nth",speaker\na.wav,ann\n'),
    "not compressed": ("it.jsonl.gz", b"{}\n"),
    "compressed, and cut": ("it.jsonl.gz", gzip.compress(b'{"id": "a"}\n' * 99)[:40]),
}


@pytest.mark.parametrize("kind", UNREADABLE)
def test_an_unreadable_file_is_an_error_of_one_line(tmp_path: Path, kind: str) -> None:
    name, content = UNREADABLE[kind]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CorpusError, match=name) as caught:
        load_corpus(tmp_path / name)
    assert str(caught.value).isprintable()
