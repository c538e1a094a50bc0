"""Commands that inspect, average, export or serve models."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from separative.cli.options import DEFAULT_MODEL, Json, Model, ModelArgument
from separative.cli.show import print_json

EXTRAS = {
    "voices": "espeakng_loader",
    "rooms": "pyroomacoustics",
    "quality": "pesq",
    "export": "onnx",
    "bulk": "pyarrow",
    "ray": "ray",
    "gallery": "numkong",
    "media": "av",
    "serve": "fastapi",
}


def info(
    what: Annotated[
        str | None,
        typer.Argument(
            metavar="[MODEL|RECIPE|AUDIO]",
            help="Model, recipe or audio file. Without it: versions, and the names of models and recipes.",
        ),
    ] = None,
    recipe: Annotated[
        bool, typer.Option("--recipe", help="Show the recipe of that name, not the model.")
    ] = False,
    json: Json = False,
) -> None:
    """Show the card of a model, the keys of a recipe, or the header of an audio file.

    The names of a model's training speakers are shown with --json only.
    """
    record = _versions() if what is None else _describe(what, recipe)
    if json:
        print_json(record)
        return
    if isinstance(data := record.get("data"), dict):
        # There may be thousands of names; `speaker_count` gives their number.
        record = record | {"data": {key: value for key, value in data.items() if key != "speakers"}}
    import yaml

    print(yaml.safe_dump(record, sort_keys=False, allow_unicode=True, width=100), end="")


def average(
    models: Annotated[
        list[str], typer.Argument(help="Folders of models or runs, or names of shipped models.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for the new model.")],
    attention: Annotated[
        float, typer.Option(min=0, max=1, help="Factor on the output of the cross-attention.")
    ] = 1.0,
    half: Annotated[bool, typer.Option(help="Save the weights in half precision.")] = False,
) -> None:
    """Average the weights of models.

    Works for checkpoints that were fine-tuned from one another.
    """
    from separative.model import average_models, load_model, save_model

    mean = average_models([load_model(model) for model in models], attention=attention)
    print(save_model(mean, out, half=half, **mean.card))


def export(
    model: ModelArgument,
    path: Annotated[Path, typer.Argument(help="File to write, .onnx.")],
    voices: Annotated[bool, typer.Option(help="Include the separated waveforms as an output.")] = True,
) -> None:
    """Export a model to ONNX.

    The graph takes any batch size and length, and runs in ONNX Runtime and others. Needs the extra 'export'.
    """
    from separative.inference.export import export as write
    from separative.model import load_model

    write(load_model(model), path, separate=voices)
    print(f"{path}: {path.stat().st_size / 2**20:.1f} MB; input 'mixture' [batch, samples]")


def _describe(what: str, as_recipe: bool) -> dict[str, Any]:
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

    # A name may be that of a model and of a recipe, as "base" is: the model comes first.
    if (
        as_recipe
        or path.suffix in (".yaml", ".yml")
        or (what in recipe_names() and what not in model_names())
    ):
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
        Path, typer.Argument(metavar="[GALLERY]", help="Folder of the gallery; created if missing.")
    ] = Path("gallery"),
    model: Model = DEFAULT_MODEL,
    host: Annotated[
        str, typer.Option(help="Address to listen on; any but this machine's own requires --token.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port to listen on; 0 chooses a free one.")
    ] = 8000,
    token: Annotated[
        str | None, typer.Option(envvar="SEPARATIVE_TOKEN", help="Access token that clients must send.")
    ] = None,
    allow_host: Annotated[
        list[str] | None, typer.Option(help="Host name that clients may use. Repeatable.")
    ] = None,
    public_url: Annotated[
        str | None,
        typer.Option(help="Address of the page behind a proxy, such as https://voices.example.org/speech."),
    ] = None,
    root_path: Annotated[
        str | None,
        typer.Option(help="Path of the page behind a proxy, such as /speech; by default from --public-url."),
    ] = None,
    megabytes: Annotated[float, typer.Option(help="Maximum size of an upload in MB.")] = 200.0,
    minutes: Annotated[float, typer.Option(help="Maximum length of a recording in minutes.")] = 60.0,
    channels: Annotated[int, typer.Option(help="Maximum number of channels of a recording.")] = 8,
    uploads: Annotated[int, typer.Option(help="Maximum number of simultaneous uploads.")] = 8,
    waiting: Annotated[
        int, typer.Option(help="Maximum number of waiting jobs; further requests get status 429.")
    ] = 8,
    job_minutes: Annotated[float, typer.Option(help="Maximum run time of a job in minutes.")] = 30.0,
    keep_minutes: Annotated[
        float, typer.Option(help="Minutes after the last use until uploads and results are deleted.")
    ] = 30.0,
    gigabytes: Annotated[float, typer.Option(help="Maximum total size of uploads and results in GB.")] = 4.0,
) -> None:
    """Start the web page and the HTTP API.

    Diarize, separate, enrol and identify in the browser. Ctrl-C stops the server and deletes all uploads and
    results; the gallery is kept. Needs the extra 'serve'.
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
        public_url=public_url,
        root_path=root_path,
        report=lambda address: print(
            f"separative: {address} (press Ctrl-C to stop)", file=sys.stderr, flush=True
        ),
    )
