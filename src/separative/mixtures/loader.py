"""Iterate over the batches of a training run, drawn by worker processes."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from separative.distributed import SINGLE_PROCESS, ProcessGroup
from separative.mixtures.batch import Batch
from separative.mixtures.mixer import Mixer

if TYPE_CHECKING:
    from torch.utils.data import DataLoader

# Batches that each worker draws ahead, so that training continues during a slow read. They take a few tens of
# megabytes.
PREFETCH_STEPS = 3
# A worker that gets a signal to end works for this long, which is more than a batch takes.
GRACE_SECONDS = 10


def loader(
    mixer: Mixer,
    *,
    first_step: int = 0,
    steps: int,
    workers: int = 0,
    processes: ProcessGroup = SINGLE_PROCESS,
) -> DataLoader[Batch]:
    """Return an iterable over the batches of ``steps`` steps from ``first_step`` on, in order.

    The batches do not depend on the number of workers.

    Args:
        mixer: draws the batches.
        first_step: first step to draw.
        steps: number of steps.
        workers: worker processes, each with one thread; 0 draws in the calling process.
        processes: training processes; each gets its share of every batch.

    >>> from separative import MixtureConfig, load_corpus
    >>> mixer = Mixer(load_corpus("speech"), MixtureConfig(batch=2), seed=0)
    >>> [batch.info[0]["step"] for batch in loader(mixer, first_step=5, steps=2)]
    [5, 6]
    """
    import torch
    from torch.utils.data import DataLoader

    # Every item of the dataset is a whole batch, so batch_size=None turns the collation of items off.
    return DataLoader(
        _StepDataset(mixer, first_step, steps, processes),  # type: ignore[arg-type]
        batch_size=None,
        num_workers=workers,
        prefetch_factor=PREFETCH_STEPS if workers else None,
        # Without this, each new iterator would draw a seed from the global generator, so that a resumed run
        # would have other random numbers.
        generator=torch.Generator(),
        worker_init_fn=_outlive_signals,
    )


class _StepDataset:
    """Dataset in which item i is the batch of step ``first_step + i``, for i below ``steps``."""

    def __init__(self, mixer: Mixer, first_step: int, steps: int, processes: ProcessGroup) -> None:
        self.mixer, self.first_step, self.steps, self.processes = mixer, first_step, steps, processes

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, position: int) -> Batch:
        return self.mixer.batch(self.first_step + position, self.processes)


def _outlive_signals(_worker: int) -> None:
    # Ctrl-C, and a batch system that ends a job, reach the training process and its workers. The training
    # process still needs the workers: it finishes its step and saves. Then it ends them.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "SIGALRM"):
        signal.signal(signal.SIGTERM, lambda *_: signal.alarm(GRACE_SECONDS))
