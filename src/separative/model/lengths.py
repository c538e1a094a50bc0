"""Division of lengths, upwards: of numbers of Python and of tensors alike.

All numbers on the way stay positive, because exported graphs round quotients towards zero.
"""

from __future__ import annotations

from typing import TypeVar

from torch import Tensor

Length = TypeVar("Length", int, Tensor)


def ceil_div(length: Length, size: int) -> Length:
    """Pieces of ``size`` that hold ``length``."""
    return (length + size - 1) // size


def shortfall(length: int, size: int) -> int:
    """What is missing to whole pieces of ``size``."""
    return ceil_div(length, size) * size - length
