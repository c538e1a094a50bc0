"""The term of presence: global vectors come from other views only, and the loss equals a plain loop."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from separative.model import EncoderConfig, EncoderOutput, SeparativeEncoder
from separative.objectives import (
    PresenceConfig,
    PresenceLossConfig,
    PresenceTerm,
    SeparativeObjective,
    TeachConfig,
    TeachObjective,
)

E, S, SAME = 8, 5, 1e-5
GROUPS = torch.tensor([0, 0, 0, 1, 1, 1, 2, 2, 2])
TARGETS = torch.tensor([3, 3, 3, 5, 5, 5, 3, 3, 3])  # groups 0 and 2 have the same recording


def make_model() -> SeparativeEncoder:
    torch.manual_seed(0)
    sizes = {"width": 8, "heads": 2, "shared_blocks": 1, "stream_blocks": 1, "speaker_width": 8, "mels": 16}
    model = SeparativeEncoder(EncoderConfig(rate=8000, speaker_blocks=1, embedding=E, **sizes)).eval()
    torch.nn.init.normal_(model.cross.out.weight)
    return model


@pytest.fixture(scope="module")
def model() -> SeparativeEncoder:
    return make_model()


def make_output(rows: int = 9, seed: int = 1) -> EncoderOutput:
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    query = F.normalize(draw(rows, 2, E), dim=-1)
    valid = torch.ones(rows, S)
    return EncoderOutput(
        draw(rows, 2, 10), draw(rows, 2, S, E), draw(rows, 2, S), valid, query, query, draw(rows, S)
    )


def make_labels(groups: Tensor = GROUPS, targets: Tensor = TARGETS) -> dict[str, Tensor]:
    """Streams in the order of the sources; every second interferer is unlabelled, the last is inaudible."""
    rows = len(groups)
    audible = torch.ones(rows, 2, dtype=torch.bool)
    audible[-1, 1] = False
    interferer = torch.where(torch.arange(rows) % 2 == 0, torch.arange(rows) + 10, -1)
    order = torch.tensor([[0, 1], [1, 0], [0, 1]]).repeat(rows // 3 + 1, 1)[:rows]
    return {
        "order": order,
        "audible": audible,
        "identities": torch.stack([targets, interferer], 1),
        "groups": groups,
    }


def build(queue: list[tuple[Tensor, int]] = [], **keys: Any) -> PresenceTerm:  # noqa: B006
    term = PresenceTerm(PresenceConfig(queue=len(queue), alpha=3.0, **keys), E)
    for place, (vector, identity) in enumerate(queue):
        term.queue_QE[place], term.identity_Q[place] = vector, identity
    return term


def attend_by_loop(
    model: SeparativeEncoder, output: EncoderOutput, query_E: Tensor, views: list[int], residual: bool
) -> Tensor:
    cross = model.cross
    memory = [output.segment_BCSE[v, c, s] for v in views for c in range(2) for s in range(S)]
    bias = [
        math.log(1 / (1 + math.exp(-output.activity_BCS[v, c, s].item())))
        for v in views
        for c in range(2)
        for s in range(S)
    ]
    key_ME, value_ME = cross.key_value(cross.memory_norm(torch.stack(memory))).chunk(2, dim=-1)
    q_E = cross.query(cross.norm(query_E))
    found = []
    for part in torch.arange(E).chunk(2):
        logits = key_ME[:, part] @ q_E[part] / math.sqrt(E // 2) + torch.tensor(bias)
        found.append(logits.softmax(0) @ value_ME[:, part])
    x_E = cross.out(torch.cat(found))
    return F.normalize(query_E + x_E if residual else x_E, dim=0)


def loss_by_loop(
    model: SeparativeEncoder, output: EncoderOutput, labels: dict[str, Tensor], **keys: Any
) -> float:
    """The loss of the queries, by its definition."""
    queue, interferers_only = keys.get("queue", []), keys.get("contrast") == "interferers"
    order, identity = labels["order"].tolist(), labels["identities"].tolist()
    rows, group = range(len(order)), labels["groups"].tolist()
    query = [[output.query_BCE[b, order[b][k]] for k in range(2)] for b in rows]
    views = {b: [v for v in rows if group[v] == group[b] and v != b and identity[v][0] >= 0] for b in rows}
    used = [b for b in rows if identity[b][0] >= 0 and labels["audible"][b, 0] and views[b]]
    residual = keys.get("residual", False)
    glob = {}
    for b in used:
        mean = F.normalize(sum(query[v][0] for v in views[b]), dim=0)
        glob[b] = attend_by_loop(model, output, mean if residual else query[b][0], views[b], residual)

    def f(x: Tensor, y: Tensor) -> float:
        return -3.0 * float((x - y).detach().square().sum())

    terms = []
    for b in used:
        others = [] if interferers_only else [u for u in used if identity[u][0] != identity[b][0]]
        interferers = [query[v][1] for v in rows if group[v] == group[b] and labels["audible"][v, 1]]
        past = [vector for vector, name in queue if name not in (identity[b][0], -1)]
        for anchor, true, keys_ in (
            (query[b][0], glob[b], [*(glob[u] for u in others), *past]),
            (glob[b], query[b][0], [query[u][0] for u in others]),
        ):
            logits = torch.tensor([f(anchor, x) for x in [true, *keys_, *interferers]], dtype=torch.float64)
            terms.append(logits.logsumexp(0) - logits[0])
    return float(sum(terms)) / max(1, len(used))


@pytest.mark.parametrize(
    "keys", [{}, {"residual": True}, {"contrast": "interferers"}, {"queue": True}, {"lost": True}]
)
def test_loss_equals_a_plain_loop(model: SeparativeEncoder, keys: dict[str, Any]) -> None:
    output, labels, keys = make_output(), make_labels(), dict(keys)
    if keys.pop("lost", False):
        # A view without a speaker, and an inaudible target.
        labels["identities"][1], labels["audible"][4, 0] = -1, False
    if keys.pop("queue", False):
        vectors = F.normalize(torch.randn(4, E, generator=torch.Generator().manual_seed(5)), dim=-1)
        keys["queue"] = list(zip(vectors, [5, 3, -1, 8], strict=True))
    total, parts = build(attended=False, **keys)(model, output, **labels)
    expected = loss_by_loop(model, output, labels, **keys)
    assert total.item() == pytest.approx(expected, abs=SAME)
    assert float(parts["presence_query"] + parts["presence_query_back"]) == pytest.approx(expected, abs=SAME)


@pytest.mark.parametrize("views", [2, 4, 8])
def test_order_of_views_and_streams_does_not_change_the_loss(model: SeparativeEncoder, views: int) -> None:
    rows = 2 * views
    groups = torch.arange(2).repeat_interleave(views)
    output, labels = make_output(rows), make_labels(groups, groups)
    before, _ = build()(model, output, **labels)
    moved = torch.cat([torch.randperm(views), views + torch.randperm(views)])
    output = EncoderOutput(*(x[moved] for x in output))
    labels = {name: x[moved] for name, x in labels.items()}
    flipped = {
        name: getattr(output, name).flip(1)
        for name in ("estimate_BCN", "segment_BCSE", "activity_BCS", "query_BCE", "attended_BCE")
    }
    labels["order"] = 1 - labels["order"]
    after, _ = build()(model, output._replace(**flipped), **labels)
    assert after.item() == pytest.approx(before.item(), abs=SAME)


def test_a_global_vector_holds_nothing_of_its_own_view(model: SeparativeEncoder) -> None:
    output = make_output(3)
    segment = output.segment_BCSE.clone().requires_grad_()
    activity = output.activity_BCS.clone().requires_grad_()
    reach = ~torch.eye(3, dtype=torch.bool)

    def attend(segment: Tensor, activity: Tensor) -> Tensor:
        changed = output._replace(segment_BCSE=segment, activity_BCS=activity)
        return build()._attend(model, changed, output.query_BCE[:, 0], reach, residual=False)

    found = attend(segment, activity)
    found[0].square().mul(torch.arange(1.0, E + 1)).sum().backward()
    for x in (segment, activity):
        assert x.grad[0].abs().max() == 0 and x.grad[1:].abs().max() > 0
    other = output.segment_BCSE.clone()
    other[0] = torch.randn(2, S, E, generator=torch.Generator().manual_seed(9))
    changed = attend(other, output.activity_BCS)
    torch.testing.assert_close(changed[0], found[0], atol=1e-6, rtol=0)
    assert not torch.allclose(changed[1], found[1])
    # In the whole loss: of two views, each gives the other its global vector and nothing to itself.
    two = make_labels(torch.zeros(2, dtype=torch.long), torch.full((2,), 4))
    two["audible"][0, 0] = False  # only the second view is an anchor
    output = make_output(2)
    segment = output.segment_BCSE.clone().requires_grad_()
    total, _ = build(attended=False)(model, output._replace(segment_BCSE=segment), **two)
    total.backward()
    assert segment.grad[1].abs().max() == 0 and segment.grad[0].abs().max() > 0


def test_own_views_and_residual_are_switches(model: SeparativeEncoder) -> None:
    output, labels = make_output(), make_labels()
    totals = {
        name: build(**keys)(model, output, **labels)[0].item()
        for name, keys in {"plain": {}, "own": {"own_view": 1.0}, "residual": {"residual": True}}.items()
    }
    assert len({round(total, 4) for total in totals.values()}) == 3


def test_without_attention_the_global_vector_is_the_mean_query_of_the_other_views(
    model: SeparativeEncoder,
) -> None:
    output, labels = make_output(), make_labels()
    query = torch.stack([output.query_BCE[b, c] for b, c in enumerate(labels["order"][:, 0])])
    vectors = [
        F.normalize(query[[v for v in range(9) if v // 3 == b // 3 and v != b]].mean(0), dim=0)
        for b in range(9)
    ]
    term = PresenceTerm(PresenceConfig(queue=3, attention=False, attended=False), E)
    term(model, output, **labels)
    torch.testing.assert_close(term.queue_QE, torch.stack(vectors)[[0, 3, 6]], atol=SAME, rtol=0)


def test_a_group_of_one_view_contributes_nothing(model: SeparativeEncoder) -> None:
    output, labels = make_output(), make_labels(torch.arange(9), torch.arange(9))
    query = output.query_BCE.clone().requires_grad_()
    total, parts = build()(model, output._replace(query_BCE=query), **labels)
    total.backward()
    assert total == 0 and query.grad.abs().max() == 0
    assert all(torch.isfinite(value) and value == 0 for value in parts.values())


def test_mixtures_without_a_speaker_contribute_nothing(model: SeparativeEncoder) -> None:
    """A third view without a speaker changes neither the loss nor the memory of the others."""
    output, labels = make_output(), make_labels()
    empty = torch.tensor([2, 5, 8])
    labels["identities"][empty], labels["audible"][empty] = -1, False
    keep = torch.tensor([0, 1, 3, 4, 6, 7])
    total, _ = build()(model, output, **labels)
    expected, _ = build()(
        model, EncoderOutput(*(x[keep] for x in output)), **{name: x[keep] for name, x in labels.items()}
    )
    assert total.item() == pytest.approx(expected.item(), abs=SAME)


def make_speakers(
    groups: int, seed: int, *, target_in_memory: bool
) -> tuple[EncoderOutput, dict[str, Tensor]]:
    """Two views a group. Queries and segments are speakers' vectors plus noise; every interferer is new."""
    generator = torch.Generator().manual_seed(seed)
    rows = 2 * groups
    speaker = F.normalize(torch.randn(groups, E, generator=generator), dim=-1).repeat_interleave(2, 0)
    voices = torch.stack([speaker, F.normalize(torch.randn(rows, E, generator=generator), dim=-1)], 1)
    query = F.normalize(voices + 0.1 * torch.randn(rows, 2, E, generator=generator), dim=-1)
    spoken = voices
    if not target_in_memory:
        spoken = F.normalize(torch.randn(rows, 2, E, generator=generator), dim=-1)
    segment = spoken.unsqueeze(2) + 0.1 * torch.randn(rows, 2, S, E, generator=generator)
    active, valid = torch.full((rows, 2, S), 4.0), torch.ones(rows, S)
    output = EncoderOutput(query, segment, active, valid, query, query, valid)
    group = torch.arange(groups).repeat_interleave(2)
    labels = {
        "order": torch.tensor([0, 1]).expand(rows, 2),
        "audible": torch.ones(rows, 2, dtype=torch.bool),
        "identities": torch.stack([group, torch.arange(rows) + groups], 1),
        "groups": group,
    }
    return output, labels


