"""Objectives: contrastive separative coding, its losses, and the baseline objectives to compare it with."""

from separative.objectives.contrastive import Inventory, csc_loss, squared_distance_logits
from separative.objectives.csc import LossConfig, PresenceLossConfig, SeparativeObjective
from separative.objectives.objective import Losses, Objective, ObjectiveConfig
from separative.objectives.presence import PresenceConfig, PresenceTerm
from separative.objectives.registry import (
    OBJECTIVES,
    build_objective,
    objective_class,
    objective_config,
    register_objective,
)
from separative.objectives.separation import (
    activity_loss,
    audible_sources,
    best_permutation,
    reorder,
    separation_costs,
    speech_activity,
)
from separative.objectives.teach import TeachConfig, TeachObjective, teacher_divergence

__all__ = [
    "OBJECTIVES",
    "Inventory",
    "LossConfig",
    "Losses",
    "Objective",
    "ObjectiveConfig",
    "PresenceConfig",
    "PresenceLossConfig",
    "PresenceTerm",
    "SeparativeObjective",
    "TeachConfig",
    "TeachObjective",
    "activity_loss",
    "audible_sources",
    "best_permutation",
    "build_objective",
    "csc_loss",
    "objective_class",
    "objective_config",
    "register_objective",
    "reorder",
    "separation_costs",
    "speech_activity",
    "squared_distance_logits",
    "teacher_divergence",
]
