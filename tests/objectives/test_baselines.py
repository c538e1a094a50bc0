"""Baseline objectives on a small encoder: each loss computed by hand, and what it must not depend on."""

import math
from typing import Any, Literal

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from separative.errors import SeparativeError
from separative.model import EncoderConfig, SeparativeEncoder
from separative.objectives import (
    OBJECTIVES,
    Inventory,
    Losses,
    Objective,
    ObjectiveConfig,
    build_objective,
    csc_loss,
    objective_config,
    register_objective,
)
from separative.objectives.baselines import SingleEmbeddingObjective, mean_loss

RATE, SAMPLES, IDENTITIES, SAME = 8000, 12000, 9, 1e-4
# The targets of "moco" and "dino" move with the network; test_momentum.py has tests of their own.
BASELINES = sorted(OBJECTIVES.keys() - {"csc", "presence", "teach", "moco", "dino"})


@pytest.fixture
def model() -> SeparativeEncoder:
    torch.manual_seed(0)
    size = {"width": 8, "heads": 2, "shared_blocks": 1, "stream_blocks": 1, "speaker_width": 8}
    small = EncoderConfig(
        rate=RATE, streams=1, speaker_blocks=1, embedding=8, mels=16, cross_attention=False, **size
    )
    # In evaluation mode, mixtures do not depend on each other, so references can process one at a time.
    return SeparativeEncoder(small).eval()


def make_batch(groups: int = 3, views: int = 2) -> dict[str, Tensor]:
    """Groups of two-speaker mixtures; every speaker is in one group only."""
    generator = torch.Generator().manual_seed(0)
    batch = groups * views
    source = 0.1 * torch.randn(batch, 2, SAMPLES, generator=generator)
    source *= torch.rand(batch, 2, 1, generator=generator) + 0.5
    target = torch.arange(groups).repeat_interleave(views)
    interferer = groups + torch.arange(batch) % (IDENTITIES - groups)
    return {
        "mixtures": source.sum(1),
        "sources": source,
        "identities": torch.stack([target, interferer], 1),
        "groups": target,
    }


def build(name: str, **keys: Any) -> Objective:
    torch.manual_seed(1)
    section = {"objective": name, **keys}
    return build_objective(objective_config(section).model_validate(section), IDENTITIES, 8)


def embeddings(model: SeparativeEncoder, mix_BN: Tensor) -> Tensor:
    return torch.stack([model(mix_N[None], separate=False).query_BCE[0, 0] for mix_N in mix_BN])


@pytest.mark.parametrize("name", BASELINES)
def test_a_few_steps_lower_the_loss(model: SeparativeEncoder, name: str) -> None:
    """Gradients are finite and reach the embedding layer."""
    objective, batch = build(name), make_batch()
    weights = [w for w in (*model.parameters(), *objective.parameters()) if w.requires_grad]
    optimiser = torch.optim.Adam(weights, lr=3e-3)
    totals = []
    for _ in range(25):
        torch.manual_seed(2)  # the same masks and negatives in every step
        losses = objective(model, **batch)
        optimiser.zero_grad()
        losses.total.backward()
        assert losses.order is None and losses.total in losses.parts.values()
        assert model.speaker.embed.weight.grad is not None and model.speaker.embed.weight.grad.norm() > 0
        assert all(w.grad is None or torch.isfinite(w.grad).all() for w in weights)
        optimiser.step()
        totals.append(float(losses.total.detach()))
    assert totals[-1] < 0.9 * totals[0]


@pytest.mark.parametrize("name", ["supcon", "ge2e", "neighbours", "cpc", "masked", "moco", "dino"])
def test_loss_does_not_depend_on_labels_it_must_not_use(model: SeparativeEncoder, name: str) -> None:
    batch = make_batch()
    torch.manual_seed(2)
    before = build(name)(model, **batch).total
    batch["identities"] = batch["identities"].flip(0)
    if name in ("neighbours", "cpc", "masked"):
        batch["groups"] = batch["groups"].flip(0)
    torch.manual_seed(2)
    assert torch.equal(build(name)(model, **batch).total, before)


@pytest.mark.parametrize(("name", "margin"), [("softmax", 0.0), ("aam", 0.2)])
def test_classification_has_one_term_per_audible_speaker(
    model: SeparativeEncoder, name: str, margin: float
) -> None:
    objective, batch = build(name, scale=16.0), make_batch()
    batch["sources"][0, 1] *= 0.01  # inaudible
    batch["identities"][1, 1] = -1  # unlabelled
    unit_PE = F.normalize(objective.inventory.row_PE, dim=-1)
    expected = []
    for b, embed_E in enumerate(embeddings(model, batch["mixtures"])):
        for c, identity in enumerate(batch["identities"][b].tolist()):
            if (b, c) in ((0, 1), (1, 1)):
                continue
            cos_P = unit_PE @ embed_E
            logit_P = 16 * cos_P
            logit_P[identity] = 16 * torch.cos(cos_P[identity].acos() + margin)
            expected.append(logit_P.logsumexp(0) - logit_P[identity])
    assert objective(model, **batch).total.item() == pytest.approx(
        torch.stack(expected).mean().item(), abs=SAME
    )
    assert objective.inventory.a.requires_grad == (name == "softmax")


