"""How much of a source an estimate holds, in decibels."""

from __future__ import annotations

import warnings
from itertools import permutations

import numpy as np

from separative.errors import MissingExtraError, SeparativeError
from separative.types import Floats


def sdr(estimate_N: Floats, source_N: Floats) -> Floats:
    """Signal-to-distortion ratio 10 log10 |s|²/|s - e|² in dB over the last axis: scale and offset count.

    Bounded to about ±150 dB, so that silence and perfection stay finite.
    """
    estimate, source = np.asarray(estimate_N, np.float64), np.asarray(source_N, np.float64)
    return _ratio_db((source**2).sum(-1), ((source - estimate) ** 2).sum(-1))


def si_sdr(estimate_N: Floats, source_N: Floats) -> Floats:
    """Scale-invariant signal-to-distortion ratio in dB over the last axis (Le Roux et al., 2019).

    Both are made zero-mean. Bounded to about ±150 dB, so that silence and perfection stay finite.
    """
    estimate = np.asarray(estimate_N, np.float64)
    source = np.asarray(source_N, np.float64)
    estimate = estimate - estimate.mean(-1, keepdims=True)
    source = source - source.mean(-1, keepdims=True)
    power = (source**2).sum(-1)
    tiny = np.finfo(np.float64).tiny
    gain = (estimate * source).sum(-1) / np.maximum(power, tiny)
    heard = gain**2 * power
    return _ratio_db(heard, ((gain[..., None] * source - estimate) ** 2).sum(-1))


def si_sdr_improvement(
    estimate_CN: Floats, source_KN: Floats, mix_N: Floats
) -> tuple[Floats, tuple[int, ...]]:
    """SI-SDR of the estimates over that of the mixture, in dB per source [K], under the best permutation.

    Returns the improvements and, for each source, the stream that holds it (K <= C streams).
    """
    ratio_CK = si_sdr(estimate_CN[:, None, :], source_KN[None, :, :])
    sources = range(len(source_KN))
    best = max(
        permutations(range(len(estimate_CN)), len(source_KN)),
        key=lambda streams: sum(ratio_CK[c, k] for k, c in enumerate(streams)),
    )
    return ratio_CK[list(best), sources] - si_sdr(mix_N, source_KN), best


def _ratio_db(heard: Floats, error: Floats) -> Floats:
    floor = 1e-15 * (heard + error) + np.finfo(np.float64).tiny
    ratio: Floats = 10 * np.log10((heard + floor) / (error + floor))
    return ratio


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
