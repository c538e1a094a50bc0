"""Objectives: the contrastive separative loss, separation, activity."""

from separative.objectives.contrastive import Inventory, csc_loss, information_bound, squared_distance_logits
from separative.objectives.csc import LossConfig, Losses, SeparativeObjective
from separative.objectives.separation import (
    activity_loss,
    audible,
    best_permutation,
    reorder,
    separation_costs,
    speech_activity,
)

__all__ = [
    "Inventory",
    "LossConfig",
    "Losses",
    "SeparativeObjective",
    "activity_loss",
    "audible",
    "best_permutation",
    "csc_loss",
    "information_bound",
    "reorder",
    "separation_costs",
    "speech_activity",
    "squared_distance_logits",
]
