"""Checkpoints and the log of a run: exact, atomic, and with clear errors for damaged files."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from separative.errors import ModelError
from separative.training.checkpoint import load_checkpoint, save_checkpoint
from separative.training.run_log import RunLog


def make_parts(width: int = 4, steps: int = 0) -> tuple[dict[str, nn.Module], torch.optim.Optimizer]:
    """Two modules, one of them with running statistics, and their optimiser after some steps."""
    torch.manual_seed(width)
    modules = {"model": nn.Sequential(nn.Linear(3, width), nn.BatchNorm1d(width)), "other": nn.Linear(2, 2)}
    weights = [p for module in modules.values() for p in module.parameters()]
    optimiser = torch.optim.AdamW(weights, lr=0.1)
    for _ in range(steps):
        optimiser.zero_grad()
        (
            modules["model"](torch.randn(5, 3)).sin().sum() + modules["other"](torch.randn(5, 2)).sum()
        ).backward()
        optimiser.step()
    return modules, optimiser


def flatten(state: Any) -> list[Any]:
    if isinstance(state, dict):
        return [x for key in sorted(state, key=str) for x in (key, *flatten(state[key]))]
    return [x for item in state for x in flatten(item)] if isinstance(state, list) else [state]


def test_checkpoint_restores_modules_optimiser_and_random_state(tmp_path: Path) -> None:
    modules, optimiser = make_parts(steps=3)
    save_checkpoint(tmp_path / "c", modules, optimiser, {"step": 3, "minutes": 0.5})
    drawn = torch.rand(4)
    fresh, restored = make_parts(steps=1)
    assert load_checkpoint(tmp_path / "c", fresh, restored) == {"step": 3, "minutes": 0.5}
    assert torch.equal(torch.rand(4), drawn)
    for name, module in modules.items():
        ours, theirs = module.state_dict(), fresh[name].state_dict()
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    left, right = flatten(optimiser.state_dict()), flatten(restored.state_dict())
    assert len(left) == len(right)
    assert all(torch.equal(a, b) if torch.is_tensor(a) else a == b for a, b in zip(left, right, strict=True))
    assert [path.name for path in tmp_path.iterdir()] == ["c"]


@pytest.mark.parametrize("keep", [0, 7, 100, -1])
def test_truncated_checkpoint_is_an_error(tmp_path: Path, keep: int) -> None:
    modules, optimiser = make_parts(steps=1)
    save_checkpoint(tmp_path / "c", modules, optimiser, {"step": 1})
    (tmp_path / "c").write_bytes((tmp_path / "c").read_bytes()[:keep])
    with pytest.raises(ModelError, match="c is not a readable checkpoint"):
        load_checkpoint(tmp_path / "c", modules, optimiser)


def test_flipped_bit_is_detected_and_the_previous_checkpoint_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "checkpoint.safetensors"
    modules, optimiser = make_parts(steps=1)
    for step in (1, 2, 3):
        save_checkpoint(path, modules, optimiser, {"step": step})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoint-previous.safetensors", path.name]
    content = bytearray(path.read_bytes())
    content[-3] ^= 4
    path.write_bytes(content)
    assert load_checkpoint(path, modules, optimiser) == {"step": 2}
    assert "is damaged" in caplog.text and "checkpoint-previous.safetensors of step 2 instead" in caplog.text
    # Without a previous checkpoint, the damaged file is an error.
    (tmp_path / "checkpoint-previous.safetensors").unlink()
    with pytest.raises(ModelError, match="is damaged: checksum mismatch"):
        load_checkpoint(path, modules, optimiser)


def test_missing_or_foreign_file_is_an_error(tmp_path: Path) -> None:
    modules, optimiser = make_parts()
    save_file({"x": torch.ones(2)}, tmp_path / "bare")
    save_file({"x": torch.ones(2)}, tmp_path / "foreign", metadata={"state": "{"})
    for name in ("missing", "bare", "foreign"):
        with pytest.raises(ModelError, match=f"{name} is not a readable checkpoint"):
            load_checkpoint(tmp_path / name, modules, optimiser)


def test_checkpoint_of_another_architecture_leaves_the_model_unchanged(tmp_path: Path) -> None:
    modules, optimiser = make_parts(width=4, steps=1)
    save_checkpoint(tmp_path / "c", modules, optimiser, {"step": 1})
    wider, _ = make_parts(width=6)
    before = wider["model"][0].weight.clone()
    with pytest.raises(ModelError, match=r"'model' differs at '0\.bias'"):
        load_checkpoint(tmp_path / "c", wider, optimiser)
    assert torch.equal(wider["model"][0].weight, before)


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def test_log_averages_values_between_lines(tmp_path: Path) -> None:
    run_log = RunLog(tmp_path, 0)
    run_log.add({"loss": 1.0})
    run_log.add({"loss": 2.0, "other": 5.0})
    assert run_log.averages() == {"loss": 1.5, "other": 5.0}
    run_log.add({"loss": 7.0})
    run_log.write(3, {"minutes": 0.1, "note": "text", **run_log.averages()})
    run_log.close()
    assert lines(tmp_path) == [{"step": 3, "minutes": 0.1, "note": "text", "loss": 7.0}]
    assert list((tmp_path / "tensorboard").glob("events*"))


def test_resumed_log_drops_lines_after_the_checkpoint(tmp_path: Path) -> None:
    whole = "".join(json.dumps({"step": step, "loss": 1.0}) + "\n" for step in range(1, 7))
    (tmp_path / "log.jsonl").write_text(whole + '{"step": 7, "lo')
    run_log = RunLog(tmp_path, 4)
    run_log.write(5, {"loss": 0.5})
    run_log.close()
    assert [(line["step"], line["loss"]) for line in lines(tmp_path)][3:] == [(4, 1.0), (5, 0.5)]
