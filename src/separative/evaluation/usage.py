"""Time and memory of a computation in this process, and the machine it runs on."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path


def peak_memory_mb() -> float | None:
    """Peak memory of this process in MB (10⁶ bytes), since its start or :func:`reset_peak_memory`.

    None on Windows, where the library of Python has no such counter.

    >>> 10 < peak_memory_mb() < 100_000
    True
    """
    status = Path("/proc/self/status")
    if status.is_file():
        # On Linux, the maximum of getrusage includes memory of the parent process; VmHWM does not.
        line = next(x for x in status.read_text(encoding="ascii").splitlines() if x.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024 / 1e6
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024) / 1e6


def reset_peak_memory() -> None:
    """Set the peak to the memory in use now, where the system allows it: on Linux.

    >>> reset_peak_memory()
    """
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return


def describe_machine() -> str:
    """Describe processor, cores, threads, torch version and load in one line.

    The load is the mean number of running processes in the last minute. Times are longer if it exceeds the
    number of cores.

    >>> describe_machine()
    '... cores, ... threads, torch ..., load ...'
    """
    import torch

    processor = platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        lines = info.read_text(encoding="utf-8", errors="replace").splitlines()
        named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
        processor = next(named, processor)
    load = f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"
    cores, threads = os.cpu_count(), torch.get_num_threads()
    return f"{processor}, {cores} cores, {threads} threads, torch {torch.__version__}, load {load}"
