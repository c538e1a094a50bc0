"""Results on disk: talkers as sound files, embeddings as NumPy archive or JSON."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from separative import audio
from separative.errors import SeparativeError, choose
from separative.files import replacing, write_json
from separative.inference.recording import Recording


def write_waveforms(recording: Recording, folder: str | Path, stem: str | None = None) -> list[Path]:
    """Write every audible talker as ``<folder>/<stem>-talker<i>.wav``, 16 bit; returns the paths.

    Talkers that would clip are turned down together, so their relative levels stay.

    Raises:
        SeparativeError: the recording was only embedded.
    """
    if not all(t.waveform_N.size for t in recording.audible):
        raise SeparativeError(f"{recording.name} was embedded without waveforms; use separate")
    stem = stem or Path(recording.name).stem
    peak = max((float(np.abs(t.waveform_N).max()) for t in recording.audible), default=0.0)
    paths = []
    for number, talker in enumerate(recording.audible, 1):
        path = Path(folder) / f"{stem}-talker{number}.wav"
        audio.write(path, talker.waveform_N / np.float32(max(1.0, peak)), recording.rate)
        paths.append(path)
    return paths


def write_embeddings(recordings: Sequence[Recording], path: str | Path) -> Path:
    """Write the audible talkers of recordings to a ``.npz`` or ``.json`` file, whole or not at all.

    ``.npz``: embedding [talkers,E], query [talkers,E], recording, stream, speech_seconds [talkers].
    ``.json``: the same with the activity of every segment, by recording.

    Raises:
        SeparativeError: another suffix.
    """
    path = Path(path)
    suffix = choose(path.suffix.lower(), (".json", ".npz"), f"suffix of {path}:", SeparativeError)
    if suffix == ".json":
        write_json(path, [describe(r, embeddings=True) for r in recordings])
        return path
    rows = [(r, t) for r in recordings for t in r.audible]
    with replacing(path) as beside, beside.open("wb") as file:
        np.savez(
            file,
            embedding=np.array([t.embedding_E for _, t in rows]),
            query=np.array([t.query_E for _, t in rows]),
            recording=np.array([r.name for r, _ in rows], dtype=np.str_),
            stream=np.array([t.stream for _, t in rows]),
            speech_seconds=np.array([t.speech_seconds for _, t in rows]),
        )
    return path


def describe(recording: Recording, *, embeddings: bool = False) -> dict[str, Any]:
    """A recording as plain numbers and strings for JSON; inaudible streams only as a count."""
    talkers = []
    for talker in recording.audible:
        entry: dict[str, Any] = {
            "stream": talker.stream,
            "speech_seconds": round(talker.speech_seconds, 3),
            **({"level_db": round(talker.level_db, 2)} if talker.waveform_N.size else {}),
            "segment_seconds": talker.segment_seconds,
            "activity": [round(float(p), 3) for p in talker.activity_S],
        }
        if embeddings:
            entry["embedding"] = [float(x) for x in talker.embedding_E]
            entry["query"] = [float(x) for x in talker.query_E]
        talkers.append(entry)
    return {
        "recording": recording.name,
        "rate": recording.rate,
        "seconds": round(recording.seconds, 3),
        "channels": recording.channels,
        "note": recording.note,
        "talkers": talkers,
        "inaudible_streams": len(recording.talkers) - len(recording.audible),
    }
