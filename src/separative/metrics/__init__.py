"""Metrics for verification, identification, diarization and separation: arrays in, numbers out."""

from separative.metrics.calibration import Calibration, cllr, fit_calibration, log_odds, min_cllr
from separative.metrics.diarization import (
    DiarizationError,
    count_swaps,
    diarization_error,
    jaccard_error,
    match_speakers,
)
from separative.metrics.identification import identification_rates, open_set_rate
from separative.metrics.information import (
    contrastive_losses,
    cross_fitted_losses,
    fit_alpha,
    information_bound,
)
from separative.metrics.separation import pesq, sdr, si_sdr, si_sdr_improvement, stoi
from separative.metrics.turns import TurnScore, score_turns
from separative.metrics.verification import Roc, adaptive_snorm, eer, min_dcf

__all__ = [
    "Calibration",
    "DiarizationError",
    "Roc",
    "TurnScore",
    "adaptive_snorm",
    "cllr",
    "contrastive_losses",
    "count_swaps",
    "cross_fitted_losses",
    "diarization_error",
    "eer",
    "fit_alpha",
    "fit_calibration",
    "identification_rates",
    "information_bound",
    "jaccard_error",
    "log_odds",
    "match_speakers",
    "min_cllr",
    "min_dcf",
    "open_set_rate",
    "pesq",
    "score_turns",
    "sdr",
    "si_sdr",
    "si_sdr_improvement",
    "stoi",
]
