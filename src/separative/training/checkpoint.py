"""Checkpoints: a run's tensors in one safetensors file, all else in its metadata. Atomic; no pickle.

The file names its own hash, and the one before it is kept.
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
    """Write modules, optimiser, the random state of this process and ``state`` (what JSON can hold).

    Of several processes all must call, and the first writes: rows of the ``inventory`` that the others hold
    are joined in the file, so that any number of processes can go on from it.
    """
    tensors = {
        f"{name}/{key}": value
        for name, module in modules.items()
        for key, value in module.state_dict().items()
    }
    for index, slots in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser/{index}/{slot}": value for slot, value in slots.items()}
    if inventory is not None and inventory.processes.world > 1:
        for name in _sharded(tensors, optimiser, inventory):
            tensors[name], _ = inventory.processes.join(tensors[name])
        if inventory.processes.rank:
            return
    tensors["random/cpu"] = torch.get_rng_state()
    if torch.cuda.is_available():
        tensors["random/cuda"] = torch.cuda.get_rng_state()
    flat = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}
    content = save(flat, metadata={"state": json.dumps(state), "sha256": _digest(flat)})
    if path.is_file():
        # The one before stays, as a second name for the same file: at no moment is there none.
        with atomic_path(path.with_name(PREVIOUS)) as beside:
            beside.unlink()
            os.link(path, beside)
    replace_file(path, content)


def load_checkpoint(
    path: Path,
    modules: dict[str, nn.Module],
    optimiser: torch.optim.Optimizer,
    inventory: Inventory | None = None,
) -> dict[str, Any]:
    """Restore what :func:`save_checkpoint` wrote; returns its ``state``. A process takes its own rows.

    Where the file is damaged, the one before it is taken, with a warning.

    Raises:
        ModelError: missing, damaged, or of another architecture or inventory; names the file.
    """
    previous = path.with_name(PREVIOUS)
    try:
        state, tensors = _read(path)
    except ModelError as error:
        if not previous.is_file():
            raise
        state, tensors = _read(previous)
        log.warning("%s; %s is taken instead, of step %s", error, previous, state.get("step"))
    if inventory is not None and inventory.processes.world > 1:
        rows = inventory.rows
        for name in _sharded(tensors, optimiser, inventory):
            tensors[name] = tensors[name][rows.start : rows.stop]
    groups: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        part, _, key = name.partition("/")
        groups.setdefault(part, {})[key] = tensor
    for name, module in modules.items():
        own, found = module.state_dict(), groups.get(name, {})
        strange = sorted(own.keys() ^ found.keys()) or sorted(
            k for k in own if own[k].shape != found[k].shape
        )
        if strange:
            raise ModelError(
                f"{path} is of another architecture or corpus: '{name}' differs at '{strange[0]}'"
            )
        module.load_state_dict(found)
    slots: dict[int, dict[str, Tensor]] = {}
    for key, tensor in groups.get("optimiser", {}).items():
        index, _, slot = key.partition("/")
        slots.setdefault(int(index), {})[slot] = tensor
    optimiser.load_state_dict({"state": slots, "param_groups": optimiser.state_dict()["param_groups"]})
    torch.set_rng_state(groups["random"]["cpu"])
    if "cuda" in groups["random"] and torch.cuda.is_available():
        torch.cuda.set_rng_state(groups["random"]["cuda"])
    return state


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata()
            state: dict[str, Any] = json.loads(metadata["state"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            whole = metadata["sha256"] == _digest(tensors)
    except (OSError, SafetensorError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise ModelError(f"{path} is no checkpoint that can be read: {error}") from error
    if not whole:
        raise ModelError(f"{path} is damaged: its tensors do not have the hash that it names")
    return state, tensors


def _digest(tensors: dict[str, Tensor]) -> str:
    found = hashlib.sha256()
    for name in sorted(tensors):
        found.update(name.encode())
        # As bytes, whatever the type: numbers that are not finite have a hash too.
        found.update(tensors[name].reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def _sharded(tensors: dict[str, Tensor], optimiser: torch.optim.Optimizer, inventory: Inventory) -> list[str]:
    """Names of the tensors that have a row per identity: the inventory's, and the optimiser's for it."""
    weights = [weight for group in optimiser.param_groups for weight in group["params"]]
    index = next(i for i, weight in enumerate(weights) if weight is inventory.row_PE)
    slots = [n for n in tensors if n.startswith(f"optimiser/{index}/") and tensors[n].dim() > 0]
    return [*(n for n in tensors if n.endswith("inventory.row_PE")), *slots]
