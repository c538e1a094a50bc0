"""One training loop for all rival systems: our mixtures, Adam, a stoppable and resumable run."""

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

# Threads that spin while they wait slow each other down on a shared machine. OpenMP reads this when torch is
# loaded, so everything that needs torch is imported inside functions.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

if TYPE_CHECKING:
    from torch import Tensor, nn

    from separative.mixtures import Batch, Mixer, MixtureConfig

WARM_UP = 0.1
CLIP_NORM = 5.0
# That of SpeechBrain's ECAPA-TDNN recipe.
WEIGHT_DECAY = 2e-6
SCHEDULE = f"Adam, weight decay {WEIGHT_DECAY:g}, {WARM_UP:.0%} warm-up, cosine to 0, clip {CLIP_NORM:g}"
LOG_EVERY = 10
CHECKPOINT_MINUTES = 2.0

Loss = Callable[["Batch"], tuple["Tensor", dict[str, float]]]


def arguments(description: str) -> argparse.ArgumentParser:
    """Options of every training script."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--corpus", type=Path, required=True, help="speech; its split train is used")
    parser.add_argument("--noise", type=Path, help="noise clips; their split train is used")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    parser.add_argument("--seconds", type=float, required=True, help="mixture-seconds to train on")
    parser.add_argument("--lr", type=float, required=True, help="peak learning rate")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--workers", type=int, default=0, help="processes that draw mixtures")
    parser.add_argument(
        "--recipe", default="small", help="whose mixtures, precision and compilation are used"
    )
    parser.add_argument("--cache", type=Path, help="folder of decoded audio; .cache beside --out by default")
    parser.add_argument("--resume", action="store_true", help="go on with the run in --out, if there is one")
    return parser


def mixtures(recipe: str, **changes: Any) -> MixtureConfig:
    """The mixtures of a recipe (speakers x speeds, crops, channels, levels), with some settings changed."""
    from separative.mixtures import MixtureConfig
    from separative.training import load_recipe

    return MixtureConfig.model_validate(load_recipe(recipe).mixtures.model_dump() | changes)


def share_of_rate(share: float) -> float:
    """Learning rate as a share of its peak: linear warm-up, then half a cosine down to nothing."""
    if share < WARM_UP:
        return share / WARM_UP
    return 0.5 * (1 + math.cos(math.pi * (share - WARM_UP) / (1 - WARM_UP)))


def train(
    args: argparse.Namespace,
    config: MixtureConfig,
    settings: dict[str, Any],
    build: Callable[[Mixer], tuple[nn.Module, nn.Module, Loss]],
) -> None:
    """Train until ``args.seconds`` of mixture have been heard, and write weights and ``model.json``.

    ``settings`` describe the system, for its card; ``build`` makes, after seeding, the model that is kept,
    what only training needs (a classifier), and the loss of a batch with figures to be shown.

    SIGTERM and SIGINT end the run after the step, saved, with status 130. The last line that a finished run
    prints is one JSON object: ``seconds`` of mixture, ``minutes`` of computing, ``parameters`` of the model.
    """
    import torch

    from separative.corpora import load_corpus
    from separative.errors import SeparativeError
    from separative.files import replace_file
    from separative.mixtures import Mixer, loader
    from separative.training import load_recipe, machine
    from separative.training.checkpoint import load_checkpoint, save_checkpoint
    from separative.training.run_log import Stop

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
    resumed = args.resume and path.is_file()
    if resumed and json.loads(settings_path.read_text()) != json.loads(json.dumps(settings)):
        sys.exit(f"{settings_path} differs from the given options: a run resumes with its own")
    if not args.resume and path.exists():
        sys.exit(f"{args.out} holds a run: name another folder, or --resume it")
    try:
        speech = load_corpus(args.corpus, split="train", keep_damaged=True)
        noise = load_corpus(args.noise, split="train", keep_damaged=True) if args.noise else None
        cache = args.cache or args.out.parent / ".cache"
        mixer = Mixer(speech, config, seed=args.seed, noise=noise, cache=cache)
    except SeparativeError as error:
        sys.exit(str(error))
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
    first, before = state["step"], state["minutes"]
    print(
        f"{parameters:,} parameters, {len(mixer.identities)} identities, {steps} steps from {first}",
        flush=True,
    )
    for module in modules.values():
        module.train()
    if run.compile:
        model.compile()
    batches = iter(loader(mixer, first_step=first, steps=steps - first, workers=args.workers))
    started = saved = told = time.monotonic()
    sums: dict[str, float] = {}
    step, count = first, 0
    with Stop() as stop:
        while step < steps and not stop.asked:
            batch = next(batches)
            with torch.autocast("cpu", torch.bfloat16, enabled=run.precision == "bf16-mixed"):
                value, figures = loss(batch)
            optimiser.param_groups[0]["lr"] = args.lr * share_of_rate((step + 1) / (steps + 1))
            optimiser.zero_grad(set_to_none=True)
            value.backward()
            norm = torch.nn.utils.clip_grad_norm_(optimiser.param_groups[0]["params"], CLIP_NORM)
            if not bool(torch.isfinite(norm)):
                sys.exit(f"step {step}: loss {value.item()} or its gradient is not finite; try a lower --lr")
            optimiser.step()
            step, count = step + 1, count + 1
            for name, figure in {"loss": value.item(), "gradient": float(norm), **figures}.items():
                sums[name] = sums.get(name, 0.0) + figure
            now = time.monotonic()
            if step % LOG_EVERY == 0 or step == steps:
                shown = "  ".join(f"{name} {total / count:.4g}" for name, total in sums.items())
                speed = count * step_seconds / (now - told)
                left = (steps - step) * step_seconds / speed / 60
                print(f"step {step}/{steps}  {shown}  {speed:.1f} s/s  {left:.1f} min left", flush=True)
                sums, count, told = {}, 0, now
            minutes = before + (now - started) / 60
            if now - saved > 60 * CHECKPOINT_MINUTES or step == steps or stop.asked:
                save_checkpoint(path, modules, optimiser, {"step": step, "minutes": minutes})
                saved = now
    if step < steps:
        print(f"stopped at step {step} and saved; --resume goes on from there", flush=True)
        sys.exit(130)
    minutes = state["minutes"] if step == first else minutes
    write(
        model,
        args.out,
        settings | {"parameters": parameters, "minutes": minutes, "machine": machine.describe()},
    )
    print(
        json.dumps({"seconds": steps * step_seconds, "minutes": round(minutes, 2), "parameters": parameters})
    )


def write(model: nn.Module, folder: Path, card: dict[str, Any]) -> None:
    """``model.safetensors``, then ``model.json`` with its hash."""
    from safetensors.torch import save

    from separative.files import replace_file

    content = save({name: value.contiguous() for name, value in model.state_dict().items()})
    replace_file(folder / "model.safetensors", content)
    card = card | {"sha256": hashlib.sha256(content).hexdigest()}
    replace_file(folder / "model.json", json.dumps(card, indent=1).encode())


def weights(folder: Path, system: str) -> dict[str, Tensor]:
    """The weights in a run's folder, which must be those of ``system`` and whole."""
    from safetensors.torch import load

    try:
        card = json.loads((folder / "model.json").read_text(encoding="utf-8"))
        content = (folder / "model.safetensors").read_bytes()
    except (OSError, json.JSONDecodeError) as error:
        sys.exit(f"{folder} holds no trained model: {error}")
    if card["system"] != system or card["sha256"] != hashlib.sha256(content).hexdigest():
        sys.exit(
            f"{folder} does not hold a whole {system}: it says '{card['system']}', or its weights are damaged"
        )
    return load(content)
