"""A model's portrait: shares that add up, unit embeddings, and the figures drawn from them."""

import numpy as np
import pytest
import torch

from separative.evaluation.portrait import Portrait, portrait
from separative.metrics import plane
from separative.report import write_report

ROUNDING = 1e-5


@pytest.fixture(scope="module")
def seen(model, speech, noise) -> Portrait:
    return portrait(model, speech.split("dev"), noise=noise.split("dev"), speakers=3, seconds=1.0)


def test_attention_is_shared_out_among_conditions(seen: Portrait) -> None:
    size = len(seen.conditions)
    assert "clean" in seen.conditions and "noise5" in seen.conditions and "room" not in seen.conditions
    assert seen.looked_VV.shape == seen.own_VV.shape == (size, size)
    np.testing.assert_allclose(seen.looked_VV.sum(1), 1, atol=ROUNDING)
    assert (seen.own_VV <= seen.looked_VV + ROUNDING).all() and (seen.own_VV >= 0).all()
    # Attention of a trained kind is not spread evenly.
    assert seen.looked_VV.std() > 1e-4


def test_speakers_are_of_one_corpus_and_embeddings_of_unit_norm(seen: Portrait) -> None:
    assert len(set(seen.speaker_U)) == 3 and all(name.startswith("one/") for name in seen.speaker_U)
    np.testing.assert_allclose(np.linalg.norm(seen.embedding_UE, axis=1), 1, atol=ROUNDING)
    assert len(seen.speaker_U) == len(seen.embedding_UE)


def test_weights_are_those_that_the_answer_is_made_with(model) -> None:
    cross = model.cross
    generator = torch.Generator().manual_seed(0)
    query, segment = (torch.randn(n, 16, generator=generator) for n in (3, 40))
    bias = -torch.rand(1, 40, generator=generator).expand(3, -1)
    with torch.inference_mode():
        weight = cross.weights(query, segment, bias)
        assert torch.allclose(weight.sum(1), torch.ones(3), atol=ROUNDING)
        # A segment that gets no attention is one that can be left out.
        few = bias.masked_fill(torch.arange(40) >= 25, -1e4)
        assert cross.weights(query, segment, few)[:, 25:].max() < ROUNDING
        answers = (
            cross.gather(query, segment, few),
            cross.gather(query, segment[:25], bias[:, :25]),
        )
    assert torch.allclose(*answers, atol=ROUNDING)


def test_principal_components_keep_distances_where_two_are_enough() -> None:
    rng = np.random.default_rng(0)
    flat = rng.standard_normal((9, 2)) @ np.linalg.qr(rng.standard_normal((12, 2)))[0].T
    place, _ = plane((flat + 3).astype(np.float32))
    for points in (flat, place):
        points -= points.mean(0)
    np.testing.assert_allclose(place @ place.T, flat @ flat.T, atol=ROUNDING)
    assert plane(np.ones((1, 5), np.float32))[0].shape == (1, 2)


def test_the_page_shows_likeness_map_and_attention(seen: Portrait, tmp_path) -> None:
    page = write_report(tmp_path / "page.html", portrait=seen).read_text()
    assert page.count("<img") == 3 and "What the cross-attention looks at" in page
