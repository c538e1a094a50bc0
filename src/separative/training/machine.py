"""The machine a run is on: threads, memory, and a line about it for the model's card."""

from __future__ import annotations

import atexit
import ctypes
import os
import platform
from typing import TYPE_CHECKING

import torch

from separative.errors import SeparativeError, choose
from separative.training.recipe import Precision

if TYPE_CHECKING:
    from lightning_fabric import Fabric

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4


def prepare(threads: int | None) -> None:
    """Set torch's threads, and on Linux let freed memory stay with the process.

    A training step frees and takes back hundreds of megabytes; handing them to the system and getting
    them back as zeroed pages costs up to a fifth of the step.
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
    """The engine of a run, its processes started: ``devices`` on each of ``nodes`` machines.

    Whoever was started by torchrun takes the numbers from there. With several, this process starts the others
    of its machine by running its own command again.

    Raises:
        SeparativeError: no such device.
    """
    # It brings torch's compiler: a second that whoever only reads a recipe need not wait.
    from lightning_fabric import Fabric

    choose(device, ("auto", "cpu", "cuda"), "device")
    if device == "cuda" and not torch.cuda.is_available():
        raise SeparativeError("device 'cuda': torch finds no GPU here; valid: auto, cpu")
    if "TORCHELASTIC_RUN_ID" in os.environ:
        devices = int(os.environ["LOCAL_WORLD_SIZE"])
        nodes = int(os.environ["WORLD_SIZE"]) // devices
    fabric = Fabric(
        accelerator=device,
        devices=devices,
        num_nodes=nodes,
        strategy="ddp" if devices * nodes > 1 else "auto",
        precision=precision,
    )
    if devices * nodes > 1:
        fabric.launch()
        atexit.register(_leave)
    return fabric


def _leave() -> None:
    """Leave the group while the interpreter still stands: its threads may hold the last tensors, and whoever
    frees one after that aborts a process that has done all its work."""
    from torch import distributed

    if distributed.is_initialized():
        distributed.destroy_process_group()


def describe() -> str:
    """Processor, threads and accelerator, for the record."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    cores, threads = os.cpu_count(), torch.get_num_threads()
    return f"{platform.machine()}, {cores} cores, {threads} threads, {device}, torch {torch.__version__}"
