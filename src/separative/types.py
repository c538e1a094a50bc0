"""Type aliases that several rooms share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

Wave = npt.NDArray[np.float32]
"""A waveform: shape [N], or [channels, N] where a function says so; full scale is 1."""

Floats = npt.NDArray[np.floating[Any]]
"""Floating-point numbers of any shape and precision."""

Progress = Callable[[int, int], None]
"""Called with (done, total) while long work runs."""
