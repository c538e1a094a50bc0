"""A whole corpus embedded into a folder of Parquet files: resumable, nothing lost and nothing twice.

Recordings are dealt to parts of fixed size in their order. A part is computed from its recordings alone and
appears whole or not at all, so whoever computes it, and however often a worker dies, the folder ends up the
same.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from separative import audio
from separative.errors import AudioError, MissingExtraError, SeparativeError, choose
from separative.files import atomic_path, write_json
from separative.inference.forward import run
from separative.inference.recording import ChannelPolicy, Loaded, load
from separative.types import Progress

if TYPE_CHECKING:
    from separative.model import SeparativeEncoder

PLAN = "plan.json"
Engine = Literal["local", "ray"]


class Cut(NamedTuple):
    """A stretch of a sound file, in seconds; the whole file if ``seconds`` is None."""

    id: str
    path: Path
    start: float = 0.0
    seconds: float | None = None


def embed_corpus(
    model: SeparativeEncoder,
    cuts: Sequence[Cut],
    folder: str | Path,
    *,
    part_size: int = 500,
    batch: int = 8,
    channels: ChannelPolicy = "mean",
    engine: Engine = "local",
    address: str | None = None,
    progress: Progress | None = None,
) -> Path:
    """Embed every recording; returns the folder, with ``part-<n>.parquet`` and ``plan.json``.

    A row is a speaker: ``id`` and ``seconds`` of the recording, ``stream``, ``speech_seconds``, ``embedding``,
    ``activity`` with ``segment_seconds``, ``model`` (hash of the weights), ``error``. A recording in which
    nobody is audible has no row; one that cannot be read has one with its ``error``.

    Args:
        folder: new, or of an earlier call with the same recordings, model and sizes, which goes on.
        part_size: recordings in a file.
        batch: recordings in a forward pass.
        engine: ``local``, this process; or ``ray``, the workers of a Ray cluster, which must see the
            recordings and the folder under the same paths. A worker that dies has its part done by another.
        address: of the cluster; by default one is started on this machine.
        progress: called with (done, total) recordings.

    Raises:
        MissingExtraError: pyarrow is not installed, or ray where it is asked for.
        SeparativeError: the folder is of other recordings, another model or other sizes; names what differs.
    """
    choose(engine, ("local", "ray"), "engine")
    if address is not None and engine != "ray":
        raise SeparativeError(f"address '{address}': the engine '{engine}' has none; valid with: ray")
    folder = Path(folder).resolve()
    parts = plan_parts(model, cuts, folder, part_size, channels)
    done = len(cuts) - sum(len(part) for _, part in parts)
    finished = (
        _by_ray(model, parts, batch, channels, address)
        if engine == "ray"
        else (write_part(model, part, path, batch=batch, channels=channels) for path, part in parts)
    )
    for count in finished:
        done += count
        if progress is not None:
            progress(done, len(cuts))
    return folder


def _by_ray(
    model: SeparativeEncoder,
    parts: Sequence[tuple[Path, Sequence[Cut]]],
    batch: int,
    channels: ChannelPolicy,
    address: str | None,
) -> Iterator[int]:
    """The sizes of parts as workers of a cluster finish them."""
    try:
        import ray
    except ImportError as error:
        raise MissingExtraError("the engine 'ray'", "ray") from error
    started = not ray.is_initialized()
    if started:
        ray.init(address=address, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    try:
        # A part is a file, whole or absent: doing one twice is harmless, so any failure is tried again.
        work = ray.remote(num_cpus=1, max_retries=5)(_work)
        shared = ray.put(model)
        waiting = [work.remote(shared, list(part), path, batch, channels) for path, part in parts]
        while waiting:
            ready, waiting = ray.wait(waiting)
            yield from ray.get(ready)
    finally:
        if started:
            ray.shutdown()


def _work(
    model: SeparativeEncoder, part: Sequence[Cut], path: Path, batch: int, channels: ChannelPolicy
) -> int:
    import torch

    torch.set_num_threads(1)
    return write_part(model, part, path, batch=batch, channels=channels)


def plan_parts(
    model: SeparativeEncoder, cuts: Sequence[Cut], folder: Path, part_size: int, channels: ChannelPolicy
) -> list[tuple[Path, Sequence[Cut]]]:
    """The parts that are not there yet, with their recordings; the folder is made, or checked."""
    digest = hashlib.sha256()
    for cut in cuts:
        digest.update(f"{cut.id}\n{cut.path}\n{cut.start}\n{cut.seconds}\n".encode())
    plan = {
        "recordings": len(cuts),
        "recordings_sha256": digest.hexdigest(),
        "model": model.card.get("sha256"),
        "part_size": part_size,
        "channels": channels,
    }
    path = folder / PLAN
    if path.is_file():
        there = json.loads(path.read_text(encoding="utf-8"))
        if differing := sorted(key for key in plan if there.get(key) != plan[key]):
            raise SeparativeError(
                f"{folder} was begun with another '{differing[0]}': go on with the same recordings, model and"
                " sizes, or name a new folder"
            )
    else:
        folder.mkdir(parents=True, exist_ok=True)
        write_json(path, plan)
    parts = [
        (folder / f"part-{number:06d}.parquet", cuts[start : start + part_size])
        for number, start in enumerate(range(0, len(cuts), part_size))
    ]
    return [(path, part) for path, part in parts if not path.is_file()]


def write_part(
    model: SeparativeEncoder, part: Sequence[Cut], path: Path, *, batch: int, channels: ChannelPolicy
) -> int:
    """Embed the recordings of one part and write it; returns how many they are."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise MissingExtraError("embedding a corpus", "bulk") from error
    rows: list[dict[str, Any]] = []
    hashed = str(model.card.get("sha256", ""))
    for start in range(0, len(part), batch):
        loaded: list[tuple[Cut, Loaded]] = []
        for cut in part[start : start + batch]:
            try:
                loaded.append((cut, _load(cut, model.rate, channels)))
            except AudioError as error:
                rows.append({"id": cut.id, "model": hashed, "error": str(error)})
        if not loaded:
            continue
        recordings = run(model, [item for _, item in loaded], separate=False)
        for (cut, _), recording in zip(loaded, recordings, strict=True):
            rows += [
                {
                    "id": cut.id,
                    "stream": speaker.stream,
                    "seconds": recording.seconds,
                    "speech_seconds": speaker.speech_seconds,
                    "embedding": speaker.embedding_E,
                    "activity": speaker.activity_S,
                    "segment_seconds": speaker.segment_seconds,
                    "model": hashed,
                }
                for speaker in recording.speakers
            ]
    schema = pyarrow.schema(
        [
            ("id", pyarrow.string()),
            ("stream", pyarrow.int32()),
            ("seconds", pyarrow.float64()),
            ("speech_seconds", pyarrow.float64()),
            # Not of a fixed size, though they are: readers before Arrow 22 fail where some are missing.
            ("embedding", pyarrow.list_(pyarrow.float32())),
            ("activity", pyarrow.list_(pyarrow.float32())),
            ("segment_seconds", pyarrow.float64()),
            ("model", pyarrow.string()),
            ("error", pyarrow.string()),
        ]
    )
    # In the order of the recordings, whatever was refused first.
    place = {cut.id: number for number, cut in enumerate(part)}
    rows.sort(key=lambda row: (place[row["id"]], -row.get("speech_seconds", 0.0)))
    with atomic_path(path) as beside:
        parquet.write_table(pyarrow.Table.from_pylist(rows, schema=schema), beside)
    return len(part)


def _load(cut: Cut, rate: int, channels: ChannelPolicy) -> Loaded:
    if cut.seconds is None:
        return load(cut.path, rate, channels)
    wave_N, own = audio.read(cut.path, rate, channels=channels, start=cut.start, seconds=cut.seconds)
    try:
        return replace(load((wave_N, own), rate), name=str(cut.path))
    except AudioError as error:
        raise AudioError(str(error).replace("the waveform", str(cut.path))) from error
