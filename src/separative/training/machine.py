"""The machine a run is on: threads, memory, and a line about it for the model's card."""

from __future__ import annotations

import ctypes
import os
import platform

import torch

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


def describe() -> str:
    """Processor, threads and accelerator, for the record."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    cores, threads = os.cpu_count(), torch.get_num_threads()
    return f"{platform.machine()}, {cores} cores, {threads} threads, {device}, torch {torch.__version__}"
