"""Figures of diarizations of real recordings, and their result rows with intervals over recordings."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from separative.evaluation.bootstrap import SpeakerBootstrap, bootstrap_interval
from separative.evaluation.lone_windows import LoneWindow, scores_between, window_scores
from separative.evaluation.meeting_rows import Scores, equal_error
from separative.evaluation.references import FRAME, ReferenceRecording
from separative.evaluation.results import POOLED, Row
from separative.evaluation.rows import errors_by_part
from separative.metrics import DiarizationError, diarization_error, jaccard_error
from separative.metrics import eer as equal_error_rate
from separative.rttm import Turn, join_turns, turns_to_frames
from separative.types import Floats

COLLAR = 0.25
"""Seconds around the start and end of every turn that are not scored in the rows with a collar."""

ALL_RECORDINGS = "all recordings"
BY_RECORDING = "by recording"
"""Value of the column ``corpus`` of rows about one recording; their condition is its name."""

Activity = NDArray[np.bool_]


@dataclass
class RecordingFigures:
    """Figures of one system on one recording.

    Attributes:
        error: diarization error in seconds, with overlap scored and without a collar.
        collar_error: the same with a collar.
        speech_error: error of speech against silence, whoever speaks.
        jaccard: Jaccard error rate, as a fraction; None if the reference has no speech.
        found, present: number of speakers found, and number of speakers who speak.
        overlap_found, overlap: seconds in which two or more speakers speak; in ``overlap_found`` the system
            finds two or more as well.
        seconds: length of the recording.
        windows, embeddings: the lone-speaker windows, and the embedding of each [W,E]; empty if not measured.
        run_seconds, peak_memory_mb: cost of the diarization; None if not known.

    >>> recording_turns = (Turn("ann", 0.0, 1.0),)
    >>> from pathlib import Path
    >>> recording = ReferenceRecording("a", Path("a.wav"), 2.0, recording_turns, ((0.0, 2.0),))
    >>> score_turns(recording, [Turn("x", 0.0, 0.5)]).error.missed
    0.5
    """

    error: DiarizationError
    collar_error: DiarizationError
    speech_error: DiarizationError
    jaccard: float | None
    found: int
    present: int
    overlap_found: float
    overlap: float
    seconds: float
    windows: Sequence[LoneWindow] = ()
    embeddings: Floats = field(default_factory=lambda: np.zeros((0, 1)))
    run_seconds: float | None = None
    peak_memory_mb: float | None = None

    @cached_property
    def window_scores(self) -> Scores:
        """Trials between the lone-speaker windows."""
        return window_scores(self.windows, self.embeddings)


def score_turns(recording: ReferenceRecording, turns: Iterable[Turn]) -> RecordingFigures:
    """Score the turns that a system found in a recording; see :func:`score_activity`.

    >>> from pathlib import Path
    >>> turns = (Turn("ann", 0.0, 1.0), Turn("bob", 0.5, 2.0))
    >>> recording = ReferenceRecording("a", Path("a.wav"), 2.0, turns, ((0.0, 2.0),))
    >>> figures = score_turns(recording, [Turn("x", 0.0, 1.0)])
    >>> figures.error.rate, figures.speech_error.rate, figures.found - figures.present
    (0.6, 0.5, -1)
    """
    return score_activity(recording, found_activity(recording, turns))


def found_activity(recording: ReferenceRecording, turns: Iterable[Turn]) -> Activity:
    """Activity of the speakers that a system found in a recording, in frames of FRAME seconds [C, T].

    >>> from pathlib import Path
    >>> recording = ReferenceRecording("a", Path("a.wav"), 2.0, (), ())
    >>> found_activity(recording, [Turn("x", 0.0, 1.0)]).sum(1)
    array([100])
    """
    turns = join_turns(turns)
    names = sorted({turn.speaker for turn in turns})
    return turns_to_frames(turns, names, recording.frames, FRAME)


def score_activity(recording: ReferenceRecording, found: Activity) -> RecordingFigures:
    """Score the activity of the speakers that a system found in a recording.

    Args:
        found: activity in frames of FRAME seconds [C, T].

    >>> from pathlib import Path
    >>> recording = ReferenceRecording("a", Path("a.wav"), 2.0, (Turn("ann", 0.0, 1.0),), ((0.0, 2.0),))
    >>> score_activity(recording, np.zeros((0, 200), bool)).error.rate
    1.0
    """
    scored_T, reference_KT = recording.scored_frames, recording.reference
    outside_T = recording.frames_outside_collar(COLLAR)
    collar_error = _error(reference_KT[:, outside_T], found[:, outside_T])
    reference_KT, found_CT = reference_KT[:, scored_T], found[:, scored_T]
    overlap_T = reference_KT.sum(0) > 1
    return RecordingFigures(
        error=_error(reference_KT, found_CT),
        collar_error=collar_error,
        speech_error=_error(_anyone(reference_KT), _anyone(found_CT)),
        jaccard=jaccard_error(reference_KT, found_CT) if reference_KT.any() else None,
        found=int(found_CT.any(1).sum()),
        present=int(reference_KT.any(1).sum()),
        overlap_found=float((overlap_T & (found_CT.sum(0) > 1)).sum() * FRAME),
        overlap=float(overlap_T.sum() * FRAME),
        seconds=recording.seconds,
    )


def _anyone(active_KT: Activity) -> Activity:
    """Activity of anyone, as if it were one speaker [1, T]."""
    return np.asarray(active_KT.any(0))[None]


def _error(reference_KT: Activity, found_CT: Activity) -> DiarizationError:
    """Diarization error; without speech in the reference, everything found is a false alarm."""
    if not reference_KT.any():
        return DiarizationError(0.0, 0.0, float(found_CT.sum() * FRAME), 0.0)
    return diarization_error(reference_KT, found_CT, FRAME)


def recording_rows(
    recordings: Sequence[ReferenceRecording],
    figures: Mapping[str, Mapping[str, RecordingFigures]],
    resamples: int,
    seed: int,
) -> Iterator[Row]:
    """Yield the rows over all recordings, over each kind, and for each recording.

    Args:
        recordings: all recordings that were scored.
        figures: by system and then name of the recording. A system may lack recordings. The first system is
            the one that the others are compared with.
        resamples, seed: of the bootstrap over recordings.

    >>> from pathlib import Path
    >>> recording = ReferenceRecording("a", Path("a.wav"), 2.0, (Turn("ann", 0.0, 1.0),), ((0.0, 2.0),))
    >>> figures = {"base": {"a": score_turns(recording, [Turn("x", 0.0, 0.5)])}}
    >>> [row.value for row in recording_rows([recording], figures, 5, 0) if row.metric == "DER"]
    [50.0, 50.0]
    """
    groups = {ALL_RECORDINGS: [recording.name for recording in recordings]}
    for recording in recordings:
        if recording.kind not in ("", ALL_RECORDINGS):
            groups.setdefault(recording.kind, []).append(recording.name)
    for condition, names in groups.items():
        yield from _group_rows(condition, POOLED, names, figures, resamples, seed)
    for recording in recordings:
        yield from _group_rows(recording.name, BY_RECORDING, [recording.name], figures, resamples, seed)


def _group_rows(
    condition: str,
    corpus: str,
    names: Sequence[str],
    figures: Mapping[str, Mapping[str, RecordingFigures]],
    resamples: int,
    seed: int,
) -> Iterator[Row]:
    """Rows of all systems on a group of recordings."""
    first: Mapping[str, RecordingFigures] | None = None
    for system, by_name in figures.items():
        scored = [by_name[name] for name in names if name in by_name]
        if not scored:
            continue
        bootstrap = SpeakerBootstrap([str(i) for i in range(len(scored))], resamples, seed)
        measured = _measure(scored, bootstrap)
        if first is None:
            first = by_name
        elif all((name in first) == (name in by_name) for name in names):
            measured |= _difference([first[name] for name in names if name in first], scored, bootstrap)
        for metric, values in measured.items():
            count = len(scored)
            if metric == "window EER":
                count = sum(len(f.window_scores) for f in scored)
            yield Row(system, condition, metric, *values, count, corpus, seed)


Interval = tuple[float, float, float]


def _measure(scored: Sequence[RecordingFigures], bootstrap: SpeakerBootstrap) -> dict[str, Interval]:
    """Value and interval of every metric that is defined."""
    measured: dict[str, Interval] = {}
    for suffix, errors in (
        ("", [f.error for f in scored]),
        (" collar", [f.collar_error for f in scored]),
        (" speech", [f.speech_error for f in scored]),
    ):
        total = [e.total for e in errors]
        for part, seconds in errors_by_part(errors).items():
            # Confusion of speech with silence is not defined.
            if not (suffix == " speech" and part == "confusion"):
                _add_ratio(measured, part + suffix, 100 * seconds, total, bootstrap)
    with_speech = np.flatnonzero([f.jaccard is not None for f in scored])
    if len(with_speech):
        jaccard = np.array([100 * (f.jaccard or 0.0) for f in scored])[with_speech]
        measured["JER"] = bootstrap.mean(jaccard, with_speech)
    wrong_N = np.array([f.found - f.present for f in scored])
    for metric, value_N in (
        ("count error", wrong_N),
        ("miscounted", np.abs(wrong_N)),
        ("count right", 100 * (wrong_N == 0)),
    ):
        measured[metric] = bootstrap.mean(value_N.astype(np.float64), np.arange(len(scored)))
    overlap = [f.overlap for f in scored]
    _add_ratio(measured, "overlap found", [100 * f.overlap_found for f in scored], overlap, bootstrap)
    if (eer := equal_error([f.window_scores for f in scored], bootstrap)) is not None:
        measured["window EER"] = (eer[0], *bootstrap_interval(eer[1], eer[0]))
    within = [trial for f in scored for trial in f.window_scores]
    between_N = scores_between([f.windows for f in scored], [f.embeddings for f in scored])
    if len(between_N) and any(same for _, same in within):
        score_N = np.r_[[score for score, _ in within], between_N]
        same_N = np.r_[[same for _, same in within], np.zeros(len(between_N), bool)]
        value = 100 * equal_error_rate(score_N, same_N)
        measured["window EER, all pairs"] = (value, value, value)
    run = [f.run_seconds for f in scored if f.run_seconds is not None]
    if len(run) == len(scored):
        _add_ratio(measured, "real-time factor", run, [f.seconds for f in scored], bootstrap)
    memory = [f.peak_memory_mb for f in scored if f.peak_memory_mb is not None]
    if len(memory) == len(scored):
        measured["peak memory"] = (max(memory), max(memory), max(memory))
    return measured


def _add_ratio(
    measured: dict[str, Interval],
    metric: str,
    parts: Sequence[float] | Floats,
    wholes: Sequence[float],
    bootstrap: SpeakerBootstrap,
) -> None:
    """Add the sum of the parts over the sum of the wholes, unless the latter is 0."""
    if sum(wholes) > 0:
        index_N = np.arange(len(wholes))
        measured[metric] = bootstrap.ratio(np.array(parts), np.array(wholes), index_N)


def _difference(
    first: Sequence[RecordingFigures], scored: Sequence[RecordingFigures], bootstrap: SpeakerBootstrap
) -> dict[str, Interval]:
    """DER minus that of the first system on the same recordings."""
    wrong_N, first_N = (errors_by_part([f.error for f in some])["DER"] for some in (scored, first))
    measured: dict[str, Interval] = {}
    total = [f.error.total for f in scored]
    _add_ratio(measured, "DER difference", 100 * (wrong_N - first_N), total, bootstrap)
    return measured
