"""Models on disk: a folder with ``model.safetensors`` and its card ``model.json``; nothing is unpickled."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from separative.errors import ModelError
from separative.files import replace_file, write_json
from separative.model.blocks import BRANCH_ENDS
from separative.model.config import EncoderConfig
from separative.model.encoder import SeparativeEncoder

FORMAT = 1
WEIGHTS, CARD = "model.safetensors", "model.json"

Card = dict[str, Any]

# Models that come with the package, as folders of their names beside this file, and the one meant by default.
SHIPPED = Path(__file__).parent / "shipped"
DEFAULT = "base"


def model_names() -> tuple[str, ...]:
    """Names that :func:`load_model` knows besides folders."""
    return tuple(sorted(p.parent.name for p in SHIPPED.glob(f"*/{CARD}")))


def save_model(model: SeparativeEncoder, folder: str | Path, *, half: bool = False, **card: Any) -> Path:
    """Write weights and card into ``folder`` and return it.

    ``card`` holds what the user of a model must know: identity kind, recipe, data, metrics; that of a loaded
    model may be given whole. It is written last and names the hash of the weights, so a folder is either
    whole or refused. ``half``: weights in half precision, in half the space; they are loaded as single.
    """
    folder = Path(folder)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    if half:
        # Running statistics, which are no parameters, may be too small for it.
        tensors |= {name: weight.detach().cpu().half() for name, weight in model.named_parameters()}
    weights = save_tensors(tensors)
    own = {
        "format": FORMAT,
        "architecture": model.config.model_dump(mode="json"),
        "parameters": sum(p.numel() for p in model.parameters()),
        "sha256": hashlib.sha256(weights).hexdigest(),
    }
    # Its own entries stand first, and hold whatever the given card says of another file.
    record = own | card | own
    replace_file(folder / WEIGHTS, weights)
    write_json(folder / CARD, record)
    return folder


def update_card(name: str | Path, /, **entries: Any) -> Path:
    """Set entries of a saved model's card and return its path; the weights stay as they are.

    Raises:
        ModelError: no such model, or a damaged card.
    """
    path = _find(name) / CARD
    write_json(path, _read_card(path) | entries)
    return path


def load_model(name: str | Path = DEFAULT) -> SeparativeEncoder:
    """The model of that folder (a run's folder too) or registered name, in evaluation mode, on the CPU.

    Without a name, the model that comes with the package.

    Raises:
        ModelError: no such model, a damaged or foreign file, or weights of another architecture.
    """
    folder = _find(name)
    card_path, weights_path = folder / CARD, folder / WEIGHTS
    card = _read_card(card_path)
    try:
        weights = weights_path.read_bytes()
    except OSError as error:
        raise ModelError(f"{weights_path} cannot be read: {error.strerror}") from error
    if hashlib.sha256(weights).hexdigest() != card.get("sha256"):
        raise ModelError(
            f"{weights_path} does not have the hash its card names: the file is damaged or not the card's"
        )
    try:
        model = SeparativeEncoder(EncoderConfig.model_validate(card["architecture"]))
        tensors = load_tensors(weights)
    except (KeyError, ValidationError, SafetensorError) as error:
        raise ModelError(f"{folder} holds no model this version can read: {first_line(error)}") from error
    load_strictly(model, tensors, str(weights_path))
    model.card = card
    return model.eval()


def load_strictly(model: SeparativeEncoder, tensors: dict[str, Any], where: str) -> None:
    """Fill ``model``; a missing, unknown or misshapen tensor is a ModelError that names it."""
    own = model.state_dict()
    strange = sorted(own.keys() ^ tensors.keys()) or sorted(
        n for n in own if own[n].shape != tensors[n].shape
    )
    if strange:
        raise ModelError(
            f"{where} is of another architecture: it differs at '{strange[0]}' ({len(strange)} in all)"
        )
    model.load_state_dict(tensors, strict=True)


def start_from(model: SeparativeEncoder, origin: SeparativeEncoder) -> None:
    """Take over the weights of a trained model; tensors that it lacks keep their start.

    Blocks that it lacks start as identities, so that a deeper model begins where the trained one ended.

    Raises:
        ModelError: the trained model has a tensor that this one lacks, or has in another shape.
    """
    own, learnt = model.state_dict(), origin.state_dict()
    strange = [n for n in learnt if n not in own or own[n].shape != learnt[n].shape]
    if strange:
        raise ModelError(
            f"a model of this recipe cannot start from the other one: they differ at '{strange[0]}'"
            f" ({len(strange)} in all)"
        )
    for name in own.keys() - learnt.keys():
        if name.endswith(BRANCH_ENDS):
            own[name].zero_()
    model.load_state_dict(own | learnt)


def first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def _read_card(path: Path) -> Card:
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ModelError(f"{path} is not a model card: {error}") from error
    if not isinstance(card, dict) or card.get("format") != FORMAT:
        raise ModelError(f"{path} is not a model card of format {FORMAT}")
    return card


def _find(name: str | Path) -> Path:
    for folder in (Path(name), Path(name) / "model", SHIPPED / str(name)):
        if (folder / CARD).is_file():
            return folder
    names = model_names()
    known = f"; registered models: {', '.join(names)}" if names else "; none comes with this version"
    raise ModelError(f"no model at '{name}': a folder with {CARD} is wanted{known}")


def average_models(models: Sequence[SeparativeEncoder], *, attention: float = 1.0) -> SeparativeEncoder:
    """The mean of all weights: often better than each where one was trained on from the other.

    Wortsman et al., "Model soups", 2022.

    ``attention``: how much is kept of what the cross-attention adds to a query (0: nothing, 1: all). Trained
    with several views it adds too much where a memory holds but one recording.

    The card is the last one's, with the hashes of all in ``averaged`` and everybody's speakers; figures and
    calibration of a single one are left out.

    Raises:
        ModelError: fewer than two models, or of several architectures; a share out of range.
    """
    if len(models) < 2:
        raise ModelError("a mean is of two models or more")
    if not 0 <= attention <= 1:
        raise ModelError(f"attention {attention:g}: a share from 0 to 1 is wanted")
    last = models[-1]
    mean = SeparativeEncoder(last.config)
    states = [model.state_dict() for model in models]
    for model, state in zip(models, states, strict=True):
        load_strictly(mean, state, f"the model {str(model.card.get('sha256'))[:12]}")
    mean.load_state_dict(
        {
            # Counters among the buffers are the last one's.
            name: torch.stack([state[name] for state in states]).mean(0) if own.is_floating_point() else own
            for name, own in states[-1].items()
        }
    )
    if mean.cross is not None and attention != 1:
        with torch.no_grad():
            for weight in mean.cross.out.parameters():
                weight.mul_(attention)
    speakers = sorted({speaker for model in models for speaker in model.training_speakers})
    kept = {key: value for key, value in last.card.items() if key not in ("metrics", "calibration")}
    mean.card = kept | {
        "data": {**last.card.get("data", {}), "speakers": speakers},
        "averaged": [model.card.get("sha256") for model in models],
        "attention": attention,
    }
    return mean.eval()
