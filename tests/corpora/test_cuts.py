"""Cut manifests are written and read back, also by Lhotse."""

from pathlib import Path

import numpy as np
import pytest

from separative import audio
from separative.corpora import Corpus, Utterance, load_corpus, save_corpus
from separative.errors import AudioError, CorpusError

RATE = 16000


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    rng = np.random.default_rng(0)
    for name, channels in (("a", 1), ("b", 1), ("s", 2)):
        wave_CN = (0.1 * rng.standard_normal((channels, 2 * RATE))).astype(np.float32)
        audio.write(tmp_path / "w" / f"{name}.flac", wave_CN, RATE)
    folder = tmp_path / "w"
    return Corpus(
        (
            Utterance("a/1", folder / "a.flac", 1.25, "ann", start=0.5, corpus="x", split="train"),
            Utterance("a/2", folder / "a.flac", 0.25, "ann", start=1.75, split="dev"),
            Utterance("bé", folder / "b.flac", 2.0, "bob"),
            Utterance("rain", folder / "b.flac", 1.0, category="weather"),
            Utterance("stereo", folder / "s.flac", 2.0, "cy"),
        )
    )


@pytest.mark.parametrize("name", ["my.jsonl", "my.jsonl.gz"])
@pytest.mark.parametrize("relative", [False, True])
def test_a_saved_corpus_is_loaded_unchanged(
    corpus: Corpus, tmp_path: Path, name: str, relative: bool
) -> None:
    save_corpus(corpus, tmp_path / name, relative=relative)
    assert load_corpus(tmp_path / name) == corpus


def test_a_relative_manifest_can_be_moved(corpus: Corpus, tmp_path: Path) -> None:
    save_corpus(corpus, tmp_path / "w" / "cuts.jsonl", relative=True)
    (tmp_path / "w").rename(tmp_path / "elsewhere")
    moved = load_corpus(tmp_path / "elsewhere")
    assert {u.path.parent for u in moved} == {tmp_path / "elsewhere"}
    assert all(u.path.is_file() for u in moved)


def test_a_failed_save_leaves_no_manifest(corpus: Corpus, tmp_path: Path) -> None:
    lost = Corpus((*corpus, Utterance("lost", tmp_path / "gone.wav", 1.0, "ann")))
    with pytest.raises(AudioError, match=r"gone\.wav"):
        save_corpus(lost, tmp_path / "out" / "cuts.jsonl")
    assert not (tmp_path / "out").exists()
    with pytest.raises(CorpusError, match=r"ends in \.jsonl"):
        save_corpus(corpus, tmp_path / "cuts.json")


def test_a_manifest_cut_short_is_named_in_the_error(corpus: Corpus, tmp_path: Path) -> None:
    path = tmp_path / "cuts.jsonl.gz"
    save_corpus(corpus, path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(CorpusError, match=r"cuts\.jsonl\.gz, line"):
        load_corpus(path)


def test_a_rounded_duration_is_limited_to_the_end_of_the_file(corpus: Corpus, tmp_path: Path) -> None:
    rounded = Corpus((Utterance("a", corpus.utterances[0].path, 2.004, "ann"),))
    save_corpus(rounded, tmp_path / "cuts.jsonl")
    assert load_corpus(tmp_path).utterances[0].seconds == 2.0


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_lhotse_reads_saved_manifests(corpus: Corpus, tmp_path: Path) -> None:
    lhotse = pytest.importorskip("lhotse")
    save_corpus(corpus, tmp_path / "cuts.jsonl.gz")
    cuts = lhotse.CutSet.from_file(tmp_path / "cuts.jsonl.gz")
    lhotse.validate(cuts, read_data=True)
    assert [c.id for c in cuts] == [u.id for u in corpus]
    for cut, utterance in zip(cuts, corpus, strict=True):
        assert (cut.start, cut.duration) == (utterance.start, utterance.seconds)
        assert [s.speaker for s in cut.supervisions] == [utterance.speaker] * (utterance.speaker is not None)
        ours_CN, _ = audio.read(
            utterance.path, start=utterance.start, seconds=utterance.seconds, channels="each"
        )
        np.testing.assert_array_equal(cut.load_audio(), ours_CN)
    assert next(iter(cuts)).custom == {"corpus": "x", "split": "train"}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_manifests_of_lhotse_are_read(corpus: Corpus, tmp_path: Path) -> None:
    lhotse = pytest.importorskip("lhotse")
    path = corpus.utterances[0].path
    recording = lhotse.Recording.from_file(path)
    speaker = lhotse.SupervisionSegment(
        "s", recording.id, start=0.25, duration=1.0, speaker="ann", text="hello"
    )
    cut = lhotse.MonoCut("c", 0, 2.0, 0, supervisions=[speaker], recording=recording)
    cuts = lhotse.CutSet.from_cuts([cut, cut.truncate(offset=0.5, duration=0.75, preserve_id=False)])
    cuts.to_file(tmp_path / "cuts.jsonl.gz")
    whole, part = load_corpus(tmp_path)
    assert whole == Utterance("c", path, 2.0, "ann")
    assert (part.path, part.start, part.seconds, part.speaker) == (path, 0.5, 0.75, "ann")
    lhotse.CutSet.from_cuts([cut.perturb_speed(1.1)]).to_file(tmp_path / "fast.jsonl")
    with pytest.raises(CorpusError, match="not a part of one plain audio file"):
        load_corpus(tmp_path / "fast.jsonl")
