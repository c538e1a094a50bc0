"""The separative encoder: build, run, save and load it.

Axis letters: B mixtures · G condition groups · V views · C streams · N samples · T frames · S segments ·
D trunk width · E embedding size · P identities in the inventory.
"""

from separative.model.card import Card
from separative.model.config import EncoderConfig
from separative.model.encoder import EncoderOutput, SeparativeEncoder
from separative.model.files import (
    average_models,
    load_model,
    model_names,
    save_model,
    start_from,
    update_card,
)

__all__ = [
    "Card",
    "EncoderConfig",
    "EncoderOutput",
    "SeparativeEncoder",
    "average_models",
    "load_model",
    "model_names",
    "save_model",
    "start_from",
    "update_card",
]
