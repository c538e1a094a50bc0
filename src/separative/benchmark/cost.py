"""The cost of a model: parameters, multiply-adds, time and memory for a recording."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
import tempfile
import time
import warnings
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

import numpy as np

from separative.evaluation.usage import peak_memory_mb
from separative.inference import separate
from separative.model import load_model, save_model
from separative.types import Wave

if TYPE_CHECKING:
    from separative.model import SeparativeEncoder

# Timed runs, after one that warms up.
RUNS = 5


@dataclass(frozen=True)
class Cost:
    """The cost of separating and embedding all speakers of one recording.

    Attributes:
        parameters: number of parameters, without an inventory.
        multiply_adds_per_second: multiply-adds per second of audio.
        real_time_factor: seconds of computing per second of audio on the CPU, median of several runs.
        peak_memory_mb: peak memory of a process that does nothing else, with torch, in MB (10⁶ bytes); None
            on Windows.
        threads: number of threads.

    >>> Cost(4_953_961, 1.41e8, 0.008, 359.0, threads=1).threads
    1
    """

    parameters: int
    multiply_adds_per_second: float
    real_time_factor: float
    peak_memory_mb: float | None
    threads: int


def cost(model: SeparativeEncoder, seconds: float = 10.0) -> Cost:
    """Measure the cost of a model on a recording of ``seconds`` seconds; time and memory in a new process.

    >>> found = cost(load_model(), seconds=1.0)
    >>> found.parameters, 0 < found.real_time_factor < 10
    (4953961, True)
    """
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
    """Multiply-adds of a forward pass: matrix products, convolutions, attention and recurrent layers.

    Fourier transforms and element-wise operations (norms, gates, masks) are not counted.

    >>> round(multiply_adds(load_model(), seconds=1.0) / 1e6) > 100
    True
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    on_cpu = copy.deepcopy(model).cpu()
    mix_1N = torch.from_numpy(_recording(seconds, model.rate))[None]
    counter = FlopCounterMode(display=False)
    with warnings.catch_warnings():
        # Restoring the flag warns about hardware that is not present.
        warnings.filterwarnings("ignore", "TF32 acceleration", UserWarning)
        # The counter does not know oneDNN's fused recurrent layer. Without oneDNN, the layer is computed by
        # matrix products that it can count.
        with torch.no_grad(), torch.backends.mkldnn.flags(enabled=False), counter:
            on_cpu(mix_1N)
    return int(counter.get_total_flops()) // 2


def _recording(seconds: float, rate: int) -> Wave:
    """Noise in bursts as long as a syllable, float32 [N]."""
    time_N = np.arange(round(seconds * rate)) / rate
    noise_N = np.random.default_rng(0).standard_normal(len(time_N))
    return (0.1 * noise_N * np.sin(2 * np.pi * 2 * time_N)).astype(np.float32)


def _child(folder: str, seconds: str, threads: str) -> None:
    """Measure time and memory and print them as JSON; run in a separate process."""
    import torch

    torch.set_num_threads(int(threads))
    model = load_model(folder)
    recording = _recording(float(seconds), model.rate), model.rate
    wall = []
    for _ in range(1 + RUNS):
        started = time.perf_counter()
        separate(model, recording)
        wall.append(time.perf_counter() - started)
    factor = median(wall[1:]) / float(seconds)
    print(json.dumps({"real_time_factor": factor, "peak_memory_mb": peak_memory_mb()}))
