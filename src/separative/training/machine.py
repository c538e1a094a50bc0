"""The machine of a run: threads, memory, processes, and a description for the model card."""

from __future__ import annotations

import atexit
import ctypes
import logging
import os
import platform
import threading
import time
from typing import TYPE_CHECKING

import torch

from separative.distributed import set_process_group
from separative.errors import SeparativeError, choose
from separative.training.recipe import Precision

if TYPE_CHECKING:
    from lightning_fabric import Fabric

log = logging.getLogger(__name__)

# Environment variable with the process that started the others of its machine.
_FIRST_PROCESS = "SEPARATIVE_FIRST_PROCESS"
# Seconds between two looks at the first process, and until a process ends after it.
_WATCH_SECONDS, _GRACE_SECONDS = 1.0, 5.0

# Parameters of mallopt(3).
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4


def prepare(threads: int | None) -> None:
    """Set the number of torch threads and, on Linux, keep freed memory in the process.

    A training step frees and allocates hundreds of megabytes. If they go back to the system in between, the
    kernel must zero the pages again, which takes up to a fifth of the step.

    >>> prepare(torch.get_num_threads())
    """
    if threads is not None:
        torch.set_num_threads(threads)
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_MAX, 0)
        libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def launch(
    device: str = "auto", *, devices: int = 1, nodes: int = 1, precision: Precision = "32-true"
) -> Fabric:
    """Start the processes of a run and make them the current process group.

    With several processes and without torchrun, this process starts the other processes of its machine by
    running its own command again.

    Args:
        device: ``auto``, ``cpu`` or ``cuda``.
        devices: number of processes per machine. Under torchrun, its numbers replace this and the next one.
        nodes: number of machines.
        precision: numerical precision of training.

    Raises:
        SeparativeError: the device does not exist.

    >>> launch("cpu").device
    device(type='cpu')
    """
    # Imported here because it takes a second, which commands that only read a recipe should not wait.
    from lightning_fabric import Fabric

    choose(device, ("auto", "cpu", "cuda"), "device")
    if device == "cuda" and not torch.cuda.is_available():
        raise SeparativeError("device 'cuda': torch finds no GPU on this machine; valid: auto, cpu")
    if "TORCHELASTIC_RUN_ID" in os.environ:
        devices = int(os.environ["LOCAL_WORLD_SIZE"])
        nodes = int(os.environ["WORLD_SIZE"]) // devices
    several = devices * nodes > 1
    fabric = Fabric(
        accelerator=device,
        devices=devices,
        num_nodes=nodes,
        strategy="ddp" if several else "auto",
        precision=precision,
    )
    if several:
        _end_with_first_process()
        fabric.launch()
        atexit.register(_destroy_process_group)
    set_process_group(fabric)
    return fabric


def _end_with_first_process() -> None:
    """Make the processes that the first one starts end after it, if it is killed.

    A process that waits for the first one to open the process group would otherwise wait for half an hour.
    torchrun watches its processes itself.
    """
    if "LOCAL_RANK" not in os.environ:
        # Fabric passes the environment on to the processes that it starts.
        os.environ[_FIRST_PROCESS] = str(os.getpid())
    elif (first := os.environ.get(_FIRST_PROCESS)) and "TORCHELASTIC_RUN_ID" not in os.environ:
        threading.Thread(target=_exit_after, args=(int(first),), daemon=True).start()


def _exit_after(first: int) -> None:
    """Wait until the parent process is no longer ``first``, then end this process."""
    while os.getppid() == first:
        time.sleep(_WATCH_SECONDS)
    # A process that was training has lost the connection too. Its error says more, so it comes first.
    time.sleep(_GRACE_SECONDS)
    log.error("the first process of the run has ended; resume the run if it was not complete")
    os._exit(1)


def _destroy_process_group() -> None:
    """Destroy the process group before interpreter shutdown.

    Its threads may hold the last references to tensors. Freeing those during shutdown would abort a process
    that has finished all its work.
    """
    from torch import distributed

    if distributed.is_initialized():
        distributed.destroy_process_group()


def describe() -> str:
    """Describe processor, threads, accelerator and torch version in one line.

    >>> describe()
    '..., ... cores, ... threads, ..., torch ...'
    """
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    cores, threads = os.cpu_count(), torch.get_num_threads()
    return f"{platform.machine()}, {cores} cores, {threads} threads, {device}, torch {torch.__version__}"
