"""What a model costs: parameters, multiply-adds, time and memory for a recording."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
import tempfile
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import numpy as np

from separative.inference import separate
from separative.model import load_model, save_model
from separative.types import Wave

if TYPE_CHECKING:
    from separative.model import SeparativeEncoder

RUNS = 5


@dataclass(frozen=True)
class Cost:
    """Of one recording alone, every speaker separated and embedded.

    ``parameters`` without an inventory · ``multiply_adds_per_second`` of audio · ``real_time_factor`` seconds
    of computing for a second of audio, median of several runs after one that warms up, on the CPU with
    ``threads`` threads · ``peak_memory_mb`` megabytes (10⁶ bytes) of a process that does nothing else, torch
    included.
    """

    parameters: int
    multiply_adds_per_second: float
    real_time_factor: float
    peak_memory_mb: float
    threads: int


def cost(model: SeparativeEncoder, seconds: float = 10.0) -> Cost:
    """Measure a model on a recording of ``seconds`` seconds, time and memory in a fresh process."""
    import torch

    threads = torch.get_num_threads()
    with tempfile.TemporaryDirectory(prefix="separative-") as folder:
        save_model(model, folder)
        code = "import sys; from separative.benchmark.cost import _child; _child(*sys.argv[1:])"
        words = [sys.executable, "-c", code, folder, str(seconds), str(threads)]
        done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True)
    measured = json.loads(done.stdout)
    return Cost(
        parameters=sum(p.numel() for p in model.parameters()),
        multiply_adds_per_second=multiply_adds(model, seconds) / seconds,
        real_time_factor=measured["real_time_factor"],
        peak_memory_mb=measured["peak_memory_mb"],
        threads=threads,
    )


def multiply_adds(model: SeparativeEncoder, seconds: float) -> int:
    """Multiply-adds of a forward pass: matrix products, convolutions, attention, recurrent layers.

    Fourier transforms and all that goes element by element (norms, gates, masks) is not counted.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    twin = copy.deepcopy(model).cpu()
    mix_1N = torch.from_numpy(_sound(seconds, model.rate))[None]
    counter = FlopCounterMode(display=False)
    with warnings.catch_warnings():
        # Of hardware that is not there, when the flag is put back.
        warnings.filterwarnings("ignore", "TF32 acceleration", UserWarning)
        # oneDNN's fused recurrent layer is one operation that the counter does not know; without it, the
        # layer is matrix products step by step.
        with torch.no_grad(), torch.backends.mkldnn.flags(enabled=False), counter:
            twin(mix_1N)
    return int(counter.get_total_flops()) // 2


def _sound(seconds: float, rate: int) -> Wave:
    """Noise in bursts of a syllable's length."""
    time_N = np.arange(round(seconds * rate)) / rate
    noise_N = np.random.default_rng(0).standard_normal(len(time_N))
    return (0.1 * noise_N * np.sin(2 * np.pi * 2 * time_N)).astype(np.float32)


def _child(folder: str, seconds: str, threads: str) -> None:
    """Print time and memory as JSON; for a process of its own."""
    import torch

    torch.set_num_threads(int(threads))
    model = load_model(folder)
    sound = _sound(float(seconds), model.rate), model.rate
    wall = []
    for _ in range(1 + RUNS):
        started = time.perf_counter()
        separate(model, sound)
        wall.append(time.perf_counter() - started)
    factor = median(wall[1:]) / float(seconds)
    print(json.dumps({"real_time_factor": factor, "peak_memory_mb": _peak_bytes() / 1e6}))


def _peak_bytes() -> int:
    """Largest memory that this process has held."""
    status = Path("/proc/self/status")
    if status.is_file():
        # Linux counts the memory of the starting process into getrusage's maximum; this line it does not.
        line = next(x for x in status.read_text(encoding="ascii").splitlines() if x.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
