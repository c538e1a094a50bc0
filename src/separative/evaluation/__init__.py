"""How good is a model on speakers it has never heard? Trials, conditions, metrics and the table of them."""

from separative.evaluation.calibrate import calibrate
from separative.evaluation.collect import listen
from separative.evaluation.conditions import CONDITIONS, DEFAULT, Condition
from separative.evaluation.draw import build_trials
from separative.evaluation.outputs import CollectedOutputs
from separative.evaluation.protocol import evaluate
from separative.evaluation.results import MAIN, Results, Row, eer_figure
from separative.evaluation.score import score, score_lines
from separative.evaluation.sounds import Sounds
from separative.evaluation.systems import EncoderSystem, MfccSystem, System, SystemOutput, untrained
from separative.evaluation.trials import Side, Trial, TrialList
from separative.metrics import eer, min_dcf, si_sdr, si_sdr_improvement

__all__ = [
    "CONDITIONS",
    "DEFAULT",
    "MAIN",
    "CollectedOutputs",
    "Condition",
    "EncoderSystem",
    "MfccSystem",
    "Results",
    "Row",
    "Side",
    "Sounds",
    "System",
    "SystemOutput",
    "Trial",
    "TrialList",
    "build_trials",
    "calibrate",
    "eer",
    "eer_figure",
    "evaluate",
    "listen",
    "min_dcf",
    "score",
    "score_lines",
    "si_sdr",
    "si_sdr_improvement",
    "untrained",
]
