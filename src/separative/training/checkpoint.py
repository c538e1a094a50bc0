"""Checkpoints: the tensors of a run in one safetensors file, and all other state in its metadata.

Files are written atomically and contain no pickles. The checkpoint before the newest is kept as well.

The metadata holds ``state`` (JSON) and ``digest``: the SHA-256 of all bytes of the file, with the 64 digits
of the digest itself replaced by zeros. So any change of tensors, state or header is noticed.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from separative.errors import ModelError
from separative.files import atomic_path, parse_json
from separative.model.files import require_finite_weights
from separative.objectives import Inventory

log = logging.getLogger(__name__)

NAME, PREVIOUS = "checkpoint.safetensors", "checkpoint-previous.safetensors"
_ZEROS = b"0" * 64
_CHUNK_BYTES = 1 << 22
# The limit of the format.
_MAX_HEADER_BYTES = 100_000_000

# Newest checkpoints that this process could not use: the next one must not replace the previous one by them.
_unusable: set[Path] = set()


def has_checkpoint(folder: Path) -> bool:
    """Whether a folder holds a checkpoint: the newest, or the one before it.

    >>> has_checkpoint(Path("run"))
    False
    """
    return any((folder / name).is_file() for name in (NAME, PREVIOUS))


def save_checkpoint(
    path: Path,
    modules: dict[str, nn.Module],
    optimiser: torch.optim.Optimizer,
    state: dict[str, Any],
    inventory: Inventory | None = None,
) -> None:
    """Write modules, optimiser, the random state of this process and ``state`` (JSON values).

    With several processes, all of them must call this function; the first writes the file. Rows of the
    ``inventory`` from all processes are joined in it, so a run can resume with any number of processes.

    Raises:
        ModelError: a tensor is not finite. Nothing is written, so the earlier checkpoints stay.

    >>> module = nn.Linear(2, 1)
    >>> optimiser = torch.optim.AdamW(module.parameters())
    >>> save_checkpoint(Path("checkpoint.safetensors"), {"model": module}, optimiser, {"step": 3})
    >>> load_checkpoint(Path("checkpoint.safetensors"), {"model": module}, optimiser)
    {'step': 3}
    """
    tensors = {
        f"{name}/{key}": value
        for name, module in modules.items()
        for key, value in module.state_dict().items()
    }
    for index, slots in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser/{index}/{slot}": value for slot, value in slots.items()}
    if inventory is not None and inventory.processes.world_size > 1:
        for name in _sharded_names(tensors, optimiser, inventory):
            tensors[name], _ = inventory.processes.gather(tensors[name])
        if inventory.processes.rank:
            return
    tensors["random/cpu"] = torch.get_rng_state()
    if torch.cuda.is_available():
        tensors["random/cuda"] = torch.cuda.get_rng_state()
    tensors = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}
    require_finite_weights(tensors, f"{path}: not saved")
    content = save(tensors, metadata={"state": json.dumps(state), "digest": _ZEROS.decode()})
    start = 8 + int.from_bytes(content[:8], "little")
    header = content[:start]
    body = memoryview(content)[start:]
    digest = hashlib.sha256(header)
    digest.update(body)
    entry = b'"digest":"%s"'
    header = header.replace(entry % _ZEROS, entry % digest.hexdigest().encode(), 1)
    if path.is_file() and path.resolve() not in _unusable:
        # Give the previous checkpoint a second name before it is replaced: a checkpoint exists at any moment.
        with atomic_path(path.with_name(PREVIOUS)) as temporary:
            temporary.unlink()
            os.link(path, temporary)
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        file.write(header)
        file.write(body)
        file.flush()
        os.fsync(file.fileno())
    _unusable.discard(path.resolve())


def load_checkpoint(
    path: Path,
    modules: dict[str, nn.Module],
    optimiser: torch.optim.Optimizer,
    inventory: Inventory | None = None,
    check: Callable[[dict[str, Any]], None] | None = None,
) -> dict[str, Any]:
    """Restore what :func:`save_checkpoint` wrote and return its ``state``; see the example there too.

    Each process takes its own rows of the ``inventory``. If the file is missing or damaged, the previous
    checkpoint is loaded with a warning.

    Args:
        check: called with the state before anything is restored; it may raise an error.

    Raises:
        ModelError: the file is missing or damaged, or belongs to another architecture or inventory.

    >>> module = nn.Linear(2, 1)
    >>> load_checkpoint(Path("none"), {"model": module}, torch.optim.AdamW(module.parameters()))
    Traceback (most recent call last):
    separative.errors.ModelError: ...
    """
    state, tensors = _read_or_previous(path)
    if check is not None:
        check(state)
    if inventory is not None and inventory.processes.world_size > 1:
        rows = inventory.rows
        for name in _sharded_names(tensors, optimiser, inventory):
            tensors[name] = tensors[name][rows.start : rows.stop]
    groups: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        part, _, key = name.partition("/")
        groups.setdefault(part, {})[key] = tensor
    for name, module in modules.items():
        own, saved = module.state_dict(), groups.get(name, {})
        different = sorted(own.keys() ^ saved.keys()) or sorted(
            key for key in own if own[key].shape != saved[key].shape
        )
        if different:
            raise ModelError(
                f"{path} belongs to another architecture or corpus: '{name}' differs at '{different[0]}'"
            )
    try:
        slots = _optimiser_slots(groups.get("optimiser", {}), optimiser)
        random = groups["random"]
        torch.set_rng_state(random["cpu"])
        if "cuda" in random and torch.cuda.is_available():
            torch.cuda.set_rng_state(random["cuda"])
        optimiser.load_state_dict({"state": slots, "param_groups": optimiser.state_dict()["param_groups"]})
    except (KeyError, ValueError, TypeError, RuntimeError) as error:
        raise ModelError(f"{path} is not a checkpoint of this version: {error}") from error
    for name, module in modules.items():
        module.load_state_dict(groups[name])
    return state


def _optimiser_slots(
    saved: dict[str, Tensor], optimiser: torch.optim.Optimizer
) -> dict[int, dict[str, Tensor]]:
    """The optimiser's state by number of the weight.

    Raises:
        ValueError: a tensor belongs to no weight, or cannot be the state of its weight.
    """
    weights = [weight for group in optimiser.param_groups for weight in group["params"]]
    slots: dict[int, dict[str, Tensor]] = {}
    for key, tensor in saved.items():
        index, _, slot = key.partition("/")
        if not index.isdecimal() or int(index) >= len(weights):
            raise ValueError(f"the optimiser has no weight '{index}'")
        # A state has one number, one number for each row, or the shape of the weight.
        shape = weights[int(index)].shape
        if tensor.dim() and tensor.shape != shape and tensor.numel() != shape[0]:
            raise ValueError(f"the optimiser's state '{key}' has another shape than its weight")
        slots.setdefault(int(index), {})[slot] = tensor
    return slots


def _read_or_previous(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """State and tensors of a checkpoint, or of the previous one if it is missing or damaged."""
    previous = path.with_name(PREVIOUS)
    try:
        return _read(path)
    except ModelError as error:
        if not previous.is_file():
            raise
        state, tensors = _read(previous)
        log.warning("%s; using %s of step %s instead", error, previous, state.get("step"))
        _unusable.add(path.resolve())
        return state, tensors


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata()
            text, digest = metadata["state"], metadata["digest"]
            whole = _digest(path, digest) == digest
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, KeyError, TypeError) as error:
        raise ModelError(f"{path} is not a readable checkpoint: {error}") from error
    if not whole:
        raise ModelError(f"{path} is damaged: checksum mismatch between its content and its digest")
    require_finite_weights(tensors, f"{path} is damaged")
    state = parse_json(text, f"{path} is not a readable checkpoint: its state", ModelError)
    if not isinstance(state, dict):
        raise ModelError(f"{path} is not a readable checkpoint: its state is not a JSON object")
    return state, tensors


def _digest(path: Path, digest: str) -> str:
    """SHA-256 of a checkpoint, with the digest in its header replaced by zeros."""
    with path.open("rb") as file:
        size = file.read(8)
        header = file.read(min(int.from_bytes(size, "little"), _MAX_HEADER_BYTES))
        # In the state, which is JSON in a JSON text, quotation marks have a backslash before them.
        entry = f'"digest":"{digest}"'.encode()
        masked = header.replace(entry, entry.replace(digest.encode(), _ZEROS), 1)
        found = hashlib.sha256(size + masked)
        while chunk := file.read(_CHUNK_BYTES):
            found.update(chunk)
    return found.hexdigest()


def _sharded_names(
    tensors: dict[str, Tensor], optimiser: torch.optim.Optimizer, inventory: Inventory
) -> list[str]:
    """Names of the tensors with one row per identity: the inventory's rows and their optimiser state."""
    weights = [weight for group in optimiser.param_groups for weight in group["params"]]
    index = next(i for i, weight in enumerate(weights) if weight is inventory.row_PE)
    slots = [n for n in tensors if n.startswith(f"optimiser/{index}/") and tensors[n].dim() > 0]
    return [*(n for n in tensors if n.endswith("inventory.row_PE")), *slots]
