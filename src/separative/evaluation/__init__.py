"""Evaluation on speakers that a model was not trained on: trials, conditions, metrics and result tables."""

from separative.evaluation.calibrate import calibrate
from separative.evaluation.collect import collect_outputs
from separative.evaluation.conditions import CONDITIONS, DEFAULT_CONDITIONS, Condition
from separative.evaluation.draw import build_trials
from separative.evaluation.lone_windows import LoneWindow, lone_windows, write_windows
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
from separative.evaluation.recording_tables import recordings_figure, recordings_page
from separative.evaluation.recordings import evaluate_recordings
from separative.evaluation.references import ReferenceRecording, read_references
from separative.evaluation.results import MAIN_METRICS, Results, Row, eer_figure
from separative.evaluation.rttm_system import RttmSystem
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
    "LoneWindow",
    "MfccSystem",
    "Pair",
    "ReferenceRecording",
    "Results",
    "Row",
    "RttmSystem",
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
    "evaluate_recordings",
    "find_utterances",
    "is_published",
    "lone_windows",
    "min_dcf",
    "read_pairs",
    "read_references",
    "recordings_figure",
    "recordings_page",
    "score",
    "si_sdr",
    "si_sdr_improvement",
    "trial_scores",
    "untrained_copy",
    "write_scores",
    "write_windows",
]
