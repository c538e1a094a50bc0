"""The objectives by name; :func:`register_objective` adds one of your own."""

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
from separative.objectives.csc import LossConfig, PresenceLossConfig, SeparativeObjective
from separative.objectives.momentum import DinoConfig, MocoConfig, MomentumContrast, SelfDistillation
from separative.objectives.objective import Objective, ObjectiveConfig
from separative.objectives.teach import TeachConfig, TeachObjective

OBJECTIVES: dict[str, tuple[type[ObjectiveConfig], type[Objective]]] = {
    "csc": (LossConfig, SeparativeObjective),
    "presence": (PresenceLossConfig, SeparativeObjective),
    "teach": (TeachConfig, TeachObjective),
    "softmax": (SoftmaxConfig, Classification),
    "aam": (AamConfig, Classification),
    "supcon": (SupConConfig, SupervisedContrastive),
    "ge2e": (Ge2eConfig, Ge2e),
    "neighbours": (NeighboursConfig, NeighbourPrediction),
    "moco": (MocoConfig, MomentumContrast),
    "dino": (DinoConfig, SelfDistillation),
    "cpc": (CpcConfig, FuturePrediction),
    "masked": (MaskedConfig, MaskedPrediction),
}


def register_objective(name: str, config: type[ObjectiveConfig], objective: type[Objective]) -> None:
    """Add an objective, so that recipes can select it with ``loss: {objective: NAME}``.

    Args:
        name: new name of the objective.
        config: class of its configuration, which validates the section ``loss``.
        objective: class that is constructed as ``objective(config, identities, embedding)``.

    Raises:
        SeparativeError: the name is already in use.

    >>> register_objective("csc", LossConfig, SeparativeObjective)
    Traceback (most recent call last):
    separative.errors.SeparativeError: an objective 'csc' already exists; choose another name
    """
    if name in OBJECTIVES:
        raise SeparativeError(f"an objective '{name}' already exists; choose another name")
    OBJECTIVES[name] = (config, objective)


def objective_config(section: dict[str, Any]) -> type[ObjectiveConfig]:
    """Return the configuration class for the section ``loss`` of a recipe; ``csc`` if it names no objective.

    >>> objective_config({"objective": "ge2e"}).__name__
    'Ge2eConfig'
    """
    return OBJECTIVES[choose(str(section.get("objective", "csc")), OBJECTIVES, "objective")][0]


def objective_class(config: ObjectiveConfig) -> type[Objective]:
    """Return the class of the objective that a configuration belongs to.

    >>> objective_class(LossConfig()).__name__
    'SeparativeObjective'
    """
    return OBJECTIVES[config.objective][1]


def build_objective(config: ObjectiveConfig, identities: int, embedding: int) -> Objective:
    """Construct the objective of a configuration for P identities and embeddings of size E.

    >>> build_objective(LossConfig(), identities=5, embedding=8).inventory.row_PE.shape
    torch.Size([5, 8])
    """
    kind: Any = objective_class(config)
    built: Objective = kind(config, identities, embedding)
    return built