def test_supervised_contrastive_equals_the_formula(model: SeparativeEncoder) -> None:
    batch = make_batch()
    batch["identities"][2, 1] = batch["identities"][0, 1]  # groups 0 and 1 share an interferer here
    embed = embeddings(model, batch["mixtures"])
    group = batch["groups"].tolist()
    terms = []
    for i in range(6):
        rest = [j for j in range(6) if j != i and {i, j} != {0, 2}]
        below = torch.stack([embed[i] @ embed[j] / 0.1 for j in rest]).logsumexp(0)
        terms += [below - embed[i] @ embed[j] / 0.1 for j in rest if group[j] == group[i]]
    total = build("supcon")(model, **batch).total
    assert total.item() == pytest.approx(torch.stack(terms).mean().item(), abs=SAME)


def test_ge2e_excludes_a_view_from_its_own_centroid(model: SeparativeEncoder) -> None:
    batch = make_batch(groups=3, views=3)
    embed = embeddings(model, batch["mixtures"])
    terms = []
    for i in range(9):
        logits = []
        for target in range(3):
            members = [j for j in range(9) if j // 3 == target and j != i]
            logits.append(10 * F.cosine_similarity(embed[i], embed[members].mean(0), dim=0))
        terms.append(torch.stack(logits).logsumexp(0) - logits[i // 3])
    total = build("ge2e")(model, **batch).total
    assert total.item() == pytest.approx(torch.stack(terms).mean().item(), abs=SAME)


def test_neighbours_equals_the_formula(model: SeparativeEncoder) -> None:
    batch = make_batch()
    halves = batch["mixtures"].unflatten(1, (2, -1)).transpose(0, 1).flatten(0, 1)
    embed = embeddings(model, halves)
    terms = []
    for i in range(12):
        logits = {j: embed[i] @ embed[j] / 0.1 for j in range(12) if j != i}
        terms.append(torch.stack(list(logits.values())).logsumexp(0) - logits[(i + 6) % 12])
    total = build("neighbours")(model, **batch).total
    assert total.item() == pytest.approx(torch.stack(terms).mean().item(), abs=SAME)


def test_cpc_without_information_costs_ln_of_candidates(model: SeparativeEncoder) -> None:
    """With constant predictions the loss is ln(1 + negatives) for any draw."""
    objective = build("cpc", negatives=15)
    torch.nn.init.zeros_(objective.predict.weight)
    torch.nn.init.zeros_(objective.predict.bias)
    assert objective(model, **make_batch()).total.item() == pytest.approx(math.log(16), abs=SAME)


def test_masked_segments_are_silent_in_the_input_of_the_model(model: SeparativeEncoder) -> None:
    objective, batch = build("masked", share=0.5), make_batch()
    inputs: list[Tensor] = []
    model.register_forward_pre_hook(lambda _, args: inputs.append(args[0]))
    torch.manual_seed(3)
    objective(model, **batch)
    torch.manual_seed(3)
    masked_BS = objective._draw_mask(6, model.segments(SAMPLES), torch.device("cpu"))
    assert 0.2 < masked_BS.float().mean() <= 0.5
    assert (masked_BS.sum(1) >= 4).all()
    power_BS = model.segment_power(inputs[0].unsqueeze(1))[:, 0]
    assert ((power_BS == 0) == masked_BS).all()
    joined = model.join_segments(model.cut_segments(batch["mixtures"].unsqueeze(1))[:, 0], SAMPLES)
    assert torch.equal(joined, batch["mixtures"])


def test_sampling_all_rows_as_negatives_equals_the_exact_loss() -> None:
    torch.manual_seed(0)
    inventory, embed, label = Inventory(50, 8), F.normalize(torch.randn(6, 8), dim=-1), torch.arange(6)
    exact = csc_loss(inventory, embed, label)
    assert torch.allclose(csc_loss(inventory, embed, label, negatives=50), exact, atol=1e-5)
    # The true row is always included, so fewer rows can only lower the loss.
    assert (csc_loss(inventory, embed, label, negatives=5) < exact).all()


def test_a_registered_objective_can_be_built_and_trained(
    model: SeparativeEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("separative.objectives.registry.OBJECTIVES", dict(OBJECTIVES))

    class Config(ObjectiveConfig):
        objective: Literal["tight"]

    class Tight(SingleEmbeddingObjective):
        def __init__(self, config: Config, identities: int, embedding: int) -> None:
            super().__init__()

        def forward(self, model: SeparativeEncoder, **batch: Tensor) -> Losses:
            return mean_loss("tight", self.embed(model, batch["mixtures"]).var(0))

    register_objective("tight", Config, Tight)
    assert build("tight")(model, **make_batch()).total > 0
    with pytest.raises(SeparativeError, match="'tight' already exists"):
        register_objective("tight", Config, Tight)
    with pytest.raises(SeparativeError, match=r"objective 'tigth'.*tight"):
        objective_config({"objective": "tigth"})
