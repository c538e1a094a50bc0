"""Figures of merit for verification, identification, separation and activity: arrays in, numbers out."""

from separative.metrics.calibration import Calibration, cllr, fit_calibration, log_odds, min_cllr
from separative.metrics.diarization import DiarizationError, diarization_error, jaccard_error, match, swaps
from separative.metrics.identification import identification, open_set
from separative.metrics.plane import plane
from separative.metrics.separation import pesq, sdr, si_sdr, si_sdr_improvement, stoi
from separative.metrics.verification import Roc, adaptive_snorm, eer, min_dcf

__all__ = [
    "Calibration",
    "DiarizationError",
    "Roc",
    "adaptive_snorm",
    "cllr",
    "diarization_error",
    "eer",
    "fit_calibration",
    "identification",
    "jaccard_error",
    "log_odds",
    "match",
    "min_cllr",
    "min_dcf",
    "open_set",
    "pesq",
    "plane",
    "sdr",
    "si_sdr",
    "si_sdr_improvement",
    "stoi",
    "swaps",
]
