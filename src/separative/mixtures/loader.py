"""Batches of consecutive steps, drawn ahead of time by worker processes."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from separative.mixtures.batch import Batch
from separative.mixtures.mixer import Mixer
from separative.ranks import ALONE, Ranks

if TYPE_CHECKING:
    from torch.utils.data import DataLoader

# Steps a worker draws ahead: enough to ride out a slow read, a few tens of megabytes of memory.
AHEAD = 3


class _Steps:
    """Steps ``first_step`` to ``first_step + steps`` of a mixer, by position."""

    def __init__(self, mixer: Mixer, first_step: int, steps: int, ranks: Ranks) -> None:
        self.mixer, self.first_step, self.steps, self.ranks = mixer, first_step, steps, ranks

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, position: int) -> Batch:
        return self.mixer.batch(self.first_step + position, self.ranks)


def loader(
    mixer: Mixer, *, first_step: int = 0, steps: int, workers: int = 0, ranks: Ranks = ALONE
) -> DataLoader[Batch]:
    """Iterate over the batches of steps ``first_step`` to ``first_step + steps``, in order.

    The stream is the same for any number of ``workers`` (0 draws in this process); each worker computes with
    one thread. Of several ``ranks`` each has its share of every batch.
    """
    import torch
    from torch.utils.data import DataLoader

    # Shapes: one Batch an item, so no collation. DataLoader itself gives each worker a single thread.
    return DataLoader(
        _Steps(mixer, first_step, steps, ranks),  # type: ignore[arg-type]
        batch_size=None,
        num_workers=workers,
        prefetch_factor=AHEAD if workers else None,
        # Else a new iterator would draw from the global generator, and a resumed run differ from a whole one.
        generator=torch.Generator(),
        worker_init_fn=_leave_stopping_to_the_parent,
    )


def _leave_stopping_to_the_parent(_worker: int) -> None:
    # Ctrl-C reaches every process of the group; the parent finishes its step and saves first.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
