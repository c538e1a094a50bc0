"""Embed a whole corpus into a folder of Parquet files. An interrupted call can be repeated and continues.

The recordings are split in order into parts of fixed size, one file each. A part depends on its recordings
only and is written atomically. The result is therefore the same whichever process computes a part, and
however often a worker fails.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from separative import audio
from separative.errors import AudioError, MissingExtraError, SeparativeError, choose
from separative.files import atomic_path, read_json, write_json
from separative.inference.forward import process_batch
from separative.inference.long_recordings import embed_long, is_long
from separative.inference.recording import Audio, ChannelPolicy, LoadedRecording, Recording, load
from separative.types import Progress

if TYPE_CHECKING:
    from separative.model import SeparativeEncoder

PLAN = "plan.json"
Engine = Literal["local", "ray"]


class Cut(NamedTuple):
    """A part of an audio file: ``start`` and length in seconds, or the whole file if ``seconds`` is None.

    ``channel`` is counted from 0; None leaves the channels to the policy of the call. ``speaker`` is the
    label of the recording, if there is one.

    Example:
        >>> Cut("ann-1", Path("ann.wav"), start=1.0, seconds=2.5).seconds
        2.5
    """

    id: str
    path: Path
    start: float = 0.0
    seconds: float | None = None
    channel: int | None = None
    speaker: str | None = None


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
    """Embed all speakers of many recordings; returns the folder, with ``part-<n>.parquet`` and ``plan.json``.

    A row is a speaker that was found: ``id``, ``speaker`` (the label) and ``seconds`` of the recording,
    ``stream``, ``speech_seconds``, ``embedding``, ``activity`` with ``segment_seconds``, ``model`` (hash of
    the weights), ``error``. A recording without an audible speaker has no row. A recording that cannot be
    read has one row, with its ``error``.

    Args:
        folder: a new folder, or the folder of an earlier call with the same recordings, model and settings,
            which then continues.
        part_size: number of recordings in a file.
        batch: number of recordings in a forward pass.
        channels: how several channels become one.
        engine: ``local`` uses this process; ``ray`` uses the workers of a Ray cluster, which must see the
            recordings and the folder under the same paths. If a worker fails, another one repeats its part.
        address: address of the cluster; by default one is started on this machine.
        progress: called with (done, total) recordings.

    Raises:
        MissingExtraError: pyarrow is not installed, or the engine is ``ray`` and Ray is not installed.
        SeparativeError: the folder belongs to other recordings, another model or other settings; the message
            names the first difference.

    Example:
        >>> import separative
        >>> from pyarrow import parquet
        >>> cuts = [Cut("one", Path("bob.wav")), Cut("two", Path("mixture.wav"))]
        >>> folder = separative.embed_corpus(separative.load_model(), cuts, "embeddings")
        >>> parquet.read_table(folder / "part-000000.parquet")["id"].to_pylist()
        ['one', 'two', 'two']
    """
    choose(engine, ("local", "ray"), "engine")
    if address is not None and engine != "ray":
        raise SeparativeError(
            f"an address is valid with the engine 'ray' only, not with '{engine}': '{address}'"
        )
    folder = Path(folder).resolve()
    parts = plan_parts(model, cuts, folder, part_size, channels)
    done = len(cuts) - sum(len(part) for _, part in parts)
    counts = (
        _write_parts_with_ray(model, parts, batch, channels, address)
        if engine == "ray"
        else (write_part(model, part, path, batch=batch, channels=channels) for path, part in parts)
    )
    for count in counts:
        done += count
        if progress is not None:
            progress(done, len(cuts))
    return folder


def _write_parts_with_ray(
    model: SeparativeEncoder,
    parts: Sequence[tuple[Path, Sequence[Cut]]],
    batch: int,
    channels: ChannelPolicy,
    address: str | None,
) -> Iterator[int]:
    """Write the parts with the workers of a cluster; yields the size of each part when it is finished."""
    try:
        import ray
    except ImportError as error:
        raise MissingExtraError("the engine 'ray'", "ray") from error
    started = not ray.is_initialized()
    if started:
        ray.init(address=address, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    try:
        # Writing a part twice gives the same file, so every failure may be retried.
        task = ray.remote(num_cpus=1, max_retries=5)(_write_part_task)
        shared_model = ray.put(model)
        pending = [task.remote(shared_model, list(part), path, batch, channels) for path, part in parts]
        while pending:
            ready, pending = ray.wait(pending)
            yield from ray.get(ready)
    finally:
        if started:
            ray.shutdown()


def _write_part_task(
    model: SeparativeEncoder, part: Sequence[Cut], path: Path, batch: int, channels: ChannelPolicy
) -> int:
    import torch

    torch.set_num_threads(1)
    return write_part(model, part, path, batch=batch, channels=channels)


def plan_parts(
    model: SeparativeEncoder, cuts: Sequence[Cut], folder: Path, part_size: int, channels: ChannelPolicy
) -> list[tuple[Path, Sequence[Cut]]]:
    """Return the files of the parts that are still missing, with their recordings.

    Creates the folder and its plan, or checks that an existing plan is the same.

    Raises:
        SeparativeError: the folder belongs to other recordings, another model or other settings.

    Example:
        >>> import separative
        >>> cuts = [Cut(name, Path(f"{name}.wav")) for name in ("ann", "bob", "noise")]
        >>> [(path.name, len(part)) for path, part
        ...  in plan_parts(separative.load_model(), cuts, Path("embeddings"), part_size=2, channels="mean")]
        [('part-000000.parquet', 2), ('part-000001.parquet', 1)]
    """
    digest = hashlib.sha256()
    for cut in cuts:
        channel = "" if cut.channel is None else f"{cut.channel}\n"
        speaker = "" if cut.speaker is None else f"{cut.speaker}\n"
        described = f"{cut.id}\n{cut.path}\n{cut.start}\n{cut.seconds}\n{channel}{speaker}"
        # A file name need not be UTF-8.
        digest.update(described.encode(errors="surrogateescape"))
    plan = {
        "recordings": len(cuts),
        "recordings_sha256": digest.hexdigest(),
        "model": model.card.get("sha256"),
        "part_size": part_size,
        "channels": channels,
    }
    path = folder / PLAN
    if path.is_file():
        existing = read_json(path)
        if not isinstance(existing, dict):
            raise SeparativeError(f"{path}: not the plan of an embedded corpus; choose a new folder")
        if differing := sorted(key for key in plan if existing.get(key) != plan[key]):
            raise SeparativeError(
                f"{folder} was started with another '{differing[0]}'; use the same recordings, model and"
                " settings, or choose a new folder"
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
    """Embed the recordings of one part and write its file; returns the number of recordings.

    Raises:
        MissingExtraError: pyarrow is not installed.

    Example:
        >>> import separative
        >>> cuts = [Cut("one", Path("ann.wav")), Cut("gone", Path("gone.wav"))]
        >>> write_part(separative.load_model(), cuts, Path("part.parquet"), batch=2, channels="mean")
        2
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise MissingExtraError("embedding a corpus", "bulk") from error
    rows: list[dict[str, Any]] = []
    names = {cut.id: _as_text(cut.id) for cut in part}
    model_hash = str(model.card.get("sha256", ""))
    for start in range(0, len(part), batch):
        loaded: list[tuple[Cut, LoadedRecording]] = []
        embedded: list[tuple[Cut, Recording]] = []
        for cut in part[start : start + batch]:
            try:
                source, policy = _source(cut, model.rate, channels)
                if is_long(source):
                    recording, _ = embed_long(model, source, policy)
                    embedded.append((cut, recording))
                else:
                    loaded.append((cut, load(source, model.rate, policy)))
            except AudioError as error:
                # The cut may be a part of a file.
                message = str(error).replace("the waveform", str(cut.path))
                rows.append({"id": cut.id, "speaker": cut.speaker, "model": model_hash, "error": message})
        if loaded:
            recordings = process_batch(model, [item for _, item in loaded], separate=False)
            embedded += [(cut, item) for (cut, _), item in zip(loaded, recordings, strict=True)]
        for cut, recording in embedded:
            rows += [
                {
                    "id": cut.id,
                    "speaker": cut.speaker,
                    "stream": speaker.stream,
                    "seconds": recording.seconds,
                    "speech_seconds": speaker.speech_seconds,
                    "embedding": speaker.embedding,
                    "activity": speaker.activity,
                    "segment_seconds": speaker.segment_seconds,
                    "model": model_hash,
                }
                for speaker in recording.speakers
            ]
    schema = pyarrow.schema(
        [
            ("id", pyarrow.string()),
            ("speaker", pyarrow.string()),
            ("stream", pyarrow.int32()),
            ("seconds", pyarrow.float64()),
            ("speech_seconds", pyarrow.float64()),
            # All have the same size. Still a list of variable size, because readers before Arrow 22 fail on
            # missing values in lists of fixed size.
            ("embedding", pyarrow.list_(pyarrow.float32())),
            ("activity", pyarrow.list_(pyarrow.float32())),
            ("segment_seconds", pyarrow.float64()),
            ("model", pyarrow.string()),
            ("error", pyarrow.string()),
        ]
    )
    # Rows in the order of the recordings; errors were appended first.
    order = {cut.id: number for number, cut in enumerate(part)}
    rows.sort(key=lambda row: (order[row["id"]], -row.get("speech_seconds", 0.0)))
    for row in rows:
        row["id"] = names[row["id"]]
        row["speaker"] = None if row["speaker"] is None else _as_text(row["speaker"])
    with atomic_path(path) as temporary:
        parquet.write_table(pyarrow.Table.from_pylist(rows, schema=schema), temporary)
    return len(part)


