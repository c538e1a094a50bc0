"""Speaker representations that survive the cocktail party: Contrastive Separative Coding.

The names below are the front door; each is loaded from its room when it is first used, so that
``import separative`` costs nothing. The rooms themselves (``separative.audio``, ``separative.mixtures`` ...)
hold the rest.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from separative.corpora import (
        Corpus,
        Utterance,
        check_corpus,
        load_corpus,
        save_corpus,
        synthesize_corpus,
    )
    from separative.errors import SeparativeError
    from separative.evaluation import Results, evaluate
    from separative.evaluation.calibrate import calibrate
    from separative.inference import Recording, Stream, embed, separate
    from separative.inference.verify import Verification, verify
    from separative.mixtures import Mixer, MixtureConfig
    from separative.model import EncoderConfig, SeparativeEncoder, load_model, save_model, update_card
    from separative.report import write_report
    from separative.training import Recipe, load_recipe, train

    __version__: str

__all__ = [
    "Corpus",
    "EncoderConfig",
    "Mixer",
    "MixtureConfig",
    "Recipe",
    "Recording",
    "Results",
    "SeparativeEncoder",
    "SeparativeError",
    "Stream",
    "Utterance",
    "Verification",
    "calibrate",
    "check_corpus",
    "embed",
    "evaluate",
    "load_corpus",
    "load_model",
    "load_recipe",
    "save_corpus",
    "save_model",
    "separate",
    "synthesize_corpus",
    "train",
    "update_card",
    "verify",
    "write_report",
]

_ROOMS = {
    "corpora": ("Corpus", "Utterance", "check_corpus", "load_corpus", "save_corpus", "synthesize_corpus"),
    "errors": ("SeparativeError",),
    "evaluation": ("Results", "calibrate", "evaluate"),
    "inference": ("Recording", "Stream", "Verification", "embed", "separate", "verify"),
    "mixtures": ("Mixer", "MixtureConfig"),
    "model": ("EncoderConfig", "SeparativeEncoder", "load_model", "save_model", "update_card"),
    "report": ("write_report",),
    "training": ("Recipe", "load_recipe", "train"),
}
_HOME = {name: room for room, names in _ROOMS.items() for name in names}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("separative")
    if name not in _HOME:
        raise AttributeError(f"module 'separative' has no attribute '{name}'")
    return getattr(import_module(f"separative.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
