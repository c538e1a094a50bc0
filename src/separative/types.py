"""Type aliases that several packages share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

Wave = npt.NDArray[np.float32]
"""A waveform: ``[N]``, or ``[channels, N]`` where a function states it. Full scale is ±1."""

Floats = npt.NDArray[np.floating[Any]]
"""A floating-point array of any shape and precision."""

Progress = Callable[[int, int], None]
"""A callback for progress; it is called with (done, total)."""
