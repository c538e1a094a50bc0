"""Figures of merit for verification, identification, separation and activity: arrays in, numbers out."""

from separative.metrics.activity import DiarizationError, diarization_error, jaccard_error, match, swaps
from separative.metrics.calibration import Calibration, cllr, fit_calibration, log_odds, min_cllr
from separative.metrics.identification import identification, open_set
from separative.metrics.normalise import adaptive_snorm
from separative.metrics.plane import plane
from separative.metrics.quality import pesq, stoi
from separative.metrics.roc import Roc, eer, min_dcf
from separative.metrics.separation import sdr, si_sdr, si_sdr_improvement
from separative.metrics.trials import Floats

__all__ = [
    "Calibration",
    "DiarizationError",
    "Floats",
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
