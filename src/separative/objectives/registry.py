"""The objectives by name; a user's own joins them with :func:`register_objective`."""

from __future__ import annotations

from typing import Any

from separative.errors import SeparativeError, choose
from separative.objectives.baselines import (
    AamConfig,
    Classification,
    CpcConfig,
    FuturePrediction,
    Ge2e,
    Ge2eConfig,
    MaskedConfig,
    MaskedPrediction,
    NeighbourPrediction,
    NeighboursConfig,
    SoftmaxConfig,
    SupConConfig,
    SupervisedContrastive,
)
from separative.objectives.csc import LossConfig, SeparativeObjective
from separative.objectives.objective import Objective, ObjectiveConfig

OBJECTIVES: dict[str, tuple[type[ObjectiveConfig], type[Objective]]] = {
    "csc": (LossConfig, SeparativeObjective),
    "cpc": (CpcConfig, FuturePrediction),
    "neighbours": (NeighboursConfig, NeighbourPrediction),
    "masked": (MaskedConfig, MaskedPrediction),
    "supcon": (SupConConfig, SupervisedContrastive),
    "ge2e": (Ge2eConfig, Ge2e),
    "softmax": (SoftmaxConfig, Classification),
    "aam": (AamConfig, Classification),
}


def register_objective(name: str, config: type[ObjectiveConfig], objective: type[Objective]) -> None:
    """Make ``loss: {objective: NAME}`` of a recipe mean ``objective``, configured by ``config``.

    Raises:
        SeparativeError: the name is taken.
    """
    if name in OBJECTIVES:
        raise SeparativeError(f"the objective '{name}' is there already; choose another name")
    OBJECTIVES[name] = (config, objective)


def objective_config(section: dict[str, Any]) -> type[ObjectiveConfig]:
    """The configuration class that the section ``loss`` of a recipe asks for; ``csc`` if it names none."""
    return OBJECTIVES[choose(str(section.get("objective", "csc")), OBJECTIVES, "objective")][0]


def objective_class(config: ObjectiveConfig) -> type[Objective]:
    """The objective that a configuration belongs to."""
    return OBJECTIVES[config.objective][1]


def build_objective(config: ObjectiveConfig, identities: int, embedding: int) -> Objective:
    """The objective of a configuration for P identities and embeddings of size E."""
    kind: Any = objective_class(config)
    built: Objective = kind(config, identities, embedding)
    return built
