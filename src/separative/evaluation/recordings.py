"""Evaluation on real recordings: the model, the model with a part of the reference, and other systems."""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from separative import audio
from separative.errors import AudioError, CorpusError, SeparativeError
from separative.evaluation.lone_windows import WINDOW, LoneWindow, lone_windows
from separative.evaluation.oracles import with_true_speakers, with_true_speech
from separative.evaluation.recording_rows import (
    RecordingFigures,
    found_activity,
    recording_rows,
    score_activity,
    score_turns,
)
from separative.evaluation.references import FRAME, ReferenceRecording, read_references
from separative.evaluation.results import Results
from separative.evaluation.rttm_system import RttmSystem
from separative.evaluation.usage import describe_machine, peak_memory_mb, reset_peak_memory
from separative.inference.diarize import Diarization, assign_speakers, diarize
from separative.inference.forward import embed_many
from separative.inference.recording import MIN_SPEECH_SECONDS
from separative.rttm import Turn
from separative.types import Floats, Progress, Wave

if TYPE_CHECKING:
    from separative.model import SeparativeEncoder

NUMBER_KNOWN = "number of speakers known"
TRUE_SPEECH = "true speech"
TRUE_SPEAKERS = "true speaker of every stream"
ORACLES = (NUMBER_KNOWN, TRUE_SPEECH, TRUE_SPEAKERS)
"""Variants that know a part of the reference; they are rows of their own, named "<system>, <variant>"."""

Measure = Callable[[ReferenceRecording], Mapping[str, RecordingFigures]]


def evaluate_recordings(
    model: SeparativeEncoder | None,
    manifest: str | Path,
    *,
    name: str = "base",
    systems: Mapping[str, str | Path] | None = None,
    resamples: int = 500,
    seed: int = 0,
    progress: Progress | None = None,
) -> Results:
    """Measure diarization and embeddings on real recordings, for a model and for other systems.

    Recordings are scored as a whole or in the spans of their UEM file. Overlap is scored, and there is no
    collar; the metrics that end in "collar" leave out 0.25 s around the start and end of every turn. Those
    that end in "speech" compare speech with silence, whoever speaks. ``window EER`` compares windows of 2 s
    in which one speaker speaks, within each recording; ``window EER, all pairs`` adds pairs of different
    recordings, see :func:`~.lone_windows.scores_between`. Intervals are over recordings.

    Three rows of the model know a part of the reference: the number of speakers, where there is speech, or
    who speaks in each stream of each window. The second is made for the other systems too.

    Args:
        model: in evaluation mode; None to score only other systems.
        manifest: CSV file or folder, see :func:`separative.evaluation.read_references`.
        name: name of the model in the tables.
        systems: folders of other systems by name, see :class:`separative.evaluation.RttmSystem`.
        resamples, seed: of the bootstrap over recordings.
        progress: called with (done, total) recordings.

    Returns:
        the rows. A recording that cannot be used, by all systems or by one, is left out;
        ``settings["failed"]`` has a sentence for each.

    Raises:
        CorpusError: no recording can be used.
        SeparativeError: the folder of a system is missing or damaged, or there is no system.

    >>> from separative import load_model
    >>> from separative.rttm import write_rttm
    >>> write_rttm("ann.rttm", "ann", [Turn("ann", 0.3, 6.3)])
    >>> _ = Path("list.csv").write_text("recording,path,rttm\\nann,ann.wav,ann.rttm\\n")
    >>> results = evaluate_recordings(load_model(), "list.csv", resamples=10)
    >>> results.find("count error", "all recordings").value
    0.0
    """
    measures: dict[str, Measure] = {
        system: partial(_measure_system, RttmSystem(folder), system)
        for system, folder in (systems or {}).items()
    }
    if name in measures and model is not None:
        raise SeparativeError(f"two systems are named '{name}'; give the other system another name")
    recordings, failed = read_references(manifest)
    if model is not None:
        measures = {name: partial(_measure_model, model, name), **measures}
        if recordings:
            _warm_up(model)
    if not measures:
        raise SeparativeError("there is nothing to evaluate: pass a model, or the folder of another system")
    figures: dict[str, dict[str, RecordingFigures]] = {}
    for done, recording in enumerate(recordings):
        for system, measure in measures.items():
            try:
                for variant, measured in measure(recording).items():
                    figures.setdefault(variant, {})[recording.name] = measured
            except SeparativeError as error:
                failed.append(f"{recording.name}, {system}: {error}")
        if progress is not None:
            progress(done + 1, len(recordings))
    scored = [r for r in recordings if any(r.name in by_name for by_name in figures.values())]
    if not scored:
        raise CorpusError(f"{manifest}: no recording can be used; {failed[0]}")
    # A variant that failed on the first recording is not in its place.
    order = [v for system in measures for v in (system, *(f"{system}, {o}" for o in ORACLES)) if v in figures]
    settings = {
        "recordings": [_describe(recording) for recording in scored],
        "manifest": Path(manifest).name,
        "systems": [system for system in measures if system in figures],
        "failed": failed,
        "seed": seed,
        "resamples": resamples,
        "made": datetime.date.today().isoformat(),
        "machine": describe_machine(),
    }
    rows = recording_rows(scored, {variant: figures[variant] for variant in order}, resamples, seed)
    return Results(tuple(rows), settings)


