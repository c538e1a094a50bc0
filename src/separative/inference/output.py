"""Write results: waveforms as audio files, embeddings as NumPy or JSON files, records for JSON."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from separative import audio
from separative.errors import SeparativeError, choose
from separative.files import atomic_path, write_json
from separative.inference.exclusive import exclusive_turns
from separative.inference.full_band import read_own_format, restore_band
from separative.inference.recording import Audio, BlockReader, Recording
from separative.types import Floats, Wave

if TYPE_CHECKING:
    from separative.inference.diarize import Diarization
    from separative.inference.evidence import Candidate
    from separative.model import SeparativeEncoder
    from separative.rttm import Turn


def write_waveforms(
    recording: Recording, folder: str | Path, stem: str | None = None, *, source: Audio | None = None
) -> list[Path]:
    """Write every audible speaker as ``<folder>/<stem>-speaker<i>.wav``, 16 bit; returns the paths.

    If any waveform would clip, all are scaled down by the same factor, so their relative levels stay.

    Args:
        recording: a result of :func:`separative.separate`.
        stem: beginning of the file names; by default the stem of the recording's name.
        source: the recording itself. If given, the files have its sampling rate and its channels
            (:func:`separative.inference.full_band.restore_band`).

    Raises:
        SeparativeError: the recording has no waveforms.
        AudioError: ``source`` cannot be read.

    Example:
        >>> import separative
        >>> recording = separative.separate(separative.load_model(), "mixture.wav")
        >>> [path.name for path in write_waveforms(recording, "speakers")]
        ['mixture-speaker1.wav', 'mixture-speaker2.wav']
    """
    if not all(speaker.waveform.size for speaker in recording.speakers):
        raise SeparativeError(f"{recording.name} was embedded without waveforms; use separate")
    stem = stem or Path(recording.name).stem
    rate, waves = recording.rate, [speaker.waveform for speaker in recording.speakers]
    if source is not None and waves:
        rate, waves = _own_waveforms(recording, source)
    peak = max((float(np.abs(wave).max()) for wave in waves), default=0.0)
    paths = []
    for number, wave in enumerate(waves, 1):
        path = Path(folder) / f"{stem}-speaker{number}.wav"
        audio.write(path, wave / np.float32(max(1.0, peak)), rate)
        paths.append(path)
    return paths


def _own_waveforms(recording: Recording, source: Audio) -> tuple[int, list[Wave]]:
    """The rate of the recording itself, and the waveforms of the speakers [channels, N] at this rate."""
    speakers, policy = recording.speakers, recording.channel_policy
    size = len(speakers[0].waveform)
    mixture_N = np.concatenate(list(BlockReader(source, recording.rate, policy)))[:size]
    rows_JN = np.zeros((len(speakers) + 1, size), np.float32)
    for row_N, wave_N in zip(rows_JN, [*(s.waveform for s in speakers), mixture_N], strict=True):
        row_N[: len(wave_N)] = wave_N

    def gate(second_T: Floats) -> Floats:
        return np.stack(
            [
                s.activity[np.minimum((second_T / s.segment_seconds).astype(int), len(s.activity) - 1)] > 0.5
                for s in speakers
            ]
        ).astype(np.float32)

    pieces = restore_band([rows_JN], recording.rate, source, policy, gate)
    restored_KHN = np.concatenate(list(pieces), axis=-1)
    return read_own_format(source, policy)[0], list(restored_KHN)


def write_embeddings(recordings: Sequence[Recording], path: str | Path) -> Path:
    """Write the audible speakers of recordings to a ``.npz`` or ``.json`` file, atomically.

    ``.npz``: arrays embedding [speakers, E], query [speakers, E], and recording, stream and speech_seconds
    [speakers]. ``.json``: a list of records made by :func:`describe_recording`.

    Raises:
        SeparativeError: the path has another suffix.

    Example:
        >>> import numpy as np, separative
        >>> recordings = separative.embed_many(separative.load_model(), ["bob.wav", "mixture.wav"])
        >>> with np.load(write_embeddings(list(recordings), "speakers.npz")) as stored:
        ...     stored["embedding"].shape, stored["recording"].tolist()
        ((3, 128), ['bob.wav', 'mixture.wav', 'mixture.wav'])
    """
    path = Path(path)
    if embeddings_suffix(path) == ".json":
        write_json(path, [describe_recording(recording, embeddings=True) for recording in recordings])
        return path
    rows = [(recording, speaker) for recording in recordings for speaker in recording.speakers]
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez(
            file,
            embedding=np.array([speaker.embedding for _, speaker in rows]),
            query=np.array([speaker.query for _, speaker in rows]),
            recording=np.array([recording.name for recording, _ in rows], dtype=np.str_),
            stream=np.array([speaker.stream for _, speaker in rows]),
            speech_seconds=np.array([speaker.speech_seconds for _, speaker in rows]),
        )
    return path


def embeddings_suffix(path: Path) -> str:
    """Return the suffix of a file for :func:`write_embeddings`.

    Raises:
        SeparativeError: the path has another suffix.

    Example:
        >>> embeddings_suffix(Path("speakers.NPZ"))
        '.npz'
    """
    return choose(path.suffix.lower(), (".json", ".npz"), f"suffix of {path}:", SeparativeError)


def recording_digest(path: Path) -> str:
    """Return the SHA-256 of an audio file, which identifies the recording whatever the file's name is.

    Raises:
        AudioError, OSError: the file cannot be read.

    Example:
        >>> recording_digest(Path("ann.wav")) == recording_digest(Path("bob.wav"))
        False
    """
    if path.is_file():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    return hashlib.sha256(audio.file_bytes(path)).hexdigest()


def describe_recording(recording: Recording, *, embeddings: bool = False) -> dict[str, Any]:
    """Convert a recording to a record for JSON.

    The record lists the audible streams and counts the inaudible ones. ``embeddings`` adds the embedding and
    the query of each speaker.

    Example:
        >>> import separative
        >>> record = describe_recording(separative.embed(separative.load_model(), "bob.wav"))
        >>> record["seconds"], len(record["speakers"]), record["inaudible_streams"]
        (6.787, 1, 1)
    """
    speakers = []
    for speaker in recording.speakers:
        entry: dict[str, Any] = {
            "stream": speaker.stream,
            "speech_seconds": round(speaker.speech_seconds, 3),
            **({"level_db": round(speaker.level_db, 2)} if speaker.waveform.size else {}),
            "segment_seconds": speaker.segment_seconds,
            "activity": [round(float(p), 3) for p in speaker.activity],
        }
        if embeddings:
            entry["embedding"] = [float(x) for x in speaker.embedding]
            entry["query"] = [float(x) for x in speaker.query]
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


def describe_diarization(
    diarization: Diarization, matches: Sequence[Sequence[Candidate]] | None = None, *, embeddings: bool = True
) -> dict[str, Any]:
    """Convert a diarization to a record for JSON.

    Args:
        matches: enrolled speakers to list with each speaker, a result of :func:`separative.identify`.
        embeddings: include the embedding of each speaker.

    Example:
        >>> import separative
        >>> record = describe_diarization(separative.diarize(separative.load_model(), "ann.wav"))
        >>> record["recording"], [speaker["name"] for speaker in record["speakers"]]
        ('ann.wav', ['speaker1'])
    """
    speakers: list[dict[str, Any]] = []
    for number, speaker in enumerate(diarization.speakers):
        speakers.append(
            {
                "name": speaker.name,
                "speech_seconds": round(speaker.speech_seconds, 3),
                "turns": [[round(turn.start, 3), round(turn.end, 3)] for turn in speaker.turns],
                "confidence": [_rounded(turn.confidence) for turn in speaker.turns],
                **({"embedding": [float(x) for x in speaker.embedding]} if embeddings else {}),
                **({"matches": [asdict(match) for match in matches[number]]} if matches else {}),
            }
        )
    return {
        "recording": diarization.name,
        "rate": diarization.rate,
        "seconds": round(diarization.seconds, 3),
        "channels": diarization.channels,
        "channel_policy": diarization.channel_policy,
        "count_probability": [round(float(p), 4) for p in diarization.count_probability],
        "unlike_training": list(diarization.unlike_training),
        "speakers": speakers,
        "exclusive_turns": describe_turns(exclusive_turns(diarization)),
    }


def describe_turns(turns: Iterable[Turn]) -> list[dict[str, Any]]:
    """Convert turns to records for JSON, rounded to milliseconds; with the confidence, if it is known.

    Example:
        >>> from separative.rttm import Turn
        >>> describe_turns([Turn("ann", 0.5, 2.0)])
        [{'speaker': 'ann', 'start': 0.5, 'end': 2.0}]
    """
    return [
        {
            "speaker": turn.speaker,
            "start": round(turn.start, 3),
            "end": round(turn.end, 3),
            **({} if turn.confidence is None else {"confidence": _rounded(turn.confidence)}),
        }
        for turn in turns
    ]


def _rounded(confidence: float | None) -> float | None:
    return None if confidence is None else round(confidence, 3)


def describe_run(model: SeparativeEncoder, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Say what made a result: version of the package, model and settings, as values that JSON can hold.

    Args:
        settings: the settings of the run.

    Example:
        >>> import separative
        >>> record = describe_run(separative.load_model(), {"speakers": 2})
        >>> sorted(record), record["settings"]
        (['model', 'settings', 'software'], {'speakers': 2})
    """
    return {
        "software": {"name": "separative", "version": version("separative")},
        "model": {
            "name": (model.card.get("recipe") or {}).get("name"),
            "sha256": model.card.get("sha256"),
            "digest": model.card.get("digest"),
        },
        "settings": dict(settings),
    }
