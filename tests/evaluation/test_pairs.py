"""Trial lists that others publish: both forms, names of utterances, error rates, and wrong lists."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from separative.corpora.manifest import Corpus
from separative.errors import CorpusError, SeparativeError
from separative.evaluation import Pair, evaluate_pairs, is_published, read_pairs, write_scores
from separative.evaluation.trials import HEADER
from separative.inference import verify
from separative.metrics import eer, min_dcf


def pairs_of(corpus: Corpus, names: dict[str, str]) -> list[Pair]:
    """All pairs of utterances 0 to 2 of every speaker."""
    chosen = [u for u in corpus if u.id in names and u.id.endswith(("-0", "-1", "-2"))]
    return [
        Pair(a.speaker == b.speaker, names[a.id], names[b.id])
        for i, a in enumerate(chosen)
        for b in chosen[i + 1 :]
    ]


@pytest.fixture
def corpus(speech: Corpus) -> Corpus:
    return Corpus(tuple(replace(u, corpus="one") for u in speech if u.id != "lonely"))


@pytest.mark.parametrize(
    "form", ["{target:d} {left} {right}", "{left} {right} {word}", "{left}\t{right}\t{word}\r"]
)
def test_both_forms_are_read(tmp_path: Path, form: str) -> None:
    trials = [(True, "a/1.wav", "a/2.wav"), (False, "a/1.wav", "1"), (False, "1", "0")]
    lines = [
        form.format(target=t, left=left, right=right, word="target" if t else "nontarget")
        for t, left, right in trials
    ]
    path = tmp_path / "trials.txt"
    path.write_bytes(b"\xef\xbb\xbf" + "\n".join([*lines, "", ""]).encode())
    assert is_published(path)
    assert [pair[:3] for pair in read_pairs(path)] == trials
    assert read_pairs(path)[2].where == f"{path}, line 3"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "an empty trial list"),
        ("\n\n", "an empty trial list"),
        ("1 a b\n2 a b\n", "line 2: not a line of a trial list: '2 a b'"),
        ("1 a b\na b target\n", "line 2"),
        ("a b target\n1 a b\n", "line 2"),
        ("1 a\n", "line 1"),
        ("1 a b c\n", "line 1"),
        ("a b same\n", "line 1"),
        ("1 a b\n1 a c\n", "no non-target trials"),
        ("a b nontarget\n", "no target trials"),
        ("path,speaker\n", "'left right target' or 'left right nontarget'"),
    ],
)
def test_a_wrong_list_is_refused_with_its_line(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "trials.txt"
    path.write_text(text)
    with pytest.raises(SeparativeError) as caught:
        read_pairs(path)
    assert words in str(caught.value) and str(path) in str(caught.value)


def test_lists_of_this_program_are_not_taken_for_published_ones(tmp_path: Path) -> None:
    (tmp_path / "trials.txt").write_text(f"{HEADER}\n")
    assert not is_published(tmp_path / "trials.txt")


def test_scores_are_those_of_verify_and_figures_follow_from_them(
    model, corpus: Corpus, tmp_path: Path
) -> None:
    names = {u.id: u.id for u in corpus}
    pairs = pairs_of(corpus, names)
    results, scores = evaluate_pairs(model, corpus, pairs, resamples=20, batch=5)
    path = {u.id: u.path for u in corpus}
    for pair, score in list(zip(pairs, scores, strict=True))[::40]:
        expected = verify(model, path[pair.left], path[pair.right]).score
        assert score == pytest.approx(expected, abs=1e-5)
    target = np.array([pair.target for pair in pairs])
    whole = "whole utterances"
    assert results.find("EER", whole).value == pytest.approx(100 * eer(scores, target))
    for p in (0.01, 0.05):
        assert results.find(f"minDCF{p:g}", whole).value == pytest.approx(min_dcf(scores, target, p))
    row = results.find("EER", whole)
    assert row.low <= row.value <= row.high and row.trials == len(pairs)
    lines = write_scores(tmp_path / "scores.txt", pairs, scores).read_text().splitlines()
    assert lines[0].split() == ["1", "u0-0", "u0-1", f"{scores[0]:.6f}"] and len(lines) == len(pairs)


def test_names_may_be_ids_or_ends_of_paths(model, corpus: Corpus) -> None:
    expected = evaluate_pairs(model, corpus, pairs_of(corpus, {u.id: u.id for u in corpus}), resamples=10)[1]
    for name in (
        lambda u: u.path.name,
        lambda u: u.path.stem,
        lambda u: f"{u.path.parent.name}/{u.path.name}",
        lambda u: str(u.path),
    ):
        names = {u.id: name(u) for u in corpus}
        scores = evaluate_pairs(model, corpus, pairs_of(corpus, names), resamples=10)[1]
        np.testing.assert_array_equal(scores, expected)


def test_wrong_names_and_labels_are_refused(model, corpus: Corpus) -> None:
    good = pairs_of(corpus, {u.id: u.id for u in corpus})

    def refuse(error: type[SeparativeError], words: str, *pairs: Pair, within: Corpus = corpus) -> None:
        with pytest.raises(error) as caught:
            evaluate_pairs(model, within, [*good, *pairs], resamples=10)
        assert words in str(caught.value)

    refuse(
        CorpusError,
        "line 9: the corpus has no utterance 'x/a.wav' (1 of",
        Pair(True, "x/a.wav", "u0-0", "line 9"),
    )
    refuse(SeparativeError, "line 9: a target trial, but", Pair(True, "u0-0", "u1-0", "line 9"))
    refuse(SeparativeError, "line 9: a non-target trial, but", Pair(False, "u0-0", "u0-1", "line 9"))
    twice = Corpus((*corpus, replace(corpus.utterances[0], id="again", start=0.1, seconds=0.5)))
    name = corpus.utterances[0].path.name
    refuse(CorpusError, "may mean 'u0-0' or 'again'; use the ids", Pair(True, name, "u0-1"), within=twice)
    unknown = Corpus((*corpus, replace(corpus.utterances[0], id="unnamed", speaker=None)))
    refuse(CorpusError, "'unnamed' has no speaker", Pair(True, "unnamed", "u0-1"), within=unknown)
