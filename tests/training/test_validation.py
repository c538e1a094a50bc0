"""The quick figures of a run: right on answers that are known, and without a trace on the run itself."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from separative.corpora.manifest import Corpus
from separative.errors import CorpusError
from separative.model import SeparativeEncoder
from separative.training import Recipe, Validation
from separative.training.validation import ValidationOutput, _of_known

EVERYONE = np.arange(3)


@pytest.fixture(scope="module")
def validation(recipe: Callable[..., Recipe], corpus: Corpus, cache: Path) -> Validation:
    return Validation(corpus.split("dev"), recipe().mixtures, cache=cache)


@pytest.fixture(scope="module")
def model(recipe: Callable[..., Recipe]) -> SeparativeEncoder:
    torch.manual_seed(0)
    return SeparativeEncoder(recipe().model)


def heard(embed_ICE: np.ndarray, speaker_IK: np.ndarray) -> ValidationOutput:
    count, streams, _ = embed_ICE.shape
    active_IC = np.ones((count, streams), bool)
    return ValidationOutput(
        embed_ICE.astype(np.float32), active_IC, speaker_IK, np.tile(np.arange(streams), (count, 1))
    )


def test_figures_are_there_repeat_and_lie_in_range(validation: Validation, model: SeparativeEncoder) -> None:
    model.train()
    state, weights = torch.get_rng_state(), {k: v.clone() for k, v in model.state_dict().items()}
    figures = validation(model)
    assert torch.equal(torch.get_rng_state(), state) and model.training
    assert all(torch.equal(weights[k], v) for k, v in model.state_dict().items())
    assert figures == validation(model)
    assert figures["valid/mi_ceiling"] == pytest.approx(math.log(3))
    for kind in ("clean", "mixed"):
        assert 0 <= figures[f"valid/eer_{kind}"] <= 50
        bound = math.log(3) - figures[f"valid/loss_{kind}"]
        assert figures[f"valid/mi_{kind}"] == pytest.approx(max(0.0, bound))
    assert math.isfinite(figures["valid/si_sdri_db"])


def test_perfect_embeddings_have_no_errors_and_all_of_the_information(validation: Validation) -> None:
    """Two speakers in every crop; each stream's embedding is its speaker's vector."""
    speaker_IK = np.array([[0, 1], [1, 2], [2, 0], [1, 0]] * 5)
    inventory_PE = np.eye(3, 8, dtype=np.float32)
    answers = heard(inventory_PE[speaker_IK], speaker_IK)
    assert validation._eer(inventory_PE, EVERYONE, answers) == 0
    figures = validation._information(inventory_PE, answers, "mixed")
    assert figures["valid/mi_mixed"] == pytest.approx(math.log(3), abs=1e-6)


def test_embeddings_that_tell_nothing_score_a_half_and_no_information(validation: Validation) -> None:
    speaker_IK = np.array([[0, -1], [1, -1], [2, -1]] * 6)
    embed_ICE = np.tile(np.full(8, 8**-0.5), (18, 2, 1))
    inventory_PE = np.eye(3, 8, dtype=np.float32)
    assert validation._eer(inventory_PE, EVERYONE, heard(embed_ICE, speaker_IK)) == 50
    figures = validation._information(inventory_PE, heard(embed_ICE, speaker_IK), "clean")
    assert figures["valid/loss_clean"] == pytest.approx(math.log(3)) and figures["valid/mi_clean"] < 1e-6


def test_an_inactive_stream_is_no_candidate(validation: Validation) -> None:
    """The right voice in an inactive stream must not help, nor the wrong one harm."""
    speaker_IK = np.array([[0, -1], [1, -1], [2, -1]] * 4)
    inventory_PE = np.eye(3, 8, dtype=np.float32)
    embed_ICE = np.stack([inventory_PE[speaker_IK[:, 0]], inventory_PE[(speaker_IK[:, 0] + 1) % 3]], axis=1)
    both = heard(embed_ICE, speaker_IK)
    alone = ValidationOutput(both.embed_ICE, np.array([[True, False]] * 12), speaker_IK, both.stream_IK)
    assert (
        validation._eer(inventory_PE, EVERYONE, alone) == 0
        and validation._eer(inventory_PE, EVERYONE, both) > 20
    )


def test_too_few_speakers_to_watch_is_said(
    recipe: Callable[..., Recipe], corpus: Corpus, cache: Path
) -> None:
    once = corpus.filter(lambda u: u.id.endswith("-0"))
    with pytest.raises(CorpusError, match="two or more speakers with two or more utterances"):
        Validation(once, recipe().mixtures, cache=cache)


def test_speakers_whom_no_crop_enrolled_are_left_out(recipe: Callable[..., Recipe], corpus: Corpus) -> None:
    speaker_IK = np.array([[0, 2], [1, 0], [2, 1], [1, -1]])
    before = heard(np.eye(4, 8)[:, None].repeat(2, 1), speaker_IK)
    kept = _of_known(before, np.array([0, 2]), 3)
    assert kept.speaker_IK.tolist() == [[0, 1], [1, -1]]
    np.testing.assert_array_equal(kept.embed_ICE, before.embed_ICE[[0, 2]])


def test_of_very_many_speakers_some_are_watched(
    recipe: Callable[..., Recipe], corpus: Corpus, model: SeparativeEncoder, cache: Path
) -> None:
    """As files of the same few voices: each speaker is heard in a crop, or counts for nothing."""
    takes = corpus.split("dev").by_speaker["t8"]
    many = Corpus(
        tuple(replace(u, id=f"{n}-{u.id}", speaker=f"s{n:03d}") for n in range(60) for u in takes[:2])
    )
    watch = Validation(many, recipe().mixtures, cache=cache)
    assert len(watch.enrol.identities) == 40
    figures = watch(model)
    assert 36 <= round(math.exp(figures["valid/mi_ceiling"])) <= 40
