"""Baselines with a slow copy of the network: by hand, and what the copy and its memory hold."""

import copy
import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from separative.model import EncoderConfig, SeparativeEncoder
from separative.objectives import Objective, build_objective, objective_config

RATE, SAMPLES, E, SAME = 8000, 8000, 8, 1e-4
GROUPS = torch.tensor([0, 0, 0, 1, 1, 1])


@pytest.fixture
def model() -> SeparativeEncoder:
    torch.manual_seed(0)
    size = {"width": 8, "heads": 2, "shared_blocks": 1, "stream_blocks": 1, "speaker_width": 8}
    small = EncoderConfig(
        rate=RATE, streams=1, speaker_blocks=1, embedding=E, mels=16, cross_attention=False, **size
    )
    return SeparativeEncoder(small).eval()


def build(model: SeparativeEncoder, name: str, **keys: float) -> Objective:
    torch.manual_seed(1)
    section = {"objective": name, **keys}
    objective = build_objective(objective_config(section).model_validate(section), 9, E)
    objective.prepare(model)
    # Like the model: mixtures must not depend on each other.
    return objective.eval()


def make_batch(seed: int = 0) -> dict[str, Tensor]:
    source = 0.1 * torch.randn(6, 2, SAMPLES, generator=torch.Generator().manual_seed(seed))
    identities = torch.stack([GROUPS, torch.arange(6) + 2], 1)
    return {"mixtures": source.sum(1), "sources": source, "identities": identities, "groups": GROUPS}


def embeddings(model: SeparativeEncoder, mix_BN: Tensor) -> list[Tensor]:
    return [model(mix_N[None], separate=False).query_BCE[0, 0] for mix_N in mix_BN]


def test_slow_network_follows_the_formula_and_has_no_gradient(model: SeparativeEncoder) -> None:
    objective, batch = build(model, "moco", momentum=0.5), make_batch()
    weight = model.enter.weight
    expected = None
    for step in range(4):
        decay = min(0.5, step / (step + 10))
        expected = weight.clone() if expected is None else decay * expected + (1 - decay) * weight
        objective(model, **batch).total.backward()
        torch.testing.assert_close(objective.slow.enter.weight, expected)
        with torch.no_grad():
            weight += 0.1
    assert all(w.grad is None for w in objective.parameters())
    assert weight.grad.abs().max() > 0
    assert {"slow.enter.weight", "queue_QE", "updates"} <= objective.state_dict().keys()


def test_moco_finds_the_next_view_among_past_embeddings(model: SeparativeEncoder) -> None:
    objective = build(model, "moco", queue=8, temperature=0.2)
    first, second = make_batch(0), make_batch(1)
    objective(model, **first)
    queue = [*embeddings(model, first["mixtures"]), *objective.queue_QE[6:].clone()]
    # The queue holds the first batch; the slow network is still equal to the model.
    assert torch.allclose(objective.queue_QE, torch.stack(queue), atol=SAME)
    embed = embeddings(model, second["mixtures"])
    terms = []
    for i in range(6):
        following = 3 * (i // 3) + (i + 1) % 3
        logits = torch.stack([embed[i] @ key / 0.2 for key in (embed[following], *queue)])
        terms.append(logits.logsumexp(0) - logits[0])
    total = objective(model, **second).total
    assert total.item() == pytest.approx(torch.stack(terms).mean().item(), abs=SAME)
    # The newest embeddings replace the oldest places: the last two, then the first four.
    assert torch.allclose(objective.queue_QE[[6, 7, 0, 1, 2, 3]], torch.stack(embed), atol=SAME)


def test_dino_predicts_the_class_of_every_other_view(model: SeparativeEncoder) -> None:
    objective = build(model, "dino", prototypes=5, hidden=8, slow_temperature=0.2)
    centre = 0.1 * torch.arange(5.0)
    objective.centre_K = centre.clone()
    batch, half = make_batch(), SAMPLES // 2
    slow = [objective.head(e) for e in embeddings(model, batch["mixtures"])]
    crops = [batch["mixtures"], batch["mixtures"][:, :half], batch["mixtures"][:, half:]]
    student = [[objective.head(e) / 0.1 for e in embeddings(model, crop)] for crop in crops]
    terms = []
    for u in range(6):
        p = ((slow[u] - centre) / 0.2).softmax(0)
        for v in (v for v in range(6) if v != u and v // 3 == u // 3):
            terms += [-(p * views[v].log_softmax(0)).sum() for views in student]
    total = objective(model, **batch).total
    assert total.item() == pytest.approx(torch.stack(terms).mean().item(), abs=SAME)
    expected = 0.9 * centre + 0.1 * torch.stack(slow).mean(0)
    assert torch.allclose(objective.centre_K, expected, atol=SAME)


def test_dino_costs_the_entropy_of_classes_if_all_embeddings_are_equal(model: SeparativeEncoder) -> None:
    """With equal prototypes nothing can be predicted: the loss is ln of their number."""
    objective = build(model, "dino", prototypes=7)
    for head in (objective.head, objective.slow_head):
        head.prototype_KH.data.copy_(F.normalize(torch.ones(7, 256), dim=-1))
    assert objective(model, **make_batch()).total.item() == pytest.approx(math.log(7), abs=SAME)


@pytest.mark.parametrize(("name", "keys"), [("moco", {}), ("dino", {"prototypes": 32})])
def test_a_few_steps_lower_the_loss_if_the_targets_are_fixed(
    model: SeparativeEncoder, name: str, keys: dict[str, float]
) -> None:
    objective, batch = build(model, name, momentum=0.999, **keys), make_batch()
    objective.updates.fill_(10**6)
    fixed = {
        key: value.clone() for key, value in objective.state_dict().items() if not key.startswith("head.")
    }
    weights = [w for w in (*model.parameters(), *objective.parameters()) if w.requires_grad]
    optimiser = torch.optim.Adam(weights, lr=3e-3)
    totals = []
    for _ in range(25):
        objective.load_state_dict(fixed, strict=False)
        total = objective(model, **batch).total
        optimiser.zero_grad()
        total.backward()
        assert model.speaker.embed.weight.grad.norm() > 0
        optimiser.step()
        totals.append(float(total.detach()))
    assert totals[-1] < 0.9 * totals[0]


@pytest.mark.parametrize("name", ["moco", "dino"])
def test_restored_objective_continues_equally(model: SeparativeEncoder, name: str) -> None:
    objective, batch = build(model, name), make_batch()
    objective(model, **batch)
    other = build(copy.deepcopy(model), name)
    other.load_state_dict(objective.state_dict())
    assert torch.equal(other(model, **make_batch(1)).total, objective(model, **make_batch(1)).total)
