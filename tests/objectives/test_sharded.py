"""An inventory with rows in several processes has the losses and gradients of a single process."""

from pathlib import Path

import pytest
import torch
from lightning_fabric import Fabric
from torch.nn import functional as F

from separative.distributed import current_process_group, local_range, set_process_group
from separative.objectives.partition import cosines, log_partition, partition_terms

EXACT = 1e-10  # float64
P, E = 41, 6
# Number of embeddings in each process: unequal, and 0 in one of them.
COUNTS = (5, 0, 3)


def draw_inputs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    embed_RE = F.normalize(torch.randn(sum(COUNTS), E, generator=generator, dtype=torch.float64), dim=-1)
    row_PE = torch.randn(P, E, generator=generator, dtype=torch.float64)
    # Two embeddings share an identity; others have the first and last rows of the inventory.
    identity_R = torch.tensor([0, 40, 7, 7, 20, 13, 14, 27])
    return embed_RE, row_PE, torch.tensor(7.0, dtype=torch.float64), identity_R


def losses(embed_RE, row_PE, alpha, identity_R, weight_R, **sharing):
    others_R, cos_R = partition_terms(embed_RE, row_PE, alpha, identity_R, chunk=24, **sharing)
    behind_R = others_R - 2 * alpha * (cos_R - 1)
    loss_R = torch.logaddexp(behind_R, torch.zeros_like(behind_R))
    return loss_R, (loss_R * weight_R).sum()


def run_process(fabric: Fabric, folder: str) -> None:
    """Save the losses and gradients of one process."""
    torch.set_num_threads(1)
    set_process_group(fabric)
    processes = current_process_group()
    rank, world_size = processes.rank, processes.world_size
    embed_RE, row_PE, alpha, identity_R = draw_inputs()
    start = sum(COUNTS[:rank])
    own = slice(start, start + COUNTS[rank])
    rows = local_range(P, processes)
    inputs = [x.clone().requires_grad_() for x in (embed_RE[own], row_PE[rows.start : rows.stop], alpha)]
    weight_R = torch.linspace(0.5, 2, len(embed_RE), dtype=torch.float64)[own]
    sharing = {"processes": processes, "first": rows.start}
    loss_R, total = losses(*inputs, identity_R[own], weight_R, **sharing)
    # Gradients are those of the mean over processes, so multiply by their number to get those of the sum.
    (world_size * total).backward()
    gradients = [x.grad for x in inputs]
    embed, row = (x.detach() for x in inputs[:2])
    sums_R = log_partition(embed, row, alpha, chunk=24, processes=processes)
    cos_BCK = cosines(embed.unsqueeze(1), row, identity_R[own].unsqueeze(1), **sharing)
    torch.save([loss_R.detach(), *gradients, sums_R, cos_BCK], f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.filterwarnings("ignore")
def test_losses_and_gradients_equal_those_of_one_process(tmp_path: Path) -> None:
    world_size = len(COUNTS)
    Fabric(accelerator="cpu", devices=world_size, strategy="ddp_spawn").launch(run_process, str(tmp_path))
    parts = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(world_size)]
    embed_RE, row_PE, alpha, identity_R = draw_inputs()
    inputs = [x.clone().requires_grad_() for x in (embed_RE, row_PE, alpha)]
    weight_R = torch.linspace(0.5, 2, len(embed_RE), dtype=torch.float64)
    loss_R, total = losses(*inputs, identity_R, weight_R)
    total.backward()
    loss, embed_grad, row_grad, alpha_grad, sums, cos = zip(*parts, strict=True)
    torch.testing.assert_close(torch.cat(loss), loss_R.detach(), atol=EXACT, rtol=0)
    torch.testing.assert_close(torch.cat(row_grad), inputs[1].grad, atol=EXACT, rtol=0)
    # Gradients of embeddings are averaged later, with those of the network; until then they are world_size
    # times as large.
    torch.testing.assert_close(torch.cat(embed_grad), world_size * inputs[0].grad, atol=EXACT, rtol=0)
    expected_R = log_partition(embed_RE, row_PE, alpha, chunk=24)
    torch.testing.assert_close(torch.cat(sums), expected_R, atol=EXACT, rtol=0)
    expected_BCK = cosines(embed_RE.unsqueeze(1), row_PE, identity_R.unsqueeze(1))
    torch.testing.assert_close(torch.cat(cos), expected_BCK, atol=EXACT, rtol=0)
    # α is also used outside the sum, so the mean over processes of its gradients is the total gradient.
    torch.testing.assert_close(torch.stack(alpha_grad).mean(), inputs[2].grad, atol=EXACT, rtol=0)
