"""Validation during training: correct on known embeddings, and without side effects on the run."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from separative.corpora.manifest import Corpus
from separative.errors import CorpusError
from separative.metrics import eer
from separative.model import SeparativeEncoder, load_model
from separative.training import Recipe, Validation, train
from separative.training.validation import ValidationOutput, _information, _select_enrolled

ALL_SPEAKERS = np.arange(3)


@pytest.fixture(scope="module")
def validation(recipe: Callable[..., Recipe], corpus: Corpus, cache: Path) -> Validation:
    return Validation(corpus.split("dev"), recipe().mixtures, cache=cache)


@pytest.fixture(scope="module")
def model(recipe: Callable[..., Recipe]) -> SeparativeEncoder:
    torch.manual_seed(0)
    return SeparativeEncoder(recipe().model)


def make_output(embed_ICE: np.ndarray, speaker_IK: np.ndarray) -> ValidationOutput:
    count, streams, _ = embed_ICE.shape
    active_IC = np.ones((count, streams), bool)
    return ValidationOutput(
        embed_ICE.astype(np.float32), active_IC, speaker_IK, np.tile(np.arange(streams), (count, 1))
    )


def error_rate(validation: Validation, inventory_PE: np.ndarray, output: ValidationOutput) -> float:
    return 100 * eer(*validation._trials(inventory_PE, ALL_SPEAKERS, output))


def test_figures_are_repeatable_and_in_range_and_the_model_is_unchanged(
    validation: Validation, model: SeparativeEncoder
) -> None:
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


def test_perfect_embeddings_have_no_errors_and_full_information(validation: Validation) -> None:
    """Two speakers in every crop; the embedding of a stream is the vector of its speaker."""
    speaker_IK = np.array([[0, 1], [1, 2], [2, 0], [1, 0]] * 5)
    inventory_PE = np.eye(3, 8, dtype=np.float32)
    output = make_output(inventory_PE[speaker_IK], speaker_IK)
    assert error_rate(validation, inventory_PE, output) == 0
    figures = _information(inventory_PE, output, "mixed")
    assert figures["valid/mi_mixed"] == pytest.approx(math.log(3), abs=1e-6)


def test_constant_embeddings_have_50_percent_eer_and_no_information(validation: Validation) -> None:
    speaker_IK = np.array([[0, -1], [1, -1], [2, -1]] * 6)
    embed_ICE = np.tile(np.full(8, 8**-0.5), (18, 2, 1))
    inventory_PE = np.eye(3, 8, dtype=np.float32)
    assert error_rate(validation, inventory_PE, make_output(embed_ICE, speaker_IK)) == 50
    figures = _information(inventory_PE, make_output(embed_ICE, speaker_IK), "clean")
    assert figures["valid/loss_clean"] == pytest.approx(math.log(3)) and figures["valid/mi_clean"] < 1e-6


def test_inactive_streams_are_not_candidates(validation: Validation) -> None:
    """Embeddings of inactive streams must not change the error rate."""
    speaker_IK = np.array([[0, -1], [1, -1], [2, -1]] * 4)
    inventory_PE = np.eye(3, 8, dtype=np.float32)
    embed_ICE = np.stack([inventory_PE[speaker_IK[:, 0]], inventory_PE[(speaker_IK[:, 0] + 1) % 3]], axis=1)
    both = make_output(embed_ICE, speaker_IK)
    alone = ValidationOutput(both.embedding, np.array([[True, False]] * 12), speaker_IK, both.stream)
    assert (
        error_rate(validation, inventory_PE, alone) == 0 and error_rate(validation, inventory_PE, both) > 20
    )


def test_too_few_validation_speakers_is_an_error(
    recipe: Callable[..., Recipe], corpus: Corpus, cache: Path
) -> None:
    once = corpus.filter(lambda u: u.id.endswith("-0"))
    with pytest.raises(CorpusError, match="at least two speakers with at least two utterances"):
        Validation(once, recipe().mixtures, cache=cache)


def test_speakers_without_an_enrolment_crop_are_left_out(
    recipe: Callable[..., Recipe], corpus: Corpus
) -> None:
    speaker_IK = np.array([[0, 2], [1, 0], [2, 1], [1, -1]])
    before = make_output(np.eye(4, 8)[:, None].repeat(2, 1), speaker_IK)
    kept = _select_enrolled(before, np.array([0, 2]), 3)
    assert kept.speaker.tolist() == [[0, 1], [1, -1]]
    np.testing.assert_array_equal(kept.embedding, before.embedding[[0, 2]])


def test_at_most_40_speakers_are_validated(
    recipe: Callable[..., Recipe], corpus: Corpus, model: SeparativeEncoder, cache: Path
) -> None:
    """Sixty labels for files of one speaker; labels without an enrolment crop do not count."""
    takes = corpus.split("dev").by_speaker["t8"]
    many = Corpus(
        tuple(replace(u, id=f"{n}-{u.id}", speaker=f"s{n:03d}") for n in range(60) for u in takes[:2])
    )
    validation = Validation(many, recipe().mixtures, cache=cache)
    assert len(validation.enrol.identities) == 40
    figures = validation(model)
    assert 36 <= round(math.exp(figures["valid/mi_ceiling"])) <= 40


def test_two_speakers_are_validated_without_an_eer_in_their_mixtures(
    recipe: Callable[..., Recipe],
    corpus: Corpus,
    model: SeparativeEncoder,
    cache: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    two = corpus.split("dev").filter(lambda u: u.speaker != "t9")
    figures = Validation(two, recipe().mixtures, cache=cache)(model)
    assert 0 <= figures["valid/eer_clean"] <= 50 and "valid/eer_mixed" not in figures
    assert math.isfinite(figures["valid/mi_mixed"]) and math.isfinite(figures["valid/si_sdri_db"])
    assert "validation on mixed crops has no EER: 2 speakers" in caplog.text


def test_a_run_with_two_validation_speakers_ends_with_a_saved_model(
    recipe: Callable[..., Recipe], corpus: Corpus, cache: Path, tmp_path: Path
) -> None:
    two = corpus.filter(lambda u: u.speaker != "t9")
    card = load_model(train(recipe(), corpus=two, out=tmp_path, cache=cache, device="cpu", steps=2)).card
    assert card["training"]["steps"] == 2
    assert "valid/eer_clean" in card["metrics"] and "valid/eer_mixed" not in card["metrics"]


def test_a_validation_that_fails_costs_no_steps(
    recipe: Callable[..., Recipe],
    corpus: Corpus,
    cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # No batches to validate on, which is an error.
    monkeypatch.setattr("separative.training.validation.STEPS", 0)
    with pytest.raises(ValueError, match="non-empty list"):
        train(recipe(), corpus=corpus, out=tmp_path, cache=cache, device="cpu", steps=2)
    assert load_model(tmp_path).card["training"]["steps"] == 2
