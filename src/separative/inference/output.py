"""Results on disk: speakers as sound files, embeddings as NumPy archive or JSON."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from separative import audio
from separative.errors import SeparativeError, choose
from separative.files import atomic_path, write_json
from separative.inference.recording import Recording


def write_waveforms(recording: Recording, folder: str | Path, stem: str | None = None) -> list[Path]:
    """Write every audible speaker as ``<folder>/<stem>-speaker<i>.wav``, 16 bit; returns the paths.

    Speakers that would clip are turned down together, so their relative levels stay.

    Raises:
        SeparativeError: the recording was only embedded.
    """
    if not all(t.waveform_N.size for t in recording.speakers):
        raise SeparativeError(f"{recording.name} was embedded without waveforms; use separate")
    stem = stem or Path(recording.name).stem
    peak = max((float(np.abs(t.waveform_N).max()) for t in recording.speakers), default=0.0)
    paths = []
    for number, speaker in enumerate(recording.speakers, 1):
        path = Path(folder) / f"{stem}-speaker{number}.wav"
        audio.write(path, speaker.waveform_N / np.float32(max(1.0, peak)), recording.rate)
        paths.append(path)
    return paths


def write_embeddings(recordings: Sequence[Recording], path: str | Path) -> Path:
    """Write the audible speakers of recordings to a ``.npz`` or ``.json`` file, whole or not at all.

    ``.npz``: embedding [speakers,E], query [speakers,E], recording, stream, speech_seconds [speakers].
    ``.json``: the same with the activity of every segment, by recording.

    Raises:
        SeparativeError: another suffix.
    """
    path = Path(path)
    suffix = choose(path.suffix.lower(), (".json", ".npz"), f"suffix of {path}:", SeparativeError)
    if suffix == ".json":
        write_json(path, [describe(r, embeddings=True) for r in recordings])
        return path
    rows = [(r, t) for r in recordings for t in r.speakers]
    with atomic_path(path) as beside, beside.open("wb") as file:
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
    speakers = []
    for speaker in recording.speakers:
        entry: dict[str, Any] = {
            "stream": speaker.stream,
            "speech_seconds": round(speaker.speech_seconds, 3),
            **({"level_db": round(speaker.level_db, 2)} if speaker.waveform_N.size else {}),
            "segment_seconds": speaker.segment_seconds,
            "activity": [round(float(p), 3) for p in speaker.activity_S],
        }
        if embeddings:
            entry["embedding"] = [float(x) for x in speaker.embedding_E]
            entry["query"] = [float(x) for x in speaker.query_E]
        speakers.append(entry)
    return {
        "recording": recording.name,
        "rate": recording.rate,
        "seconds": round(recording.seconds, 3),
        "channels": recording.channels,
        "note": recording.note,
        "speakers": speakers,
        "inaudible_streams": len(recording.streams) - len(recording.speakers),
    }
