"""Rival objectives on a real, small encoder: each loss by hand, and what it must not see."""

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
from separative.objectives.objective import OneEmbedding, mean_of

RATE, SAMPLES, IDENTITIES, SAME = 8000, 12000, 9, 1e-4
RIVALS = sorted(OBJECTIVES.keys() - {"csc"})


@pytest.fixture
def model() -> SeparativeEncoder:
    torch.manual_seed(0)
    size = {"width": 8, "heads": 2, "shared_blocks": 1, "stream_blocks": 1, "speaker_width": 8}
    small = EncoderConfig(
        rate=RATE, streams=1, speaker_blocks=1, embedding=8, mels=16, cross_attention=False, **size
    )
    # In evaluation mode no mixture depends on its neighbours, so that references can go one by one.
    return SeparativeEncoder(small).eval()


def talk(groups: int = 3, views: int = 2) -> dict[str, Tensor]:
    """Groups of two-speaker mixtures; every speaker is heard in one group only."""
    generator = torch.Generator().manual_seed(0)
    batch = groups * views
    source = 0.1 * torch.randn(batch, 2, SAMPLES, generator=generator)
    source *= torch.rand(batch, 2, 1, generator=generator) + 0.5
    target = torch.arange(groups).repeat_interleave(views)
    rival = groups + torch.arange(batch) % (IDENTITIES - groups)
    return {
        "mix_BN": source.sum(1),
        "source_BCN": source,
        "identity_BC": torch.stack([target, rival], 1),
        "group_B": target,
    }


def build(name: str, **keys: Any) -> Objective:
    torch.manual_seed(1)
    section = {"objective": name, **keys}
    return build_objective(objective_config(section).model_validate(section), IDENTITIES, 8)


def embeddings(model: SeparativeEncoder, mix_BN: Tensor) -> Tensor:
    return torch.stack([model(mix_N[None], separate=False).query_BCE[0, 0] for mix_N in mix_BN])


@pytest.mark.parametrize("name", RIVALS)
def test_it_can_be_learnt(model: SeparativeEncoder, name: str) -> None:
    """A few steps on one batch lower the loss, through finite gradients that reach the embedding."""
    objective, batch = build(name), talk()
    weights = [w for w in (*model.parameters(), *objective.parameters()) if w.requires_grad]
    optimiser = torch.optim.Adam(weights, lr=3e-3)
    seen = []
    for _ in range(25):
        torch.manual_seed(2)  # the same segments are hidden, the same negatives drawn
        losses = objective(model, **batch)
        optimiser.zero_grad()
        losses.total.backward()
        assert losses.order_BK is None and losses.total in losses.parts.values()
        assert model.speaker.embed.weight.grad is not None and model.speaker.embed.weight.grad.norm() > 0
        assert all(w.grad is None or torch.isfinite(w.grad).all() for w in weights)
        optimiser.step()
        seen.append(float(losses.total.detach()))
    assert seen[-1] < 0.9 * seen[0]


@pytest.mark.parametrize("name", ["supcon", "ge2e", "neighbours", "cpc", "masked"])
def test_labels_are_seen_only_by_those_that_say_so(model: SeparativeEncoder, name: str) -> None:
    batch = talk()
    torch.manual_seed(2)
    before = build(name)(model, **batch).total
    batch["identity_BC"] = batch["identity_BC"].flip(0)
    if name in ("neighbours", "cpc", "masked"):
        batch["group_B"] = batch["group_B"].flip(0)
    torch.manual_seed(2)
    assert torch.equal(build(name)(model, **batch).total, before)


@pytest.mark.parametrize(("name", "margin"), [("softmax", 0.0), ("aam", 0.2)])
def test_every_audible_speaker_is_a_class(model: SeparativeEncoder, name: str, margin: float) -> None:
    objective, batch = build(name, scale=16.0), talk()
    batch["source_BCN"][0, 1] *= 0.01  # inaudible
    batch["identity_BC"][1, 1] = -1  # unlabelled
    unit_PE = F.normalize(objective.inventory.row_PE, dim=-1)
    expected = []
    for b, embed_E in enumerate(embeddings(model, batch["mix_BN"])):
        for c, identity in enumerate(batch["identity_BC"][b].tolist()):
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