def _describe(recording: ReferenceRecording) -> dict[str, str | float | int]:
    """What the tables state about a recording."""
    scored_T = recording.scored_frames
    reference_KT = recording.reference[:, scored_T]
    return {
        "name": recording.name,
        "kind": recording.kind,
        "seconds": round(float(scored_T.sum() * FRAME), 2),
        "speakers": int(reference_KT.any(1).sum()),
        "speech": round(float(reference_KT.any(0).sum() * FRAME), 2),
    }


def _measure_system(
    system: RttmSystem, name: str, recording: ReferenceRecording
) -> dict[str, RecordingFigures]:
    """Figures of another system, as it is and with true speech."""
    turns, figures = system.measure(recording)
    return {name: figures, f"{name}, {TRUE_SPEECH}": _score_true_speech(recording, turns)}


def _measure_model(
    model: SeparativeEncoder, name: str, recording: ReferenceRecording
) -> dict[str, RecordingFigures]:
    """Figures of the model and of its variants."""
    reset_peak_memory()
    started = time.perf_counter()
    diarization = _diarize(model, recording)
    seconds, peak = time.perf_counter() - started, peak_memory_mb()
    turns = diarization.turns if diarization is not None else []
    figures = score_turns(recording, turns)
    figures.run_seconds, figures.peak_memory_mb = seconds, peak
    windows = lone_windows(recording)
    figures.windows, figures.embeddings = windows, _embed_windows(model, recording, windows)
    known: list[Turn] = []
    true: list[Turn] = []
    if diarization is not None and figures.present:
        speakers, _ = assign_speakers(model, diarization.windows, speakers=figures.present)
        known = [turn for speaker in speakers for turn in speaker.turns]
        true = with_true_speakers(model, diarization.windows, recording.reference)
    return {
        name: figures,
        f"{name}, {NUMBER_KNOWN}": score_turns(recording, known),
        f"{name}, {TRUE_SPEECH}": _score_true_speech(recording, turns),
        f"{name}, {TRUE_SPEAKERS}": score_turns(recording, true),
    }


def _diarize(model: SeparativeEncoder, recording: ReferenceRecording) -> Diarization | None:
    """Diarize a recording; None if it is too short or silent, so that no speaker can be found."""
    if recording.seconds < MIN_SPEECH_SECONDS:
        return None
    try:
        diarization = diarize(model, recording.path)
    except AudioError:
        # A silent recording is an answer, all other errors are not.
        if any(block_N.any() for block_N in audio.stream(recording.path, model.rate)):
            raise
        return None
    if diarization.damage:
        raise AudioError(diarization.damage)
    return diarization


def _score_true_speech(recording: ReferenceRecording, turns: Sequence[Turn]) -> RecordingFigures:
    speech_T = np.asarray(recording.reference.any(0))
    return score_activity(recording, with_true_speech(found_activity(recording, turns), speech_T))


def _embed_windows(
    model: SeparativeEncoder, recording: ReferenceRecording, windows: Sequence[LoneWindow]
) -> Floats:
    """Embedding of the stream with most speech in each window [W, E]; NaN for a silent window."""
    waves = [
        audio.read(recording.path, model.rate, start=window.start, seconds=WINDOW)[0] for window in windows
    ]
    sounding = [i for i, wave_N in enumerate(waves) if wave_N.any()]
    found = embed_many(model, [(waves[i], model.rate) for i in sounding])
    embedding_WE = np.full((len(windows), model.config.embedding), np.nan)
    for i, result in zip(sounding, found, strict=True):
        embedding_WE[i] = result.streams[0].embedding
    return embedding_WE


def _warm_up(model: SeparativeEncoder) -> None:
    """Run the model once, so that the first recording does not pay for what torch prepares."""
    noise_N: Wave = np.random.default_rng(0).standard_normal(3 * model.rate).astype(np.float32)
    diarize(model, (0.1 * noise_N, model.rate))
