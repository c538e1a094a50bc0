"""Verbs on models and files as they are: info, what they hold; average; export, for other runtimes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from separative.cli.recordings import DEFAULT, Model
from separative.cli.show import say_json

EXTRAS = {
    "voices": "espeakng_loader",
    "rooms": "pyroomacoustics",
    "quality": "pesq",
    "export": "onnx",
    "bulk": "pyarrow",
    "ray": "ray",
    "gallery": "numkong",
    "serve": "fastapi",
}


def info(
    what: Annotated[
        str | None, typer.Argument(metavar="[MODEL|RECIPE|AUDIO]", help="Nothing: versions and names.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Machine-readable output.")] = False,
) -> None:
    """What a model, recipe or sound file holds.

    Its card, its keys or its header; without an argument, versions and known names. The names of the speakers
    that a model was trained on are left to --json.
    """
    record = _versions() if what is None else _describe(what)
    if json:
        say_json(record)
        return
    if isinstance(data := record.get("data"), dict):
        # There may be thousands; their number stands beside them.
        record = record | {"data": {key: value for key, value in data.items() if key != "speakers"}}
    import yaml

    print(yaml.safe_dump(record, sort_keys=False, allow_unicode=True, width=100), end="")


def average(
    models: Annotated[list[str], typer.Argument(help="Folders of models or runs, or registered names.")],
    out: Annotated[Path, typer.Option(help="Folder for the new model.")],
    attention: Annotated[
        float, typer.Option(min=0, max=1, help="How much of what the cross-attention adds is kept.")
    ] = 1.0,
    half: Annotated[bool, typer.Option(help="Weights in half precision, in half the space.")] = False,
) -> None:
    """The mean of models' weights, as one model.

    For models of one descent: one that training went on from, and what became of it.
    """
    from separative.model import average_models, load_model, save_model

    mean = average_models([load_model(model) for model in models], attention=attention)
    print(save_model(mean, out, half=half, **mean.card))


def export(
    model: Annotated[str, typer.Argument(help="Folder of a model or a run, or a registered name.")],
    path: Annotated[Path, typer.Argument(help="The file to write: .onnx.")],
    voices: Annotated[bool, typer.Option(help="With the waveforms, and what only they need.")] = True,
) -> None:
    """Write a model as ONNX.

    One graph for waveforms of any number and length, for onnxruntime and the like. Needs the extra 'export'.
    """
    from separative.inference.export import export as write
    from separative.model import load_model

    write(load_model(model), path, separate=voices)
    print(f"{path}: {path.stat().st_size / 2**20:.1f} MB; input 'mixture' [batch, samples]")


def _describe(what: str) -> dict[str, Any]:
    path = Path(what)
    if path.is_file() and path.suffix not in (".yaml", ".yml"):
        from separative.audio import info as read_header

        header = read_header(path)
        return {
            "path": str(path),
            "format": header.format,
            "rate": header.rate,
            "channels": header.channels,
            "frames": header.frames,
            "seconds": round(header.seconds, 4),
        }
    from separative.errors import choose
    from separative.model import load_model, model_names
    from separative.training import load_recipe, recipe_names

    if path.suffix in (".yaml", ".yml") or what in recipe_names():
        return load_recipe(what).model_dump(mode="json")
    if not path.is_dir():
        choose(what, (*model_names(), *recipe_names()), "file, model or recipe")
    return load_model(what).card


def _versions() -> dict[str, Any]:
    import platform
    from importlib.metadata import version
    from importlib.util import find_spec

    from separative.model import model_names
    from separative.training import recipe_names

    packages = (
        "separative",
        "torch",
        "numpy",
        "scipy",
        "soundfile",
        "soxr",
        "safetensors",
        "lightning-fabric",
    )
    return {
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
        "extras": {name: find_spec(module) is not None for name, module in EXTRAS.items()},
        "recipes": list(recipe_names()),
        "models": list(model_names()),
    }


def serve(
    gallery: Annotated[
        Path, typer.Argument(metavar="[GALLERY]", help="Folder of enrolled speakers; made if missing.")
    ] = Path("gallery"),
    model: Model = DEFAULT,
    host: Annotated[
        str, typer.Option(help="Address to listen on; others than this machine's need a token.")
    ] = ("127.0.0.1"),
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any that is free.")] = 8000,
    token: Annotated[
        str | None, typer.Option(envvar="SEPARATIVE_TOKEN", help="What clients must show.")
    ] = None,
    allow_host: Annotated[
        list[str] | None, typer.Option(help="A host name it may be addressed by; repeatable.")
    ] = None,
    megabytes: Annotated[float, typer.Option(help="Of an upload, at most.")] = 200.0,
    minutes: Annotated[float, typer.Option(help="Of a recording, at most.")] = 60.0,
    channels: Annotated[int, typer.Option(help="Of a recording, at most.")] = 8,
    uploads: Annotated[int, typer.Option(help="At once.")] = 8,
    waiting: Annotated[
        int, typer.Option(help="Jobs that may wait; beyond it, clients are told to retry.")
    ] = 8,
    job_minutes: Annotated[float, typer.Option(help="After which a job is ended.")] = 30.0,
    keep_minutes: Annotated[
        float, typer.Option(help="After the last use, before uploads and results go.")
    ] = 30.0,
    gigabytes: Annotated[float, typer.Option(help="Of all uploads and results together.")] = 4.0,
) -> None:
    """A page to drop recordings on, and the same over HTTP.

    See who speaks when, hear each speaker alone, enrol and find again. Ctrl-C ends it, and removes all but the
    gallery. Needs the extra 'serve'.
    """
    from separative.model import load_model
    from separative.serve import Limits
    from separative.serve import serve as run

    run(
        load_model(model),
        gallery,
        Limits(megabytes, minutes, channels, uploads, waiting, job_minutes, keep_minutes, gigabytes),
        host=host,
        port=port,
        token=token,
        allow_host=allow_host or (),
        tell=lambda address: print(f"separative: {address} (Ctrl-C ends it)", file=sys.stderr, flush=True),
    )