def test_loss_is_at_least_ln_of_keys_where_other_views_lack_the_target() -> None:
    """The bound on the information is not positive then; with the target it becomes positive by training."""
    model = make_model()
    term = build(attended=False)
    bounds = [
        term(model, *_split(make_speakers(16, seed, target_in_memory=False)))[1]["presence_bound"]
        for seed in range(30)
    ]
    assert torch.stack(bounds).mean() < 0.02
    weights = [*model.cross.parameters(), *term.parameters()]
    optimiser = torch.optim.Adam(weights, lr=1e-2)
    for seed in range(100, 250):
        total, _ = term(model, *_split(make_speakers(16, seed, target_in_memory=True)))
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
    output, labels = make_speakers(16, 1000, target_in_memory=True)
    assert term(model, output, **labels)[1]["presence_bound"] > 1.0


def _split(made: tuple[EncoderOutput, dict[str, Tensor]]) -> tuple[Any, ...]:
    output, labels = made
    return output, labels["order"], labels["audible"], labels["identities"], labels["groups"]


def test_queue_holds_the_newest_global_vectors_and_their_identities(model: SeparativeEncoder) -> None:
    term = PresenceTerm(PresenceConfig(queue=4), E)
    labels = make_labels()
    for seed, targets in enumerate(([3, 5, 7], [8, 9, 10])):
        labels["identities"][:, 0] = torch.tensor(targets).repeat_interleave(3)
        term(model, make_output(seed=seed), **labels)
    # One vector of each group, and the oldest two of six are replaced.
    assert sorted(term.identity_Q.tolist()) == [7, 8, 9, 10]
    assert torch.allclose(term.queue_QE.norm(dim=1), torch.ones(4), atol=SAME)
    before = term.queue_QE.clone()
    term.eval()(model, make_output(), **labels)
    assert torch.equal(term.queue_QE, before)


