"""Evaluation on speakers that a model was not trained on: trials, conditions, metrics and result tables."""

from separative.evaluation.calibrate import calibrate
from separative.evaluation.collect import collect_outputs
from separative.evaluation.conditions import CONDITIONS, DEFAULT_CONDITIONS, Condition
from separative.evaluation.draw import build_trials
from separative.evaluation.outputs import CollectedOutputs
from separative.evaluation.pairs import (
    Pair,
    evaluate_pairs,
    find_utterances,
    is_published,
    read_pairs,
    write_scores,
)
from separative.evaluation.protocol import evaluate
from separative.evaluation.results import MAIN_METRICS, Results, Row, eer_figure
from separative.evaluation.score import score, trial_scores
from separative.evaluation.systems import EncoderSystem, MfccSystem, System, SystemOutput, untrained_copy
from separative.evaluation.trial_recordings import TrialRecordings
from separative.evaluation.trials import Trial, TrialList, TrialSide
from separative.metrics import eer, min_dcf, si_sdr, si_sdr_improvement

__all__ = [
    "CONDITIONS",
    "DEFAULT_CONDITIONS",
    "MAIN_METRICS",
    "CollectedOutputs",
    "Condition",
    "EncoderSystem",
    "MfccSystem",
    "Pair",
    "Results",
    "Row",
    "System",
    "SystemOutput",
    "Trial",
    "TrialList",
    "TrialRecordings",
    "TrialSide",
    "build_trials",
    "calibrate",
    "collect_outputs",
    "eer",
    "eer_figure",
    "evaluate",
    "evaluate_pairs",
    "find_utterances",
    "is_published",
    "min_dcf",
    "read_pairs",
    "score",
    "si_sdr",
    "si_sdr_improvement",
    "trial_scores",
    "untrained_copy",
    "write_scores",
]
