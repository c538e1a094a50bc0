"""How good is a model on talkers it has never heard? Trials, conditions, metrics and the table of them."""

from separative.evaluation.calibrate import calibrate
from separative.evaluation.collect import listen
from separative.evaluation.conditions import CONDITIONS, DEFAULT, Condition
from separative.evaluation.draw import build_trials
from separative.evaluation.outputs import Answers
from separative.evaluation.protocol import evaluate
from separative.evaluation.results import MAIN, Results, Row, eer_figure
from separative.evaluation.score import score, score_lines
from separative.evaluation.sounds import Sounds
from separative.evaluation.systems import EncoderSystem, MfccSystem, System, Voices, untrained
from separative.evaluation.trials import Side, Trial, TrialList
from separative.metrics import eer, min_dcf, si_sdr, si_sdr_improvement

__all__ = [
    "CONDITIONS",
    "DEFAULT",
    "MAIN",
    "Answers",
    "Condition",
    "EncoderSystem",
    "MfccSystem",
    "Results",
    "Row",
    "Side",
    "Sounds",
    "System",
    "Trial",
    "TrialList",
    "Voices",
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