def test_supervised_contrastive_by_hand(model: SeparativeEncoder) -> None:
    batch = talk()
    batch["identity_BC"][2, 1] = batch["identity_BC"][0, 1]  # groups 0 and 1 share an interferer here
    embed = embeddings(model, batch["mix_BN"])
    group = batch["group_B"].tolist()
    terms = []
    for i in range(6):
        rest = [j for j in range(6) if j != i and {i, j} != {0, 2}]
        below = torch.stack([embed[i] @ embed[j] / 0.1 for j in rest]).logsumexp(0)
        terms += [below - embed[i] @ embed[j] / 0.1 for j in rest if group[j] == group[i]]
    total = build("supcon")(model, **batch).total
    assert total.item() == pytest.approx(torch.stack(terms).mean().item(), abs=SAME)


def test_ge2e_leaves_a_view_out_of_its_own_centroid(model: SeparativeEncoder) -> None:
    batch = talk(groups=3, views=3)
    embed = embeddings(model, batch["mix_BN"])
    terms = []
    for i in range(9):
        logits = []
        for target in range(3):
            members = [j for j in range(9) if j // 3 == target and j != i]
            logits.append(10 * F.cosine_similarity(embed[i], embed[members].mean(0), dim=0))
        terms.append(torch.stack(logits).logsumexp(0) - logits[i // 3])
    total = build("ge2e")(model, **batch).total
    assert total.item() == pytest.approx(torch.stack(terms).mean().item(), abs=SAME)


def test_neighbours_by_hand(model: SeparativeEncoder) -> None:
    batch = talk()
    halves = batch["mix_BN"].unflatten(1, (2, -1)).transpose(0, 1).flatten(0, 1)
    embed = embeddings(model, halves)
    terms = []
    for i in range(12):
        logits = {j: embed[i] @ embed[j] / 0.1 for j in range(12) if j != i}
        terms.append(torch.stack(list(logits.values())).logsumexp(0) - logits[(i + 6) % 12])
    total = build("neighbours")(model, **batch).total
    assert total.item() == pytest.approx(torch.stack(terms).mean().item(), abs=SAME)


def test_the_past_predicts_the_future_among_drawn_negatives(model: SeparativeEncoder) -> None:
    """Predictions that know nothing: the loss is ln(1 + negatives), whatever was drawn."""
    objective = build("cpc", negatives=15)
    torch.nn.init.zeros_(objective.predict.weight)
    torch.nn.init.zeros_(objective.predict.bias)
    assert objective(model, **talk()).total.item() == pytest.approx(math.log(16), abs=SAME)


def test_what_is_hidden_is_not_heard(model: SeparativeEncoder) -> None:
    """The restored spectra are those of the hidden segments; what was there changes no guess."""
    objective, batch = build("masked", share=0.5), talk()
    heard: list[Tensor] = []
    model.register_forward_pre_hook(lambda _, inputs: heard.append(inputs[0]))
    torch.manual_seed(3)
    objective(model, **batch)
    torch.manual_seed(3)
    hidden_BS = objective._hide(6, model.segments(SAMPLES), torch.device("cpu"))
    assert 0.2 < hidden_BS.float().mean() <= 0.5
    assert (hidden_BS.sum(1) >= 4).all()
    power_BS = model.segment_power(heard[0].unsqueeze(1))[:, 0]
    assert ((power_BS == 0) == hidden_BS).all()
    cut = model.from_segments(model.segment_waves(batch["mix_BN"].unsqueeze(1))[:, 0], SAMPLES)
    assert torch.equal(cut, batch["mix_BN"])


def test_sampled_negatives_stand_in_for_the_inventory() -> None:
    torch.manual_seed(0)
    inventory, embed, label = Inventory(50, 8), F.normalize(torch.randn(6, 8), dim=-1), torch.arange(6)
    exact = csc_loss(inventory, embed, label)
    assert torch.allclose(csc_loss(inventory, embed, label, negatives=50), exact, atol=1e-5)
    # The true row is always among them, so that fewer rows can only lower the loss.
    assert (csc_loss(inventory, embed, label, negatives=5) < exact).all()


def test_a_user_adds_an_objective(model: SeparativeEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("separative.objectives.registry.OBJECTIVES", dict(OBJECTIVES))

    class Config(ObjectiveConfig):
        objective: Literal["tight"]

    class Tight(OneEmbedding):
        def __init__(self, config: Config, identities: int, embedding: int) -> None:
            super().__init__()

        def forward(self, model: SeparativeEncoder, **batch: Tensor) -> Losses:
            return mean_of("tight", self.embed(model, batch["mix_BN"]).var(0))

    register_objective("tight", Config, Tight)
    assert build("tight")(model, **talk()).total > 0
    with pytest.raises(SeparativeError, match="'tight' is there already"):
        register_objective("tight", Config, Tight)
    with pytest.raises(SeparativeError, match=r"objective 'tigth'.*tight"):
        objective_config({"objective": "tigth"})
