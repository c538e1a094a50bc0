"""An inventory whose rows lie in several processes: losses and gradients are those of one process."""

from pathlib import Path

import pytest
import torch
from torch import multiprocessing
from torch.nn import functional as F

from separative.distributed import ALONE, Together, share_of
from separative.objectives.partition import cosines, log_partition, partition

EXACT = 1e-10  # float64
P, E = 41, 6
# Embeddings in each process: not alike, and none in one of them.
COUNTS = (5, 0, 3)


def drawn() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    made = torch.Generator().manual_seed(0)
    embed_RE = F.normalize(torch.randn(sum(COUNTS), E, generator=made, dtype=torch.float64), dim=-1)
    row_PE = torch.randn(P, E, generator=made, dtype=torch.float64)
    # Two with one identity, others at both ends of the inventory.
    return (
        embed_RE,
        row_PE,
        torch.tensor(7.0, dtype=torch.float64),
        torch.tensor([0, 40, 7, 7, 20, 13, 14, 27]),
    )


def losses(embed_RE, row_PE, alpha, identity_R, weight_R, **sharing):
    others_R, cos_R = partition(embed_RE, row_PE, alpha, identity_R, at_once=24, **sharing)
    behind_R = others_R - 2 * alpha * (cos_R - 1)
    loss_R = torch.logaddexp(behind_R, torch.zeros_like(behind_R))
    return loss_R, (loss_R * weight_R).sum()


def work(rank: int, world: int, folder: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"file://{folder}/meet", rank=rank, world_size=world)
    processes = Together()
    embed_RE, row_PE, alpha, identity_R = drawn()
    start = sum(COUNTS[:rank])
    # The last process has the rest.
    own = slice(start, start + COUNTS[rank] if rank < world - 1 else None)
    rows = share_of(P, processes)
    mine = [x.clone().requires_grad_() for x in (embed_RE[own], row_PE[rows.start : rows.stop], alpha)]
    weight_R = torch.linspace(0.5, 2, len(embed_RE), dtype=torch.float64)[own]
    sharing = {"processes": processes, "first": rows.start}
    loss_R, total = losses(*mine, identity_R[own], weight_R, **sharing)
    # Whoever averages over processes afterwards wants each to have the sum times their number.
    (world * total).backward()
    gradients = [x.grad for x in mine]
    sums_R = log_partition(mine[0].detach(), mine[1].detach(), alpha, at_once=24, processes=processes)
    label_BK = identity_R[own].unsqueeze(1)
    cos_BCK = cosines(mine[0].detach().unsqueeze(1), mine[1].detach(), label_BK, **sharing)
    torch.save([loss_R.detach(), *gradients, sums_R, cos_BCK], f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("world", [2, 3])
def test_losses_and_gradients_are_those_of_one_process(world: int, tmp_path: Path) -> None:
    multiprocessing.spawn(work, (world, str(tmp_path)), nprocs=world)
    parts = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(world)]
    embed_RE, row_PE, alpha, identity_R = drawn()
    whole = [x.clone().requires_grad_() for x in (embed_RE, row_PE, alpha)]
    weight_R = torch.linspace(0.5, 2, len(embed_RE), dtype=torch.float64)
    loss_R, total = losses(*whole, identity_R, weight_R)
    total.backward()
    loss, embed, row, precision, sums, cos = zip(*parts, strict=True)
    torch.testing.assert_close(torch.cat(loss), loss_R.detach(), atol=EXACT, rtol=0)
    torch.testing.assert_close(torch.cat(row), whole[1].grad, atol=EXACT, rtol=0)
    # Embeddings are averaged with the network's gradients, so each process has its own times their number.
    torch.testing.assert_close(torch.cat(embed), world * whole[0].grad, atol=EXACT, rtol=0)
    torch.testing.assert_close(
        torch.cat(sums), log_partition(embed_RE, row_PE, alpha, at_once=24), atol=EXACT, rtol=0
    )
    wanted = cosines(embed_RE.unsqueeze(1), row_PE, identity_R.unsqueeze(1), processes=ALONE)
    torch.testing.assert_close(torch.cat(cos), wanted, atol=EXACT, rtol=0)
    # α is used beside the sum too: the mean over processes of what each found is the whole.
    torch.testing.assert_close(torch.stack(precision).mean(), whole[2].grad, atol=EXACT, rtol=0)
