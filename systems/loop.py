"""The training loop of the baseline systems: our mixtures, Adam, and runs that can be stopped and resumed."""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

# Threads that spin while they wait slow down a shared machine. OpenMP reads this variable when torch is
# loaded, so torch and everything that needs it are imported inside functions.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.optim import Optimizer

    from separative.mixtures import Batch, Mixer, MixtureConfig

WARM_UP = 0.1
CLIP_NORM = 5.0
# As in SpeechBrain's recipe for ECAPA-TDNN.
WEIGHT_DECAY = 2e-6
SCHEDULE = f"Adam, weight decay {WEIGHT_DECAY:g}, {WARM_UP:.0%} warm-up, cosine to 0, clip {CLIP_NORM:g}"
LOG_EVERY = 10
CHECKPOINT_MINUTES = 2.0

Loss = Callable[["Batch"], tuple["Tensor", dict[str, float]]]


def arguments(description: str) -> argparse.ArgumentParser:
    """The options that all training scripts share."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--corpus", type=Path, required=True, help="speech; the split train is used")
    parser.add_argument("--noise", type=Path, help="noise clips; the split train is used")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    parser.add_argument("--seconds", type=float, required=True, help="seconds of mixtures to train on")
    parser.add_argument("--lr", type=float, required=True, help="peak learning rate")
    parser.add_argument("--seed", type=int, default=0, help="random seed")
    parser.add_argument("--threads", type=int, default=1, help="number of threads")
    parser.add_argument("--workers", type=int, default=0, help="number of processes that draw mixtures")
    parser.add_argument("--recipe", default="small", help="recipe of mixtures, precision and compilation")
    parser.add_argument("--cache", type=Path, help="folder of decoded audio; default: .cache next to --out")
    parser.add_argument("--resume", action="store_true", help="resume the run in --out, if there is one")
    return parser


def mixtures(recipe: str, **changes: Any) -> MixtureConfig:
    """The mixture settings of a recipe (speeds, crops, channels, levels) with some of them changed."""
    from separative.mixtures import MixtureConfig
    from separative.training import load_recipe

    return MixtureConfig.model_validate(load_recipe(recipe).mixtures.model_dump() | changes)


def share_of_rate(share: float) -> float:
    """Learning rate as a share of its peak: linear warm-up, then half a cosine down to zero.

    ``share``: share of the training that is finished.
    """
    if share < WARM_UP:
        return share / WARM_UP
    return 0.5 * (1 + math.cos(math.pi * (share - WARM_UP) / (1 - WARM_UP)))


def train(
    args: argparse.Namespace,
    config: MixtureConfig,
    settings: dict[str, Any],
    build: Callable[[Mixer], tuple[nn.Module, nn.Module, Loss]],
) -> None:
    """Train on ``args.seconds`` of mixtures, and write the weights and ``model.json``.

    On SIGTERM or SIGINT the run finishes its step, saves a checkpoint and exits with code 130. The last line
    that a finished run prints is one JSON object: ``seconds`` of mixtures, ``minutes`` of computing, and
    ``parameters`` of the model.

    Args:
        args: options from :func:`arguments`.
        config: mixture settings.
        settings: describe the system, for ``model.json``.
        build: called after seeding; returns the model, a module that only training needs (a classifier), and
            the loss function, which also returns figures to print.
    """
    import torch

    from separative.files import replace_file
    from separative.mixtures import loader
    from separative.training import load_recipe, machine
    from separative.training.checkpoint import load_checkpoint, save_checkpoint
    from separative.training.run_log import StopSignal

    machine.prepare(args.threads)
    torch.set_flush_denormal(True)
    run = load_recipe(args.recipe).run
    settings = settings | {
        "seconds": args.seconds,
        "lr": args.lr,
        "seed": args.seed,
        "schedule": SCHEDULE,
        "precision": run.precision,
        "mixtures": config.model_dump(mode="json"),
    }
    path, settings_path = args.out / "checkpoint.safetensors", args.out / "settings.json"
    resumed = can_resume(args.resume, path, settings_path, settings)
    mixer = make_mixer(args, config)
    torch.manual_seed(args.seed)
    model, extra, loss = build(mixer)
    parameters = sum(p.numel() for p in model.parameters())
    modules = {"model": model, "extra": extra}
    optimiser = torch.optim.Adam(
        [p for m in modules.values() for p in m.parameters()], lr=args.lr, weight_decay=WEIGHT_DECAY
    )
    state: dict[str, Any] = {"step": 0, "minutes": 0.0}
    if resumed:
        state = load_checkpoint(path, modules, optimiser)
    args.out.mkdir(parents=True, exist_ok=True)
    replace_file(settings_path, json.dumps(settings, indent=1).encode())
    step_seconds = config.batch * config.seconds
    steps = math.ceil(args.seconds / step_seconds)
    step, minutes = state["step"], state["minutes"]
    print(
        f"{parameters:,} parameters, {len(mixer.identities)} identities, {steps} steps from {step}",
        flush=True,
    )
    for module in modules.values():
        module.train()
    if run.compile:
        model.compile()
    batches = iter(loader(mixer, first_step=step, steps=steps - step, workers=args.workers))
    log, started, saved = StepLog(steps, step_seconds), time.monotonic(), time.monotonic()
    with StopSignal() as stop:
        while step < steps and not stop.requested:
            lr = args.lr * share_of_rate((step + 1) / (steps + 1))
            with torch.autocast("cpu", torch.bfloat16, enabled=run.precision == "bf16-mixed"):
                value, figures = loss(next(batches))
            try:
                norm = update(optimiser, value, lr)
            except FloatingPointError as error:
                sys.exit(f"step {step}: {error}; try a lower --lr")
            step += 1
            log.add(step, {"loss": value.item(), "gradient": norm, **figures})
            now = time.monotonic()
            minutes = state["minutes"] + (now - started) / 60
            if now - saved > 60 * CHECKPOINT_MINUTES or step == steps or stop.requested:
                save_checkpoint(path, modules, optimiser, {"step": step, "minutes": minutes})
                saved = now
    if step < steps:
        print(f"stopped at step {step} and saved; continue with --resume", flush=True)
        sys.exit(130)
    write(
        model,
        args.out,
        settings | {"parameters": parameters, "minutes": minutes, "machine": machine.describe()},
    )
    print(
        json.dumps({"seconds": steps * step_seconds, "minutes": round(minutes, 2), "parameters": parameters})
    )


def can_resume(resume: bool, path: Path, settings_path: Path, settings: dict[str, Any]) -> bool:
    """Whether there is a checkpoint to resume; exit with a message if the folder holds another run."""
    if not resume and path.exists():
        sys.exit(f"{path.parent} holds a run; resume it with --resume, or name another folder")
    found = resume and path.is_file()
    if found and json.loads(settings_path.read_text()) != json.loads(json.dumps(settings)):
        sys.exit(f"{settings_path} differs from the given options; resume with the options of the run")
    return found


def make_mixer(args: argparse.Namespace, config: MixtureConfig) -> Mixer:
    """The source of mixtures; exit with a message if a corpus cannot be used."""
    from separative.corpora import load_corpus
    from separative.errors import SeparativeError
    from separative.mixtures import Mixer

    try:
        speech = load_corpus(args.corpus, split="train", keep_damaged=True)
        noise = load_corpus(args.noise, split="train", keep_damaged=True) if args.noise else None
        cache = args.cache or args.out.parent / ".cache"
        return Mixer(speech, config, seed=args.seed, noise=noise, cache=cache)
    except SeparativeError as error:
        sys.exit(str(error))


def update(optimiser: Optimizer, loss: Tensor, lr: float) -> float:
    """Back-propagate a loss and update the weights; return the norm of the gradient before clipping.

    Raises:
        FloatingPointError: the loss or its gradient is not finite.
    """
    import torch

    optimiser.param_groups[0]["lr"] = lr
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(optimiser.param_groups[0]["params"], CLIP_NORM)
    if not bool(torch.isfinite(norm)):
        raise FloatingPointError(f"loss {loss.item()} or its gradient is not finite")
    optimiser.step()
    return float(norm)


class StepLog:
    """Prints mean figures, speed and remaining time every ``LOG_EVERY`` steps and at the last step."""

    def __init__(self, steps: int, step_seconds: float) -> None:
        self.steps, self.step_seconds = steps, step_seconds
        self.sums: dict[str, float] = {}
        self.count, self.printed = 0, time.monotonic()

    def add(self, step: int, figures: dict[str, float]) -> None:
        """Add the figures of a step that has ended; ``step`` counts from 1."""
        self.count += 1
        for name, figure in figures.items():
            self.sums[name] = self.sums.get(name, 0.0) + figure
        if step % LOG_EVERY == 0 or step == self.steps:
            now = time.monotonic()
            shown = "  ".join(f"{name} {total / self.count:.4g}" for name, total in self.sums.items())
            speed = self.count * self.step_seconds / (now - self.printed)
            left = (self.steps - step) * self.step_seconds / speed / 60
            print(f"step {step}/{self.steps}  {shown}  {speed:.1f} s/s  {left:.1f} min left", flush=True)
            self.sums, self.count, self.printed = {}, 0, now


def write(model: nn.Module, folder: Path, card: dict[str, Any]) -> None:
    """Write ``model.safetensors``, then ``model.json`` with its checksum."""
    from safetensors.torch import save

    from separative.files import replace_file

    content = save({name: value.contiguous() for name, value in model.state_dict().items()})
    replace_file(folder / "model.safetensors", content)
    card = card | {"sha256": hashlib.sha256(content).hexdigest()}
    replace_file(folder / "model.json", json.dumps(card, indent=1).encode())


def weights(folder: Path, system: str) -> dict[str, Tensor]:
    """Load the weights of a finished run; exit with a message if they are damaged or of another system."""
    from safetensors.torch import load

    try:
        card = json.loads((folder / "model.json").read_text(encoding="utf-8"))
        content = (folder / "model.safetensors").read_bytes()
    except (OSError, json.JSONDecodeError) as error:
        sys.exit(f"{folder} has no trained model: {error}")
    if card["system"] != system or card["sha256"] != hashlib.sha256(content).hexdigest():
        sys.exit(
            f"{folder} holds a model of '{card['system']}', not of '{system}', or its weights are damaged"
        )
    return load(content)
