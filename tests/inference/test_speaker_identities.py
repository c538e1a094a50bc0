"""Names for the speakers of a recording: one enrolled speaker each, unknown where that is more probable."""

from itertools import permutations
from pathlib import Path

import numpy as np
import pytest

from separative.inference.identities import (
    Identification,
    file_parts,
    identify_from_scores,
    name_speakers,
    speaker_labels,
)
from separative.model import SeparativeEncoder, load_model
from separative.model.files import model_names
from separative.rttm import Turn, read_rttm, write_rttm

pytestmark = pytest.mark.skipif("base" not in model_names(), reason="no model comes with this version")


@pytest.fixture(scope="module")
def shipped() -> SeparativeEncoder:
    return load_model()


def log_probability(alone: list[Identification], names: tuple[str | None, ...]) -> float:
    """Log-probability of an assignment of names to speakers, each judged alone."""
    total = 0.0
    for found, name in zip(alone, names, strict=True):
        one = {candidate.name: candidate.probability for candidate in found.candidates}
        total += np.log(one[name] if name else found.unknown_probability)
    return total


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("prior", [0.05, 0.5, 0.95])
def test_the_most_probable_assignment_is_chosen(shipped: SeparativeEncoder, seed: int, prior: float) -> None:
    rng = np.random.default_rng(seed)
    names = ["ann", "bob", "cy"]
    alone = [
        identify_from_scores(shipped, list(zip(names, rng.uniform(0.1, 0.9, 3), strict=True)), 3, prior)
        for _ in range(3)
    ]
    chosen = name_speakers(shipped, alone, 3, prior)
    # Every assignment of different names, or none, to three speakers.
    every = {order[:3] for order in permutations([*names, None, None, None], 3)}
    best = max(every, key=lambda order: log_probability(alone, order))
    assert tuple(found.name for found in chosen) == best
    assert [found.candidates for found in chosen] == [found.candidates for found in alone]


def test_a_higher_prior_names_more_speakers_and_a_larger_gallery_fewer(shipped: SeparativeEncoder) -> None:
    def names(prior: float, enrolled: int) -> list[str | None]:
        alone = [identify_from_scores(shipped, [("ann", s)], enrolled, prior) for s in (0.35, 0.5, 0.7)]
        return [found.name for found in (name_speakers(shipped, [one], enrolled, prior)[0] for one in alone)]

    counts = [sum(name is not None for name in names(prior, 1)) for prior in (1e-6, 0.1, 0.5, 0.999999)]
    assert counts == sorted(counts) and counts[0] == 0 and counts[-1] == 3
    assert names(0.5, 1)[2] == "ann" and names(0.5, 10**9)[2] is None


def test_speakers_without_candidates_are_unknown(shipped: SeparativeEncoder) -> None:
    alone = [identify_from_scores(shipped, scores, 2) for scores in ([], [("ann", 0.9)])]
    assert [found.name for found in name_speakers(shipped, alone, 2)] == [None, "ann"]
    assert name_speakers(shipped, [], 2) == []
    [unknown, known] = name_speakers(shipped, alone, 2)
    assert unknown.probability is None and known.probability == known.candidates[0].probability


def test_a_model_without_calibration_uses_its_cosine_of_the_same_speaker(model: SeparativeEncoder) -> None:
    scores = ([("ann", 0.8), ("bob", 0.6)], [("ann", 0.9)], [("bob", 0.3)])
    alone = [identify_from_scores(model, own, 2) for own in scores]
    assert [found.name for found in name_speakers(model, alone, 2)] == ["bob", "ann", None]


def test_labels_differ_also_in_rttm(tmp_path: Path) -> None:
    labels = [f"speaker{n}" for n in range(1, 6)]
    shown = speaker_labels(labels, ["speaker2", None, "Ann Lee", "Ann_Lee", None])
    assert shown == ["speaker2", "speaker2-2", "Ann Lee", "Ann_Lee-2", "speaker5"]
    write_rttm(tmp_path / "a.rttm", "a", [Turn(name, n, n + 0.5) for n, name in enumerate(shown)])
    assert len({turn.speaker for turn in read_rttm(tmp_path / "a.rttm")["a"]}) == 5


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("Jürgen Groß", "Jürgen_Groß"),
        ("Zoe\u0301", "Zoé"),
        ("a/b\\c:d*e?f", "a_b_c_d_e_f"),
        (".hidden.", "hidden"),
        ("..", "speaker"),
        ("\u202eevil\u200b", "evil"),
        ("李 小龙", "李_小龙"),
        ("😀", "speaker"),
    ],
)
def test_names_become_safe_parts_of_file_names(tmp_path: Path, name: str, part: str) -> None:
    assert file_parts([name]) == [part]
    (tmp_path / f"call-{part}.wav").touch()
    assert [path.parent for path in tmp_path.glob("call-*")] == [tmp_path]


def test_long_names_and_twins_have_files_of_their_own(tmp_path: Path) -> None:
    names = ["ü" * 300, "ü" * 301, "Ann", "ann", "ANN/", "ann-2"]
    parts = file_parts(names, taken=["ann"])
    assert len({part.casefold() for part in parts} | {"ann"}) == len(names) + 1
    for part in parts:
        (tmp_path / f"{part}.wav").touch()
    assert len(list(tmp_path.iterdir())) == len(names)
