"""Names in manifests: equal ones are one speaker, and those that are nearly equal are reported."""

import json
from pathlib import Path

import numpy as np
import pytest

from separative import audio
from separative.corpora import check_corpus, load_corpus, save_corpus
from separative.errors import CorpusError

RATE = 8000
COMPOSED, DECOMPOSED = "Zo\u00eb", "Zoe\u0308"
# Two ways to type one name.
PAIRS = [
    ("ann", "ann "),
    ("ann", "\u00a0ann"),
    ("ann", "\ufeffann\t"),
    (COMPOSED, DECOMPOSED),
    ("ann", "ann\u200b"),
]


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    for number in range(4):
        wave = 0.1 * np.random.default_rng(number).standard_normal(RATE)
        audio.write(tmp_path / f"{number}.wav", wave.astype(np.float32), RATE)
    return tmp_path


def manifest(folder: Path, kind: str, names: list[str]) -> Path:
    """Write a manifest of one recording for each speaker's name."""
    if kind == "csv":
        rows = "".join(f"{n}.wav,{name},{name}\n" for n, name in enumerate(names))
        (folder / "m.csv").write_text(f" path ,speaker, split\n{rows}", encoding="utf-8")
        return folder / "m.csv"
    if kind == "kaldi":
        (folder / "wav.scp").write_text("".join(f"u{n} {folder}/{n}.wav\n" for n in range(len(names))))
        lines = "".join(f"u{n} {name}\n" for n, name in enumerate(names))
        (folder / "utt2spk").write_text(lines, encoding="utf-8")
        return folder
    (folder / "m.csv").write_text(
        "path,speaker\n" + "".join(f"{n}.wav,s{n}\n" for n in range(len(names))), encoding="utf-8"
    )
    save_corpus(load_corpus(folder / "m.csv"), folder / "cuts.jsonl")
    cuts = [json.loads(line) for line in (folder / "cuts.jsonl").read_text().splitlines()]
    for cut, name in zip(cuts, names, strict=True):
        cut["supervisions"][0]["speaker"] = name
        cut["custom"]["split"] = name
    (folder / "cuts.jsonl").write_text("".join(json.dumps(cut) + "\n" for cut in cuts))
    return folder / "cuts.jsonl"


@pytest.mark.parametrize("kind", ["csv", "kaldi", "lhotse"])
@pytest.mark.parametrize("pair", PAIRS, ids=ascii)
def test_one_name_typed_in_two_ways_is_one_speaker(
    recordings: Path, kind: str, pair: tuple[str, str]
) -> None:
    source = manifest(recordings, kind, [*pair, "bob", "bob\t"])
    corpus = load_corpus(source)
    assert corpus.speakers == tuple(sorted(["bob", pair[0]]))
    if kind != "kaldi":
        assert {u.split for u in corpus} == {"bob", pair[0]}
        assert len(load_corpus(source, split=pair[1])) == 2
    assert not [p for p in check_corpus(corpus, min_speech=0.0).problems if "differ only" in p.problem]


@pytest.mark.parametrize("kind", ["csv", "kaldi", "lhotse"])
def test_names_that_differ_in_capitals_or_blanks_are_reported(
    recordings: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    names = ["ann lee", "Ann Lee", "AnnLee", "bob"]
    corpus = load_corpus(manifest(recordings, kind, names))
    assert corpus.speakers == ("Ann Lee", "AnnLee", "ann lee", "bob"), "they may be different speakers"
    sentence = "the speakers 'Ann Lee' and 'AnnLee' and 'ann lee' differ only in capital letters or blanks"
    assert sentence in caplog.text
    assert sentence in " ".join(p.problem for p in check_corpus(corpus, min_speech=0.0).warnings)


def test_splits_are_compared_before_one_is_chosen(recordings: Path) -> None:
    (recordings / "m.csv").write_text(
        "path,speaker,split\n0.wav,ann,Train\n1.wav,ann,train \n2.wav,bob,train\n3.wav,bob,dev\n"
    )
    corpus = load_corpus(recordings / "m.csv", split="train ")
    assert len(corpus) == 2
    [problem] = check_corpus(corpus, min_speech=0.0).warnings
    assert "the splits 'Train' and 'train' differ only in capital letters" in problem.problem


def test_folders_that_differ_in_form_are_one_speaker(recordings: Path) -> None:
    for number, name in enumerate([COMPOSED, DECOMPOSED, "ann", "ann "]):
        (recordings / "c" / name).mkdir(parents=True)
        (recordings / f"{number}.wav").rename(recordings / "c" / name / "1.wav")
    corpus = load_corpus(recordings / "c")
    assert corpus.speakers == (f"c/{COMPOSED}", "c/ann")
    assert len(corpus) == 4
    assert all(u.path.is_file() for u in corpus), "paths are left as they are"


def test_blanks_around_other_values_of_a_row_are_removed(recordings: Path) -> None:
    (recordings / "0.wav").rename(recordings / "odd.wav ")
    (recordings / "m.csv").write_text(
        "id , path, speaker,start,seconds\n a , 1.wav , ann , 0.25 , 0.5 \n b,odd.wav ,Unknown,,\n"
    )
    first, second = load_corpus(recordings / "m.csv")
    assert (first.id, first.path.name, first.speaker, first.start, first.seconds) == (
        "a",
        "1.wav",
        "ann",
        0.25,
        0.5,
    )
    assert (second.path.name, second.speaker) == ("odd.wav ", None)


@pytest.mark.parametrize(
    ("row", "count"),
    [("0.wav,ann,more", 3), ("0.wav", 1), ("Lee, Ann,0.wav,ann", 4)],
    ids=["more", "fewer", "comma"],
)
def test_a_row_of_another_length_is_an_error(recordings: Path, row: str, count: int) -> None:
    (recordings / "m.csv").write_text(f"path,speaker\n1.wav,bob\n{row}\n")
    with pytest.raises(CorpusError, match=rf"m\.csv, line 3: {count} values for 2 columns; quote values"):
        load_corpus(recordings / "m.csv")
