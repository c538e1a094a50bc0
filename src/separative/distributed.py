"""The processes that compute together: what each must know of the others (torch.distributed).

What is the same with one process and with many is written against :class:`Processes`; one process alone
(:data:`ALONE`) needs no communication and no launcher.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


class Processes:
    """One process, alone: nothing to join, nothing to add up."""

    rank, world = 0, 1

    def total(self, x: Tensor) -> Tensor:
        """The sum over all processes, without gradient."""
        return x

    def highest(self, x: Tensor) -> Tensor:
        """The maximum over all processes, without gradient."""
        return x

    def join(self, x_R: Tensor) -> tuple[Tensor, slice]:
        """The rows of all processes in the order of their processes, and where one's own are; no gradient."""
        return x_R, slice(None)

    def agree(self, first: list[float], anyone: bool) -> tuple[list[float], bool]:
        """What the first process says, and whether any says so."""
        return first, anyone

    def wait(self) -> None:
        """Go on when all processes have come here."""


ALONE = Processes()


class Together(Processes):
    """The processes of torch.distributed's default group, which must be there."""

    def __init__(self) -> None:
        from torch import distributed

        self.rank, self.world = distributed.get_rank(), distributed.get_world_size()

    def total(self, x: Tensor) -> Tensor:
        from torch import distributed

        x = x.detach().clone()
        distributed.all_reduce(x)
        return x

    def highest(self, x: Tensor) -> Tensor:
        from torch import distributed

        x = x.detach().clone()
        distributed.all_reduce(x, distributed.ReduceOp.MAX)
        return x

    def join(self, x_R: Tensor) -> tuple[Tensor, slice]:
        import torch
        from torch import distributed

        count = torch.zeros(self.world, dtype=torch.int64, device=x_R.device)
        count[self.rank] = len(x_R)
        counts = self.total(count).tolist()
        # Collectives want tensors of one shape: all are as long as the longest.
        padded = x_R.new_zeros((max(*counts, 1), *x_R.shape[1:]))
        padded[: len(x_R)] = x_R.detach()
        parts = [torch.empty_like(padded) for _ in counts]
        distributed.all_gather(parts, padded)
        start = sum(counts[: self.rank])
        joined = torch.cat([part[:n] for part, n in zip(parts, counts, strict=True)])
        return joined, slice(start, start + len(x_R))

    def agree(self, first: list[float], anyone: bool) -> tuple[list[float], bool]:
        import torch

        said = torch.tensor(
            [*(first if self.rank == 0 else [0.0] * len(first)), float(anyone)], dtype=torch.float64
        )
        *values, count = self.total(said).tolist()
        return values, count > 0

    def wait(self) -> None:
        from torch import distributed

        distributed.barrier()


def current() -> Processes:
    """The processes of a launched job, or this one alone."""
    from torch import distributed

    together = distributed.is_available() and distributed.is_initialized()
    return Together() if together and distributed.get_world_size() > 1 else ALONE


def share_of(count: int, processes: Processes) -> range:
    """Which of ``count`` things are this process's: consecutive ones, as evenly as can be."""
    return range(count * processes.rank // processes.world, count * (processes.rank + 1) // processes.world)
