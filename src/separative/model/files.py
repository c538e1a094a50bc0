"""Save, load and average models. A model is a folder with weights and a card; nothing is unpickled."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from separative.errors import ModelError
from separative.files import replace_file
from separative.model.blocks import BRANCH_OUTPUTS
from separative.model.card import FORMAT, check_card, read_card, write_card
from separative.model.encoder import SeparativeEncoder

WEIGHTS, CARD = "model.safetensors", "model.json"

log = logging.getLogger(__name__)

# The models that come with the package, one folder each, and the one that is loaded by default.
SHIPPED = Path(__file__).parent / "shipped"
DEFAULT = "base"


def model_names() -> tuple[str, ...]:
    """Names of the models that come with the package.

    >>> model_names()
    ('base',)
    """
    return tuple(sorted(p.parent.name for p in SHIPPED.glob(f"*/{CARD}")))


def load_model(name: str | Path = DEFAULT) -> SeparativeEncoder:
    """Load a model, in evaluation mode, on the CPU.

    Args:
        name: the name of a model that comes with the package (see :func:`model_names`), or the path of a
            model folder or of the folder of a training run. A text that contains a slash or starts with a dot
            is always a path, except ``hf://owner/repo`` and ``hf://owner/repo@revision``, a model of the
            Hugging Face Hub (:func:`separative.model.hub.fetch_model`, extra ``hub``). Any other text is the
            name of a model of the package if there is one, else a folder of the working directory: ``./base``
            is the folder ``base``. Default: the model ``base``.

    Raises:
        ModelError: there is no such model, a file is changed or damaged, a weight is not finite, or the
            weights do not fit the architecture.

    >>> model = load_model()
    >>> model.rate, model.streams, model.config.embedding
    (16000, 2, 128)
    >>> model.card["identity"]
    'speaker'
    """
    folder = find_model(name)
    card_path, weights_path = folder / CARD, folder / WEIGHTS
    card, architecture = read_card(card_path)
    # Weights take 2 or 4 bytes each, and there are few other tensors.
    limit = 8 * architecture.parameters + (16 << 20)
    try:
        with weights_path.open("rb") as file:
            weights = file.read(limit + 1)
    except OSError as error:
        raise ModelError(f"{weights_path} cannot be read: {error.strerror}") from error
    if len(weights) > limit:
        raise ModelError(f"{weights_path} is larger than the architecture in {card_path} allows")
    if hashlib.sha256(weights).hexdigest() != card["sha256"]:
        raise ModelError(
            f"{weights_path}: checksum mismatch between weights and model card; copy or download both again"
        )
    try:
        tensors = load_tensors(weights)
    except (KeyError, ValueError, SafetensorError) as error:
        raise ModelError(
            f"{weights_path}: this version cannot read the weights: {_first_line(error)}"
        ) from error
    model = SeparativeEncoder(architecture)
    _load_weights(model, tensors, str(weights_path))
    require_finite_weights(tensors, str(weights_path))
    model.card = card
    log.info("loaded the model in %s (%s)", folder, str(card["sha256"])[:12])
    return model.eval()


def save_model(model: SeparativeEncoder, folder: str | Path, *, half: bool = False, **card: Any) -> Path:
    """Write weights and card into a folder, and return it.

    The card is written last and contains the checksum of the weights, so that an incomplete folder is
    recognised.

    Args:
        model: the model to save.
        folder: created if needed; a model in it is replaced.
        half: store the weights in half precision, which takes half the space. They are loaded as float32.
        card: entries of the card, such as identity, recipe, data and metrics. The card of a loaded model may
            be passed on as it is.

    Raises:
        ModelError: a weight is not finite, or an entry of the card is invalid. Nothing is written.

    >>> folder = save_model(load_model(), "copy", identity="speaker")
    >>> sorted(path.name for path in folder.iterdir())
    ['model.json', 'model.safetensors']
    """
    folder = Path(folder)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    if half:
        # Only parameters are halved: the running statistics may be too small for half precision.
        tensors |= {name: weight.detach().cpu().half() for name, weight in model.named_parameters()}
    require_finite_weights(tensors, f"{folder}: not saved")
    weights = save_tensors(tensors)
    own = {
        "format": FORMAT,
        "architecture": model.config.model_dump(mode="json"),
        "parameters": sum(p.numel() for p in model.parameters()),
        "sha256": hashlib.sha256(weights).hexdigest(),
    }
    # These entries come first, and replace those of a card that was passed on.
    record = own | card | own
    check_card(record, folder / CARD)
    replace_file(folder / WEIGHTS, weights)
    write_card(folder / CARD, record)
    return folder


def update_card(name: str | Path, /, **entries: Any) -> Path:
    """Set entries of a saved model's card, renew its digest, and return its path. The weights stay the same.

    Args:
        name: see :func:`load_model`.
        entries: new values.

    Raises:
        ModelError: there is no such model, its card is damaged, or a value is invalid.

    >>> _ = save_model(load_model(), "copy")
    >>> _ = update_card("copy", licence="Apache-2.0")
    >>> load_model("copy").card["licence"]
    'Apache-2.0'
    """
    if str(name).startswith("hf://"):
        raise ModelError(f"{name}: the cache of the hub is not changed; save the model in a folder first")
    path = find_model(name) / CARD
    card, _ = read_card(path)
    for key in ("format", "architecture", "sha256"):
        if entries.get(key, card[key]) != card[key]:
            raise ModelError(f"{path}: '{key}' belongs to the weights; save the model again to change it")
    write_card(path, card | entries)
    return path


def start_from(model: SeparativeEncoder, origin: SeparativeEncoder) -> None:
    """Copy the weights of a trained model into a new one, which may have more blocks.

    Blocks that the trained model does not have are set to the identity, so that the new model gives the same
    output at first. Other tensors that it does not have keep their initial values.

    Raises:
        ModelError: the trained model has a tensor that the new one does not have, or has in another shape.

    >>> from separative.model import EncoderConfig
    >>> trained = SeparativeEncoder(EncoderConfig(width=16, stream_blocks=1)).eval()
    >>> deeper = SeparativeEncoder(EncoderConfig(width=16, stream_blocks=2)).eval()
    >>> start_from(deeper, trained)
    >>> waveform = torch.randn(1, 16000)
    >>> torch.equal(deeper(waveform).query_BCE, trained(waveform).query_BCE)
    True
    """
    own, learnt = model.state_dict(), origin.state_dict()
    wrong = [n for n in learnt if n not in own or own[n].shape != learnt[n].shape]
    if wrong:
        raise ModelError(
            f"a model of this recipe cannot start from the other model: they differ at '{wrong[0]}'"
            f" ({len(wrong)} tensors in total)"
        )
    for name in own.keys() - learnt.keys():
        if name.endswith(BRANCH_OUTPUTS):
            own[name].zero_()
    model.load_state_dict(own | learnt)


def average_models(models: Sequence[SeparativeEncoder], *, attention: float = 1.0) -> SeparativeEncoder:
    """Average the weights of models, as in "Model soups" (Wortsman et al., 2022).

    The average is often better than each model if one was fine-tuned from the other.

    Args:
        models: two or more models of one architecture.
        attention: share of the cross-attention's output that is kept, from 0 to 1. A model that was trained
            with several views adds too much if the memory contains only one recording.

    Returns:
        The average, with the last model's card. The card lists the checksums of all models in ``averaged``
        and the training speakers of all, and has no metrics and no calibration.

    Raises:
        ModelError: fewer than two models, different architectures or spaces of teachers, or a share out of
            range.

    >>> model = load_model()
    >>> average = average_models([model, model], attention=0.5)
    >>> torch.equal(average.cross.out.weight, 0.5 * model.cross.out.weight)
    True
    """
    if len(models) < 2:
        raise ModelError(f"averaging needs two or more models, not {len(models)}")
    if not 0 <= attention <= 1:
        raise ModelError(f"attention must be a share from 0 to 1, not {attention:g}")
    last = models[-1]
    if any(model.card.get("space") != last.card.get("space") for model in models):
        raise ModelError("models in the spaces of different teachers cannot be averaged")
    mean = SeparativeEncoder(last.config)
    states = [model.state_dict() for model in models]
    for model, state in zip(models, states, strict=True):
        _load_weights(mean, state, f"the model {str(model.card.get('sha256'))[:12]}")
    mean.load_state_dict(
        {
            # Buffers that count steps are copied from the last model.
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


def find_model(name: str | Path) -> Path:
    """Return the folder that contains the card of a model; see :func:`load_model` for names and paths.

    Raises:
        ModelError: there is no such model.
        MissingExtraError: a model of the hub without the extra ``hub``.

    >>> find_model("base").name
    'base'
    """
    text = str(name)
    if isinstance(name, str) and text.startswith("hf://"):
        from separative.model.hub import fetch_model

        return fetch_model(text)
    if not is_path(name) and text in model_names():
        return SHIPPED / text
    for folder in (Path(name), Path(name) / "model"):
        if (folder / CARD).is_file():
            return folder
    names = model_names()
    known = f"one of: {', '.join(names)}" if names else "no model comes with this version"
    raise ModelError(f"no model at '{name}': expected a folder with {CARD}, or a model's name ({known})")


def is_path(name: str | Path) -> bool:
    """Whether a model is given by its path, not by a name: a ``Path``, or a text with a slash or a first dot.

    >>> is_path("./base"), is_path("runs/base"), is_path("base")
    (True, True, False)
    """
    separators = [s for s in (os.sep, os.altsep) if s]
    return isinstance(name, Path) or name.startswith(".") or any(s in name for s in separators)


def require_finite_weights(tensors: Mapping[str, torch.Tensor], where: str) -> None:
    """Check that no weight is NaN or infinite.

    Args:
        tensors: weights by name.
        where: the file, for the error message.

    Raises:
        ModelError: the message names the first tensor with such a weight.

    >>> require_finite_weights({"bias": torch.tensor([0.0, float("nan")])}, "model.safetensors")
    Traceback (most recent call last):
    separative.errors.ModelError: model.safetensors: the weights 'bias' are not all finite numbers; ...
    """
    for name in sorted(tensors):
        if tensors[name].is_floating_point() and not bool(torch.isfinite(tensors[name]).all()):
            raise ModelError(
                f"{where}: the weights '{name}' are not all finite numbers; use an earlier model, or train"
                " again"
            )


def _load_weights(model: SeparativeEncoder, tensors: dict[str, Any], where: str) -> None:
    """Load all tensors into a model; the error names a missing, unknown or misshapen tensor."""
    own = model.state_dict()
    wrong = sorted(own.keys() ^ tensors.keys()) or sorted(n for n in own if own[n].shape != tensors[n].shape)
    if wrong:
        raise ModelError(
            f"{where} is of another architecture: it differs at '{wrong[0]}' ({len(wrong)} tensors in total)"
        )
    model.load_state_dict(tensors, strict=True)


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
