"""How good is a model on talkers it has never heard? Trials, conditions, metrics and the table of them."""

from separative.evaluation.conditions import CONDITIONS, DEFAULT, Condition
from separative.evaluation.draw import build_trials
from separative.evaluation.figure import eer_figure
from separative.evaluation.protocol import evaluate
from separative.evaluation.results import Results, Row
from separative.evaluation.trials import Side, Trial, TrialList
from separative.metrics import eer, min_dcf, si_sdr, si_sdr_improvement

__all__ = [
    "CONDITIONS",
    "DEFAULT",
    "Condition",
    "Results",
    "Row",
    "Side",
    "Trial",
    "TrialList",
    "build_trials",
    "eer",
    "eer_figure",
    "evaluate",
    "min_dcf",
    "si_sdr",
    "si_sdr_improvement",
]
