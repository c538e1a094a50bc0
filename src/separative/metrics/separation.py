"""Metrics of separated waveforms: signal-to-distortion ratios, perceived quality and intelligibility."""

from __future__ import annotations

import warnings
from itertools import permutations

import numpy as np

from separative.errors import MissingExtraError, SeparativeError
from separative.types import Floats


def sdr(estimate: Floats, source: Floats) -> Floats:
    """Compute the signal-to-distortion ratio 10 log10(|s|² / |s - e|²) in dB over the last axis.

    Unlike in :func:`si_sdr`, a wrong scale or offset is an error. Values are bounded to about ±150 dB, so
    that silent or perfect estimates give finite values.

    Args:
        estimate, source: waveforms [..., N].

    Example:
        >>> source = np.sin(np.arange(1000.0))
        >>> sdr(0.9 * source, source).round(2)
        np.float64(20.0)
    """
    estimate, source = np.asarray(estimate, np.float64), np.asarray(source, np.float64)
    return _ratio_db((source**2).sum(-1), ((source - estimate) ** 2).sum(-1))


def si_sdr(estimate: Floats, source: Floats) -> Floats:
    """Compute the scale-invariant signal-to-distortion ratio in dB over the last axis (Le Roux et al., 2019).

    Both waveforms are made zero-mean. Values are bounded to about ±150 dB, so that silent or perfect
    estimates give finite values.

    Args:
        estimate, source: waveforms [..., N].

    Example:
        >>> rng = np.random.default_rng(0)
        >>> source, noise = rng.standard_normal((2, 100_000))
        >>> bool(abs(si_sdr(5 * (source + 0.1 * noise), source) - 20) < 0.1)
        True
    """
    estimate = np.asarray(estimate, np.float64)
    source = np.asarray(source, np.float64)
    estimate = estimate - estimate.mean(-1, keepdims=True)
    source = source - source.mean(-1, keepdims=True)
    power = (source**2).sum(-1)
    tiny = np.finfo(np.float64).tiny
    gain = (estimate * source).sum(-1) / np.maximum(power, tiny)
    return _ratio_db(gain**2 * power, ((gain[..., None] * source - estimate) ** 2).sum(-1))


def si_sdr_improvement(estimate: Floats, source: Floats, mixture: Floats) -> tuple[Floats, tuple[int, ...]]:
    """Compute the SI-SDR improvement of estimates over the mixture, under the best permutation of streams.

    Args:
        estimate: waveforms of C streams [C, N].
        source: waveforms of K sources [K, N], K <= C.
        mixture: waveform [N].

    Returns:
        the improvement for each source [K] in dB, and the index of the stream assigned to each source.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> source = rng.standard_normal((2, 1000))
        >>> improvement, streams = si_sdr_improvement(source[::-1], source, source.sum(0))
        >>> streams, bool((improvement > 100).all())
        ((1, 0), True)
    """
    ratio_CK = si_sdr(estimate[:, None, :], source[None, :, :])
    sources = range(len(source))
    best = max(
        permutations(range(len(estimate)), len(source)),
        key=lambda streams: sum(ratio_CK[c, k] for k, c in enumerate(streams)),
    )
    return ratio_CK[list(best), sources] - si_sdr(mixture, source), best


def _ratio_db(signal: Floats, error: Floats) -> Floats:
    """Ratio of two energies in dB, bounded to about ±150."""
    floor = 1e-15 * (signal + error) + np.finfo(np.float64).tiny
    ratio: Floats = 10 * np.log10((signal + floor) / (error + floor))
    return ratio


PESQ_MODES = {8000: "nb", 16000: "wb"}
"""Mode of PESQ for each sampling rate: narrow band or wide band."""


def pesq(estimate: Floats, source: Floats, rate: int) -> float:
    """Compute the perceived quality of a waveform [N], about 1 to 4.6 (ITU-T P.862).

    Args:
        rate: sampling rate in hertz: 16000 (wide band) or 8000 (narrow band).

    Raises:
        MissingExtraError: the extra ``quality`` is not installed.
        SeparativeError: the rate is another one, the estimate is silent or no speech is found in the source.

    Example:
        >>> from separative import audio
        >>> source, rate = audio.read("ann.wav")
        >>> round(pesq(source, source, rate), 2)
        4.64
    """
    try:
        from pesq import PesqError
        from pesq import pesq as measure
    except ImportError as error:
        raise MissingExtraError("PESQ", "quality") from error
    if rate not in PESQ_MODES:
        raise SeparativeError(f"PESQ is defined for 8000 and 16000 Hz, not {rate} Hz; resample first")
    source, estimate = np.asarray(source, np.float32), np.asarray(estimate, np.float32)
    if not estimate.any():
        raise SeparativeError("PESQ has no value for a silent estimate")
    try:
        return float(measure(rate, source, estimate, PESQ_MODES[rate]))
    except PesqError as error:
        raise SeparativeError(f"PESQ has no value for this source: {error}") from error


def stoi(estimate: Floats, source: Floats, rate: int, *, extended: bool = False) -> float:
    """Compute the short-time objective intelligibility of a waveform [N], 0 to 1 (Taal et al., 2011).

    Args:
        rate: sampling rate in hertz.
        extended: use the extended measure (Jensen and Taal, 2016).

    Raises:
        MissingExtraError: the extra ``quality`` is not installed.
        SeparativeError: the source has less than 0.4 s of speech.

    Example:
        >>> from separative import audio
        >>> source, rate = audio.read("ann.wav")
        >>> round(stoi(source, source, rate), 2)
        1.0
    """
    try:
        from pystoi import stoi as measure
    except ImportError as error:
        raise MissingExtraError("STOI", "quality") from error
    with warnings.catch_warnings():
        # For a source that is too short, pystoi returns 1e-5 with a warning.
        warnings.simplefilter("error", RuntimeWarning)
        try:
            return float(measure(np.asarray(source), np.asarray(estimate), rate, extended=extended))
        except (RuntimeWarning, ValueError) as error:
            raise SeparativeError("STOI needs at least 0.4 s of speech in the source") from error
