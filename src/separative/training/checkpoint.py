"""Checkpoints: the tensors of a run in one safetensors file, and all other state in its metadata.

Files are written atomically and contain no pickles. A checkpoint contains its own checksum. The checkpoint
before it is kept as well.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from separative.errors import ModelError
from separative.files import atomic_path, replace_file
from separative.objectives import Inventory

log = logging.getLogger(__name__)

NAME, PREVIOUS = "checkpoint.safetensors", "checkpoint-previous.safetensors"


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
    content = save(tensors, metadata={"state": json.dumps(state), "sha256": _checksum(tensors)})
    if path.is_file():
        # Give the previous checkpoint a second name before it is replaced: a checkpoint exists at any moment.
        with atomic_path(path.with_name(PREVIOUS)) as temporary:
            temporary.unlink()
            os.link(path, temporary)
    replace_file(path, content)


def load_checkpoint(
    path: Path,
    modules: dict[str, nn.Module],
    optimiser: torch.optim.Optimizer,
    inventory: Inventory | None = None,
) -> dict[str, Any]:
    """Restore what :func:`save_checkpoint` wrote and return its ``state``; see the example there.

    Each process takes its own rows of the ``inventory``. If the file is damaged, the previous checkpoint is
    loaded with a warning.

    Raises:
        ModelError: the file is missing or damaged, or belongs to another architecture or inventory.
    """
    state, tensors = _read_or_previous(path)
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
        module.load_state_dict(saved)
    slots: dict[int, dict[str, Tensor]] = {}
    for key, tensor in groups.get("optimiser", {}).items():
        index, _, slot = key.partition("/")
        slots.setdefault(int(index), {})[slot] = tensor
    optimiser.load_state_dict({"state": slots, "param_groups": optimiser.state_dict()["param_groups"]})
    torch.set_rng_state(groups["random"]["cpu"])
    if "cuda" in groups["random"] and torch.cuda.is_available():
        torch.cuda.set_rng_state(groups["random"]["cuda"])
    return state


def _read_or_previous(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """State and tensors of a checkpoint, or of the previous one if it is damaged."""
    previous = path.with_name(PREVIOUS)
    try:
        return _read(path)
    except ModelError as error:
        if not previous.is_file():
            raise
        state, tensors = _read(previous)
        log.warning("%s; using %s of step %s instead", error, previous, state.get("step"))
        return state, tensors


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata()
            state: dict[str, Any] = json.loads(metadata["state"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            whole = metadata["sha256"] == _checksum(tensors)
    except (OSError, SafetensorError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise ModelError(f"{path} is not a readable checkpoint: {error}") from error
    if not whole:
        raise ModelError(f"{path} is damaged: checksum mismatch between tensors and metadata")
    return state, tensors


def _checksum(tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode())
        # Hash the bytes, so that any type and values that are not finite work.
        digest.update(tensors[name].reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _sharded_names(
    tensors: dict[str, Tensor], optimiser: torch.optim.Optimizer, inventory: Inventory
) -> list[str]:
    """Names of the tensors with one row per identity: the inventory's rows and their optimiser state."""
    weights = [weight for group in optimiser.param_groups for weight in group["params"]]
    index = next(i for i, weight in enumerate(weights) if weight is inventory.row_PE)
    slots = [n for n in tensors if n.startswith(f"optimiser/{index}/") and tensors[n].dim() > 0]
    return [*(n for n in tensors if n.endswith("inventory.row_PE")), *slots]
