"""Speaker embeddings that are robust to overlapping speech, by Contrastive Separative Coding.

The names below are the public interface. Each is imported from its subpackage on first use, so
``import separative`` is fast. The subpackages (``separative.audio``, ``separative.mixtures`` ...) hold the
rest.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from separative.corpora import (
        Corpus,
        Utterance,
        check_corpus,
        hold_out_speakers,
        load_corpus,
        pack_corpus,
        save_corpus,
        synthesize_corpus,
    )
    from separative.errors import SeparativeError
    from separative.evaluation import Results, evaluate
    from separative.evaluation.calibrate import calibrate
    from separative.evaluation.meetings import evaluate_meetings
    from separative.evaluation.recordings import evaluate_recordings
    from separative.evaluation.rttm_scores import score_rttm
    from separative.gallery import Gallery
    from separative.inference import (
        Recording,
        Stream,
        StreamingDiarizer,
        add_speakers,
        embed,
        embed_corpus,
        embed_many,
        exclusive_turns,
        load_audio,
        read_transcript,
        separate,
        write_embeddings,
        write_speakers,
        write_transcript,
        write_waveforms,
    )
    from separative.inference.channels import diarize_channels
    from separative.inference.diarize import Diarization, diarize
    from separative.inference.export import export
    from separative.inference.verify import Verification, identify, verify
    from separative.mixtures import ConversationConfig, ConversationSimulator, Mixer, MixtureConfig
    from separative.model import (
        EncoderConfig,
        SeparativeEncoder,
        average_models,
        load_model,
        save_model,
        update_card,
    )
    from separative.report import write_report
    from separative.training import Recipe, load_recipe, train

    __version__: str

__all__ = [
    "ConversationConfig",
    "ConversationSimulator",
    "Corpus",
    "Diarization",
    "EncoderConfig",
    "Gallery",
    "Mixer",
    "MixtureConfig",
    "Recipe",
    "Recording",
    "Results",
    "SeparativeEncoder",
    "SeparativeError",
    "Stream",
    "StreamingDiarizer",
    "Utterance",
    "Verification",
    "add_speakers",
    "average_models",
    "calibrate",
    "check_corpus",
    "diarize",
    "diarize_channels",
    "embed",
    "embed_corpus",
    "embed_many",
    "evaluate",
    "evaluate_meetings",
    "evaluate_recordings",
    "exclusive_turns",
    "export",
    "hold_out_speakers",
    "identify",
    "load_audio",
    "load_corpus",
    "load_model",
    "load_recipe",
    "pack_corpus",
    "read_transcript",
    "save_corpus",
    "save_model",
    "score_rttm",
    "separate",
    "synthesize_corpus",
    "train",
    "update_card",
    "verify",
    "write_embeddings",
    "write_report",
    "write_speakers",
    "write_transcript",
    "write_waveforms",
]

_NAMES_BY_MODULE = {
    "corpora": (
        "Corpus",
        "Utterance",
        "check_corpus",
        "hold_out_speakers",
        "load_corpus",
        "pack_corpus",
        "save_corpus",
        "synthesize_corpus",
    ),
    "errors": ("SeparativeError",),
    "evaluation": ("Results", "calibrate", "evaluate"),
    "evaluation.meetings": ("evaluate_meetings",),
    "evaluation.recordings": ("evaluate_recordings",),
    "evaluation.rttm_scores": ("score_rttm",),
    "gallery": ("Gallery",),
    "inference": (
        "Diarization",
        "Recording",
        "Stream",
        "StreamingDiarizer",
        "Verification",
        "add_speakers",
        "diarize",
        "diarize_channels",
        "embed",
        "embed_corpus",
        "embed_many",
        "exclusive_turns",
        "identify",
        "load_audio",
        "read_transcript",
        "separate",
        "verify",
        "write_embeddings",
        "write_speakers",
        "write_transcript",
        "write_waveforms",
    ),
    "inference.export": ("export",),
    "mixtures": ("ConversationConfig", "ConversationSimulator", "Mixer", "MixtureConfig"),
    "model": (
        "EncoderConfig",
        "SeparativeEncoder",
        "average_models",
        "load_model",
        "save_model",
        "update_card",
    ),
    "report": ("write_report",),
    "training": ("Recipe", "load_recipe", "train"),
}
_MODULE_OF = {name: module for module, names in _NAMES_BY_MODULE.items() for name in names}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("separative")
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'separative' has no attribute '{name}'")
    return getattr(import_module(f"separative.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
