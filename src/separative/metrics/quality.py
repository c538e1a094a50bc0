"""How an estimate would be heard and understood, by the standard models of both (extra ``quality``)."""

from __future__ import annotations

import warnings

import numpy as np

from separative.errors import MissingExtraError, SeparativeError
from separative.metrics.trials import Floats

MODES = {8000: "nb", 16000: "wb"}


def pesq(estimate_N: Floats, source_N: Floats, rate: int) -> float:
    """Perceived quality, about 1 to 4.6 (ITU-T P.862): wide band at 16,000 hertz, narrow band at 8,000.

    Raises:
        MissingExtraError: the extra ``quality`` is not installed.
        SeparativeError: another rate, or no speech to be found in the source.
    """
    try:
        from pesq import PesqError
        from pesq import pesq as measure
    except ImportError as error:
        raise MissingExtraError("PESQ", "quality") from error
    if rate not in MODES:
        raise SeparativeError(f"PESQ knows the rates 8000 and 16000 Hz, not {rate}: resample first")
    source, estimate = np.asarray(source_N, np.float32), np.asarray(estimate_N, np.float32)
    if not estimate.any():
        raise SeparativeError("PESQ has no value for a silent estimate")
    try:
        return float(measure(rate, source, estimate, MODES[rate]))
    except PesqError as error:
        raise SeparativeError(f"PESQ has no value for this source: {error}") from error


def stoi(estimate_N: Floats, source_N: Floats, rate: int, *, extended: bool = False) -> float:
    """Short-time objective intelligibility, 0 to 1 (Taal et al., 2011; ``extended``: Jensen and Taal, 2016).

    Raises:
        MissingExtraError: the extra ``quality`` is not installed.
        SeparativeError: under 0.4 s of speech in the source.
    """
    try:
        from pystoi import stoi as measure
    except ImportError as error:
        raise MissingExtraError("STOI", "quality") from error
    with warnings.catch_warnings():
        # Its own answer to too short a source is a warning and the value 1e-5.
        warnings.simplefilter("error", RuntimeWarning)
        try:
            return float(measure(np.asarray(source_N), np.asarray(estimate_N), rate, extended=extended))
        except (RuntimeWarning, ValueError) as error:
            raise SeparativeError("STOI needs 0.4 s of speech in the source at least") from error