def failed_recordings(folder: Path) -> int:
    """Return the number of recordings in a folder of :func:`embed_corpus` that could not be read.

    Raises:
        MissingExtraError: pyarrow is not installed.

    Example:
        >>> import separative
        >>> cuts = [Cut("one", Path("ann.wav")), Cut("gone", Path("gone.wav"))]
        >>> failed_recordings(separative.embed_corpus(separative.load_model(), cuts, "embeddings"))
        1
    """
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise MissingExtraError("embedding a corpus", "bulk") from error
    count = 0
    for path in sorted(folder.glob("part-*.parquet")):
        column = parquet.read_table(path, columns=["error"])["error"]
        count += len(column) - column.null_count
    return count


def _as_text(name: str) -> str:
    """A name as text for Parquet, which holds UTF-8; bytes of a file name that are not UTF-8 become �."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _source(cut: Cut, rate: int, channels: ChannelPolicy) -> tuple[Audio, ChannelPolicy]:
    """What to embed: the file, or the waveform of a part or of a channel; and how to treat its channels."""
    if cut.seconds is None and cut.channel is None:
        return cut.path, channels
    policy = channels if cut.channel is None else cut.channel
    return audio.read(cut.path, rate, channels=policy, start=cut.start, seconds=cut.seconds), "mean"
