"""Collective operations between the processes of a training run, built on Lightning Fabric.

Code that runs the same with one process and with many takes a :class:`ProcessGroup`. A single process
(:data:`SINGLE_PROCESS`) needs no communication and no launcher.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from lightning_fabric import Fabric
    from torch import Tensor

# Gloo names one of its source files at the beginning of its errors.
_GLOO = re.compile(r"\[[^\]]*[/\\]gloo[/\\]")


class ProcessGroup:
    """A group of processes that train together; this base class is a group of one.

    Every process of the group must call the same methods in the same order. No method has a gradient.

    Attributes:
        rank: number of this process, from 0.
        world_size: number of processes.

    >>> group = ProcessGroup()
    >>> group.rank, group.world_size
    (0, 1)
    >>> group.agree([0.5, 3.0], False)
    ([0.5, 3.0], False)
    """

    rank = 0
    world_size = 1

    def sum(self, x: Tensor) -> Tensor:
        """Return the sum of ``x`` over all processes."""
        return x

    def max(self, x: Tensor) -> Tensor:
        """Return the maximum of ``x`` over all processes."""
        return x

    def gather(self, rows: Tensor) -> tuple[Tensor, slice]:
        """Concatenate the rows of all processes in the order of their ranks.

        Returns:
            all rows, and the slice of them that belongs to this process.
        """
        return rows, slice(None)

    def agree(self, values: list[float], flag: bool) -> tuple[list[float], bool]:
        """Return the first process's ``values``, and whether any process passed a true ``flag``."""
        return values, flag

    def barrier(self) -> None:
        """Wait until all processes have called this method."""


SINGLE_PROCESS = ProcessGroup()


class _FabricGroup(ProcessGroup):
    """The processes that a launched Fabric has started."""

    def __init__(self, fabric: Fabric) -> None:
        self.fabric = fabric
        self.rank, self.world_size = fabric.global_rank, fabric.world_size

    def _reduce_in_place(self, x: Tensor, operation: str) -> Tensor:
        return cast("Tensor", self.fabric.all_reduce(x, reduce_op=operation))

    def sum(self, x: Tensor) -> Tensor:
        return self._reduce_in_place(x.detach().clone(), "sum")

    def max(self, x: Tensor) -> Tensor:
        return self._reduce_in_place(x.detach().clone(), "max")

    def gather(self, rows: Tensor) -> tuple[Tensor, slice]:
        import torch

        count = torch.zeros(self.world_size, dtype=torch.int64, device=rows.device)
        count[self.rank] = len(rows)
        counts = self.sum(count).tolist()
        start = sum(counts[: self.rank])
        own = slice(start, start + len(rows))
        if not sum(counts):
            return rows.detach(), own
        # Fabric's all_gather needs tensors of equal length and calls a deprecated function of torch. Adding
        # tensors that are zero outside of a process's own rows gives the same result with less memory.
        padded = rows.new_zeros((sum(counts), *rows.shape[1:]))
        padded[own] = rows.detach()
        return self._reduce_in_place(padded, "sum"), own

    def agree(self, values: list[float], flag: bool) -> tuple[list[float], bool]:
        import torch

        # One collective instead of a broadcast and a reduction: the other processes add zeros to the values.
        own = values if self.rank == 0 else [0.0] * len(values)
        message = torch.tensor([*own, float(flag)], dtype=torch.float64)
        *agreed, count = self.sum(message).tolist()
        return agreed, count > 0

    def barrier(self) -> None:
        self.fabric.barrier()


_current = SINGLE_PROCESS


def set_process_group(fabric: Fabric) -> None:
    """Make the processes of a launched Fabric the current process group.

    >>> from lightning_fabric import Fabric
    >>> set_process_group(Fabric(accelerator="cpu", devices=1))
    >>> current_process_group() is SINGLE_PROCESS
    True
    """
    global _current
    _current = _FabricGroup(fabric) if fabric.world_size > 1 else SINGLE_PROCESS


def current_process_group() -> ProcessGroup:
    """Return the processes of the current training run; :data:`SINGLE_PROCESS` outside of one.

    >>> current_process_group().world_size
    1
    """
    return _current


def is_connection_error(error: RuntimeError) -> bool:
    """Return True if an error says that a process of the group cannot be reached.

    NCCL, the store and the network have error types of their own in torch. Errors of gloo, which connects
    processes without a GPU, are recognised by their text.

    >>> is_connection_error(RuntimeError("[/gloo/transport/tcp/pair.cc:537] Connection reset by peer"))
    True
    >>> is_connection_error(RuntimeError("The size of tensor a (3) must match the size of tensor b (4)"))
    False
    """
    from torch.distributed import DistError

    return isinstance(error, DistError) or bool(_GLOO.match(str(error)))


def local_range(count: int, processes: ProcessGroup) -> range:
    """Return which of ``count`` items belong to this process: consecutive ones, divided evenly.

    >>> local_range(10, SINGLE_PROCESS)
    range(0, 10)
    """
    rank, size = processes.rank, processes.world_size
    return range(count * rank // size, count * (rank + 1) // size)