def test_objective_without_inventory_is_separation_and_presence() -> None:
    model = make_model()
    objective = SeparativeObjective(PresenceLossConfig(separation=0.5, activity=0.3), 7, E)
    assert objective.inventory is None
    model.cross.out.weight.data.zero_()
    objective.prepare(model)
    assert model.cross.out.weight.abs().max() > 0
    source = 0.1 * torch.randn(4, 2, 8000, generator=torch.Generator().manual_seed(0))
    identity = torch.tensor([[0, 1], [0, 2], [3, 4], [3, -1]])
    losses = objective(model, source.sum(1), source, identity, torch.tensor([0, 0, 1, 1]))
    parts = losses.parts
    expected = 0.05 * parts["separation_db"] + 0.3 * parts["activity"]
    for name in ("presence_query", "presence_attended"):
        expected = expected + parts[name] + parts[f"{name}_back"]
    assert losses.total.item() == pytest.approx(expected.item(), abs=1e-4)
    losses.total.backward()
    assert all(torch.isfinite(w.grad).all() for w in model.parameters() if w.grad is not None)


def test_identities_beyond_the_inventory_have_no_row_but_are_present() -> None:
    model = make_model()
    source = 0.1 * torch.randn(4, 2, 8000, generator=torch.Generator().manual_seed(0))
    groups = torch.tensor([0, 0, 1, 1])
    config = PresenceLossConfig(csc=0.5)
    known = torch.tensor([[0, 1], [0, 2], [9, 4], [9, 5]])  # the inventory has rows 0 to 6
    parts = SeparativeObjective(config, 7, E)(model, source.sum(1), source, known, groups).parts
    assert torch.isfinite(parts["csc_query"]) and parts["presence_query"] > 0
    torch.manual_seed(1)
    objective = SeparativeObjective(config, 7, E)
    with_row = objective(model, source.sum(1), source, known, groups).parts["csc_query"]
    without = torch.tensor([[0, 1], [0, 2], [-1, 4], [-1, 5]])
    expected = objective(model, source.sum(1), source, without, groups).parts["csc_query"]
    assert with_row.item() == pytest.approx(expected.item(), abs=SAME)


def test_labels_a_teacher_and_presence_are_one_objective() -> None:
    model = make_model()
    source = 0.1 * torch.randn(4, 2, 8000, generator=torch.Generator().manual_seed(0))
    known, groups = torch.tensor([[0, 1], [0, 2], [3, 4], [3, 5]]), torch.tensor([0, 0, 1, 1])
    targets = F.normalize(torch.randn(4, 2, E, generator=torch.Generator().manual_seed(2)), dim=-1)
    totals = []
    for presence in (None, {"weight": 0.3}):
        torch.manual_seed(1)
        objective = TeachObjective(TeachConfig(own_drop=0.0, presence=presence), 7, E)
        objective.set_teacher(F.normalize(torch.eye(E), dim=-1))
        losses = objective(model, source.sum(1), source, known, groups, targets)
        totals.append(losses.total.item())
    parts = [value.item() for name, value in losses.parts.items() if name.startswith("presence")]
    assert {"csc_query", "teach_cos_query", "presence_query"} <= losses.parts.keys()
    found = sum(parts) - losses.parts["presence_bound"].item()
    assert totals[1] - totals[0] == pytest.approx(0.3 * found, abs=1e-4)
